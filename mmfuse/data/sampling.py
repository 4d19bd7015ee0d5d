"""Which frames of a clip are looked at.

A clip of `count` frames is cut into T equal segments and one frame is taken from each: its centre at test, a random
place in it at training. Both are pure functions of the count (and of a generator), so every way of reading a clip,
from the file, from memory or from the clip store, looks at the same frames.

Shape legend: T frames taken, m candidates a segment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Chooser = Callable[[int], Indices]
"""From the number of frames of a clip to the indices wanted, in the order wanted; repeats are allowed."""


def segment_centres(count: int, frames: int) -> Indices:
    """The centre frame of each of `frames` equal segments, shape (T,).

    A clip shorter than T repeats frames.

    >>> segment_centres(16, 4).tolist(), segment_centres(2, 4).tolist()
    ([2, 6, 10, 14], [0, 0, 1, 1])
    """
    # Whole numbers all through: floor((t + 1/2) * count / T) without rounding.
    return (2 * np.arange(frames, dtype=np.int64) + 1) * count // (2 * frames)


def segment_random(
    count: int, frames: int, generator: np.random.Generator, *, candidates: int | None = None
) -> Indices:
    """A random frame of each of `frames` equal segments, shape (T,).

    Args:
        candidates: choose among this many evenly placed frames of a segment; None: among all of them. With m
            candidates the frames that training can ever see are `segment_centres(count, T * m)`, which is what the
            clip store keeps.
    """
    places = generator.random(frames)
    if candidates is None:
        starts = np.arange(frames) + places
        return np.minimum((starts * count / frames).astype(np.int64), count - 1)
    chosen = (places * candidates).astype(np.int64)
    return segment_centres(count, frames * candidates)[np.arange(frames) * candidates + chosen]


def every_frame(count: int) -> Indices:
    """All frames in order, shape (count,)."""
    return np.arange(count, dtype=np.int64)


def clip_generator(*, seed: int, epoch: int, clip: str) -> np.random.Generator:
    """The generator of one clip in one epoch: the same whatever worker, process or batch the clip falls in."""
    digest = hashlib.sha256(f"{seed}\0{epoch}\0{clip}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))

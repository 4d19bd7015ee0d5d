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


def segment_places(count: int, places: NDArray[np.float64], *, candidates: int | None = None) -> Indices:
    """The frame at a given place of each segment, shape (T,).

    Args:
        places: where in its segment each frame lies, shape (T,), from 0 to below 1; drawn at random for training.
        candidates: choose among this many evenly placed frames of a segment; None: among all of them. With m
            candidates the frames that can ever be chosen are `candidate_frames(count, T, m)`.

    >>> segment_places(16, np.array([0.0, 0.99]), candidates=None).tolist()
    [0, 15]
    """
    frames = len(places)
    if candidates is None:
        return np.minimum(((np.arange(frames) + places) * count / frames).astype(np.int64), count - 1)
    chosen = (places * candidates).astype(np.int64)
    return segment_centres(count, frames * candidates)[np.arange(frames) * candidates + chosen]


def candidate_frames(count: int, frames: int, candidates: int | None) -> Indices:
    """Every frame that training or testing can look at, in order and once each: what is worth keeping of a clip.

    An odd number of candidates holds the segments' centres, which testing looks at.
    """
    if candidates is None:
        return every_frame(count)
    return np.unique(segment_centres(count, frames * candidates))


def every_frame(count: int) -> Indices:
    """All frames in order, shape (count,)."""
    return np.arange(count, dtype=np.int64)


def clip_generator(*, seed: int, epoch: int, clip: str) -> np.random.Generator:
    """The generator of one clip in one epoch: the same whatever worker, process or batch the clip falls in."""
    digest = hashlib.sha256(f"{seed}\0{epoch}\0{clip}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))

"""Clips that show the same frames under different names: copies that were encoded again, mirrored, trimmed or cut to
overlap.

A frame becomes a thumbnail of 16 × 16 grey blocks, without its brightness and contrast. Two frames are the same where
the blocks that differ most still agree: an average over blocks would take all recordings of one still camera for
copies, since the moving person is a small part of the picture. Two clips show the same frames where several frames with
movement in them are found in the other clip, in the order of time. Which pairs are compared so closely is decided by
coarser thumbnails of few frames.

Shape legend: N frames of a clip, Q of them looked for, B = 256 blocks.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmfuse.data.frames.sampling import Indices, every_frame, segment_centres
from mmfuse.data.frames.video import Damaged, UnreadableVideo, read_frames
from mmfuse.utils.processes import map_unordered

SIDE = 16
MOST_FRAMES = 512
"""Frames of a clip that are kept; of longer ones evenly spread ones."""
LOOKED_FOR = 16
"""Q, frames of a clip that are looked for in another one."""
SAME_FRAME = 0.5
"""Most that the blocks of two equal frames differ, in standard deviations of a frame's blocks."""
MOVEMENT = 1.5
"""Least that a frame with movement differs from its clip's median."""
CANDIDATE = 0.25
"""Mean squared difference of coarse thumbnails, up to which two clips are compared closely."""
FEWEST_FRAMES = 4
"""Frames with movement that two clips must share."""
IN_ORDER = 0.75
"""Least share of the frames found that are in the order of time: neighbours may change places where little moves."""
_HIGHEST = 4  # blocks whose mean difference is compared
_LEAST_CONTRAST = 8.0  # grey levels; what has less is noise
_CHUNK = 64  # clips that are compared with all others in one product

Thumbnails = NDArray[np.float32]
Report = Callable[[int, int], None]


class Same(NamedTuple):
    """Two clips with the same frames, by their places in a list."""

    first: int
    second: int
    mirrored: bool
    frames: int
    """How many of the frames that were looked for were found."""


class Looked(NamedTuple):
    """What was found when clips were looked at."""

    same: list[Same]
    unreadable: dict[int, str]
    """Clips that could not be decoded, and why."""


def find_same_frames(
    paths: Sequence[str], *, damaged: Damaged = "error", workers: int = 1, report: Report | None = None
) -> Looked:
    """Decode clips and find those that show the same frames.

    Args:
        paths: video files.
        damaged: what to do with damaged files: call them unreadable, or "keep" the frames that can be read.
        workers: processes that decode.
        report: told (clips decoded, clips in all).
    """
    thumbnails: dict[int, NDArray[np.uint8]] = {}
    unreadable: dict[int, str] = {}
    decode = partial(_decoded, damaged=damaged)
    for done, (row, found) in enumerate(map_unordered(decode, list(enumerate(paths)), workers=workers), start=1):
        if isinstance(found, str):
            unreadable[row] = found
        else:
            thumbnails[row] = found
        if report is not None:
            report(done, len(paths))
    rows = sorted(thumbnails)
    same = same_among([thumbnails.pop(row) for row in rows])
    paired = [pair._replace(first=rows[pair.first], second=rows[pair.second]) for pair in same]
    return Looked(paired, dict(sorted(unreadable.items())))


def same_among(thumbnails: Sequence[NDArray[np.uint8]]) -> list[Same]:
    """The clips that show the same frames, by the thumbnails of their frames, (N, 16, 16) each."""
    clips = [_Clip(frames) for frames in thumbnails]
    found = [
        Same(one, other, mirrored, _shared_frames(clips[one], clips[other], mirrored=mirrored))
        for one, other, mirrored in _candidates(clips)
    ]
    return [pair for pair in found if pair.frames]


def _decoded(clip: tuple[int, str], *, damaged: Damaged) -> tuple[int, NDArray[np.uint8] | str]:
    row, path = clip
    try:
        return row, thumbnails_of(path, damaged=damaged)
    except (UnreadableVideo, OSError) as fault:
        return row, str(fault).removeprefix(f"{path}: ")


def thumbnails_of(path: str, *, damaged: Damaged = "error") -> NDArray[np.uint8]:
    """Grey thumbnails of a clip's frames, (N, 16, 16).

    Raises:
        UnreadableVideo: the file cannot be decoded.
    """

    def choose(count: int) -> Indices:
        return every_frame(count) if count <= MOST_FRAMES else segment_centres(count, MOST_FRAMES)

    frames = read_frames(path, choose, short_side=4 * SIDE, damaged=damaged)
    grey = (frames @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).astype(np.float32)
    down, across = (_areas(length) for length in grey.shape[1:])
    return np.round(down @ grey @ across.T).astype(np.uint8)


def _areas(length: int) -> NDArray[np.float32]:
    """The share of each of `length` pixels in the mean of each of 16 equal parts, (16, length).

    Pixels on an edge belong to both parts, so that a mirrored picture has mirrored blocks.
    """
    edges = np.linspace(0, length, SIDE + 1)
    pixels = np.arange(length)
    overlaps = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlaps, 0, None) * SIDE / length).astype(np.float32)


class _Clip:
    """A clip's frames as they are compared, without brightness and contrast.

    Args:
        thumbnails: (N, 16, 16).
    """

    def __init__(self, thumbnails: NDArray[np.uint8]) -> None:
        levels = _levelled(thumbnails)
        self._levels = levels.astype(np.float16)  # a large data set has millions of frames
        moving = _difference(levels, np.median(levels, axis=0, keepdims=True)) > MOVEMENT
        self.still = int(moving.sum()) < FEWEST_FRAMES
        """Whether nothing moves: it is then compared as a whole, with other such clips alone. Else an empty room would
        be found in every clip that was filmed in it."""
        places = np.arange(len(levels)) if self.still else np.flatnonzero(moving)
        self._looked_for = places[np.unique(segment_centres(len(places), LOOKED_FOR))]

    def __len__(self) -> int:
        return len(self._levels)

    def levels(self) -> Thumbnails:
        """All frames, (N, B)."""
        return self._levels.astype(np.float32)

    def looked_for(self, *, mirrored: bool) -> Thumbnails:
        """Frames that are looked for in another clip, (Q, B)."""
        return _as_seen(self._levels[self._looked_for], mirrored=mirrored)

    def coarse(self, *, mirrored: bool = False) -> Thumbnails:
        """Few frames in coarse blocks, (Q, 64), the same number for every clip."""
        few = _as_seen(self._levels[segment_centres(len(self), LOOKED_FOR)], mirrored=mirrored)
        return few.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4)).reshape(LOOKED_FOR, -1)


def _as_seen(levels: NDArray[np.float16], *, mirrored: bool) -> Thumbnails:
    blocks = levels.reshape(-1, SIDE, SIDE).astype(np.float32)
    return (blocks[:, :, ::-1] if mirrored else blocks).reshape(len(levels), -1)


def _levelled(grey: NDArray[np.uint8]) -> Thumbnails:
    """Thumbnails of mean 0 and standard deviation 1, (N, B); less where there is hardly any contrast."""
    blocks = grey.reshape(len(grey), -1).astype(np.float32)
    blocks -= blocks.mean(axis=1, keepdims=True)
    return blocks / np.maximum(blocks.std(axis=1, keepdims=True), _LEAST_CONTRAST)


def _difference(ours: Thumbnails, theirs: Thumbnails) -> NDArray[np.float32]:
    """Mean difference of the blocks that differ most, (N,)."""
    apart = np.abs(ours - theirs)
    return np.partition(apart, -_HIGHEST, axis=1)[:, -_HIGHEST:].mean(axis=1)


def _candidates(clips: Sequence[_Clip]) -> Iterator[tuple[int, int, bool]]:
    """Pairs of clips that are worth a closer look, as they are or with one of them mirrored."""
    if not clips:
        return
    coarse = np.stack([clip.coarse() for clip in clips])  # (clips, Q, 64)
    flat = coarse.reshape(-1, coarse.shape[-1])
    squares = (flat**2).sum(axis=1)
    for mirrored in (False, True):
        ours = np.stack([clip.coarse(mirrored=True) for clip in clips]) if mirrored else coarse
        for start in range(0, len(clips), _CHUNK):
            few = ours[start : start + _CHUNK].reshape(-1, flat.shape[1])
            # |a - b|² = |a|² + |b|² - 2ab, for all frames of some clips and all frames of all clips
            apart = (few**2).sum(axis=1)[:, None] + squares[None] - 2 * few @ flat.T
            nearest = apart.reshape(len(few) // LOOKED_FOR, LOOKED_FOR, len(clips), LOOKED_FOR).min(axis=(1, 3))
            for one, other in np.argwhere(nearest <= CANDIDATE * flat.shape[1]).tolist():
                if start + one < other:
                    yield start + one, other, mirrored


def _shared_frames(one: _Clip, other: _Clip, *, mirrored: bool) -> int:
    """How many frames of the shorter clip are found in the longer one in the order of time; 0 where too few are."""
    if one.still != other.still:
        return 0
    short, long = (one, other) if len(one) <= len(other) else (other, one)
    looked_for, among = short.looked_for(mirrored=mirrored), long.levels()
    nearest = ((among**2).sum(axis=1)[None] - 2 * looked_for @ among.T).argmin(axis=1)
    found = nearest[_difference(looked_for, among[nearest]) <= SAME_FRAME]
    in_order = max(_longest_rise(found), _longest_rise(found[::-1]))  # backwards, too
    enough = len(set(found.tolist())) >= min(FEWEST_FRAMES, len(looked_for), len(among))
    return len(found) if enough and in_order >= IN_ORDER * len(found) else 0


def _longest_rise(values: Indices) -> int:
    """The length of the longest part, gaps allowed, that never falls."""
    ends: list[int] = []
    for value in values.tolist():
        place = bisect.bisect_right(ends, value)
        ends[place : place + 1] = [value]
    return len(ends)

"""Where the frames of a clip come from: the file, or memory after the first look.

Every source answers `pick` with the same frames; only the cost differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmfuse.data.frames.sampling import Chooser, Indices, candidate_frames
from mmfuse.data.frames.video import Damaged, probe, read_counted, scaled_size

Frames = NDArray[np.uint8]


class FrameSource(Protocol):
    """Anything that gives the frames of a clip."""

    def pick(self, path: str, choose: Chooser) -> tuple[Frames, Indices]:
        """Frames held, (n, H, W, 3), and the T places among them that `choose` asks for.

        Frames are not copied, so that a crop reads no more than it shows.

        Raises:
            UnreadableVideo: the file cannot be decoded.
        """


@dataclass(frozen=True)
class HeldClip:
    """Some frames of a clip, decoded and scaled."""

    frames: Frames
    """(n, H, W, 3) RGB."""
    numbers: Indices
    """Which frames of the clip they are, (n,), rising."""
    count: int
    """How many frames the clip has."""

    def pick(self, choose: Chooser) -> tuple[Frames, Indices]:
        """As in `FrameSource`.

        Raises:
            LookupError: a frame is wanted that is not held.
        """
        wanted = np.asarray(choose(self.count))
        places = np.minimum(np.searchsorted(self.numbers, wanted), len(self.numbers) - 1)
        if not np.array_equal(self.numbers[places], wanted):
            raise LookupError(f"frames {wanted.tolist()} are wanted, {self.numbers.tolist()} are held")
        return self.frames, places


class DecodedFrames:
    """Frames from the file, each time anew."""

    def __init__(self, *, short_side: int, damaged: Damaged = "error") -> None:
        self.short_side = short_side
        self.damaged: Damaged = damaged

    def pick(self, path: str, choose: Chooser) -> tuple[Frames, Indices]:
        """As in `FrameSource`."""
        frames, _ = read_counted(path, choose, short_side=self.short_side, damaged=self.damaged)
        return frames, np.arange(len(frames))

    def hold(self, path: str, *, frames: int, candidates: int | None) -> HeldClip:
        """Decode whatever sampling T frames of a clip can ever look at."""

        def choose(count: int) -> Indices:
            return candidate_frames(count, frames, candidates)

        pictures, count = read_counted(path, choose, short_side=self.short_side, damaged=self.damaged)
        return HeldClip(pictures, choose(count), count)


class CachedFrames:
    """Frames from memory after the first look, for as many clips as the budget has room for."""

    def __init__(self, source: DecodedFrames, *, frames: int, candidates: int | None, budget: int) -> None:
        """Keep nothing yet; clips are decoded when they are first asked for.

        Args:
            source: what to decode with.
            frames: T, frames sampled of a clip.
            candidates: see `mmfuse.data.frames.sampling.candidate_frames`.
            budget: bytes that may be kept.
        """
        self._source = source
        self._frames = frames
        self._candidates = candidates
        self._room = budget
        self._held: dict[str, HeldClip] = {}
        self._too_large: set[str] = set()

    def pick(self, path: str, choose: Chooser) -> tuple[Frames, Indices]:
        """As in `FrameSource`."""
        if path not in self._held and path not in self._too_large:
            self._look(path)
        if path in self._held:
            return self._held[path].pick(choose)
        return self._source.pick(path, choose)

    def divided(self, processes: int) -> CachedFrames:
        """What each of several processes keeps, none of which sees the memory of the others."""
        return CachedFrames(
            self._source, frames=self._frames, candidates=self._candidates, budget=self._room // processes
        )

    def fill(self, paths: Iterable[str]) -> None:
        """Look at clips ahead, so that processes started afterwards share them."""
        for path in paths:
            if path not in self._held and path not in self._too_large:
                self._look(path)

    def _look(self, path: str) -> None:
        header = probe(path)
        height, width = scaled_size(header.height, header.width, self._source.short_side)
        count = header.frames if self._candidates is None else self._frames * self._candidates
        # A header may leave out or understate the count; what was really decoded is what the room is charged with.
        if max(count, self._frames) * height * width * 3 > self._room:
            self._too_large.add(path)
            return
        held = self._source.hold(path, frames=self._frames, candidates=self._candidates)
        self._held[path] = held
        self._room -= held.frames.nbytes

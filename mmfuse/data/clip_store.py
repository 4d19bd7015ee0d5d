"""The clip store: every clip decoded once, at the sampling and size that a grid needs, and memory-mapped ever after.

One file a clip, written under a temporary name and renamed, so that any number of processes and machines may read and
fill one store at the same time. A store's folder is named by what its pixels depend on: sampling, short side, decoder.
A clip's file says which video it was made of (bytes, time, SHA-256); a video that has changed since is decoded again,
one that is not there any more is taken to be the same.

Shape legend: T frames sampled of a clip, m candidates a segment, n frames kept, H x W their size.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save

from mmfuse.data.sampling import Chooser, Indices, candidate_frames
from mmfuse.data.sources import Decoding, Frames, HeldClip
from mmfuse.data.video import Damaged, decoder_version, probe, scaled_size
from mmfuse.errors import MmfuseError
from mmfuse.files import sha256_of_file, write_atomically

_STALE_AFTER = 3600.0  # seconds after which a temporary file is taken for a dead process's


@dataclass(frozen=True)
class Wanted:
    """A clip that the store is to hold."""

    clip: str
    path: str
    candidates: int | None
    """Of each segment; None: every frame of the clip; 1: the centres, which is all that testing looks at."""


def wanted_clips(training: pd.DataFrame, others: pd.DataFrame, *, candidates: int | None) -> list[Wanted]:
    """What a store is to hold: all that training can look at, and of the other clips the centres."""
    return [
        Wanted(clip, path, kept)
        for rows, kept in ((training, candidates), (others, 1))
        for clip, path in zip(rows["clip"], rows["path"], strict=True)
    ]


@dataclass(frozen=True)
class Sampling:
    """What the frames of a store depend on, besides the videos."""

    frames: int
    short_side: int
    damaged: Damaged = "error"

    @property
    def folder_name(self) -> str:
        """Two samplings share a folder only if they keep the same frames."""
        kept = "" if self.damaged == "error" else f"-{self.damaged}"
        return f"{self.frames}frames-{self.short_side}px{kept}-{decoder_version()}"


class ClipStore:
    """A folder of decoded clips."""

    def __init__(self, folder: Path, *, dataset: str, sampling: Sampling) -> None:
        """Args:
        folder: of all stores; this one is `<folder>/<dataset>/<sampling>`.
        dataset: the data set's name.
        sampling: what is kept of a clip.
        """
        self.dataset = dataset
        self.sampling = sampling
        self.folder = Path(folder) / dataset / sampling.folder_name

    def file_of(self, clip: str, candidates: int | None) -> Path:
        """Where a clip's frames are or would be."""
        digest = hashlib.sha256(clip.encode()).hexdigest()[:32]
        kept = "all" if candidates is None else str(candidates)
        return self.folder / digest[:2] / f"{digest}-{kept}.safetensors"

    def holds(self, wanted: Wanted) -> bool:
        """Whether the clip's frames are there, whole, and of the video as it is now."""
        stored = _Stored.read(self.file_of(wanted.clip, wanted.candidates))
        return stored is not None and stored.is_of(Path(wanted.path))

    def reader(self, wanted: Iterable[Wanted]) -> StoreReader:
        """A source of frames for clips that the store holds."""
        return StoreReader({want.path: self.file_of(want.clip, want.candidates) for want in wanted})

    def add(self, wanted: Wanted) -> int:
        """Decode a clip into the store, unless another process has; returns the bytes written.

        Raises:
            UnreadableVideo: the video cannot be decoded, or is damaged where that is not accepted.
            OSError: the folder cannot be written, or the disk is full.
        """
        if self.holds(wanted):
            return 0
        source = Path(wanted.path)
        before = source.stat()
        decoding = Decoding(short_side=self.sampling.short_side, damaged=self.sampling.damaged)
        held = decoding.hold(wanted.path, frames=self.sampling.frames, candidates=wanted.candidates)
        origin = {
            "count": held.count,
            "bytes": before.st_size,
            "time": before.st_mtime_ns,
            "sha256": sha256_of_file(source),
        }
        # One entry: the format does not keep the order of several, and the same clip is to give the same bytes.
        content = save({"frames": held.frames, "numbers": held.numbers}, metadata={"origin": json.dumps(origin)})
        write_atomically(self.file_of(wanted.clip, wanted.candidates), content)
        return len(content)

    def bytes_needed(self, wanted: Wanted) -> int:
        """About how much room a clip will take, by its header.

        Raises:
            UnreadableVideo: the header cannot be read.
        """
        header = probe(wanted.path)
        height, width = scaled_size(header.height, header.width, self.sampling.short_side)
        count = len(candidate_frames(max(1, header.frames), self.sampling.frames, wanted.candidates))
        return count * height * width * 3 + 1024

    def sweep(self) -> None:
        """Remove what killed processes have left half-written."""
        oldest = time.time() - _STALE_AFTER
        for path in self.folder.glob("*/.*.tmp"):
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:  # another process was faster
                continue


class StoreReader:
    """Frames from the store, memory-mapped: a `FrameSource`."""

    def __init__(self, files: dict[str, Path]) -> None:
        """Args:
        files: path of a video -> its file in the store.
        """
        self._files = files
        self._open: dict[str, HeldClip] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps files of its own; what is mapped here would be copied to it.
        return {"_files": self._files, "_open": {}}

    def pick(self, path: str, choose: Chooser) -> tuple[Frames, Indices]:
        """As in `FrameSource`.

        Raises:
            MmfuseError: the store has lost the clip.
        """
        if path not in self._open:
            stored = _Stored.read(self._files[path])
            if stored is None:
                raise MmfuseError(f"{self._files[path]}: gone or damaged since the run began; fill the store again")
            if len(self._open) >= _MOST_OPEN:
                self._open.clear()
            self._open[path] = stored.mapped()
        return self._open[path].pick(choose)


_MOST_OPEN = 16_384  # a process may map some 65,000 files


@dataclass(frozen=True)
class _Stored:
    """The head of a clip's file. The layout is that of safetensors: length, JSON, data."""

    path: Path
    header: dict[str, dict[str, Any]]
    origin: dict[str, Any]
    """The video it was made of: its bytes, time, sha256 and count of frames."""
    data: int
    """Where the data begins, in bytes."""

    @classmethod
    def read(cls, path: Path) -> _Stored | None:
        """None where there is no such file or it is not whole."""
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
                origin = json.loads(header["__metadata__"]["origin"])
                file.seek(0, 2)
                whole = file.tell() == 8 + length + max(
                    header[name]["data_offsets"][1] for name in ("frames", "numbers")
                )
        except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
            return None
        return cls(path, header, origin, 8 + length) if whole else None

    def is_of(self, video: Path) -> bool:
        try:
            now = video.stat()
        except OSError:
            return True
        if now.st_size != self.origin["bytes"]:
            return False
        return now.st_mtime_ns == self.origin["time"] or sha256_of_file(video) == self.origin["sha256"]

    def mapped(self) -> HeldClip:
        frames, numbers = (self._array(name) for name in ("frames", "numbers"))
        return HeldClip(frames, np.array(numbers), self.origin["count"])

    def _array(self, name: str) -> np.memmap:
        about = self.header[name]
        kind = np.dtype({"U8": "u1", "I64": "<i8"}[about["dtype"]])
        place = self.data + about["data_offsets"][0]
        return np.memmap(self.path, dtype=kind, mode="r", offset=place, shape=tuple(about["shape"]))

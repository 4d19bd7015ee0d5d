"""The clip store: every clip decoded once, at the sampling and size that a grid needs, and memory-mapped ever after.

One file a clip, written under a temporary name and renamed, so that any number of processes and machines may read and
fill one store at the same time. A store's folder is named by what its pixels depend on: sampling, short side, decoder.
A clip's file says which video it was made of (bytes, time, SHA-256); a video that has changed since is decoded again,
one that is not there any more is taken to be the same. It also holds a checksum, which is compared when a process first
reads the clip: what was cut short or has a flipped bit is decoded again, never shown.

Shape legend: T frames sampled of a clip, m candidates a segment, n frames kept, H x W their size.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save

from mmfuse.data.frames.sampling import Chooser, Indices, candidate_frames
from mmfuse.data.frames.sources import DecodedFrames, Frames, FrameSource, HeldClip
from mmfuse.data.frames.video import Damaged, decoder_version, probe, scaled_size
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import parse_json, sha256_of_file, write_atomically

KEPT_FREE = 2**30
"""Bytes of the disk that reading leaves alone: a store that grows must never be why a result cannot be written."""

_MOST_OPEN = 16_384  # a process may map some 65,000 files
_STALE_AFTER = 3600.0  # seconds after which a temporary file is taken for a dead process's


@dataclass(frozen=True)
class WantedClip:
    """A clip that the store is to hold."""

    clip: str
    path: str
    candidates: int | None
    """Of each segment; None: every frame of the clip; 1: the centres, which is all that a test of one view looks at."""


def wanted_clips(*parts: tuple[pd.DataFrame, int | None]) -> list[WantedClip]:
    """What a store is to hold.

    Args:
        parts: rows, with the candidates of each segment that are kept of them: all that training can look at; one of
            validation clips; of test clips as many as the test looks at clips of each video.
    """
    return [
        WantedClip(clip, path, kept)
        for rows, kept in parts
        for clip, path in zip(rows["clip"], rows["path"], strict=True)
    ]


@dataclass(frozen=True)
class StoreFormat:
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

    def __init__(self, folder: Path, *, dataset: str, sampling: StoreFormat) -> None:
        """Name the store; nothing is read or written yet.

        Args:
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

    def holds(self, wanted: WantedClip) -> bool:
        """Whether the clip's frames are there, in full length, and of the video as it is now.

        Their checksum is left to the first reading: to compare it, a whole store would have to be read.
        """
        return self._stored(wanted) is not None

    def _stored(self, wanted: WantedClip) -> _Stored | None:
        stored = _Stored.read(self.file_of(wanted.clip, wanted.candidates))
        return stored if stored is not None and stored.is_of(Path(wanted.path)) else None

    def reader(self, wanted: Iterable[WantedClip], *, otherwise: FrameSource) -> StoreReader:
        """A source of frames that decodes a clip into the store where that lacks it.

        Args:
            wanted: the clips.
            otherwise: where the frames of a clip come from that cannot be kept, as the disk is full or read-only.
        """
        return StoreReader(self, {want.path: want for want in wanted}, otherwise)

    def read(self, wanted: WantedClip) -> HeldClip | None:
        """A clip's frames, memory-mapped; None where there are none to trust."""
        stored = self._stored(wanted)
        return stored.mapped() if stored is not None and stored.is_sound() else None

    def add(self, wanted: WantedClip) -> int:
        """Decode a clip into the store, unless another process has; returns the bytes written.

        Raises:
            UnreadableVideo: the video cannot be decoded, or is damaged where that is not accepted.
            OSError: the folder cannot be written, or the disk is full.
        """
        return 0 if self.holds(wanted) else self.renew(wanted)

    def renew(self, wanted: WantedClip) -> int:
        """Decode a clip into the store, whatever stands there.

        Returns, raises: as `add`; MmfuseError too where the video changes meanwhile.
        """
        source = Path(wanted.path)
        before = source.stat()
        decoding = DecodedFrames(short_side=self.sampling.short_side, damaged=self.sampling.damaged)
        held = decoding.hold(wanted.path, frames=self.sampling.frames, candidates=wanted.candidates)
        origin = {
            "count": held.count,
            "bytes": before.st_size,
            "time": before.st_mtime_ns,
            "changed": before.st_ctime_ns,
            "sha256": sha256_of_file(source),
        }
        if _identity(source.stat()) != _identity(before):
            raise MmfuseError(f"{source}: has changed while it was read; try again when it is complete")
        origin["checksum"] = _checksum(origin, held.frames, held.numbers)
        # One entry: the format does not keep the order of several, and the same clip is to give the same bytes.
        content = save({"frames": held.frames, "numbers": held.numbers}, metadata={"origin": json.dumps(origin)})
        # Not synced: a file that a power cut leaves with holes fails its checksum and is made again.
        write_atomically(self.file_of(wanted.clip, wanted.candidates), content, sync=False)
        return len(content)

    def bytes_needed(self, wanted: WantedClip) -> int:
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
    """Frames from the store, memory-mapped; what it lacks is decoded when first asked for: a `FrameSource`."""

    def __init__(self, store: ClipStore, wanted: dict[str, WantedClip], otherwise: FrameSource) -> None:
        """Read clips of a store, and from elsewhere what it lacks.

        Args:
            store: where clips are kept.
            wanted: path of a video -> what is kept of it.
            otherwise: see `ClipStore.reader`.
        """
        self._store = store
        self._wanted = wanted
        self._otherwise = otherwise
        self._open: dict[str, HeldClip] = {}
        self._unkept: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps files of its own; what is mapped here would be copied to it.
        return {**self.__dict__, "_open": {}}

    def pick(self, path: str, choose: Chooser) -> tuple[Frames, Indices]:
        """As in `FrameSource`.

        Raises:
            MmfuseError: the store has lost the clip, and its video is gone.
        """
        if path not in self._open:
            held = None if path in self._unkept else self._held(self._wanted[path])
            if held is None:
                self._unkept.add(path)
                return self._otherwise.pick(path, choose)
            if len(self._open) >= _MOST_OPEN:
                self._open.clear()
            self._open[path] = held
        return self._open[path].pick(choose)

    def _held(self, want: WantedClip) -> HeldClip | None:
        if (held := self._store.read(want)) is not None:
            return held
        if not Path(want.path).is_file():
            file = self._store.file_of(want.clip, want.candidates)
            raise MmfuseError(
                f"the clip store has no sound copy of {want.clip} ({file} is gone or damaged), and its video "
                f"{want.path} is not there to make one; put the video back"
            )
        if free_bytes(self._store.folder) < KEPT_FREE:
            return None
        try:
            self._store.renew(want)
        except OSError:  # full or read-only: that only costs the time to decode again
            return None
        return self._store.read(want)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder that need not be there yet."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def _checksum(origin: dict[str, Any], frames: Frames, numbers: Indices) -> int:
    """Over what a file tells of its video, and over what it shows of it."""
    told = json.dumps([origin["count"], origin["bytes"], origin["time"], origin["sha256"], frames.shape, numbers.shape])
    return zlib.crc32(numbers.data, zlib.crc32(frames.data, zlib.crc32(told.encode())))


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
                header = parse_json(file.read(length))
                origin = parse_json(header["__metadata__"]["origin"])
                if not {"count", "bytes", "time", "changed", "sha256", "checksum"} <= set(origin):
                    return None
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
        # The time of the last status change is the one that copying a file over another cannot preserve.
        if (now.st_mtime_ns, now.st_ctime_ns) == (self.origin["time"], self.origin["changed"]):
            return True
        return _digest(video, now.st_ctime_ns) == self.origin["sha256"]

    def is_sound(self) -> bool:
        """Whether the checksum fits; each process reads a file once for that."""
        status = self.path.stat()
        return _sound(self.path, status.st_size, status.st_mtime_ns)

    def checksum_fits(self) -> bool:
        try:
            found = _checksum(self.origin, self._array("frames"), self._array("numbers"))
        except (ValueError, KeyError, TypeError):  # a head whose numbers make no array
            return False
        return found == self.origin["checksum"]

    def mapped(self) -> HeldClip:
        frames, numbers = (self._array(name) for name in ("frames", "numbers"))
        return HeldClip(frames, np.array(numbers), self.origin["count"])

    def _array(self, name: str) -> np.memmap:
        about = self.header[name]
        kind = np.dtype({"U8": "u1", "I64": "<i8"}[about["dtype"]])
        place = self.data + about["data_offsets"][0]
        return np.memmap(self.path, dtype=kind, mode="r", offset=place, shape=tuple(about["shape"]))


@lru_cache(maxsize=2**17)
def _digest(video: Path, _time: int) -> str:
    return sha256_of_file(video)


@lru_cache(maxsize=2**17)
def _sound(path: Path, _bytes: int, _time: int) -> bool:
    stored = _Stored.read(path)
    return stored is not None and stored.checksum_fits()

"""Where frame features of a frozen image tower are kept on disk, for every clip and view.

Shape legend: T frames, F width of a frame feature, V views of a clip.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import weakref
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmfuse.data.cache.claims import Claims
from mmfuse.utils.files import write_atomically

MEMORY = 2**30
"""Bytes of features that a process keeps in memory where the disk does not take them."""

ITEM, SUM = np.dtype("<f4"), np.dtype("<u8")


class FeatureStore:
    """Features by (clip, view) in one file that any number of processes read and fill.

    Each entry has a checksum over its features and over a mark of the video it came from (size and times of the file),
    written after the features. An entry that is absent, was cut short, has a flipped bit or comes from a video that has
    changed since fails its checksum and is computed again.

    The file has holes where nothing was written yet. It is read and written by system calls and not by mapping it into
    memory: where the disk is full, a write into a hole then gives an error, and a mapping would end the process. What
    cannot be written is kept in memory as far as there is room; a store that can only be read is read.
    """

    def __init__(self, folder: Path, *, clips: int, views: int, frames: int, width: int, memory: int = MEMORY) -> None:
        """Open the store, or make it.

        Args:
            folder: one for each (data set, tower, sampling); made if absent.
            clips: rows of the data set's table.
            views: V, of training with one more for testing, or those of a test that has several.
            frames, width: T and F.
            memory: bytes of features that may be kept in memory where they cannot be written.
        """
        self._shape = (frames, width)
        self._views = views
        self._bytes = frames * width * ITEM.itemsize
        self._memory: dict[tuple[int, int], tuple[int, NDArray[np.float32]]] = {}
        self._memory_left = memory
        self.fault = ""
        """Why features are not kept on the disk; empty as long as they are."""
        entries = clips * views
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_once(folder / "shape.json", json.dumps((clips, views, frames, width)))
        except OSError as error:
            self._note(error)
        self._features = self._opened(folder / "features.f32", entries * self._bytes)
        self._sums = self._opened(folder / "checksums.u64", entries * SUM.itemsize)
        self._claims = Claims(folder / "claims")

    @property
    def has_room(self) -> bool:
        """Whether further features are kept: on the disk, or in memory where that does not take them."""
        return not self.fault or self._memory_left >= self._bytes

    def claim(self, clip: int, view: int) -> bool:
        """Whether this process is to compute an entry; False where another one does so at the moment."""
        return self._claims.take(clip * self._views + view)

    def release(self, clip: int, view: int) -> None:
        """An entry is written, or given up."""
        self._claims.release(clip * self._views + view)

    def release_all(self) -> None:
        """Give up every entry that was claimed."""
        self._claims.release_all()

    def read(self, clip: int, view: int, mark: int) -> NDArray[np.float32] | None:
        """Features (T, F), or None where there are none to trust."""
        kept_mark, remembered = self._memory.get((clip, view), (0, None))
        if remembered is not None and kept_mark == mark:
            return remembered
        place = clip * self._views + view
        content = _read(self._features, place * self._bytes, self._bytes)
        kept = int.from_bytes(_read(self._sums, place * SUM.itemsize, SUM.itemsize) or b"", "little")
        if not kept or content is None:
            return None
        found = np.frombuffer(content, dtype=ITEM).reshape(self._shape)
        return found if kept == _checksum(found, mark) else None

    def write(self, clip: int, view: int, mark: int, features: NDArray[np.float32]) -> None:
        """Keep features (T, F)."""
        place = clip * self._views + view
        content = np.ascontiguousarray(features, dtype=ITEM)
        if not self.fault:
            try:
                _write(self._features, content.tobytes(), place * self._bytes)
                _write(self._sums, _checksum(content, mark).to_bytes(SUM.itemsize, "little"), place * SUM.itemsize)
                return
            except OSError as error:
                self._note(error)
        if content.nbytes <= self._memory_left:
            self._memory_left -= content.nbytes
            self._memory[clip, view] = (mark, content)

    def _note(self, error: OSError) -> None:
        self.fault = self.fault or f"features are not kept on the disk: {error.strerror or error}"

    def _opened(self, path: Path, length: int) -> int | None:
        """A file of the right length; for reading only, or none at all, where it cannot be written."""
        if not self.fault:
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                weakref.finalize(self, os.close, file)
                if os.fstat(file).st_size != length:
                    os.ftruncate(file, length)
                return file
            except OSError as error:
                self._note(error)
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, file)
            return file
        return None


def _write_once(path: Path, text: str) -> None:
    """Write a small file, unless it says the same already."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    write_atomically(path, text)


def _read(file: int | None, at: int, length: int) -> bytes | None:
    """Bytes of a file; None where it has none there."""
    if file is None:
        return None
    try:
        content = os.pread(file, length, at)
    except OSError:
        return None
    return content if len(content) == length else None


def _write(file: int | None, content: bytes, at: int) -> None:
    """Write bytes, all of them.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    if file is None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    done = 0
    while done < len(content):
        done += os.pwrite(file, content[done:], at + done)


def _checksum(features: NDArray[np.float32], mark: int) -> int:
    """Never 0, which stands for absent."""
    return 1 + zlib.crc32(np.ascontiguousarray(features, dtype=ITEM).data, mark & 0xFFFFFFFF)

"""Frame features of a frozen image tower, computed once for every clip and view and kept on disk.

A frozen tower gives the same features each time it sees the same frames. Training shows each clip in a fixed number of
views (see `ClipBatches`), so its features are finitely many; they are computed when first asked for and shared by every
cell, epoch and process that asks again. What a tower is, this module does not know: it is handed a function.

Shape legend: B clips, T frames, S side of the square, F width of a frame feature, V views of a clip.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import weakref
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mmfuse.data.batches import Batch, ClipBatches, Request
from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.frames.video import decoder_version
from mmfuse.utils.content import file_version
from mmfuse.utils.files import cache_folder, sha256_of_json, write_atomically

Compute = Callable[[Tensor], Tensor]
"""From clips, uint8 (B, T, 3, S, S), to frame features, float32 (B, T, F)."""

VERSION = 1
"""Raise it when sampling changes what a view shows."""

BLOCK = 16
"""Clips a call. Always exactly this many, the last ones repeated: kernels are chosen by shape, and with one shape a
clip's features come out bit for bit the same whatever it was computed together with."""


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


class FeatureBatches(Dataset[Batch]):
    """`ClipBatches` seen through a frozen tower: answers a `Request` with features in the place of video.

    Returns:
        "features" float32 (B, T, F), or (B, V, T, F) where several views of a test clip are shown; "label" and
        "index" int64 (B,).
    """

    def __init__(
        self, clips: ClipBatches, *, rows: Sequence[int], paths: Sequence[str], store: FeatureStore, compute: Compute
    ) -> None:
        """Serve features in the place of the frames of these clips.

        Args:
            clips: where frames and labels come from.
            rows: the place of each of its clips in the data set's whole table.
            paths: the video of each of its clips.
            store: what is known already.
            compute: the frozen tower.
        """
        self._clips = clips
        self._rows = list(rows)
        self._marks = [_mark(path) for path in paths]
        self._store = store
        self._compute = compute

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, request: Request) -> Batch:
        several = self._clips.test_views.count > 1
        views = range(self._clips.test_views.count) if several else [self._clips.view(request.epoch)]
        found: dict[tuple[int, int], NDArray[np.float32]] = {}
        absent = []
        for row in request.rows:
            kept = {view: self._store.read(self._rows[row], view, self._marks[row]) for view in views}
            found |= {(row, view): value for view, value in kept.items() if value is not None}
            if any(value is None for value in kept.values()):
                absent.append(row)
        together = max(1, BLOCK // len(views))
        for start in range(0, len(absent), together):
            found |= self._computed(absent[start : start + together], request.epoch, views)
        features = torch.from_numpy(np.stack([found[row, view] for row in request.rows for view in views]))
        shown = features.unflatten(0, (-1, len(views))) if several else features
        return {"features": shown, **self._clips.answers(request.rows)}

    def _computed(
        self, rows: list[int], epoch: int, views: Sequence[int]
    ) -> dict[tuple[int, int], NDArray[np.float32]]:
        """The features of all views of some clips, computed and kept."""
        video = self._clips[Request(epoch, rows)]["video"]
        places = [(row, view) for row in rows for view in views]
        found = {}
        for start in range(0, len(places), BLOCK):
            part = video.reshape(-1, *video.shape[-4:])[start : start + BLOCK]
            whole = torch.cat([part, part[-1:].expand(BLOCK - len(part), *part.shape[1:])])
            features = self._compute(whole)[: len(part)].float().cpu().numpy()
            for (row, view), value in zip(places[start : start + BLOCK], features, strict=True):
                self._store.write(self._rows[row], view, self._marks[row], value)
                found[row, view] = value
        return found


class Features:
    """How a data module shows its clips through a frozen tower."""

    def __init__(
        self, compute: Compute, *, frames: int, views: int, width: int, key: dict[str, object], folder: Path | None
    ) -> None:
        """Open the stores of a tower when batches are first asked for.

        Args:
            compute: the tower.
            frames, views, width: T, V and F.
            key: all that the features depend on besides the clips.
            folder: where they are kept; by default in the cache folder.
        """
        self._compute = compute
        self._shape = {"frames": frames, "width": width}
        self._views = views
        self._key = key
        self._folder = folder or cache_folder() / "features"
        self._stores: list[FeatureStore] = []

    @property
    def fault(self) -> str:
        """Why features are not kept on the disk; empty as long as they are."""
        return next((store.fault for store in self._stores if store.fault), "")

    def through(self, batches: ClipBatches, clips: pd.DataFrame, catalogue: Catalogue) -> FeatureBatches:
        """The same clips as features."""
        key = {**self._key, "clips": catalogue.fingerprint, "version": VERSION, "decoder": decoder_version()}
        views = self._views + 1
        if batches.test_views.count > 1:  # apart, so that what is kept of training serves any number of them
            key, views = {**key, "test_views": str(batches.test_views)}, batches.test_views.count
        name = sha256_of_json(key)[:32]
        store = FeatureStore(self._folder / name, clips=len(catalogue.table), views=views, **self._shape)
        self._stores.append(store)
        place = {clip: row for row, clip in enumerate(catalogue.table["clip"])}
        return FeatureBatches(
            batches,
            rows=[place[clip] for clip in clips["clip"]],
            paths=clips["path"].tolist(),
            store=store,
            compute=self._compute,
        )


def _mark(path: str) -> int:
    """What changes when a video is replaced by another under the same name; 0 where only the clip store holds it."""
    try:
        return zlib.crc32("/".join(map(str, file_version(path))).encode())
    except OSError:
        return 0

"""Frame features of a frozen image tower, computed once for every clip and view and kept on disk.

A frozen tower gives the same features each time it sees the same frames. Training shows each clip in a fixed number of
views (see `ClipBatches`), so its features are finitely many; they are computed when first asked for and shared by every
cell, epoch and process that asks again. What a tower is, this module does not know: it is handed a function.

Shape legend: B clips, T frames, S side of the square, F width of a frame feature, V views of a training clip.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mmfuse.data.batches import Batch, ClipBatches, Request, flipped
from mmfuse.data.catalogue.load import Catalogue
from mmfuse.utils.files import cache_folder, sha256_of_json, write_atomically

Compute = Callable[[Tensor], Tensor]
"""From clips, uint8 (B, T, 3, S, S), to frame features, float32 (B, T, F)."""

VERSION = 1
"""Raise it when sampling changes what a view shows."""

BLOCK = 16
"""Clips a call. Always exactly this many, the last ones repeated: kernels are chosen by shape, and with one shape a
clip's features come out bit for bit the same whatever it was computed together with."""


class FeatureStore:
    """Features by (clip, view) in one memory-mapped file that any number of processes read and fill.

    Each entry has a checksum over its features and over a mark of the video it came from (size and times of the file),
    written after the features. An entry that is absent, was cut short, has a flipped bit or comes from a video that has
    changed since fails its checksum and is computed again.
    """

    def __init__(self, folder: Path, *, clips: int, views: int, frames: int, width: int) -> None:
        """Args:
        folder: one for each (data set, tower, sampling); made if absent.
        clips: rows of the data set's table.
        views: V + 1, the last one for testing.
        frames, width: T and F.
        """
        folder.mkdir(parents=True, exist_ok=True)
        shape = (clips, views, frames, width)
        write_atomically(folder / "shape.json", json.dumps(shape))
        self._features = _mapped(folder / "features.f32", np.dtype("<f4"), shape)
        self._sums = _mapped(folder / "checksums.u64", np.dtype("<u8"), shape[:2])

    def read(self, clip: int, view: int, mark: int) -> NDArray[np.float32] | None:
        """Features (T, F), or None where there are none to trust."""
        kept = int(self._sums[clip, view])
        if not kept:
            return None
        found = np.array(self._features[clip, view])
        return found if kept == _checksum(found, mark) else None

    def write(self, clip: int, view: int, mark: int, features: NDArray[np.float32]) -> None:
        """Keep features (T, F)."""
        self._features[clip, view] = features
        self._sums[clip, view] = _checksum(features, mark)


def _checksum(features: NDArray[np.float32], mark: int) -> int:
    """Never 0, which stands for absent."""
    return 1 + zlib.crc32(np.ascontiguousarray(features, dtype="<f4").data, mark & 0xFFFFFFFF)


def _mapped(path: Path, dtype: np.dtype, shape: Sequence[int]) -> np.memmap:
    """A file of the right length, with holes where nothing was written yet."""
    length = int(np.prod(shape)) * dtype.itemsize
    with path.open("ab") as file:
        if os.fstat(file.fileno()).st_size != length:
            file.truncate(length)
    return np.memmap(path, dtype=dtype, mode="r+", shape=tuple(shape))


class FeatureBatches(Dataset[Batch]):
    """`ClipBatches` seen through a frozen tower: answers a `Request` with features in the place of video.

    Returns:
        "features" float32 (B, T, F); "label" and "index" int64 (B,).
    """

    def __init__(
        self, clips: ClipBatches, *, rows: Sequence[int], paths: Sequence[str], store: FeatureStore, compute: Compute
    ) -> None:
        """Args:
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
        view = self._clips.view(request.epoch)
        found: dict[int, NDArray[np.float32]] = {}
        absent = []
        for row in request.rows:
            kept = self._store.read(self._rows[row], view, self._marks[row])
            if kept is None:
                absent.append(row)
            else:
                found[row] = kept
        for start in range(0, len(absent), BLOCK):
            found |= self._computed(absent[start : start + BLOCK], request.epoch, view)
        features = np.stack([found[row] for row in request.rows])
        return {"features": torch.from_numpy(features), **self._clips.answers(request.rows)}

    def _computed(self, rows: list[int], epoch: int, view: int) -> dict[int, NDArray[np.float32]]:
        video = flipped(self._clips[Request(epoch, rows)])["video"]
        whole = torch.cat([video, video[-1:].expand(BLOCK - len(video), *video.shape[1:])])
        features = self._compute(whole)[: len(rows)].float().cpu().numpy()
        for row, value in zip(rows, features, strict=True):
            self._store.write(self._rows[row], view, self._marks[row], value)
        return dict(zip(rows, features, strict=True))


class Features:
    """How a data module shows its clips through a frozen tower."""

    def __init__(
        self, compute: Compute, *, frames: int, views: int, width: int, key: dict[str, object], folder: Path | None
    ) -> None:
        """Args:
        compute: the tower.
        frames, views, width: T, V and F.
        key: all that the features depend on besides the clips.
        folder: where they are kept; by default in the cache folder.
        """
        self._compute = compute
        self._shape = {"frames": frames, "views": views + 1, "width": width}
        self._key = key
        self._folder = folder or cache_folder() / "features"

    def through(self, batches: ClipBatches, clips: pd.DataFrame, catalogue: Catalogue) -> FeatureBatches:
        """The same clips as features."""
        name = sha256_of_json({**self._key, "clips": catalogue.fingerprint, "version": VERSION})[:32]
        store = FeatureStore(self._folder / name, clips=len(catalogue.table), **self._shape)
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
        status = os.stat(path)
    except OSError:
        return 0
    return zlib.crc32(f"{status.st_size}/{status.st_mtime_ns}/{status.st_ctime_ns}".encode())

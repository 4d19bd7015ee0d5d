"""Clips seen through a frozen image tower: features computed once for every clip and view, and kept.

A frozen tower gives the same features each time it sees the same frames. Training shows each clip in a fixed number of
views (see `ClipBatches`), so its features are finitely many; they are shared by every cell, epoch and process that asks
again. What a tower is, this module does not know: it is handed a function.

When the first one of an epoch's features is found absent, all of the epoch that are absent are computed: processes
decode ahead while the tower computes. Processes that do so at the same time share the work, by claims on single clips,
and one that is killed leaves what it has computed and no claim.

Shape legend: B clips, T frames, S side of the square, F width of a frame feature, V views of a clip.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mmfuse.data.batches import Batch, ClipBatches, Request
from mmfuse.data.cache.feature_store import FeatureStore
from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.frames.video import decoder_version
from mmfuse.data.loader import ReadAhead
from mmfuse.data.waits import Waits
from mmfuse.utils.content import file_version
from mmfuse.utils.files import cache_folder, sha256_of_json

Compute = Callable[[Tensor], Tensor]
"""From clips, uint8 (B, T, 3, S, S), to frame features, float32 (B, T, F)."""
Report = Callable[[int, int], None]
"""Told of features that are computed: clips done, clips to do."""

VERSION = 1
"""Raise it when sampling changes what a view shows."""

BLOCK = 16
"""Clips a call. Always exactly this many, the last ones repeated: kernels are chosen by shape, and with one shape a
clip's features come out bit for bit the same whatever it was computed together with."""

LOOK_AGAIN = 0.2
"""Seconds after which clips that other processes compute are looked for again."""

Found = dict[tuple[int, int], NDArray[np.float32]]
"""(row, view) -> features, (T, F)."""


@dataclass(frozen=True)
class Decoding:
    """How clips are decoded of which features are absent.

    Args:
        read: answers requests.
        waits: of the loader that the features are for; the time in which the tower computes is none.
        report: told how far it is.
        whole_epochs: whether all absent features of an epoch are computed when the first of them is asked for.
    """

    read: ReadAhead
    waits: Waits
    report: Report
    whole_epochs: bool = True


class FeatureBatches(Dataset[Batch]):
    """`ClipBatches` seen through a frozen tower: answers a `Request` with features in the place of video.

    Returns:
        "features" float32 (B, T, F), or (B, V, T, F) where several views of a test clip are shown; "label" and
        "index" int64 (B,).
    """

    def __init__(
        self,
        clips: ClipBatches,
        *,
        rows: Sequence[int],
        paths: Sequence[str],
        store: FeatureStore,
        compute: Compute,
        decoding: Decoding,
    ) -> None:
        """Serve features in the place of the frames of these clips.

        Args:
            clips: where frames and labels come from.
            rows: the place of each of its clips in the data set's whole table.
            paths: the video of each of its clips.
            store: what is known already.
            compute: the frozen tower.
            decoding: how absent ones are come by.
        """
        self._clips = clips
        self._rows = list(rows)
        self._marks = [_mark(path) for path in paths]
        self._store = store
        self._compute = compute
        self._decoding = decoding
        self._filled: set[int] = set()

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, request: Request) -> Batch:
        several = self._clips.test_views.count > 1
        views = range(self._clips.test_views.count) if several else [self._clips.view(request.epoch)]
        found, absent = self._known(request.rows, views)
        # Where they are not kept, those of an epoch would be computed for nothing.
        if absent and self._decoding.whole_epochs and views[0] not in self._filled and self._store.has_room:
            self._fill(request.epoch, views)
            found, absent = self._known(request.rows, views)
        for rows in _parts(absent, max(1, BLOCK // len(views))):
            found |= self._keep(rows, views, self._features(self._clips[Request(request.epoch, rows)]["video"]))
        features = torch.from_numpy(np.stack([found[row, view] for row in request.rows for view in views]))
        shown = features.unflatten(0, (-1, len(views))) if several else features
        return {"features": shown, **self._clips.answers(request.rows)}

    def _known(self, rows: Iterable[int], views: Sequence[int]) -> tuple[Found, list[int]]:
        """What is kept of some clips, and the clips of which something is not."""
        found: Found = {}
        absent = []
        for row in rows:
            kept = {view: self._store.read(self._rows[row], view, self._marks[row]) for view in views}
            found |= {(row, view): value for view, value in kept.items() if value is not None}
            if any(value is None for value in kept.values()):
                absent.append(row)
        return found, absent

    def _absent(self, rows: Iterable[int], views: Sequence[int]) -> list[int]:
        """The clips of which something is not kept."""
        return [row for row in rows if self._known([row], views)[1]]

    def _features(self, video: Tensor) -> list[tuple[int, Tensor]]:
        """Features of clips in one view or several, in blocks of which the first so many are meant.

        A GPU has only begun to compute them.
        """
        every = video.reshape(-1, *video.shape[-4:])
        found = []
        for part in every.split(BLOCK):
            short = BLOCK - len(part)
            whole = torch.cat([part, part[-1:].expand(short, *part.shape[1:])]) if short else part
            found.append((len(part), self._compute(whole)))
        return found

    def _keep(self, rows: Sequence[int], views: Sequence[int], features: list[tuple[int, Tensor]]) -> Found:
        """Wait for the features of all views of some clips, and write them down."""
        places = [(row, view) for row in rows for view in views]
        values = np.concatenate([block[:count].float().cpu().numpy() for count, block in features])
        for (row, view), value in zip(places, values, strict=True):
            self._store.write(self._rows[row], view, self._marks[row], value)
        return dict(zip(places, values, strict=True))

    # -- all of an epoch ----------------------------------------------------------------------------------------------

    def _fill(self, epoch: int, views: Sequence[int]) -> None:
        """Compute all that is absent of an epoch, or wait for those who do.

        Raises:
            MmfuseError: a clip cannot be decoded; what was computed is kept.
        """
        self._filled.add(views[0])
        left = self._absent(range(len(self)), views)
        total, told = len(left), -1
        with self._decoding.waits.working():
            try:
                while left and self._store.has_room:
                    if len(left) != told:
                        told = len(left)
                        self._decoding.report(total - told, total)
                    before = len(left)
                    self._compute_unclaimed(left, epoch, views, done=total - before, total=total)
                    left = self._absent(left, views)
                    if len(left) == before:
                        time.sleep(LOOK_AGAIN)
            finally:
                self._store.release_all()
        if len(self._filled) == self._clips.numbered_views:  # nothing more will be asked for
            self._decoding.read.end()

    def _compute_unclaimed(
        self, rows: Sequence[int], epoch: int, views: Sequence[int], *, done: int, total: int
    ) -> None:
        """Compute those of some clips that no other process is computing."""
        requests = self._claimed(rows, epoch, views)
        asked: list[Sequence[int]] = []

        def noted() -> Iterator[Request]:
            for request in requests:
                asked.append(request.rows)
                yield request

        # What a GPU has computed of one block is fetched while it computes the next.
        begun: tuple[Sequence[int], list[tuple[int, Tensor]]] | None = None
        for number, batch in enumerate(self._decoding.read(noted())):
            features = self._features(batch["video"])
            if begun is not None:
                done += self._come_to_an_end(*begun, views)
                self._decoding.report(done, total)
            begun = (asked[number], features)
            if not self._store.has_room:
                break
        if begun is not None:
            done += self._come_to_an_end(*begun, views)
            self._decoding.report(done, total)

    def _come_to_an_end(self, rows: Sequence[int], features: list[tuple[int, Tensor]], views: Sequence[int]) -> int:
        self._keep(rows, views, features)
        for row in rows:
            self._store.release(self._rows[row], views[0])
        return len(rows)

    def _claimed(self, rows: Iterable[int], epoch: int, views: Sequence[int]) -> Iterator[Request]:
        """Requests for clips that are claimed one by one, until they make a block, when the request is asked for."""
        together, mine = max(1, BLOCK // len(views)), []
        for row in rows:
            if not self._store.claim(self._rows[row], views[0]):
                continue
            if not self._absent([row], views):  # another process was done with it in the meantime
                self._store.release(self._rows[row], views[0])
                continue
            mine.append(row)
            if len(mine) == together:
                yield Request(epoch, mine)
                mine = []
        if mine:
            yield Request(epoch, mine)


def _parts(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


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

    def through(
        self, batches: ClipBatches, clips: pd.DataFrame, catalogue: Catalogue, *, decoding: Decoding
    ) -> FeatureBatches:
        """The same clips as features."""
        # Which clip stands in which row, and not in which part: folds of the same clips share what is kept.
        clips_in_order = sha256_of_json(catalogue.table["clip"].tolist())
        key = {**self._key, "clips": clips_in_order, "version": VERSION, "decoder": decoder_version()}
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
            decoding=decoding,
        )


def _mark(path: str) -> int:
    """What changes when a video is replaced by another under the same name; 0 where only the clip store holds it."""
    try:
        return zlib.crc32("/".join(map(str, file_version(path))).encode())
    except OSError:
        return 0

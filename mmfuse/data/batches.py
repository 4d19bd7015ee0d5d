"""From rows of a table to batches of frames: which rows make a batch, and how a batch is filled.

Shape legend: B clips, V views of a test clip, T frames, S side of the square, C = 3 colours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from mmfuse.data.frames.sampling import Indices, clip_generator, segment_places
from mmfuse.data.frames.sources import Frames, FrameSource
from mmfuse.data.frames.views import ONE_VIEW, Views
from mmfuse.errors import MmfuseError

Batch: TypeAlias = dict[str, Tensor]


class Request(NamedTuple):
    """What a worker is asked for: some rows of the table, in one epoch."""

    epoch: int
    rows: list[int]


class EpochBatches(DistributedSampler[Request]):
    """The batches of an epoch for one of several processes: no row left out, none twice.

    Every process makes the same number of steps, so that none waits for gradients that never come; where the rows do
    not divide evenly, some batches are smaller (or, with batches of one row, one is larger). In one process only the
    last batch can be smaller. A subclass of torch's distributed sampler, whose place it takes: that one pads with
    repeated rows.

    Each pass is the next epoch, so that a loop written by hand sees new orders and views as a trainer does, which sets
    the epoch itself (`set_epoch`).
    """

    def __init__(
        self, count: int, *, batch_size: int, shuffle: bool, seed: int, processes: int = 1, rank: int = 0
    ) -> None:
        """Divide the rows of a table into batches.

        Args:
            count: rows of the table.
            batch_size: rows of a full batch in one process.
            shuffle: a new order each epoch, from (seed, epoch) alone.
            processes, rank: how many processes share the rows, and which one this is.

        Raises:
            MmfuseError: there are more processes than rows.
        """
        if count < processes:
            raise MmfuseError(f"{processes} processes cannot share {count} clips; use at most {count}")
        super().__init__(range(count), num_replicas=processes, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self._count = count
        self._batch_size = batch_size

    def __len__(self) -> int:
        largest, smallest = math.ceil(self._count / self.num_replicas), self._count // self.num_replicas
        return min(math.ceil(largest / self._batch_size), smallest)

    def __iter__(self) -> Iterator[Request]:
        # A generator: a loader with workers asks for two iterators at its first pass, and uses one.
        parts = self._parts()
        epoch, self.epoch = self.epoch, self.epoch + 1
        for part in parts:
            yield Request(epoch, part.tolist())

    def _parts(self) -> list[Indices]:
        """The rows of each batch of this process in the current epoch."""
        share = self._row_order()[self.rank :: self.num_replicas]
        parts = np.split(share, range(self._batch_size, len(share), self._batch_size))
        if len(parts) != len(self):  # a row more or fewer than others have makes it another number of batches
            parts = np.array_split(share, len(self))
        return parts

    def _row_order(self) -> Indices:
        if not self.shuffle:
            return np.arange(self._count)
        digest = hashlib.sha256(f"order\0{self.seed}\0{self.epoch}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big")).permutation(self._count)


class ClipBatches(Dataset[Batch]):
    """A table of clips that answers a `Request` with a whole batch.

    Returns:
        "video" uint8 (B, T, C, S, S), its frames as stored in memory with colours last, or (B, V, T, C, S, S) where
        several views of a test clip are shown; "label" and "index" (the row) int64 (B,).
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        *,
        source: FrameSource,
        frames: int,
        size: int,
        training: bool,
        candidates: int | None = None,
        flip: bool = False,
        seed: int = 0,
        views: int | None = None,
        test_views: Views = ONE_VIEW,
    ) -> None:
        """Show the clips of a table, in training or in a test.

        Args:
            clips: rows with `clip`, `path` and `label`.
            source: where frames come from.
            frames, size: T and S.
            training: a random frame of each segment and a random crop, else centres.
            candidates: see `mmfuse.data.frames.sampling.segment_places`.
            flip: mirror half of the clips in training.
            seed: of everything random here, with the epoch and the clip.
            views: V, how many views of a clip training goes round; the same ones for every seed and draw, so that what
                a frozen tower makes of them can be shared. None: a new view every epoch.
            test_views: how often, and where, a clip is looked at that is not trained on.
        """
        self._clips: list[str] = clips["clip"].tolist()
        self._paths: list[str] = clips["path"].tolist()
        self._labels: list[int] = clips["label"].tolist()
        self._source = source
        self._frames = frames
        self._size = size
        self._training = training
        self._candidates = candidates
        self._flip = flip
        self._seed = seed
        self._views = views
        self.test_views = ONE_VIEW if training else test_views

    def __len__(self) -> int:
        return len(self._clips)

    def view(self, epoch: int) -> int:
        """Which view of its clips an epoch shows; for testing, if it shows one alone, that after the last of training.

        Raises:
            ValueError: views are not limited, so they have no number.
        """
        if self._views is None:
            raise ValueError("without a number of views every epoch has a view of its own")
        return epoch % self._views if self._training else self._views

    @property
    def numbered_views(self) -> int:
        """How many numbers `view` gives in all."""
        return self._views or 1 if self._training else 1

    def answers(self, rows: list[int]) -> Batch:
        """What is known of rows without a look at their videos: "label" and "index", int64 (B,)."""
        return {"label": torch.tensor([self._labels[row] for row in rows]), "index": torch.tensor(rows)}

    def __getitem__(self, request: Request) -> Batch:
        rows, shown = request.rows, self.test_views.count
        frames = np.empty((len(rows), shown, self._frames, self._size, self._size, 3), dtype=np.uint8)
        video = torch.from_numpy(frames).permute(0, 1, 2, 5, 3, 4)
        for place, row in enumerate(rows):
            if not self._training:
                self._fill_views(frames[place], row)
            elif self._fill(frames[place, 0], row, request.epoch):
                video[place].copy_(video[place].flip(-1))
        return {"video": video if shown > 1 else video.squeeze(1), **self.answers(rows)}

    def _fill(self, target: Frames, row: int, epoch: int) -> bool:
        """Write one clip's frames, cropped, to `target` (T, S, S, C); returns whether it is to be mirrored."""
        own = (self._seed, epoch) if self._views is None else (0, self.view(epoch))
        generator = clip_generator(seed=own[0], epoch=own[1], clip=self._clips[row])
        places = generator.random(self._frames)
        down, right, mirror = generator.random(3)

        def choose(count: int) -> Indices:
            return segment_places(count, places, candidates=self._candidates)

        held, wanted = self._source.pick(self._paths[row], choose)
        corner = int(down * (held.shape[1] - self._size + 1)), int(right * (held.shape[2] - self._size + 1))
        self._copy(target, held, wanted, corner)
        return bool(self._flip and mirror < 0.5)

    def _fill_views(self, target: Frames, row: int) -> None:
        """Write all views of a test clip to `target` (V, T, S, S, C), the crops of each of its clips side by side."""
        views = self.test_views

        def choose(count: int) -> Indices:
            return views.frames(count, self._frames)

        held, wanted = self._source.pick(self._paths[row], choose)  # once, whatever is cut out of it
        corners = views.corners(held.shape[1], held.shape[2], self._size)
        for clip in range(views.clips):
            for crop, corner in enumerate(corners):
                self._copy(target[clip * views.crops + crop], held, wanted[clip :: views.clips], corner)

    def _copy(self, target: Frames, held: Frames, wanted: Indices, corner: tuple[int, int]) -> None:
        """Write the frames `wanted` of those held, cropped at a corner, to `target` (T, S, S, C)."""
        top, left = corner
        for place, index in enumerate(wanted.tolist()):
            target[place] = held[index, top : top + self._size, left : left + self._size]


class FixedBatches(Dataset[Batch]):
    """The batches of one epoch by number, to be shown in every epoch again.

    Args:
        clips: what answers a request.
        requests: the epoch's batches.
    """

    def __init__(self, clips: Dataset[Batch], requests: Iterable[Request]) -> None:
        self._clips = clips
        self._requests = list(requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, number: int) -> Batch:
        return self._clips[self._requests[number]]

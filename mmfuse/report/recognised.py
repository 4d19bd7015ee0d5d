"""Which test clips each model recognised, summed by the sources that the clips come from.

Read from the files of predictions beside the records, anew for every report: nothing that could go stale is kept.

Shape legend: N test clips, S sources.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from mmfuse.errors import MmfuseError
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.predictions import decode
from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from mmfuse.report.statistics import Array

_READ = ("clip", "label", "predicted", "group")


class Recognised:
    """The test clips of one data set and split, and which of them each finished cell recognised.

    Args:
        folder: where the predictions lie.
        entries: cells of one data set and split.

    Attributes:
        problems: cells whose predictions cannot be used, and why.
    """

    def __init__(self, folder: ResultsFolder, entries: Iterable[Entry]) -> None:
        self.problems: list[str] = []
        self._right: dict[str, NDArray[np.bool_]] = {}
        self._clips: tuple[NDArray[np.str_], NDArray[np.int64]] | None = None
        self._sources = np.zeros(0, dtype=np.int64)
        for entry in entries:
            if entry.state == "done" and entry.record is not None:
                try:
                    self._add(entry.record, folder)
                except MmfuseError as error:
                    self.problems.append(f"{entry.cell.name}: {error}")

    def _add(self, record: Record, folder: ResultsFolder) -> None:
        table = decode(folder.predictions_of(record), columns=_READ)
        clips, labels = table["clip"], table["label"]
        if self._clips is None:
            if not len(clips):
                raise MmfuseError("its predictions hold no clips")
            if labels.min() < 0:
                raise MmfuseError("its predictions name a class below 0")
            self._clips = clips, labels
            self._sources = np.unique(table["group"], return_inverse=True)[1]
        elif not (np.array_equal(clips, self._clips[0]) and np.array_equal(labels, self._clips[1])):
            raise MmfuseError("its test clips are not those of the other cells")
        self._right[record.stem] = labels == table["predicted"]

    @property
    def sources(self) -> int:
        """Number of sources."""
        return int(self._sources.max(initial=-1)) + 1

    def weights(self, metric: str) -> Array:
        """(N,) what each clip counts in a metric, 1 on average.

        Args:
            metric: `top1`, or `mean_class`, in which every class that has test clips counts alike.
        """
        if self._clips is None:
            return np.ones(0)
        labels = self._clips[1]
        if metric == "top1":
            return np.ones(len(labels))
        _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return np.asarray(len(labels) / (len(counts) * counts[codes]))

    def clips_of(self, classes: Collection[int]) -> int:
        """Number of test clips of some classes, given by label."""
        return int(self._are_of(classes).sum())

    def share_of(self, record: Record, classes: Collection[int]) -> float | None:
        """Share of the test clips of some classes that a record's model recognised; `None` where it is not known."""
        right, chosen = self._right.get(record.stem), self._are_of(classes)
        return None if right is None or not chosen.any() else float(right[chosen].mean())

    def _are_of(self, classes: Collection[int]) -> NDArray[np.bool_]:
        labels = np.zeros(0, dtype=np.int64) if self._clips is None else self._clips[1]
        return np.isin(labels, list(classes))

    def clips(self, weights: Array) -> Array:
        """(S,) test clips of each source."""
        return np.asarray(np.bincount(self._sources, weights=weights, minlength=self.sources), dtype=np.float64)

    def by_source(self, record: Record, weights: Array) -> Array:
        """(S,) clips of each source that a record's model recognised; nan where its predictions cannot be used."""
        right = self._right.get(record.stem)
        if right is None:
            return np.full(self.sources, np.nan)
        return np.asarray(np.bincount(self._sources, weights=weights * right, minlength=self.sources), dtype=np.float64)

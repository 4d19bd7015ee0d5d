"""What cells will cost: seconds, memory and disk, from finished cells and from a calibration of this device."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmfuse.bench.inputs import frame_size
from mmfuse.cells import Cell, Dataset
from mmfuse.data.cards import load_card
from mmfuse.files import cache_folder, write_atomically
from mmfuse.records import Record
from mmfuse.survey import Entry

BACKWARD = 3.0
"""A training step through a tower costs about three forwards."""
FUSION = 0.1
"""An epoch of the fusion over kept features, against a forward through the tower."""


@dataclass(frozen=True)
class Size:
    """Clips of a data set's split, as its card or lists say."""

    train: int
    test: int
    classes: int


def size_of(dataset: Dataset, split: int) -> Size:
    """Clips and classes of a data set's split; a rough guess where nothing is known."""
    if dataset.own:
        train, test = (_lines(dataset.root, name) for name in (dataset.train, dataset.test))
        return Size(train, test, len(dataset.classes or []) or max(1, train // 20))
    card = load_card(dataset.name)
    counts = card.splits.get(split, {})
    return Size(counts.get("train", 1000), counts.get("test", 500), len(card.class_names))


@lru_cache
def _lines(root: str | None, name: str | None) -> int:
    path = Path(root or ".") / Path(name or "").expanduser()
    return path.read_bytes().count(b"\n") if path.is_file() else 100


def frames_of(cell: Cell) -> int:
    """Frames a clip: the cell's, else its card's."""
    if cell.clip.frames is not None or cell.dataset.own:
        return cell.clip.frames or 8
    return load_card(cell.dataset.name).frames


def trains_image(cell: Cell) -> bool:
    """Whether the image tower is trained, as far as the method's name tells."""
    return bool(cell.pair.image["method"] != "frozen")


def work_of(cell: Cell) -> float:
    """Frames through the image tower, each weighted by what is done with it.

    A frozen tower looks at each view of a clip once; a trained one at every frame of every epoch, with gradients.
    """
    size = size_of(cell.dataset, cell.split)
    clips = size.train if cell.shots == "all" else min(cell.shots * size.classes, size.train)
    epochs = cell.train.epochs
    if trains_image(cell):
        passes = BACKWARD * epochs
    else:
        views = cell.clip.views if cell.clip.views is not None else 8
        passes = (min(views, epochs) if views else epochs) + FUSION * epochs
    return float(frames_of(cell) * (clips * passes + size.test))


@dataclass(frozen=True)
class Expected:
    """What a cell will take: seconds, bytes of memory and of disk; `None` where nothing is known."""

    seconds: float | None
    memory_bytes: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True)
class Rate:
    """What was measured on this device for one tower, frame size and kind of training."""

    encoder: str
    size: int | None
    trained: bool
    seconds_per_frame: float
    memory_bytes: int | None
    weights_bytes: int | None
    device: str


def calibration_file() -> Path:
    """Where this machine's calibration is kept."""
    return cache_folder() / "calibration.json"


def read_calibration() -> list[Rate]:
    """The rates that were measured on this machine; none where nothing was."""
    try:
        return [Rate(**entry) for entry in json.loads(calibration_file().read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def keep_calibration(rates: Iterable[Rate]) -> None:
    """Add rates to this machine's calibration; the newer takes the older's place."""
    kept = {(rate.encoder, rate.size, rate.trained): rate for rate in [*read_calibration(), *rates]}
    write_atomically(calibration_file(), json.dumps([asdict(rate) for rate in kept.values()], indent=1) + "\n")


class Estimator:
    """Expected cost of cells.

    Seconds for a frame come from records of the most alike cells that there are, else from the calibration.

    Args:
        records: finished cells.
        rates: this machine's calibration.
    """

    def __init__(self, records: Iterable[Record] = (), *, rates: Iterable[Rate] = ()) -> None:
        self._rates: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        self._memory: dict[tuple[Any, ...], int] = {}
        self._disk: dict[tuple[Any, ...], int] = {}
        for rate in rates:
            key = ("calibrated", rate.encoder, rate.size, rate.trained)
            self._take(key, rate.seconds_per_frame, rate.memory_bytes, rate.weights_bytes)
        for record in records:
            self.learn(record)

    def learn(self, record: Record) -> None:
        """Take a finished record into account."""
        if record.state == "done" and record.cost is not None:
            seconds = record.cost.seconds / work_of(record.cell)
            for key in self._keys(record.cell)[:-1]:
                self._take(key, seconds, record.cost.peak_memory_bytes, record.cost.checkpoint_bytes)

    def _take(self, key: tuple[Any, ...], seconds: float, memory: int | None, disk: int | None) -> None:
        self._rates[key].append(seconds)
        self._memory[key] = max(self._memory.get(key, 0), memory or 0)
        self._disk[key] = max(self._disk.get(key, 0), disk or 0)

    @staticmethod
    def _keys(cell: Cell) -> list[tuple[Any, ...]]:
        """From the most telling group of cells to the least; what was calibrated comes last."""
        tower = (cell.encoders.image, frame_size(cell), trains_image(cell))
        return [
            (*tower, cell.dataset.name, cell.pair.name, cell.shots),
            (*tower, cell.dataset.name, cell.pair.name),
            (*tower, cell.pair.name),
            tower,
            ("calibrated", *tower),
        ]

    def expected(self, cell: Cell) -> Expected:
        """What a cell will take. On disk: its weights, where kept, and about 40 bytes of predictions a test clip."""
        for key in self._keys(cell):
            if key in self._rates:
                seconds = statistics.median(self._rates[key]) * work_of(cell)
                predictions = 4000 + 40 * size_of(cell.dataset, cell.split).test
                return Expected(seconds, self._memory[key] or None, self._disk[key] + predictions)
        return Expected(None)

    def longest_first(self, entries: Iterable[Entry]) -> list[Entry]:
        """Entries in the order in which they are best begun: the longest must not be left for the end."""

        def weight(entry: Entry) -> float:
            seconds = self.expected(entry.cell).seconds
            return seconds if seconds is not None else work_of(entry.cell)

        return sorted(entries, key=weight, reverse=True)

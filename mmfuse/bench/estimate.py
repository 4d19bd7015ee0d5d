"""What cells will cost: seconds, memory and disk, from finished cells and from a calibration of this device."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmfuse.bench.digests import clip_frames, frame_size
from mmfuse.data.catalogue.cards import DataCard, load_card
from mmfuse.records.cell import Cell, Source
from mmfuse.records.evaluations import tests_of
from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from mmfuse.utils.files import cache_folder, parse_json, user_path, write_atomically

BACKWARD = 3.0
"""A training step through a tower costs about three forwards."""
BLOCK = 16
"""Clips that a frozen tower looks at together.

The same as `mmfuse.data.cache.feature_batches.BLOCK`, which would bring torch along.
"""
ENOUGH = 2
"""Cells of a kind that must have ended before the time of others is told: the first one warms everything up."""
FUSION = 0.1
"""An epoch of the fusion over kept features, against a forward through the tower."""


@dataclass(frozen=True)
class Size:
    """Clips of a data set's split, as its card or lists say."""

    train: int
    test: int
    classes: int


def size_of(dataset: Source, split: int) -> Size:
    """Clips and classes of a data set's split; a rough guess where nothing is known."""
    if dataset.own:
        train, test = (_lines(dataset.root, name) for name in (dataset.train, dataset.test))
        return Size(train, test, len(dataset.classes or []) or max(1, train // 20))
    card = load_card(dataset.name)
    counts = card.splits.get(split, {})
    return Size(counts.get("train", 1000), counts.get("test", 500), card.class_count)


@lru_cache
def _lines(root: str | None, name: str | None) -> int:
    path = Path(root or ".") / user_path(name or "")
    return path.read_bytes().count(b"\n") if path.is_file() else 100


def frames_of(cell: Cell) -> int:
    """Frames a clip: the cell's, else its video tower's, else its card's."""
    told = clip_frames(cell)
    return told or (DataCard.frames if cell.dataset.own else load_card(cell.dataset.name).frames)


def trains_image(cell: Cell) -> bool:
    """Whether the image tower is trained, as far as the method's name tells."""
    return bool(cell.pair.image["method"] != "frozen")


def keeps_features(cell: Cell) -> bool:
    """Whether each view of a clip goes through the image tower once, and no more."""
    return not trains_image(cell) and not cell.train.augmentation


def clips_of(cell: Cell) -> int:
    """Training clips of a cell."""
    size = size_of(cell.dataset, cell.split)
    if cell.setting == "base-to-novel":  # half of the classes, and about half of the clips
        size = replace(size, train=(size.train + 1) // 2, classes=(size.classes + 1) // 2)
    return size.train if cell.shots == "all" else min(cell.shots * size.classes, size.train)


def work_of(cell: Cell) -> float:
    """Frames through the image tower, each weighted by what is done with it.

    A frozen tower looks at each view of a clip once, or once an epoch where clips are augmented; a trained one at every
    frame of every epoch, with gradients.
    """
    clips = clips_of(cell)
    epochs = cell.train.epochs
    if trains_image(cell):
        passes = BACKWARD * epochs
    else:
        views = cell.clip.views if cell.clip.views is not None else 8
        views = views if keeps_features(cell) else 0
        passes = (min(views, epochs) if views else epochs) + FUSION * epochs
    return float(frames_of(cell) * clips * passes + frames_at_test(cell))


def frames_at_test(cell: Cell) -> float:
    """Frames of all clips that a cell is tested on, each as often as it is looked at."""
    tested = size_of(cell.dataset, cell.split).test + sum(
        size_of(test.target, test.split).test for test in tests_of(cell) if test.target is not None
    )
    return float(frames_of(cell) * tested * cell.clip.looks_at_test)


def clips_in_memory(cell: Cell) -> int:
    """Clips that are in memory at a time: a batch, or a block of those that a frozen tower looks at."""
    return BLOCK if keeps_features(cell) else cell.train.batch_size


@dataclass(frozen=True)
class Expected:
    """What a cell will take: seconds, bytes of memory and of disk; `None` where nothing is known.

    Args:
        seconds: wall time, decoding included as far as it is known.
        memory_bytes: at the peak.
        disk_bytes: in the results folder.
        decoding: seconds of it for decoding each clip once, which cells share where clips are kept; `None` where
            decoding was not measured, 0 where the seconds come from records, which have it in them.
    """

    seconds: float | None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    decoding: float | None = None


@dataclass(frozen=True)
class Rate:
    """What was measured on this device for one tower, frame size and kind of training.

    Args:
        encoder, size, trained: the tower, the side of its frames, and whether it is trained.
        seconds_per_frame: of one look of the tower at a frame.
        memory_bytes: at the peak with `memory_clips` clips at a time.
        memory_per_clip: what each further clip takes.
        weights_bytes: of the trained weights.
        device: where.
    """

    encoder: str
    size: int | None
    trained: bool
    seconds_per_frame: float
    memory_bytes: int | None
    memory_clips: int
    memory_per_clip: int
    weights_bytes: int | None
    device: str


@dataclass(frozen=True)
class DecodingRate:
    """What decoding a clip of a data set takes on this machine, on one core."""

    dataset: str
    frames: int
    size: int | None
    seconds_per_clip: float


@dataclass(frozen=True)
class Calibration:
    """What was measured on this machine."""

    rates: tuple[Rate, ...] = ()
    decoding: tuple[DecodingRate, ...] = ()


def calibration_file() -> Path:
    """Where this machine's calibration is kept."""
    return cache_folder() / "calibration.json"


def read_calibration() -> Calibration:
    """What was measured on this machine; nothing where nothing was, or by a version that measured otherwise."""
    try:
        content = parse_json(calibration_file().read_text(encoding="utf-8"))
        return Calibration(
            tuple(Rate(**entry) for entry in content["rates"]),
            tuple(DecodingRate(**entry) for entry in content["decoding"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return Calibration()


def keep_calibration(new: Calibration) -> None:
    """Add to this machine's calibration; the newer takes the older's place."""
    old = read_calibration()
    rates = {(rate.encoder, rate.size, rate.trained): rate for rate in (*old.rates, *new.rates)}
    decoding = {(rate.dataset, rate.frames, rate.size): rate for rate in (*old.decoding, *new.decoding)}
    merged = Calibration(tuple(rates.values()), tuple(decoding.values()))
    write_atomically(calibration_file(), json.dumps(asdict(merged), indent=1) + "\n")


class Estimator:
    """Expected cost of cells.

    Seconds for a frame come from records of the most alike cells that there are, else from the calibration.

    Args:
        records: finished cells.
        calibration: this machine's.
        keep_checkpoints: whether trained weights are kept in the results folder.
    """

    def __init__(
        self,
        records: Iterable[Record] = (),
        *,
        calibration: Calibration = Calibration(),
        keep_checkpoints: bool = False,
    ) -> None:
        self._keep_checkpoints = keep_checkpoints
        self._calibrated = {(rate.encoder, rate.size, rate.trained): rate for rate in calibration.rates}
        self._decoding = {(rate.dataset, rate.frames, rate.size): rate for rate in calibration.decoding}
        self._rates: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        self._medians: dict[tuple[Any, ...], float] = {}
        self._memory: dict[tuple[Any, ...], int] = {}
        self._disk: dict[tuple[Any, ...], int] = {}
        for record in records:
            self.learn(record)

    def learn(self, record: Record) -> None:
        """Take a finished record into account."""
        if record.state == "done" and record.cost is not None:
            beside = record.test_selection.seconds if record.test_selection else 0.0
            seconds = (record.cost.seconds + beside) / work_of(record.cell)
            for key in self._keys(record.cell):
                self._take(key, seconds, record.cost.peak_memory_bytes, record.cost.checkpoint_bytes)

    def _take(self, key: tuple[Any, ...], seconds: float, memory: int | None, disk: int | None) -> None:
        self._rates[key].append(seconds)
        self._medians.pop(key, None)
        self._memory[key] = max(self._memory.get(key, 0), memory or 0)
        self._disk[key] = max(self._disk.get(key, 0), disk or 0)

    @staticmethod
    def _keys(cell: Cell) -> list[tuple[Any, ...]]:
        """From the most telling group of cells to the least, the tower alone, which is what is calibrated."""
        tower = (cell.encoders.image, frame_size(cell), trains_image(cell))
        return [
            (*tower, cell.dataset.name, cell.pair.name, cell.shots),
            (*tower, cell.dataset.name, cell.pair.name),
            (*tower, cell.pair.name),
            tower,
        ]

    def expected(self, cell: Cell) -> Expected:
        """What a cell will take: as like cells took, else as was measured on this device."""
        keys = self._keys(cell)
        for key in keys:
            if key in self._rates:
                seconds = self._median(key) * work_of(cell)
                return Expected(seconds, self._memory[key] or None, self._on_disk(cell, self._disk[key]), 0.0)
        if (rate := self._calibrated.get(keys[-1])) is None:
            return Expected(None)
        seconds = rate.seconds_per_frame * work_of(cell)
        decoding = None
        if (known := self._decoding.get((cell.dataset.name, frames_of(cell), frame_size(cell)))) is not None:
            decoding = known.seconds_per_clip * (clips_of(cell) + size_of(cell.dataset, cell.split).test)
        memory = rate.memory_bytes
        if memory is not None:
            memory += max(0, clips_in_memory(cell) - rate.memory_clips) * rate.memory_per_clip
        return Expected(seconds + (decoding or 0), memory, self._on_disk(cell, rate.weights_bytes or 0), decoding)

    def seconds_by_experience(self, cells: Iterable[Cell]) -> list[float] | None:
        """What each cell will take as like cells took; `None` before `ENOUGH` of every kind have ended.

        A kind is a tower at a size of frames, trained or frozen.
        """
        seconds = []
        known: dict[tuple[Any, ...], float] = {}  # repetitions take the same, and there may be thousands of cells
        for cell in cells:
            alike = (cell.axes._replace(draw=0, seed=0), cell.train.epochs)
            if alike not in known:
                if len(self._rates.get(self._keys(cell)[-1], ())) < ENOUGH:
                    return None
                known[alike] = self.expected(cell).seconds or 0.0
            seconds.append(known[alike])
        return seconds

    def _median(self, key: tuple[Any, ...]) -> float:
        if key not in self._medians:
            self._medians[key] = statistics.median(self._rates[key])
        return self._medians[key]

    def _on_disk(self, cell: Cell, weights: int) -> int:
        """A record, about 20 bytes of predictions a test clip, and the weights where they are kept."""
        return 4000 + 20 * size_of(cell.dataset, cell.split).test + (weights if self._keep_checkpoints else 0)

    def longest_first(self, entries: Iterable[Entry]) -> list[Entry]:
        """Entries in the order in which they are best begun: the longest must not be left for the end."""
        found = list(entries)
        seconds = [self.expected(entry.cell).seconds for entry in found]
        if None in seconds:  # seconds and frames do not compare
            return sorted(found, key=lambda entry: work_of(entry.cell), reverse=True)
        order = sorted(range(len(found)), key=lambda at: seconds[at] or 0.0, reverse=True)
        return [found[at] for at in order]


def time_left(rest: Iterable[float], *, workers: int) -> float:
    """Seconds until so many workers have run what is left of cells, in seconds each.

    >>> time_left([60, 60, 60], workers=2), time_left([100, 5], workers=2)
    (90.0, 100.0)
    """
    known = list(rest)
    return float(max([sum(known) / max(1, workers), *known]))

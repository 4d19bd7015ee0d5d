"""From a grid and a results folder to what is to be run, and how long that will take."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmfuse.bench.inputs import known_inputs
from mmfuse.cells import Cell, Dataset
from mmfuse.data.cards import load_card
from mmfuse.errors import MmfuseError, unknown
from mmfuse.records import Planned, Record, ResultsFolder
from mmfuse.survey import Entry, Survey

ONLY_KEYS = ("dataset", "split", "pair", "shots", "draw", "seed")


def parse_only(filters: Sequence[str]) -> dict[str, set[str]]:
    """`--only` filters: `pair=dora+adapter`, `shots=2,4`; several of one key add up.

    Raises:
        MmfuseError: not of this form, or an unknown key.
    """
    wanted: dict[str, set[str]] = defaultdict(set)
    for text in filters:
        key, equals, values = text.partition("=")
        key = key.strip().removesuffix("s") if key.strip() != "shots" else "shots"
        if not equals or not values.strip():
            raise MmfuseError(f"--only is written KEY=VALUE[,VALUE], such as shots=2,4; got {text!r}")
        key = "shots" if key == "shot" else key
        if key not in ONLY_KEYS:
            raise unknown("key of --only", key, ONLY_KEYS)
        wanted[key] |= {value.strip() for value in values.split(",") if value.strip()}
    return dict(wanted)


def axes(cell: Cell) -> dict[str, str]:
    """Where a cell stands, as text by axis."""
    return {
        "dataset": cell.dataset.name,
        "split": str(cell.split),
        "pair": cell.pair.name,
        "shots": str(cell.shots),
        "draw": str(cell.draw),
        "seed": str(cell.seed),
    }


def select(cells: Sequence[Cell], filters: Sequence[str]) -> list[Cell]:
    """The cells that all `--only` filters let through.

    Raises:
        MmfuseError: a value that no cell has, or a selection of nothing.
    """
    wanted = parse_only(filters)
    if not wanted:
        return list(cells)
    places = [axes(cell) for cell in cells]
    for key, values in wanted.items():
        known = dict.fromkeys(place[key] for place in places)
        for value in sorted(values):
            if value not in known:
                raise unknown(f"{key} in --only (the grid has no such cells)", value, known)
    chosen = [
        cell
        for cell, place in zip(cells, places, strict=True)
        if all(place[key] in values for key, values in wanted.items())
    ]
    if not chosen:
        raise MmfuseError(f"--only {' '.join(filters)} selects no cell of the grid")
    return chosen


def with_known_inputs(cells: Iterable[Cell]) -> list[Planned]:
    """Cells with the digests that are known before anything runs."""
    digests: dict[tuple[str, str, str], Any] = {}
    planned = []
    for cell in cells:
        key = (cell.dataset.model_dump_json(), cell.encoders.image, cell.encoders.text)
        if key not in digests:
            digests[key] = known_inputs(cell)
        planned.append(Planned(cell, digests[key]))
    return planned


def survey_plan(folder: ResultsFolder, planned: Sequence[Planned]) -> list[Entry]:
    """The state of each planned cell in a results folder, which need not exist yet."""
    others = {item.cell.spec for plan in folder.plans() for item in plan.cells} if folder.exists else set()
    others |= {item.cell.spec for item in planned}
    survey = Survey(folder, asked_for=others)
    return [survey.entry(item) for item in planned]


def to_run(entries: Iterable[Entry], *, retry_failed: bool = False, rerun: str | None = None) -> list[Entry]:
    """The entries that a run takes up.

    Args:
        entries: the plan.
        retry_failed: also cells that failed by themselves; those that were only interrupted or lost always go.
        rerun: "stale" for cells whose inputs have changed, "all" for everything.
    """

    def wanted(entry: Entry) -> bool:
        if entry.state == "running":
            return False
        if rerun == "all" or entry.state == "missing":
            return True
        if entry.state == "failed":
            return retry_failed or entry.lost
        return entry.state == "stale" and rerun == "stale"

    return [entry for entry in entries if wanted(entry)]


# How long


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


@dataclass(frozen=True)
class Expected:
    """What a cell will take: seconds, bytes of memory and of disk; `None` where nothing is known."""

    seconds: float | None
    memory_bytes: int | None = None
    disk_bytes: int | None = None


class Estimator:
    """Expected cost of cells, from finished ones.

    Work is counted in frames through the image tower, a trained tower thrice (forward, and backward twice as dear).
    Seconds for a frame come from records of the same tower, frame size and kind of training; where there are none,
    from the nearest that there is.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._rates: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        self._memory: dict[tuple[Any, ...], int] = {}
        self._disk: dict[tuple[Any, ...], int] = {}
        for record in records:
            self.learn(record)

    def learn(self, record: Record) -> None:
        """Take a finished record into account."""
        if record.state != "done" or record.cost is None:
            return
        for key in self._keys(record.cell):
            self._rates[key].append(record.cost.seconds / self.work(record.cell))
            memory, disk = record.cost.peak_memory_bytes or 0, record.cost.checkpoint_bytes or 0
            self._memory[key] = max(self._memory.get(key, 0), memory)
            self._disk[key] = max(self._disk.get(key, 0), disk)

    @staticmethod
    def work(cell: Cell) -> float:
        """Frames through the image tower, weighted by what is done with them."""
        size = size_of(cell.dataset, cell.split)
        shots = size.train if cell.shots == "all" else min(cell.shots * size.classes, size.train)
        passes = 1.0 if cell.pair.image["method"] == "frozen" else 3.0
        return float(frames_of(cell) * (shots * cell.train.epochs * passes + size.test))

    @staticmethod
    def _keys(cell: Cell) -> list[tuple[Any, ...]]:
        """From the most telling group of cells to the least."""
        tower = (cell.encoders.image, cell.clip.size)
        return [(*tower, cell.pair.name, cell.shots), (*tower, cell.pair.name), tower, ()]

    def expected(self, cell: Cell) -> Expected:
        """What a cell will take."""
        for key in self._keys(cell):
            if key in self._rates:
                seconds = statistics.median(self._rates[key]) * self.work(cell)
                return Expected(seconds, self._memory[key] or None, self._disk[key] or None)
        return Expected(None)

    def longest_first(self, entries: Iterable[Entry]) -> list[Entry]:
        """Entries in the order in which they are best begun: the longest must not be left for the end."""

        def weight(entry: Entry) -> float:
            seconds = self.expected(entry.cell).seconds
            return seconds if seconds is not None else self.work(entry.cell)

        return sorted(entries, key=weight, reverse=True)


def check_shots(cells: Iterable[Cell], limits: dict[tuple[str, int], int]) -> None:
    """Refuse a K that a class cannot give.

    Args:
        cells: what is to be run.
        limits: the most clips that every live class has, by data set and split.

    Raises:
        MmfuseError: the first such cell.
    """
    for cell in cells:
        most = limits.get((cell.dataset.name, cell.split))
        if most is not None and cell.shots != "all" and cell.shots > most:
            raise MmfuseError(
                f"{cell.dataset.name} has no {cell.shots} training clips in every class of split {cell.split}; "
                f"the most is {most}"
            )

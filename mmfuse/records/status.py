"""The state of each cell of a grid: what its records say, compared with what the grid wants now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mmfuse.records.cell import Cell, flattened
from mmfuse.records.folder import Damaged, PlannedCell, ResultsFolder
from mmfuse.records.locks import LockState, read_locks
from mmfuse.records.record import Failure, Record

STATES = ("done", "failed", "stale", "running", "missing")
MARKS = dict(zip(STATES, "●✗~▸·", strict=True))
"""One sign a state, for maps of a grid."""


@dataclass(frozen=True)
class Entry:
    """A cell of a grid and its state.

    Args:
        planned: the cell with its inputs as far as they are known.
        state: done, failed, stale, running or missing.
        record: the record behind the state; of a stale cell the one that no longer fits.
        failure: why it failed.
        reason: what changed, of a stale cell.
        progress: how far a running cell is.
        damaged: files that were its record once.
        origin: the cell as the grid has it, where this shows one of its several tests.
    """

    planned: PlannedCell
    state: str
    record: Record | None = None
    failure: Failure | None = None
    reason: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    damaged: tuple[Damaged, ...] = ()
    origin: Entry | None = field(default=None, repr=False, compare=False)

    @property
    def cell(self) -> Cell:
        """The cell itself."""
        return self.planned.cell

    @property
    def failed_transiently(self) -> bool:
        """Whether a failure says nothing about the cell, so that a plain rerun does it again."""
        if self.state != "failed":
            return False
        return self.record is None or self.record.failed_transiently


class StatusIndex:
    """The records and locks of a results folder, indexed so that the state of any cell can be looked up."""

    def __init__(self, folder: ResultsFolder, *, wanted: Iterable[str] = ()) -> None:
        """Read the folder.

        Args:
            folder: the results.
            wanted: config hashes of the cells of all grids: their records are never stale ones of another cell.
        """
        self.records, self.damaged = folder.read()
        self._wanted = set(wanted)
        self._locks: dict[str, LockState] = {lock.key: lock for lock in read_locks(folder.running)}
        self._by_config: dict[str, list[Record]] = defaultdict(list)
        self._by_name: dict[str, list[Record]] = defaultdict(list)
        self._damaged: dict[str, list[Damaged]] = defaultdict(list)
        for record in sorted(self.records, key=lambda record: record.provenance.finished or ""):
            # Where the two differ, the record is of an older protocol, or its settings were edited: it fits no cell.
            if record.config_hash == record.cell.config_hash:
                self._by_config[record.config_hash].append(record)
            self._by_name[record.name].append(record)
        for damaged in self.damaged:
            self._damaged[damaged.path.stem.rpartition("--")[0]].append(damaged)

    def entry(self, planned: PlannedCell) -> Entry:
        """The state of one cell."""
        cell = planned.cell
        damaged = tuple(self._damaged.get(cell.file_stem, ()))
        lock = self._locks.get(cell.config_hash)
        if lock is not None and lock.held:
            return Entry(planned, "running", progress=lock.content, damaged=damaged)
        candidates = self._by_config.get(cell.config_hash, [])
        fitting = [record for record in candidates if planned.inputs.agrees_with(record.inputs)]
        fitting.sort(key=lambda record: record.state == "done")  # stable: the newest finished one comes last
        if fitting and (fitting[-1].state == "done" or lock is None):
            record = fitting[-1]
            return Entry(planned, record.state, record=record, failure=record.error, damaged=damaged)
        if lock is not None:
            message = "the runner ended in the middle of this cell; run the grid again to go on"
            return Entry(planned, "failed", failure=Failure(kind="RunnerDied", message=message), damaged=damaged)
        if damaged:
            message = f"{damaged[0].path.name} is damaged: {damaged[0].reason}; run the grid again to heal it"
            return Entry(planned, "failed", failure=Failure(kind="DamagedRecord", message=message), damaged=damaged)
        return self._stale(planned, candidates) or Entry(planned, "missing")

    def _stale(self, planned: PlannedCell, candidates: list[Record]) -> Entry | None:
        """A finished record under the same name that no longer fits, with what changed."""
        outdated = [record for record in candidates if record.state == "done"]
        if outdated:
            changed = ", ".join(planned.inputs.changes(outdated[-1].inputs))
            return Entry(planned, "stale", record=outdated[-1], reason=f"changed: {changed.replace('_', ' ')}")
        for record in reversed(self._by_name.get(planned.cell.name, [])):
            fits = record.config_hash == record.cell.config_hash and record.config_hash in self._wanted
            if record.state == "done" and not fits:
                return Entry(planned, "stale", record=record, reason=f"changed: {_differences(record, planned.cell)}")
        return None


def _differences(record: Record, cell: Cell) -> str:
    """The settings in which a record's cell and the cell that is wanted now differ."""
    was, now = flattened(record.cell.config()), flattened(cell.config())
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return ", ".join(keys) or "the protocol"


def read_entries(folder: ResultsFolder) -> list[Entry]:
    """The state of every cell of every grid that was run into a folder, in table order, each once."""
    cells: dict[str, list[PlannedCell]] = {}
    for item in (item for grid in folder.manifests() for item in grid.cells):
        known = cells.setdefault(item.cell.name + item.cell.config_hash, [])
        # Settings hold no paths, so that a moved folder changes nothing; another folder has other content.
        same = [at for at, other in enumerate(known) if _same_cell(item, other)]
        if same:
            known[same[0]] = item
        else:
            known.append(item)
    planned = [item for items in cells.values() for item in items]
    index = StatusIndex(folder, wanted=[item.cell.config_hash for item in planned])
    return [index.entry(item) for item in planned]


def conflicts(entries: Iterable[Entry]) -> list[str]:
    """What finished cells read otherwise under the same name, a sentence each.

    Cells that are compared with each other must have read the same; parts of a grid that were run on several machines,
    and whose results were copied together, may not have.
    """
    found: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.state != "done" or entry.record is None:
            continue
        cell, inputs = entry.cell, entry.record.inputs
        # Data sets of one name in two places are two data sets.
        name, place = f"{cell.dataset.name}, split {cell.split}", cell.dataset.model_dump_json()
        read = {
            ("the lists", name, place): inputs.dataset,
            ("the test clips", name, f"{place} {cell.setting}"): inputs.test_clips,
            ("the videos", name, place): inputs.videos,
            ("the image tower", cell.encoders.image, ""): inputs.image_tower,
            ("the text tower", cell.encoders.text, ""): inputs.text_tower,
        }
        for key, digest in read.items():
            if digest is not None:
                found[key][digest] += 1
    sentences = []
    for (what, name, _), digests in found.items():
        if len(digests) > 1:
            cells = " and ".join(str(number) for _, number in digests.most_common())
            told = f"{what} of {name} differ between finished cells ({cells} of them): these must not be compared"
            sentences.append(f"{told}; were they run on machines with other files?")
    return sentences


def _same_cell(planned: PlannedCell, other: PlannedCell) -> bool:
    """Whether two cells of equal settings read the same, from one place or from two."""
    return planned.cell == other.cell or planned.inputs.agrees_with(other.inputs)


def counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Number of cells by state, all states named."""
    found = Counter(entry.state for entry in entries)
    return {state: found.get(state, 0) for state in STATES}


def as_row(entry: Entry) -> dict[str, Any]:
    """A cell's state as plain JSON values, as `status --json` prints them."""
    record = entry.record
    metrics = record.metrics if record else None
    row: dict[str, Any] = {
        **entry.cell.axes._asdict(),
        "state": entry.state,
        "top1": metrics.top1 if metrics else None,
        "top5": metrics.top5 if metrics else None,
        "mean_class": metrics.mean_class if metrics else None,
        "seconds": record.cost.seconds if record and record.cost else None,
        "identity": record.identity if record else None,
        "reason": entry.reason or None,
        "error": {"kind": entry.failure.kind, "message": entry.failure.message} if entry.failure else None,
        "command": record.command if record else None,
    }
    if entry.state == "running":
        row["progress"] = entry.progress
    return row

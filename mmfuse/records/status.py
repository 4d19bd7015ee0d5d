"""The state of each planned cell: what its records say, compared with what is asked for now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mmfuse.records.cell import Cell, flattened
from mmfuse.records.locks import Claimed, claims
from mmfuse.records.record import Damaged, Failure, Planned, Record, ResultsFolder

STATES = ("done", "failed", "stale", "running", "missing")
MARKS = dict(zip(STATES, "●✗~▸·", strict=True))
"""One sign a state, for maps of a grid."""


@dataclass(frozen=True)
class Entry:
    """A planned cell and its state.

    Args:
        planned: the cell with its inputs as far as they are known.
        state: done, failed, stale, running or missing.
        record: the record behind the state; of a stale cell the one that no longer fits.
        failure: why it failed.
        reason: what changed, of a stale cell.
        progress: how far a running cell is.
        damaged: files that were its record once.
    """

    planned: Planned
    state: str
    record: Record | None = None
    failure: Failure | None = None
    reason: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    damaged: tuple[Damaged, ...] = ()

    @property
    def cell(self) -> Cell:
        """The cell itself."""
        return self.planned.cell

    @property
    def lost(self) -> bool:
        """Whether a failure says nothing about the cell, so that a plain rerun does it again."""
        if self.state != "failed":
            return False
        return self.record is None or self.record.lost


class Survey:
    """Everything that a results folder knows, ready to be asked for cells."""

    def __init__(self, folder: ResultsFolder, *, asked_for: Iterable[str] = ()) -> None:
        """Read the folder.

        Args:
            folder: the results.
            asked_for: spec hashes that other plans ask for: their records are not stale ones of ours.
        """
        self.records, self.damaged = folder.read()
        self._asked_for = set(asked_for)
        self._claims: dict[str, Claimed] = {claim.key: claim for claim in claims(folder.running)}
        self._by_spec: dict[str, list[Record]] = defaultdict(list)
        self._by_slot: dict[str, list[Record]] = defaultdict(list)
        self._damaged: dict[str, list[Damaged]] = defaultdict(list)
        for record in sorted(self.records, key=lambda record: record.provenance.finished or ""):
            self._by_spec[record.spec].append(record)
            self._by_slot[record.slot].append(record)
        for damaged in self.damaged:
            self._damaged[damaged.path.stem.rpartition("--")[0]].append(damaged)

    def entry(self, planned: Planned) -> Entry:
        """The state of one planned cell."""
        cell = planned.cell
        damaged = tuple(self._damaged.get(cell.file_stem, ()))
        claim = self._claims.get(cell.spec)
        if claim is not None and claim.held:
            return Entry(planned, "running", progress=claim.content, damaged=damaged)
        candidates = self._by_spec.get(cell.spec, [])
        fitting = [record for record in candidates if planned.inputs.agrees_with(record.inputs)]
        fitting.sort(key=lambda record: record.state == "done")  # stable: the newest finished one comes last
        if fitting and (fitting[-1].state == "done" or claim is None):
            record = fitting[-1]
            return Entry(planned, record.state, record=record, failure=record.error, damaged=damaged)
        if claim is not None:
            message = "the runner ended in the middle of this cell; run the grid again to go on"
            return Entry(planned, "failed", failure=Failure(kind="RunnerDied", message=message), damaged=damaged)
        if damaged:
            message = f"{damaged[0].path.name} is damaged: {damaged[0].reason}; run the grid again to heal it"
            return Entry(planned, "failed", failure=Failure(kind="DamagedRecord", message=message), damaged=damaged)
        return self._stale(planned, candidates) or Entry(planned, "missing")

    def _stale(self, planned: Planned, candidates: list[Record]) -> Entry | None:
        """A finished record of the same place that no longer fits, with what changed."""
        outdated = [record for record in candidates if record.state == "done"]
        if outdated:
            changed = ", ".join(planned.inputs.changes(outdated[-1].inputs))
            return Entry(planned, "stale", record=outdated[-1], reason=f"changed: {changed.replace('_', ' ')}")
        for record in reversed(self._by_slot.get(planned.cell.slot, [])):
            if record.state == "done" and record.spec not in self._asked_for:
                return Entry(planned, "stale", record=record, reason=f"changed: {_differences(record, planned.cell)}")
        return None


def _differences(record: Record, cell: Cell) -> str:
    """The keys that a record's cell and the cell asked for now do not share."""
    was, now = flattened(record.cell.asked()), flattened(cell.asked())
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return ", ".join(keys) or "the protocol"


def survey_folder(folder: ResultsFolder) -> list[Entry]:
    """The state of every cell that any grid asked for in this folder, in table order, each once."""
    plans = folder.plans()
    planned = {item.cell.slot + item.cell.spec: item for plan in plans for item in plan.cells}
    survey = Survey(folder, asked_for=[item.cell.spec for item in planned.values()])
    return [survey.entry(item) for item in planned.values()]


def counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Number of cells by state, all states named."""
    found = Counter(entry.state for entry in entries)
    return {state: found.get(state, 0) for state in STATES}


def as_row(entry: Entry) -> dict[str, Any]:
    """A cell's state as plain JSON values, as `status --json` prints them."""
    cell, record = entry.cell, entry.record
    metrics = record.metrics if record else None
    row: dict[str, Any] = {
        "dataset": cell.dataset.name,
        "split": cell.split,
        "pair": cell.pair.name,
        "shots": cell.shots,
        "draw": cell.draw,
        "seed": cell.seed,
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

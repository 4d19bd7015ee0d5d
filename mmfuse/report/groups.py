"""The cells of a results folder as its tables need them: by data set and split, then by row and number of shots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mmfuse.records.cell import Cell, Source
from mmfuse.records.decisions import Decision, decisions
from mmfuse.records.evaluations import NOVEL, Test, tests_of
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.record import Record
from mmfuse.records.replicates import row_names, variants
from mmfuse.records.status import Entry
from mmfuse.records.until_decided import UntilDecided
from mmfuse.report.recognised import Recognised

FROZEN = "frozen+frozen"


@dataclass(frozen=True)
class Group:
    """The cells of one data set and split.

    Args:
        dataset: name of the data set.
        split: official fold.
        entries: the cells with their states.
        folder: where their records lie.
        measured_against: name of the pair that gains are measured against; `None` for the one of two frozen towers.
        planned: the cells whose main test this is, as the grids have them, also those that are not shown: what was
            decided by looks at the draws was decided over them all.
        shown: a cell whose data set and split are those of the test, so that its videos can be found.
    """

    dataset: str
    split: int
    entries: tuple[Entry, ...]
    folder: ResultsFolder
    measured_against: str | None = None
    planned: tuple[Entry, ...] = ()
    shown: Cell | None = None

    @cached_property
    def shots(self) -> list[Any]:
        """Numbers of shots from few to all."""
        found = {entry.cell.shots for entry in self.entries}
        return sorted(found, key=lambda shots: (shots == "all", 0 if shots == "all" else shots))

    @cached_property
    def draws(self) -> list[int]:
        """Draws that any cell was planned for."""
        return sorted({entry.cell.draw for entry in self.entries})

    @cached_property
    def _variants(self) -> list[str]:
        return variants(self.entries)

    @cached_property
    def row_of(self) -> list[str]:
        """For each cell the row that it belongs to: its pair, with what differs where one name has two settings."""
        return row_names(self.entries)

    @cached_property
    def pairs(self) -> list[str]:
        """Names of the rows in the order of the grid."""
        return list(dict.fromkeys(self.row_of))

    @cached_property
    def baseline(self) -> str | None:
        """The pair that gains are measured against, without what may differ among its rows."""
        if self.measured_against is not None:
            names = {entry.cell.pair.name for entry in self.entries}
            return self.measured_against if self.measured_against in names else None
        frozen = [entry.cell.pair.name for entry in self.entries if entry.cell.pair.frozen]
        return FROZEN if FROZEN in frozen else next(iter(frozen), None)

    @cached_property
    def _baselines(self) -> dict[str, str]:
        """Rows of the baseline by the settings that tell them apart."""
        told = zip(self.entries, self._variants, self.row_of, strict=True)
        return {variant: row for entry, variant, row in told if entry.cell.pair.name == self.baseline}

    def baseline_of(self, row: str) -> str | None:
        """The row of the baseline that a row is compared with: the one with the same settings, or the only one."""
        found = self._baselines
        if len(found) == 1:
            return next(iter(found.values()))
        told = zip(self._variants, self.row_of, strict=True)
        return found.get(next(variant for variant, name in told if name == row))

    @cached_property
    def decisions(self) -> list[Decision]:
        """The verdicts, where draws are added until all is decided; nothing where they are listed."""
        found = decisions(self.folder.manifests(), self.planned)
        return [replace(one, dataset=self.dataset) for one in found if one.shots in self.shots]

    @cached_property
    def rule(self) -> UntilDecided | None:
        """The rule by which draws were added, also where this is a test beside the one that was looked at."""
        cells = [(entry.origin or entry).cell for entry in self.entries]
        own = {(cell.name, cell.config_hash) for cell in cells}
        for manifest in self.folder.manifests():
            its = ((planned.cell.name, planned.cell.config_hash) for planned in manifest.cells)
            if manifest.until_decided is not None and not own.isdisjoint(its):
                return manifest.until_decided
        return None

    @property
    def draws_added(self) -> bool:
        """Whether draws depend on what earlier ones showed, so that no test for a fixed number of them holds."""
        return bool(self.decisions) or self.rule is not None

    @property
    def novel(self) -> str | None:
        """The label under which the novel classes of the same trainings stand, where these are their base classes."""
        tests = tests_of(self.planned[0].cell) if self.planned else []
        return next((test.label for test in tests if test.name == NOVEL), None)

    @property
    def main(self) -> bool:
        """Whether this is what its cells were trained for, and not a test beside it."""
        return bool(self.planned)

    @cached_property
    def recognised(self) -> Recognised:
        """Which test clips each finished cell recognised. Read when it is asked for, once."""
        return Recognised(self.folder, self.entries)

    @cached_property
    def _places(self) -> dict[tuple[str, Any], list[Entry]]:
        found: dict[tuple[str, Any], list[Entry]] = {}
        for row, entry in zip(self.row_of, self.entries, strict=True):
            found.setdefault((row, entry.cell.shots), []).append(entry)
        return found

    @property
    def title(self) -> str:
        """Data set and split in words."""
        return f"{self.dataset}, split {self.split}"

    def of(self, row: str, shots: Any) -> list[Entry]:
        """The cells of one place of the table."""
        return self._places.get((row, shots), [])


def finished(entries: Iterable[Entry]) -> list[Record]:
    """The records of the cells that have numbers."""
    return [entry.record for entry in entries if entry.state == "done" and entry.record is not None]


def groups(entries: Iterable[Entry], folder: ResultsFolder, *, baseline: str | None = None) -> list[Group]:
    """Cells by data set and split, in the order in which they come; a cell with several tests once for each of them.

    Args:
        entries: cells with their states.
        folder: where their records lie.
        baseline: name of the pair that gains are measured against; `None` for the one of two frozen towers.
    """
    found: dict[tuple[str, int], list[tuple[Test, Entry]]] = {}
    for entry in entries:
        for test in tests_of(entry.cell):
            found.setdefault((test.label, test.split), []).append((test, entry))
    return [
        Group(
            label,
            split,
            tuple(_view(entry, test) for test, entry in members),
            folder,
            baseline,
            planned=tuple(entry for test, entry in members if not test.name),
            shown=_as_tested_on(members[0][1].cell, members[0][0]),
        )
        for (label, split), members in found.items()
    ]


def _view(entry: Entry, test: Test) -> Entry:
    """A cell as if the evaluation were its only one."""
    cell = entry.cell
    if test.label == cell.dataset.name and not test.name:
        return entry
    seen = _as_tested_on(cell, test)
    seen = _with_settings(seen, dataset=seen.dataset.model_copy(update={"name": test.label}))
    planned = replace(entry.planned, cell=seen)
    if entry.record is None or not test.name:
        return replace(entry, planned=planned, origin=entry)
    evaluation = (entry.record.evaluations or {}).get(test.name)
    update = {
        "metrics": None if evaluation is None else evaluation.metrics,
        "predictions": None if evaluation is None else evaluation.predictions,
        "class_names": None if evaluation is None else evaluation.class_names,
        "class_subsets": None,  # those of the data set that was trained on
    }
    return replace(entry, planned=planned, record=entry.record.model_copy(update=update), origin=entry)


def _as_tested_on(cell: Cell, test: Test) -> Cell:
    """A cell with the data set and the split that it is tested on."""
    if test.target is None:
        return cell
    # Whose lists were trained on is still told.
    place = {name: getattr(test.target, name) for name in Source.model_fields}
    return _with_settings(cell, dataset=cell.dataset.model_copy(update=place), split=test.split)


def _with_settings(cell: Cell, **settings: Any) -> Cell:
    # Constructed anew and not copied: a copy would bring along the hashes that the cell has computed of itself.
    return Cell.model_construct(**{**{name: getattr(cell, name) for name in Cell.model_fields}, **settings})

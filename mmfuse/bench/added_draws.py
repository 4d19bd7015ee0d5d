"""Draws that are added while a grid runs, where a comparison is still open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from mmfuse.bench.plan import planned_entries, to_run
from mmfuse.records.cell import Cell
from mmfuse.records.decisions import Column, decide
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.status import Entry
from mmfuse.records.until_decided import UntilDecided


def wanted_entries(entries: Sequence[Entry], draws: UntilDecided | None) -> list[Entry]:
    """The cells that are wanted so far, of all that a grid may come to.

    It follows from the records alone: whoever asks, a runner, a second one, or the same one after a kill, is told the
    same.

    Args:
        entries: all cells of the grid, up to the last look, with their states.
        draws: by which rule draws are added; `None` where they are listed, and all are wanted.
    """
    if draws is None:
        return list(entries)
    wanted = {(decision.column, decision.pair): decision.wanted for decision in decide(entries, draws)}
    return [entry for entry in entries if entry.cell.draw < wanted[column_of(entry.cell), entry.cell.pair.name]]


def first_cells(cells: Iterable[Cell], draws: UntilDecided | None) -> list[Cell]:
    """The cells that are run in any case: those of the first look, or all where draws are listed."""
    return [cell for cell in cells if draws is None or cell.draw < draws.at_least]


def column_of(cell: Cell) -> Column:
    """Where a cell's comparisons stand."""
    return cell.dataset.name, cell.split, cell.shots


class AddedDraws:
    """Plans the next draws of a column when the last cell of its look has come to its end.

    Args:
        folder: where records and the manifest are.
        manifest: of the grid, with the rule; its cells grow.
        cells: all cells that the grid may come to.
        chosen: names of those that may be run.
        begun: the entries that the runner has been given.
    """

    def __init__(
        self,
        *,
        folder: ResultsFolder,
        manifest: Manifest,
        cells: Sequence[PlannedCell],
        chosen: set[str],
        begun: Iterable[Entry],
    ) -> None:
        self._folder, self._manifest = folder, manifest
        self._cells, self._chosen = cells, chosen
        self._planned: set[str] = set()
        self._waiting: dict[Column, set[str]] = defaultdict(set)
        self._wait_for(begun)

    def _wait_for(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._planned.add(entry.cell.name)
            self._waiting[column_of(entry.cell)].add(entry.cell.name)

    def after(self, cell: Cell) -> list[Entry]:
        """What is to be run now that a cell has come to its end, here or elsewhere."""
        waiting = self._waiting[column_of(cell)]
        waiting.discard(cell.name)
        if waiting:
            return []
        entries = wanted_entries(planned_entries(self._folder, self._cells), self._manifest.until_decided)
        # Also where nothing is added: another runner, which knew less of the records, may have written it since.
        self._manifest.cells = [entry.planned for entry in entries]
        self._folder.write_manifest(self._manifest)
        allowed = self._chosen - self._planned
        further = [entry for entry in to_run(entries) if entry.state == "missing" and entry.cell.name in allowed]
        self._wait_for(further)
        return further

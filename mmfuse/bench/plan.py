"""From a grid and a results folder to what is to be run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmfuse.bench.digests import known_inputs
from mmfuse.records.cell import Cell
from mmfuse.records.folder import PlannedCell, ResultsFolder
from mmfuse.records.selection import chosen
from mmfuse.records.status import Entry, StatusIndex
from mmfuse.utils.progress import progress_bar


def select(cells: Sequence[Cell], filters: Sequence[str]) -> list[Cell]:
    """The cells that all `--only` filters let through.

    Raises:
        MmfuseError: a value that no cell has, or a selection of nothing.
    """
    kept = chosen(cells, filters, where="the grid")
    return [cell for cell, wanted in zip(cells, kept, strict=True) if wanted]


def with_known_inputs(cells: Iterable[Cell]) -> list[PlannedCell]:
    """Cells with the digests that are known before anything runs."""
    digests: dict[tuple[str, str, str], Any] = {}
    planned = []
    with progress_bar("reading the videos", transient=True) as report:
        for cell in cells:
            key = (cell.dataset.model_dump_json(), cell.encoders.image, cell.encoders.text)
            if key not in digests:
                digests[key] = known_inputs(cell, report=report)
            planned.append(PlannedCell(cell, digests[key]))
    return planned


def planned_entries(folder: ResultsFolder, planned: Sequence[PlannedCell]) -> list[Entry]:
    """The state of each planned cell in a results folder, which need not exist yet."""
    wanted = {item.cell.config_hash for grid in folder.manifests() for item in grid.cells} if folder.exists else set()
    wanted |= {item.cell.config_hash for item in planned}
    index = StatusIndex(folder, wanted=wanted)
    return [index.entry(item) for item in planned]


def to_run(entries: Iterable[Entry], *, retry_failed: bool = False, rerun: str | None = None) -> list[Entry]:
    """The entries that a run takes up.

    Args:
        entries: the plan.
        retry_failed: also cells that failed by themselves; those that were interrupted always go.
        rerun: "stale" for cells whose inputs have changed, "all" for everything.
    """

    def wanted(entry: Entry) -> bool:
        if entry.state == "running":
            return False
        if rerun == "all" or entry.state == "missing":
            return True
        if entry.state == "failed":
            return retry_failed or entry.failed_transiently
        return entry.state == "stale" and rerun == "stale"

    return [entry for entry in entries if wanted(entry)]

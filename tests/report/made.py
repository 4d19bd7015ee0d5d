"""Results folders with numbers that are chosen, for tests of what is told about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.record import Failure, failed
from mmfuse.records.status import Entry, read_entries
from tests.bench.fakes import done

Top1 = Callable[[Cell], float | str]
"""Accuracy of a cell, or "failed" or "missing"."""


def build(pair: str, *, shots: Any = 2, draw: int = 0, dataset: str = "tiny", **settings: Any) -> Cell:
    image, text = pair.split("+") if pair.count("+") == 1 and pair[0] != "=" else ("frozen", "frozen")
    return Cell.model_validate(
        {
            "dataset": dataset,
            "pair": {"name": pair, "image": image, "text": text},
            "shots": shots,
            "draw": draw,
            **settings,
        }
    )


def results(path: Path, cells: Iterable[Cell], top1: Top1) -> list[Entry]:
    """Write a folder as a runner would have, and read the state of its cells."""
    folder = ResultsFolder(path)
    folder.prepare()
    planned = [PlannedCell(cell, Inputs(dataset="c")) for cell in cells]
    folder.write_manifest(Manifest("test", planned))
    for item in planned:
        value = top1(item.cell)
        if value == "failed":
            failure = Failure(kind="NonFiniteLoss", message="the loss became nan")
            folder.write(failed(item.cell, failure, inputs=item.inputs))
        elif not isinstance(value, str):
            outcome = done(item.cell, inputs=item.inputs, top1=value)
            folder.write(outcome.record, outcome.files)
    return read_entries(folder)

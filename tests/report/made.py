"""Results folders with numbers that are chosen, for tests of what is told about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.record import Failure, Plan, Planned, ResultsFolder, failed
from mmfuse.records.status import Entry, survey_folder
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
    """Write a folder as a runner would have, and survey it."""
    folder = ResultsFolder(path)
    folder.prepare()
    planned = [Planned(cell, Inputs(card="c")) for cell in cells]
    folder.write_plan(Plan("test", planned))
    for item in planned:
        value = top1(item.cell)
        if value == "failed":
            failure = Failure(kind="NonFiniteLoss", message="the loss became nan")
            folder.write(failed(item.cell, failure, inputs=item.inputs))
        elif not isinstance(value, str):
            outcome = done(item.cell, inputs=item.inputs, top1=value)
            folder.write(outcome.record, outcome.files)
    return survey_folder(folder)

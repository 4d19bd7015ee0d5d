"""Results folders with numbers that are chosen, for tests of what is told about them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.predictions import COLUMNS
from mmfuse.records.record import Failure, Predictions, failed
from mmfuse.records.status import Entry, read_entries
from mmfuse.report.groups import Group, groups
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


def results(path: Path, cells: Iterable[Cell], top1: Top1, *, clips: int = 1000, of_source: int = 10) -> list[Entry]:
    """Write a folder as a runner would have, and read the state of its cells.

    Args:
        path: the folder.
        cells: what was asked for.
        top1: accuracy by cell. A model recognises the first clips of a shuffled list: a better one all that a worse one
            does, and others.
        clips: test clips.
        of_source: clips of each source.
    """
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
            record = done(item.cell, inputs=item.inputs, top1=value).record
            table = predictions(value, clips=clips, of_source=of_source)
            assert record.metrics is not None
            named = Predictions(file=f"{record.stem}.csv.gz", sha256=hashlib.sha256(table).hexdigest(), clips=clips)
            share = round(value * clips) / clips
            metrics = record.metrics.model_copy(update={"top1": share, "mean_class": share, "test_clips": clips})
            folder.write(
                record.model_copy(update={"predictions": named, "metrics": metrics, "class_names": ("a", "b")}),
                {"predictions": table},
            )
    return read_entries(folder)


@lru_cache
def predictions(top1: float, *, clips: int, of_source: int) -> bytes:
    """A file of predictions of one class, of which a share is recognised."""
    right = np.random.default_rng(clips).permutation(clips) < round(top1 * clips)
    lines = [f"c{at},0,{int(not hit)},0.5,0.5,1,s{at // of_source},{2 - hit}" for at, hit in enumerate(right)]
    return gzip.compress("\n".join([",".join(COLUMNS), *lines]).encode(), compresslevel=1, mtime=0)


def group_of(path: Path, cells: Iterable[Cell], top1: Top1, **settings: int) -> Group:
    """The only group of such a folder."""
    [group] = groups(results(path, cells, top1, **settings), ResultsFolder(path))
    return group

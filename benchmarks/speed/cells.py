"""Cells run in this process: how growth and switches are measured, without a runner's start around each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def cell(*, dataset: Any, pair: tuple[Any, Any], shots: int | str, epochs: int, draw: int = 0, **more: Any) -> Any:
    """A cell with a small fusion.

    Args:
        dataset: by name, or the keys of one's own.
        pair: the methods on the image and on the text tower.
        more: other groups of settings, such as `clip={"frames": 4}`.
    """
    from mmfuse.records.cell import Cell

    settings = {
        "dataset": dataset,
        "pair": {"name": "measured", "image": pair[0], "text": pair[1]},
        "shots": shots,
        "draw": draw,
        "fusion": {"kind": "joint", "width": 128},
        "train": {"epochs": epochs, "batch_size": 16},
    }
    return Cell.model_validate(settings | more)


def run(cell: Any, **job: Any) -> Any:
    """Run a cell, and return its outcome."""
    from mmfuse.bench.job import Job
    from mmfuse.bench.run_cell import run_cell

    return run_cell(Job(cell=cell, **job), progress=lambda progress: None)


@contextmanager
def cache(folder: Path) -> Iterator[None]:
    """Keep features and clips in a folder of their own."""
    before = os.environ.get("MMFUSE_CACHE")
    os.environ["MMFUSE_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MMFUSE_CACHE"]
        else:
            os.environ["MMFUSE_CACHE"] = before

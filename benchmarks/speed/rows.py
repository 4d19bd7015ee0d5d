"""The rows of the table, each with the module that measures it."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

from rich.console import Console

from benchmarks.speed import table
from benchmarks.speed.measuring import Bench, Row

ROWS = {
    "start": "starts:measure",
    "step": "steps:measure",
    "test": "testing:measure",
    "memory": "peaks:measure",
    "warm": "warmth:measure",
    "switches": "switches:measure",
    "frozen": "grids:frozen",
    "adapted": "grids:adapted",
    "growth": "growth:measure",
    "device": "device:measure",
}
"""Name of a row, and the module and function that measure it."""
QUICK = ("start", "frozen", "step", "warm", "device")


def measured(
    name: str, *, folder: Path, rounds: int, quick: bool, whole: bool, device: str, keep: Path | None
) -> list[Row]:
    """Measure one row and show it; for the arguments see `Bench`."""
    warnings.filterwarnings("ignore")
    progress = Console(stderr=True)
    bench = Bench(
        folder=folder,
        rounds=rounds,
        quick=quick,
        whole=whole,
        device=device,
        say=lambda text: progress.print(f"[dim]{name}: {text}[/dim]", highlight=False),
        keep=keep,
    )
    module, function = ROWS[name].split(":")
    found: list[Row] = getattr(importlib.import_module(f"benchmarks.speed.{module}"), function)(bench)
    table.show(found, progress)
    return found

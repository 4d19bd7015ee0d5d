"""The rows of the table, each with the module that measures it."""

from __future__ import annotations

import importlib
import warnings

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


def say(name: str, text: str) -> None:
    """Tell what of a row is being done."""
    Console(stderr=True).print(f"[dim]{name}: {text}[/dim]", highlight=False)


def measured(name: str, bench: Bench) -> list[Row]:
    """Measure one row and show it."""
    warnings.filterwarnings("ignore")
    module, function = ROWS[name].split(":")
    found: list[Row] = getattr(importlib.import_module(f"benchmarks.speed.{module}"), function)(bench)
    table.show(found, Console(stderr=True))
    return found

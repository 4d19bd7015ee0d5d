"""`mmfuse-bench status` and `compare`: looking at a results folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType

from mmfuse.bench.estimate import Estimator, time_left, work_of
from mmfuse.bench.job import Progress
from mmfuse.cli.common import duration, out, print_json
from mmfuse.cli.widgets import MAP_ROWS, grid_map, overall_bar, title, whole_fraction, worker_lines
from mmfuse.errors import unknown
from mmfuse.records.cell import Cell
from mmfuse.records.decisions import Decision, decisions, open_questions
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import Entry, as_row, conflicts, counts, read_entries

FEW = 5
"""Cells that are named below a reason that they share, in a terminal."""


def open_results(path: Path) -> list[Entry]:
    """The cells of a results folder with their states.

    Raises:
        MmfuseError: it is no results folder, or one of another version.
    """
    return read_entries(ResultsFolder.existing(path))


def show_status(path: Path, *, json: bool) -> None:
    """Print the state of each cell, or a summary with a map of the grid."""
    entries = open_results(path)
    if json:
        told = {"results": str(path), "cells": [as_row(entry) for entry in entries], "counts": counts(entries)}
        told["conflicts"] = conflicts(entries)
        print_json({**told, "decisions": [decision.to_json() for decision in _decisions(path, entries)]})
        return
    console = out()
    console.print(_overall(entries, console.width))
    running = [entry for entry in entries if entry.state == "running"]
    if running:
        console.print(worker_lines(((entry.cell, _news(entry)) for entry in running), width=console.width))
    console.print(grid_map(entries, width=console.width, most=MAP_ROWS if console.is_terminal else None))
    console.print(", ".join(f"{number} {state}" for state, number in counts(entries).items()))
    for line in _faults(entries, most=FEW if console.is_terminal else None):
        console.print(line, markup=False, soft_wrap=True)
    for sentence in (*conflicts(entries), *open_questions(_decisions(path, entries))):
        console.print(sentence, markup=False, soft_wrap=True)


def _faults(entries: list[Entry], *, most: int | None) -> list[str]:
    """Why cells failed or are stale: each reason once, with the cells that it holds for.

    Args:
        entries: cells with their states.
        most: cells that are named below a reason; `None` for all.
    """
    cells: dict[str, list[str]] = {}
    for entry in entries:
        if entry.failure is not None:
            cells.setdefault(f"failed: {entry.failure.kind}: {entry.failure.message}", []).append(title(entry.cell))
        elif entry.state == "stale":
            cells.setdefault(f"stale: {entry.reason}", []).append(title(entry.cell))
    lines = []
    for reason, names in cells.items():
        state, _, told = reason.partition(": ")
        if len(names) == 1:
            lines.append(f"{state}: {names[0]}  {told}")
            continue
        lines += [f"{len(names)} {reason}", *(f"  {name}" for name in names[:most])]
        if most is not None and len(names) > most:
            lines.append(f"  … and {len(names) - most} more cells")
    return lines


def _decisions(path: Path, entries: list[Entry]) -> list[Decision]:
    return decisions(ResultsFolder(path).manifests(), entries)


def _news(entry: Entry) -> Progress:
    """What a running cell's runner last said of it; another version may have said it otherwise."""
    told = entry.progress

    def number(key: str) -> float | None:
        value = told.get(key)
        return float(value) if isinstance(value, int | float) else None

    return Progress(
        phase=str(told.get("phase", "loading")),
        epoch=int(number("epoch") or 0),
        epochs=int(number("epochs") or 0),
        fraction=number("fraction") or 0.0,
        loss=number("loss"),
        clips_per_second=number("clips_per_second"),
    )


def _overall(entries: list[Entry], width: int) -> RenderableType:
    """How much of all cells is done, and how long the rest takes with as many workers as are at it now."""
    found = counts(entries)
    estimator = Estimator([entry.record for entry in entries if entry.record is not None])
    expected = [estimator.expected(entry.cell).seconds for entry in entries]
    known = None not in expected
    share = 0.0
    waiting: list[tuple[Cell, float]] = []
    weights = [
        seconds or 0.0 if known else work_of(entry.cell) for entry, seconds in zip(entries, expected, strict=True)
    ]
    for entry, weight in zip(entries, weights, strict=True):
        news = _news(entry)
        part = whole_fraction(news.phase, news.fraction) if entry.state == "running" else float(entry.state == "done")
        share += weight * part
        if entry.state in ("running", "missing"):
            waiting.append((entry.cell, part))
    time = "no runner is at it"
    if found["running"]:
        seconds = estimator.seconds_by_experience(cell for cell, _ in waiting)
        time = "time left unknown yet"
        if seconds is not None:
            rest = [second * (1 - part) for second, (_, part) in zip(seconds, waiting, strict=True)]
            time = f"about {duration(time_left(rest, workers=found['running']))} left"
    elif found["done"] == len(entries):
        time = "complete"
    return overall_bar(
        share=share / (sum(weights) or 1.0),
        counted=f"{found['done']}/{len(entries)} cells",
        time=time,
        failed=found["failed"],
        width=width,
    )


def show_comparison(path: Path, *, ours: str, theirs: str, style: str) -> None:
    """Print two pairs against each other.

    Raises:
        MmfuseError: an unknown pair or format.
    """
    from mmfuse.report.groups import groups
    from mmfuse.report.tables.formats import show
    from mmfuse.report.tables.names import STYLES
    from mmfuse.report.tables.pairwise import pairwise_tables

    if style not in STYLES:
        raise unknown("format", style, STYLES)
    found = groups(open_results(path), ResultsFolder(path))
    show(pairwise_tables(found, ours=ours, theirs=theirs), style=style, console=out())

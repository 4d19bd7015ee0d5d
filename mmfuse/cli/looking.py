"""`mmfuse-bench status` and `tables`: looking at a results folder."""

from __future__ import annotations

from pathlib import Path

from mmfuse.cli.common import notes, out, print_json
from mmfuse.cli.live import grid_map, title
from mmfuse.errors import MmfuseError, unknown
from mmfuse.records import ResultsFolder
from mmfuse.survey import Entry, as_row, counts, survey_folder


def open_results(path: Path) -> list[Entry]:
    """The cells of a results folder with their states.

    Raises:
        MmfuseError: it is no results folder, or one of another version.
    """
    folder = ResultsFolder(path)
    if not folder.exists:
        raise MmfuseError(f"{path} holds no results; run a grid first: mmfuse-bench --grid NAME --results {path}")
    return survey_folder(folder)


def show_status(path: Path, *, json: bool) -> None:
    """Print the state of each cell, or a summary with a map of the grid."""
    entries = open_results(path)
    if json:
        print_json({"results": str(path), "cells": [as_row(entry) for entry in entries], "counts": counts(entries)})
        return
    console = out()
    console.print(", ".join(f"{number} {state}" for state, number in counts(entries).items()))
    for entry in entries:
        if entry.state == "running":
            console.print(f"running: {title(entry.cell)}  {_how_far(entry)}", markup=False)
    console.print(grid_map(entries, {}))
    for entry in entries:
        if entry.failure is not None:
            text = f"failed: {title(entry.cell)}  {entry.failure.kind}: {entry.failure.message}"
            console.print(text, markup=False, soft_wrap=True)
        elif entry.state == "stale":
            console.print(f"stale: {title(entry.cell)}  {entry.reason}", markup=False, soft_wrap=True)


def _how_far(entry: Entry) -> str:
    news = entry.progress
    parts = [str(news.get("phase", "starting"))]
    if news.get("phase") == "training":
        parts.append(f"epoch {news.get('epoch')}/{news.get('epochs')}")
    for key, text in (("loss", "loss {:.3f}"), ("clips_per_second", "{:.0f} clips/s")):
        if isinstance(news.get(key), int | float):
            parts.append(text.format(news[key]))
    return ", ".join(parts)


def show_tables(path: Path, *, style: str) -> None:
    """Print the tables."""
    from mmfuse.report.tables import print_tables

    entries = open_results(path)
    if not any(entry.state == "done" for entry in entries):
        notes().print("no cell of these results is done yet")
    print_tables(entries, style=style, console=out())


def show_versus(path: Path, *, ours: str, theirs: str, style: str) -> None:
    """Print two pairs against each other.

    Raises:
        MmfuseError: an unknown pair or format.
    """
    from mmfuse.report.comparison import groups
    from mmfuse.report.render import STYLES, show
    from mmfuse.report.versus import versus_sheet

    if style not in STYLES:
        raise unknown("format", style, STYLES)
    folder = ResultsFolder(path)
    sheets = [versus_sheet(group, folder, ours=ours, theirs=theirs) for group in groups(open_results(path))]
    show(sheets, style=style, console=out())

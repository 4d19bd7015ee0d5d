"""The parts that a live view and `status` are made of, for terminals from 60 columns on."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmfuse.bench.job import Progress
from mmfuse.records.cell import Cell
from mmfuse.records.status import MARKS, Entry

COLOURS = {"done": "green", "failed": "red", "stale": "yellow", "running": "cyan", "missing": "dim"}
MAP_ROWS = 24


def title(cell: Cell) -> str:
    """A cell in a few words."""
    return "  ".join(_title_parts(cell))


def _title_parts(cell: Cell) -> tuple[str, str]:
    """Its data set and pair, which may be long, and its place among their cells."""
    split = f" split {cell.split}" if cell.split != 1 else ""
    seed = f" seed {cell.seed}" if cell.seed else ""
    return f"{cell.dataset.name}{split}  {cell.pair.name}", f"K={cell.shots}  draw {cell.draw}{seed}"


def whole_fraction(phase: str, fraction: float) -> float:
    """How far a cell is as a whole: the test comes after the training and is a small part of it."""
    return {"loading": 0.0, "training": 0.9 * fraction}.get(phase, 0.9 + 0.1 * fraction)


def overall_bar(*, share: float, counted: str, time: str, failed: int, width: int) -> RenderableType:
    """A bar with what is said beside it; it gives way where the terminal is narrow."""
    words = [counted, time, *([f"{failed} failed"] if failed else [])]
    room = width - sum(len(word) + 2 for word in words)
    row = Table.grid(padding=(0, 2))
    for _ in range(len(words) + 1):
        row.add_column(no_wrap=True)
    bar = ProgressBar(total=1.0, completed=share, width=max(5, min(40, room)))
    row.add_row(bar, counted, time, *([Text(words[2], style="red")] if failed else []))
    return row


def worker_lines(lines: Iterable[tuple[Cell, Progress]], *, width: int) -> RenderableType:
    """What each worker does: cell, epoch, loss, speed. A long name gives way, never a number."""
    table = Table(box=None, padding=(0, 1), show_edge=False, header_style="dim")
    rows = [(*_title_parts(cell), news) for cell, news in lines]
    room = width - 3 * 9 - 4 - max((len(place) for _, place, _ in rows), default=0)
    table.add_column("cell", no_wrap=True, max_width=max(10, room))
    table.add_column("", no_wrap=True)
    for name in ("epoch", "loss", "clips/s"):
        table.add_column(name, justify="right", no_wrap=True, width=7)
    for name, place, news in rows:
        table.add_row(
            Text(name),
            place,
            f"{news.epoch}/{news.epochs}" if news.phase == "training" else news.phase,
            f"{news.loss:.3f}" if news.loss is not None else "",
            f"{news.clips_per_second:.0f}" if news.clips_per_second else "",
        )
    return table


def grid_map(entries: list[Entry], states: dict[str, str], *, width: int) -> RenderableType:
    """A mark a cell: a row for each data set and pair, a column for each number of shots."""
    rows: dict[tuple[str, int, str], dict[str, Text]] = {}
    columns: dict[str, None] = {}
    for entry in entries:
        cell = entry.cell
        columns.setdefault(str(cell.shots))
        row = rows.setdefault((cell.dataset.name, cell.split, cell.pair.name), {})
        state = states.get(cell.name, entry.state)
        row.setdefault(str(cell.shots), Text()).append(MARKS[state], style=COLOURS[state])
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    widths = [
        max([len(f"K={shots}"), *(len(row[shots]) for row in rows.values() if shots in row)]) for shots in columns
    ]
    table.add_column("", no_wrap=True, max_width=max(10, width - sum(widths) - 2 * len(widths) - 2))
    for shots, marks_wide in zip(columns, widths, strict=True):
        table.add_column(f"K={shots}", no_wrap=True, width=marks_wide)
    several = len({key[:2] for key in rows}) > 1
    for (dataset, split, pair), marks in list(rows.items())[:MAP_ROWS]:
        name = f"{dataset}/{split} {pair}" if several else pair
        table.add_row(Text(name), *(marks.get(shots, Text()) for shots in columns))
    if len(rows) > MAP_ROWS:
        table.add_row(f"… and {len(rows) - MAP_ROWS} more rows")
    return table

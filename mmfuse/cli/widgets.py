"""The parts that a live view and `status` are made of, for terminals from 60 columns on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmfuse.bench.job import Progress
from mmfuse.records.cell import Cell
from mmfuse.records.status import MARKS, Entry

COLOURS = {"done": "green", "failed": "red", "stale": "yellow", "running": "cyan", "missing": "dim"}
MAP_ROWS = 24
LONG_NAME = 30
"""Columns of a row's name that accuracies leave room for."""


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
    return {"loading": 0.0, "features": 0.0, "training": 0.9 * fraction}.get(phase, 0.9 + 0.1 * fraction)


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
    room = width - 3 * 9 - 5 - max((len(place) for _, place, _ in rows), default=0)
    table.add_column("cell", no_wrap=True, max_width=max(10, room))
    table.add_column("", no_wrap=True)
    for name in ("epoch", "loss", "clips/s"):
        table.add_column(name, justify="right", no_wrap=True, width=8 if name == "epoch" else 7)
    for name, place, news in rows:
        table.add_row(
            Text(name),
            place,
            f"{news.epoch}/{news.epochs}" if news.phase == "training" else news.phase,
            f"{news.loss:.3f}" if news.loss is not None else "",
            f"{news.clips_per_second:.0f}" if news.clips_per_second else "",
        )
    return table


def grid_map(
    entries: list[Entry],
    *,
    width: int,
    states: Mapping[str, str] | None = None,
    top1: Mapping[str, float] | None = None,
    most: int | None = MAP_ROWS,
) -> RenderableType:
    """A mark a cell and the accuracy so far: a row for each data set and pair, a column for each number of shots.

    Where the terminal is too narrow for both, places whose cells are all done show their accuracy alone, and others
    their marks.

    Args:
        entries: cells with the states that they began with.
        width: columns of the terminal.
        states: states since, by name.
        top1: accuracies in per cent since, by name.
        most: rows that are shown; `None` for all.
    """
    states, top1 = states or {}, {**_accuracies(entries), **(top1 or {})}
    rows: dict[tuple[str, int, str], dict[str, _Place]] = {}
    columns: dict[str, None] = {}
    for entry in entries:
        cell, shots = entry.cell, str(entry.cell.shots)
        columns.setdefault(shots)
        place = rows.setdefault((cell.dataset.name, cell.split, cell.pair.name), {}).setdefault(shots, _Place())
        place.add(states.get(cell.name, entry.state), top1.get(cell.name))
    several = len({key[:2] for key in rows}) > 1
    names = [f"{dataset}/{split} {pair}" if several else pair for dataset, split, pair in rows]
    room = min(max(map(len, names), default=0), LONG_NAME)
    widths = [_widths([row[shots] for row in rows.values() if shots in row], shots) for shots in columns]
    both = room + sum(wide + 2 for wide, _ in widths) <= width
    fitting = [wide if both else narrow for wide, narrow in widths]
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    told = "top-1 in %, so far" if top1 else ""
    table.add_column(told, no_wrap=True, max_width=max(10, width - sum(fitting) - 2 * len(fitting) - 2))
    for shots, wide in zip(columns, fitting, strict=True):
        table.add_column(f"K={shots}", no_wrap=True, width=wide)
    for name, places in list(zip(names, rows.values(), strict=True))[:most]:
        table.add_row(Text(name), *(places.get(shots, _Place()).text(both=both) for shots in columns))
    if most is not None and len(rows) > most:
        table.add_row(f"… and {len(rows) - most} more rows")
    return table


class _Place:
    """The cells of one data set, pair and number of shots."""

    def __init__(self) -> None:
        self._states: list[str] = []
        self._top1: list[float] = []

    def add(self, state: str, top1: float | None) -> None:
        self._states.append(state)
        if state == "done" and top1 is not None:
            self._top1.append(top1)

    def text(self, *, both: bool) -> Text:
        mean = f"{sum(self._top1) / len(self._top1):.1f}" if self._top1 else ""
        if mean and not both and len(self._top1) == len(self._states):
            return Text(mean)
        marks = Text()
        for state in self._states:
            marks.append(MARKS[state], style=COLOURS[state])
        return marks.append(f" {mean}") if mean and both else marks


def _widths(places: list[_Place], shots: str) -> tuple[int, int]:
    """Columns that places take with accuracies beside their marks, and without."""
    wide, narrow = (
        max([len(f"K={shots}"), *(len(place.text(both=both)) for place in places)]) for both in (True, False)
    )
    return wide, narrow


def _accuracies(entries: Iterable[Entry]) -> dict[str, float]:
    """Top-1 in per cent of cells that are done, by name."""
    found = {}
    for entry in entries:
        if entry.state == "done" and entry.record is not None and entry.record.metrics is not None:
            found[entry.cell.name] = 100 * entry.record.metrics.top1
    return found

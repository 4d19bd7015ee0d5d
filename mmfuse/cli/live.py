"""What a run shows while it goes on: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmfuse.bench.estimate import Estimator, work_of
from mmfuse.bench.job import Job, Progress
from mmfuse.bench.runner import Task
from mmfuse.cells import Cell
from mmfuse.cli.common import duration
from mmfuse.records import Record
from mmfuse.survey import Entry

MARKS = {"done": "●", "failed": "✗", "stale": "~", "running": "▸", "missing": "·"}
COLOURS = {"done": "green", "failed": "red", "stale": "yellow", "running": "cyan", "missing": "dim"}
MAP_ROWS = 24


def title(cell: Cell) -> str:
    """A cell in a few words."""
    split = f" split {cell.split}" if cell.split != 1 else ""
    seed = f" seed {cell.seed}" if cell.seed else ""
    return f"{cell.dataset.name}{split}  {cell.pair.name}  K={cell.shots}  draw {cell.draw}{seed}"


class Clock:
    """How much of a run is done, and how long the rest will take.

    Work is counted in expected seconds where past records tell them for every cell, else in frames; what counts is
    only its share, since the time left is taken from this run's own pace.
    """

    def __init__(self, tasks: list[Task], estimator: Estimator) -> None:
        cells = [task.job.cell for task in tasks]
        expected = [estimator.expected(cell).seconds for cell in cells]
        known = all(seconds is not None for seconds in expected)
        self._weights = {
            cell.slot: (seconds if known and seconds else work_of(cell))
            for cell, seconds in zip(cells, expected, strict=True)
        }
        self.total = sum(self._weights.values()) or 1.0
        self.expected = sum(seconds or 0 for seconds in expected) if known else None
        self._done = 0.0
        self._begun = time.monotonic()
        self.finished = 0

    def finish(self, cell: Cell) -> None:
        """Count a cell that needs no more time."""
        self.finished += 1
        self._done += self._weights.get(cell.slot, 0.0)

    def share(self, running: dict[str, float]) -> float:
        """The share of the work that is done. `running`: how far running cells are, by slot."""
        part = sum(self._weights.get(slot, 0.0) * fraction for slot, fraction in running.items())
        return min(1.0, (self._done + part) / self.total)

    def left(self, running: dict[str, float]) -> float | None:
        """Seconds left; `None` before there is anything to go by."""
        share = self.share(running)
        elapsed = time.monotonic() - self._begun
        return elapsed * (1 - share) / share if share > 0.002 else None

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._begun


@dataclass
class _Line:
    """What one worker is doing."""

    job: Job
    progress: Progress
    begun: float

    @property
    def fraction(self) -> float:
        """How far the cell is as a whole: the test comes after the training and is a small part of it."""
        return {"loading": 0.0, "training": 0.9 * self.progress.fraction}.get(
            self.progress.phase, 0.9 + 0.1 * self.progress.fraction
        )


class _Watcher:
    """What both views keep."""

    def __init__(self, *, console: Console, tasks: list[Task], entries: list[Entry], estimator: Estimator) -> None:
        self._console = console
        self._clock = Clock(tasks, estimator)
        self._total = len(tasks)
        self._lines: dict[int, _Line] = {}
        self._states = {entry.cell.slot: entry.state for entry in entries}

    def _running(self) -> dict[str, float]:
        return {line.job.cell.slot: line.fraction for line in self._lines.values()}

    def _left(self) -> str:
        left = self._clock.left(self._running())
        return f"{duration(left)} left" if left is not None else "time left unknown yet"

    def started(self, worker: int, job: Job) -> None:
        """A worker has begun a cell."""
        self._lines[worker] = _Line(job, Progress("loading"), time.monotonic())
        self._states[job.cell.slot] = "running"

    def progressed(self, worker: int, job: Job, progress: Progress) -> None:
        """A worker has news of its cell."""
        if worker in self._lines:
            self._lines[worker].progress = progress

    def finished(self, worker: int, record: Record) -> None:
        """A cell has come to its end."""
        self._lines.pop(worker, None)
        self._states[record.slot] = record.state
        self._clock.finish(record.cell)

    def skipped(self, job: Job) -> None:
        """A cell is done, or being done, by another runner."""
        self._clock.finish(job.cell)

    def tick(self) -> None:
        """Time has passed."""


class PlainView(_Watcher):
    """A line for each cell that begins and ends: for logs and pipes."""

    def started(self, worker: int, job: Job) -> None:
        """See `_Watcher`."""
        super().started(worker, job)
        self._print(f"begin   {title(job.cell)}")

    def finished(self, worker: int, record: Record) -> None:
        """See `_Watcher`."""
        super().finished(worker, record)
        self._print(f"{record.state:7} {title(record.cell)}  {_ending(record)}  ({self._left()})")

    def skipped(self, job: Job) -> None:
        """See `_Watcher`."""
        super().skipped(job)
        self._print(f"skip    {title(job.cell)}  done or running elsewhere")

    def _print(self, text: str) -> None:
        width = len(str(self._total))
        self._console.print(f"[{self._clock.finished:{width}}/{self._total}] {text}", markup=False, soft_wrap=True)

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _ending(record: Record) -> str:
    if record.metrics is not None and record.cost is not None:
        return f"top-1 {100 * record.metrics.top1:.1f}%  {duration(record.cost.seconds)}"
    assert record.error is not None
    return f"{record.error.kind}: {record.error.message}"


class LiveView(_Watcher):
    """An overall bar with the time left, a line a worker, a map of the grid, and failures as they happen."""

    def __init__(self, *, console: Console, tasks: list[Task], entries: list[Entry], estimator: Estimator) -> None:
        super().__init__(console=console, tasks=tasks, entries=entries, estimator=estimator)
        self._entries = entries
        self._failed = 0
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)  # type: ignore[arg-type]

    def finished(self, worker: int, record: Record) -> None:
        """See `_Watcher`."""
        super().finished(worker, record)
        if record.state == "failed":
            self._failed += 1
            # Above the live view, where it stays.
            self._console.print(Text(f"failed: {title(record.cell)}  {_ending(record)}", style="red"), soft_wrap=True)

    def render(self) -> RenderableType:
        """The view as it stands now."""
        return Group(self._overall(), self._workers(), grid_map(self._entries, self._states))

    def _overall(self) -> RenderableType:
        row = Table.grid(padding=(0, 2))
        share = self._clock.share(self._running())
        failed = Text(f"{self._failed} failed", style="red") if self._failed else Text("")
        row.add_row(
            ProgressBar(total=1.0, completed=share, width=40),
            f"{self._clock.finished}/{self._total} cells",
            f"{duration(self._clock.elapsed)} gone, {self._left()}",
            failed,
        )
        return row

    def _workers(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2), show_edge=False, header_style="dim")
        for name in ("cell", "epoch", "loss", "clips/s"):
            table.add_column(name, justify="left" if name == "cell" else "right", no_wrap=True)
        for _, line in sorted(self._lines.items()):
            news = line.progress
            table.add_row(
                Text(title(line.job.cell)),
                f"{news.epoch}/{news.epochs}" if news.phase == "training" else news.phase,
                f"{news.loss:.3f}" if news.loss is not None else "",
                f"{news.clips_per_second:.0f}" if news.clips_per_second else "",
            )
        return table


def grid_map(entries: list[Entry], states: dict[str, str]) -> RenderableType:
    """A mark a cell: a row for each data set and pair, a column for each number of shots."""
    rows: dict[tuple[str, int, str], dict[str, Text]] = {}
    columns: dict[str, None] = {}
    for entry in entries:
        cell = entry.cell
        columns.setdefault(str(cell.shots))
        row = rows.setdefault((cell.dataset.name, cell.split, cell.pair.name), {})
        state = states.get(cell.slot, entry.state)
        row.setdefault(str(cell.shots), Text()).append(MARKS[state], style=COLOURS[state])
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("")
    for shots in columns:
        table.add_column(f"K={shots}", no_wrap=True)
    several = len({key[:2] for key in rows}) > 1
    for (dataset, split, pair), marks in list(rows.items())[:MAP_ROWS]:
        name = f"{dataset}/{split} {pair}" if several else pair
        table.add_row(Text(name), *(marks.get(shots, Text()) for shots in columns))
    if len(rows) > MAP_ROWS:
        table.add_row(f"… and {len(rows) - MAP_ROWS} more rows")
    return table

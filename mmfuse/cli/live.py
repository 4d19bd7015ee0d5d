"""What a run or a training shows while it goes on: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressDisplay
from rich.text import Text

from mmfuse.bench.estimate import Estimator, time_left, work_of
from mmfuse.bench.job import Job, Progress
from mmfuse.bench.runner import Task
from mmfuse.cli.common import duration
from mmfuse.cli.widgets import grid_map, overall_bar, title, whole_fraction, worker_lines
from mmfuse.records.cell import Cell
from mmfuse.records.record import Record
from mmfuse.records.status import Entry

NARROW = 60
"""Columns, below which a training shows only its bar and the time left."""


class Clock:
    """How much of a run is done, and how long the rest will take.

    Work is counted in expected seconds where past records tell them for every cell, else in frames; what counts is
    only its share. The time left is what cells of the same kind have taken, here and in past records.
    """

    def __init__(self, tasks: list[Task], estimator: Estimator, *, workers: int) -> None:
        self._estimator = estimator
        self._workers = workers
        cells = [task.job.cell for task in tasks]
        expected = [estimator.expected(cell).seconds for cell in cells]
        self._in_seconds = None not in expected
        self._weights = {
            cell.name: (seconds if self._in_seconds and seconds else work_of(cell))
            for cell, seconds in zip(cells, expected, strict=True)
        }
        self.total = sum(self._weights.values()) or 1.0
        self._waiting = {cell.name: cell for cell in cells}
        self._seconds = estimator.seconds_by_experience(cells)
        self._done = 0.0
        self._begun = time.monotonic()
        self.finished = 0

    def add(self, tasks: list[Task]) -> None:
        """Count cells that were not known when the run began, as much as cells of their kind, or as the mean."""
        mean = self.total / max(1, len(self._weights))
        for task in tasks:
            cell = task.job.cell
            expected = self._estimator.expected(cell).seconds if self._in_seconds else work_of(cell)
            self._weights[cell.name] = expected or mean
            self.total += self._weights[cell.name]
            self._waiting[cell.name] = cell
        self._seconds = self._estimator.seconds_by_experience(self._waiting.values())

    def finish(self, cell: Cell, record: Record | None = None) -> None:
        """Count a cell that needs no more time, and learn from its record what others will take."""
        self.finished += 1
        self._done += self._weights.get(cell.name, 0.0)
        self._waiting.pop(cell.name, None)
        if record is not None:
            self._estimator.learn(record)
        self._seconds = self._estimator.seconds_by_experience(self._waiting.values())

    def share(self, running: dict[str, float]) -> float:
        """The share of the work that is done. `running`: how far running cells are, by name."""
        part = sum(self._weights.get(name, 0.0) * fraction for name, fraction in running.items())
        return min(1.0, (self._done + part) / self.total)

    def left(self, running: dict[str, float]) -> float | None:
        """Seconds left; `None` before two cells of each kind that waits or runs have ended."""
        if self._seconds is None:
            return None
        rest = [
            second * (1 - running.get(name, 0.0)) for name, second in zip(self._waiting, self._seconds, strict=True)
        ]
        return time_left(rest, workers=self._workers)

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
        """How far the cell is as a whole."""
        return whole_fraction(self.progress.phase, self.progress.fraction)


class _Watcher:
    """What both views keep."""

    def __init__(
        self, *, console: Console, tasks: list[Task], entries: list[Entry], estimator: Estimator, workers: int
    ) -> None:
        self._console = console
        self._clock = Clock(tasks, estimator, workers=workers)
        self._total = len(tasks)
        self._lines: dict[int, _Line] = {}
        self._states = {entry.cell.name: entry.state for entry in entries}
        self._top1: dict[str, float] = {}

    def _running(self) -> dict[str, float]:
        return {line.job.cell.name: line.fraction for line in self._lines.values()}

    def _time_left(self) -> str:
        left = self._clock.left(self._running())
        return f"{duration(left)} left" if left is not None else "time left unknown yet"

    def started(self, worker: int, job: Job) -> None:
        """A worker has begun a cell."""
        self._lines[worker] = _Line(job, Progress("loading"), time.monotonic())
        self._states[job.cell.name] = "running"

    def progressed(self, worker: int, job: Job, progress: Progress) -> None:
        """A worker has news of its cell."""
        if worker in self._lines:
            self._lines[worker].progress = progress

    def finished(self, worker: int, record: Record) -> None:
        """A cell has come to its end."""
        self._lines.pop(worker, None)
        self._states[record.name] = record.state
        if record.metrics is not None:
            self._top1[record.name] = 100 * record.metrics.top1
        self._clock.finish(record.cell, record)

    def skipped(self, job: Job) -> None:
        """A cell is done, or being done, by another runner."""
        self._clock.finish(job.cell)

    def added(self, tasks: list[Task]) -> None:
        """There is more to run than was known when the run began."""
        self._total += len(tasks)
        self._clock.add(tasks)

    def decoding(self, dataset: str, done: int, total: int) -> None:
        """Clips are decoded before the first cell."""

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
        self._print(f"{record.state:7} {title(record.cell)}  {_ending(record)}  ({self._time_left()})")

    def skipped(self, job: Job) -> None:
        """See `_Watcher`."""
        super().skipped(job)
        self._print(f"skip    {title(job.cell)}  done or running elsewhere")

    def decoding(self, dataset: str, done: int, total: int) -> None:
        """Print a line when the clips of a data set are decoded, or waited for."""
        if done == total:
            told = f"decoded {total:,} clips of {dataset}" if total else _others_decode(dataset)
            self._console.print(told, markup=False, soft_wrap=True)

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
    """A bar with the time left, a line a worker, the grid with its accuracies so far, and failures as they happen."""

    def __init__(
        self, *, console: Console, tasks: list[Task], entries: list[Entry], estimator: Estimator, workers: int
    ) -> None:
        super().__init__(console=console, tasks=tasks, entries=entries, estimator=estimator, workers=workers)
        self._entries = list(entries)
        self._failed = 0
        self._decoding = ""
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

    def added(self, tasks: list[Task]) -> None:
        """See `_Watcher`."""
        super().added(tasks)
        self._entries += [task.entry for task in tasks]

    def decoding(self, dataset: str, done: int, total: int) -> None:
        """See `_Watcher`."""
        told = f"decoding clips of {dataset}: {done:,} of {total:,}" if total else _others_decode(dataset)
        self._decoding = "" if total and done == total else told

    def render(self) -> RenderableType:
        """The view as it stands now."""
        clock = self._clock
        overall = overall_bar(
            share=clock.share(self._running()),
            counted=f"{clock.finished}/{self._total} cells",
            time=f"{duration(clock.elapsed)} gone, {self._time_left()}",
            failed=self._failed,
            width=self._console.width,
        )
        lines = [(line.job.cell, line.progress) for _, line in sorted(self._lines.items())]
        width = self._console.width
        grid = grid_map(self._entries, width=width, states=self._states, top1=self._top1)
        doing = Text(self._decoding) if self._decoding and not lines else worker_lines(lines, width=width)
        return Group(overall, doing, grid)


def _others_decode(dataset: str) -> str:
    return f"another run decodes clips of {dataset}, and is waited for"


class TrainingBar:
    """The bar of one training, with the time left, the loss and the clips a second."""

    def __init__(self, console: Console) -> None:
        self._wide = console.width >= NARROW
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=40 if self._wide else 12),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        self._bar = ProgressDisplay(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
        self._task = self._bar.add_task("loading", total=1.0, detail="")
        self._phase = ""

    def show(self, progress: Progress) -> None:
        """Move the bar to where the training is."""
        if progress.phase != self._phase:
            self._phase = progress.phase
            self._bar.reset(self._task)  # a phase has its own pace, and so its own time left
        detail = _loss_and_rate(progress) if self._wide else ""
        self._bar.update(self._task, description=_phase_text(progress), completed=progress.fraction, detail=detail)

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


class TrainingLines:
    """A line for each tenth of one training, and one for each other phase: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: tuple[str, int] | None = None

    def show(self, progress: Progress) -> None:
        """Print a line where a new tenth or a new phase has begun."""
        place = (progress.phase, int(10 * progress.fraction) if progress.phase == "training" else 0)
        if place == self._printed:
            return
        self._printed = place
        parts = (_phase_text(progress), _loss_and_rate(progress) if progress.phase == "training" else "")
        self._console.print("  ".join(filter(None, parts)), markup=False, soft_wrap=True)

    def __enter__(self) -> TrainingLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _phase_text(progress: Progress) -> str:
    """The phase, and of a training its epoch."""
    return f"training {progress.epoch}/{progress.epochs}" if progress.phase == "training" else progress.phase


def _loss_and_rate(progress: Progress) -> str:
    """The loss and the clips a second, as far as they are known."""
    loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
    rate = f"{progress.clips_per_second:.0f} clips/s" if progress.clips_per_second else ""
    return "  ".join(filter(None, (loss, rate)))

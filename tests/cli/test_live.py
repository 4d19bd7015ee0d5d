"""What a run shows while it goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mmfuse.bench.estimate import Estimator
from mmfuse.bench.job import Job, Progress
from mmfuse.bench.runner import Task
from mmfuse.cli.live import LiveView, PlainView
from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import PlannedCell
from mmfuse.records.record import Failure, Record, failed
from mmfuse.records.status import Entry
from tests.bench.fakes import done
from tests.report.made import build

CELLS = [build(pair, shots=shots) for pair in ("frozen+frozen", "[red]lora") for shots in (2, "all")]


def watched(kind: type[LiveView] | type[PlainView], *, width: int = 100) -> tuple[LiveView | PlainView, Console]:
    console = Console(file=io.StringIO(), width=width, force_terminal=kind is LiveView, color_system=None)
    entries = [Entry(PlannedCell(cell), "missing") for cell in CELLS]
    tasks = [Task(entry, Job(cell=entry.cell)) for entry in entries]
    return kind(console=console, tasks=tasks, entries=entries, estimator=Estimator()), console


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def finished(cell: Cell) -> Record:
    return done(cell, inputs=Inputs(), top1=0.5).record


@pytest.mark.parametrize("width", [60, 100])
def test_the_live_view_tells_cells_epochs_losses_and_the_grid(width: int) -> None:
    view, console = watched(LiveView, width=width)
    assert isinstance(view, LiveView)
    view.started(0, Job(cell=CELLS[0]))
    view.progressed(0, Job(cell=CELLS[0]), Progress("training", 3, 20, 0.15, 1.234, 87.0))
    view.started(1, Job(cell=CELLS[2]))
    view.finished(1, failed(CELLS[2], Failure(kind="NonFiniteLoss", message="it blew [up]"), inputs=Inputs()))
    view.started(1, Job(cell=CELLS[3]))
    view.finished(1, finished(CELLS[3]))
    console.print(view.render())
    text = printed(console)
    assert max(map(len, text.splitlines()[1:])) <= width
    words = ("2/4 cells", "K=2  draw 0", "3/20", "1.234", "87", "1 failed", "left", "it blew [up]", "[red]lora")
    for word in (*words, "tiny  frozen+frozen" if width == 100 else "tiny  frozen"):
        assert word in text
    rows = [line.split() for line in text.splitlines()]
    assert ["frozen+frozen", "▸", "·"] in rows
    assert ["[red]lora", "✗", "●"] in rows


def test_without_a_terminal_each_cell_is_a_line_with_the_time_left() -> None:
    view, console = watched(PlainView)
    for cell in CELLS[:2]:
        view.started(0, Job(cell=cell))
        view.finished(0, finished(cell))
    view.skipped(Job(cell=CELLS[2]))
    lines = printed(console).splitlines()
    assert lines[0] == "[0/4] begin   tiny  frozen+frozen  K=2  draw 0"
    assert lines[1].startswith("[1/4] done    tiny  frozen+frozen  K=2  draw 0  top-1 50.0%  1 s  (")
    assert "left)" in lines[1]
    assert lines[-1].startswith("[3/4] skip    tiny  [red]lora  K=2")
    assert "\x1b" not in printed(console)

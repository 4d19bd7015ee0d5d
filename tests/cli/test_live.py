"""What a run shows while it goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mmfuse.bench.estimate import Estimator
from mmfuse.bench.job import Job, Progress
from mmfuse.bench.runner import Task
from mmfuse.cli.live import Clock, LiveView, PlainView
from mmfuse.cli.widgets import grid_map
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
    return kind(console=console, tasks=tasks, entries=entries, estimator=Estimator(), workers=2), console


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
    assert ["[red]lora", "✗", "●", "50.0"] in rows


def test_without_a_terminal_each_cell_is_a_line_with_the_time_left() -> None:
    view, console = watched(PlainView)
    for cell in CELLS[:2]:
        view.started(0, Job(cell=cell))
        view.finished(0, finished(cell))
    view.skipped(Job(cell=CELLS[2]))
    lines = printed(console).splitlines()
    assert lines[0] == "[0/4] begin   tiny  frozen+frozen  K=2  draw 0"
    assert lines[1].startswith("[1/4] done    tiny  frozen+frozen  K=2  draw 0  top-1 50.0%  1 s  (")
    assert "(time left unknown yet)" in lines[1]
    assert " left)" in lines[3]  # two cells of the only kind have ended
    assert lines[-1].startswith("[3/4] skip    tiny  [red]lora  K=2")
    assert "\x1b" not in printed(console)


def test_no_time_is_told_before_two_cells_of_each_kind_have_ended() -> None:
    frozen = [build("frozen+frozen", draw=draw) for draw in range(5)]
    trained = [build("lora+frozen", draw=draw) for draw in range(3)]
    tasks = [Task(Entry(PlannedCell(cell), "missing"), Job(cell=cell)) for cell in (*frozen, *trained)]
    clock = Clock(tasks, Estimator(), workers=2)
    for cell in frozen[:3]:
        clock.finish(cell, finished(cell))
    clock.finish(trained[0], finished(trained[0]))
    assert clock.left({}) is None
    clock.finish(trained[1], failed(trained[1], Failure(kind="NonFiniteLoss", message="nan"), inputs=Inputs()))
    assert clock.left({}) is None  # one that failed at once says nothing of the others
    clock.finish(trained[2], finished(trained[2]))
    assert clock.left({}) == pytest.approx(1.0)  # two frozen cells of a second each wait for two workers
    assert clock.left({frozen[3].name: 0.5}) == pytest.approx(1.0)  # the other one still takes its second
    assert clock.left({cell.name: 0.5 for cell in frozen[3:]}) == pytest.approx(0.5)


@pytest.mark.parametrize("width", [120, 40])
def test_accuracies_so_far_stand_beside_the_marks_or_in_their_place_where_all_is_done(width: int) -> None:
    cells = [build("lora+frozen", shots=shots, draw=draw) for shots in (2, 4, 8, "all") for draw in range(3)]
    entries = [
        Entry(PlannedCell(cell), "done", record=finished(cell))
        if cell.shots == 2 or (cell.shots == 4 and cell.draw < 2)
        else Entry(PlannedCell(cell), "missing")
        for cell in cells
    ]
    console = Console(file=io.StringIO(), width=width)
    console.print(grid_map(entries, width=width, top1={cells[0].name: 80.0}))
    row = printed(console).splitlines()[1].split()
    assert row == ["lora+frozen", *(["●●●", "60.0", "●●·", "50.0"] if width > 60 else ["60.0", "●●·"]), "···", "···"]

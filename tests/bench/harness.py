"""Small plans for tests of the runner; run as a program, it is a runner that can be interrupted or killed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mmfuse.bench.engines.base import Engine, Limits
from mmfuse.bench.engines.local import LocalEngine, Slot
from mmfuse.bench.job import Job, Progress
from mmfuse.bench.plan import planned_entries, to_run
from mmfuse.bench.runner import Runner, Tally, Task
from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.record import Record
from mmfuse.records.status import Entry

RUNNER = "tests.bench.fakes:run"


class Silent:
    """A view for nobody."""

    def started(self, worker: int, job: Job) -> None: ...

    def progressed(self, worker: int, job: Job, progress: Progress) -> None: ...

    def finished(self, worker: int, record: Record) -> None: ...

    def skipped(self, job: Job) -> None: ...

    def added(self, tasks: list[Task]) -> None: ...

    def decoding(self, dataset: str, done: int, total: int) -> None: ...

    def tick(self) -> None: ...


def cell(pair: str = "fine", *, draw: int = 0, shots: int = 2, **settings: object) -> Cell:
    return Cell.model_validate(
        {
            "dataset": "tiny",
            "pair": {"name": pair, "image": "frozen", "text": "frozen"},
            "shots": shots,
            "draw": draw,
            # Cells that differ in name alone would be one and the same.
            "train": {"epochs": 1 + sum(map(ord, pair)) % 1000},
            **settings,
        }
    )


def cells(*pairs: str, draws: int = 1) -> list[Cell]:
    return [cell(pair, draw=draw) for pair in pairs for draw in range(draws)]


def plan(folder: ResultsFolder, wanted: Sequence[Cell], *, inputs: Inputs | None = None) -> list[Entry]:
    """Write the manifest of a grid `test`, and read the state of its cells."""
    folder.prepare()
    planned = [PlannedCell(one, inputs or Inputs(dataset="c")) for one in wanted]
    folder.write_manifest(Manifest("test", planned))
    return planned_entries(folder, planned)


def engine(*, workers: int = 1, total: float | None = None, silence: float | None = None) -> LocalEngine:
    slots = [Slot({"OMP_NUM_THREADS": "1"})] * workers
    return LocalEngine(slots=slots, limits=Limits(total=total, silence=silence), runner=RUNNER)


def run(
    path: Path,
    wanted: Sequence[Cell],
    *,
    workers: int = 1,
    total: float | None = None,
    silence: float | None = None,
    retry_failed: bool = False,
    rerun: str | None = None,
    fail_fast: bool = False,
    inputs: Inputs | None = None,
    other: Engine | None = None,
) -> Tally:
    """Plan and run cells, as the command does."""
    folder = ResultsFolder(path)
    entries = to_run(plan(folder, wanted, inputs=inputs), retry_failed=retry_failed, rerun=rerun)
    tasks = [
        Task(entry, Job(cell=entry.cell, known=entry.planned.inputs, command="again", log_folder=str(path)))
        for entry in entries
    ]
    local = other or engine(workers=workers, total=total, silence=silence)
    return Runner(folder=folder, tasks=tasks, engine=local, view=Silent(), fail_fast=fail_fast).run()


def states(path: Path, wanted: Sequence[Cell], *, inputs: Inputs | None = None) -> dict[str, str]:
    """State by pair and draw."""
    planned = [PlannedCell(one, inputs or Inputs(dataset="c")) for one in wanted]
    found = planned_entries(ResultsFolder(path), planned)
    return {f"{entry.cell.pair.name}/{entry.cell.draw}": entry.state for entry in found}


def ran(path: Path) -> list[str]:
    """Names of the cells that a worker has begun, in order."""
    file = path / "ran.txt"
    return file.read_text().split() if file.exists() else []


if __name__ == "__main__":
    tally = run(Path(sys.argv[1]), cells(*sys.argv[3:], draws=int(sys.argv[2])))
    sys.exit(130 if tally.interrupted else int(bool(tally.failed)))

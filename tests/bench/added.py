"""Grids whose draws are added until all is decided, of cells that do not train; run as a program, one such runner."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from mmfuse.bench.added_draws import AddedDraws, wanted_entries
from mmfuse.bench.engines.base import Engine, NextJob
from mmfuse.bench.job import Event, Finished, Job, Started
from mmfuse.bench.plan import planned_entries, to_run
from mmfuse.bench.runner import Runner, Tally, Task
from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.decisions import Decision, decisions
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.status import Entry, read_entries
from mmfuse.records.until_decided import UntilDecided
from tests.bench import fakes
from tests.bench.harness import Silent, cell, engine

RULE = UntilDecided(until="decided", at_least=3, at_most=10, margin=0.5)
PAIRS = ("at-50-1", "at-90-1", "at-55-2", "at-50-6")
"""A baseline, a pair that is plainly better, one that is hard to tell, and one that is hopeless."""


def cells(*pairs: str, shots: tuple[int, ...] = (2, 4)) -> list[Cell]:
    """All cells up to the last look. The first pair is the baseline: of frozen pairs the first stands."""
    return [cell(pair, draw=draw, shots=count) for pair in pairs for count in shots for draw in range(RULE.at_most)]


def run(
    path: Path,
    *pairs: str,
    workers: int = 1,
    retry_failed: bool = False,
    fail_fast: bool = False,
    local: Engine | None = None,
) -> Tally:
    """Plan and run a grid, as the command does."""
    folder = ResultsFolder(path)
    folder.prepare()
    planned = [PlannedCell(one, Inputs(dataset="c")) for one in cells(*(pairs or PAIRS))]
    entries = wanted_entries(planned_entries(folder, planned), RULE)
    manifest = Manifest("test", [entry.planned for entry in entries], until_decided=RULE)
    folder.write_manifest(manifest)
    waiting = to_run(entries, retry_failed=retry_failed)
    chosen = {item.cell.name for item in planned}
    added = AddedDraws(folder=folder, manifest=manifest, cells=planned, chosen=chosen, begun=waiting)

    def task(entry: Entry) -> Task:
        return Task(entry, Job(cell=entry.cell, known=entry.planned.inputs, command="again", log_folder=str(path)))

    return Runner(
        folder=folder,
        tasks=[task(entry) for entry in waiting],
        engine=local or engine(workers=workers),
        view=Silent(),
        fail_fast=fail_fast,
        further=lambda ended: [task(entry) for entry in added.after(ended)],
    ).run()


class Shuffled:
    """Cells in this process, all begun at once, that end in an order of their own."""

    workers = 99

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)

    def run(self, next_job: NextJob) -> Iterator[Event]:
        """See `Engine`."""
        begun: list[Job] = []
        while True:
            begun += iter(next_job, None)
            if not begun:
                return
            job = begun.pop(self._generator.randrange(len(begun)))
            yield Started(0, job)
            yield Finished(0, job, fakes.run(job, progress=lambda news: None))

    def close(self) -> None:
        """See `Engine`."""


def planned(path: Path) -> list[str]:
    """Names of the cells that the folder's tables are made of."""
    return [entry.cell.name for entry in read_entries(ResultsFolder(path))]


def known(path: Path) -> list[Decision]:
    """The verdicts that a results folder holds."""
    folder = ResultsFolder(path)
    return decisions(folder.manifests(), read_entries(folder))


if __name__ == "__main__":
    tally = run(Path(sys.argv[1]), *sys.argv[2:])
    sys.exit(130 if tally.interrupted else int(bool(tally.failed)))

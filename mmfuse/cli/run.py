"""`mmfuse-bench --grid …`: plan, run, and print the table."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmfuse.bench.estimate import Estimator, Expected, read_calibration
from mmfuse.bench.grid import LoadedGrid, load_grid
from mmfuse.bench.plan import planned_entries, select, to_run, with_known_inputs
from mmfuse.cli.common import DONE, FAILED, INTERRUPTED, amount, default_data_root, duration, notes, out, print_json
from mmfuse.errors import MmfuseError
from mmfuse.model.optimizations import USUAL, Speed
from mmfuse.records.cell import Cell
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.status import Entry, as_row, counts, read_entries
from mmfuse.utils.files import user_path

ENGINES = ("local", "ray")
LONGEST = 1_000_000_000
"""Seconds that a time limit may have, as in a grid."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    grid: str
    results: Path | None = None
    data_root: Path | None = None
    annotations: Path | None = None
    only: list[str] = field(default_factory=list)
    workers: int | None = None
    engine: str = "local"
    dry_run: bool = False
    retry_failed: bool = False
    rerun: str | None = None
    fail_fast: bool = False
    json: bool = False
    time_limit: float | None = None
    calibrate: bool = False
    style: str = "rich"
    store: str = "auto"
    speed: Speed = USUAL

    @property
    def root(self) -> Path:
        """Where the data sets are."""
        return self.data_root or default_data_root()


def run(request: Request) -> int:
    """Carry out a request; returns the exit code.

    Raises:
        MmfuseError: the request is wrong.
    """
    loaded = load_grid(request.grid)
    cells = loaded.cells()
    chosen = {cell.name for cell in select(cells, request.only)}
    folder = ResultsFolder(request.results or Path("results") / loaded.grid.name)
    planned = with_known_inputs(cells)
    if request.calibrate:
        _calibrate(select(cells, request.only), request)
    if request.dry_run:
        entries = planned_entries(folder, planned)
        mine = [entry for entry in entries if entry.cell.name in chosen]
        return _show_plan(request, loaded.grid.name, folder, _estimator(entries, loaded), mine)
    return _carry_out(request, loaded, folder, planned, chosen)


def _calibrate(cells: list[Cell], request: Request) -> None:
    from mmfuse.bench.calibrate import calibrate
    from mmfuse.bench.estimate import keep_calibration

    with notes().status("measuring one step of each kind of cell"):
        keep_calibration(calibrate(cells, data_root=request.root, annotations=request.annotations))


def _estimator(entries: list[Entry], loaded: LoadedGrid) -> Estimator:
    records = [entry.record for entry in entries if entry.record is not None]
    return Estimator(records, calibration=read_calibration(), keep_checkpoints=loaded.grid.run.keep_checkpoints)


def _show_plan(request: Request, grid: str, folder: ResultsFolder, estimator: Estimator, entries: list[Entry]) -> int:
    ordered = estimator.longest_first(entries)
    going = {entry.cell.name for entry in to_run(entries, retry_failed=request.retry_failed, rerun=request.rerun)}
    expected = {entry.cell.name: estimator.expected(entry.cell) for entry in ordered}
    if request.json:
        rows = [
            {
                **as_row(entry),
                "runs": entry.cell.name in going,
                "expected_seconds": expected[entry.cell.name].seconds,
                "expected_memory_bytes": expected[entry.cell.name].memory_bytes,
                "expected_disk_bytes": expected[entry.cell.name].disk_bytes,
                "expected_decoding_seconds": expected[entry.cell.name].decoding,
            }
            for entry in ordered
        ]
        print_json({"grid": grid, "results": str(folder.path), "cells": rows, "counts": counts(entries)})
        return DONE
    console = out()
    _print_columns(ordered, expected)
    states = ", ".join(f"{number} {state}" for state, number in counts(entries).items() if number)
    left = _expected_in_all([expected[name] for name in going]) if going else "Nothing to run."
    console.print(f"\n{len(entries)} cell{'s' * (len(entries) != 1)}: {states}. {left}", soft_wrap=True)
    return DONE


def _expected_in_all(costs: list[Expected]) -> str:
    """What a run will take, in a sentence."""
    known = [cost for cost in costs if cost.seconds is not None]
    text = f"To run: {len(costs)}"
    if len(known) < len(costs):
        return f"{text}; how long is not known yet: --dry-run --calibrate measures this device first."
    time = duration(sum(cost.seconds or 0 for cost in known))
    disk = amount(sum(cost.disk_bytes or 0 for cost in known))
    text += f", expected {time} on one worker and {disk} of results"
    decoding = sum(cost.decoding or 0 for cost in known)
    if any(cost.decoding is None for cost in known):
        return f"{text}; time to decode videos that are not here is not counted."
    if decoding:
        return f"{text}; {duration(decoding)} of it decode videos, less where decoded clips are kept."
    return f"{text}."


def _print_columns(entries: list[Entry], expected: dict[str, Expected]) -> None:
    """Aligned lines, made by hand: ten thousand of them must not take long."""
    lines: list[tuple[str, ...]] = [
        ("state", "data set", "split", "pair", "K", "draw", "seed", "time", "memory", "disk")
    ]
    for entry in entries:
        cost, place = expected[entry.cell.name], map(str, entry.cell.axes)
        lines.append((entry.state, *place, duration(cost.seconds), amount(cost.memory_bytes), amount(cost.disk_bytes)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _carry_out(
    request: Request, loaded: LoadedGrid, folder: ResultsFolder, planned: list[PlannedCell], chosen: set[str]
) -> int:
    from mmfuse.bench.preflight import prepare

    if request.engine == "local":  # the nodes of a cluster may have what this machine has not
        _refuse_absent_loggers(loaded)
    entries = planned_entries(folder, planned)
    # What the data say is known only now: it may make more cells stale, and refuses what cannot run.
    candidates = [entry for entry in entries if entry.cell.name in chosen]
    ready = prepare(
        candidates,
        data_root=request.root,
        will_run=lambda found: to_run(found, retry_failed=request.retry_failed, rerun=request.rerun),
        annotations=request.annotations,
    )
    folder.prepare()
    inputs = {item.cell.name: item for item in ready}
    planned = [inputs.get(item.cell.name, item) for item in planned]
    folder.write_manifest(Manifest(loaded.grid.name, planned, command=shlex.join(["mmfuse-bench", *sys.argv[1:]])))
    entries = planned_entries(folder, planned)
    waiting = to_run(
        [entry for entry in entries if entry.cell.name in chosen],
        retry_failed=request.retry_failed,
        rerun=request.rerun,
    )
    code = _run_cells(request, loaded, folder, entries, waiting) if waiting else DONE
    return _conclude(request, loaded, folder, chosen, code)


def _refuse_absent_loggers(loaded: LoadedGrid) -> None:
    """Name a logger whose package is missing now, and not in every cell."""
    for position, name in enumerate(loaded.grid.run.loggers):
        if name != "csv" and not any(find_spec(package) for package in (name, f"{name}X", f"{name}_skinny")):
            told = f"the logger {name!r} needs its package: pip install {name}, or leave the logger out"
            raise loaded.source.error(["run", "loggers", position], told)


def rerun_command(request: Request, cell: Cell, folder: ResultsFolder) -> str:
    """The command that runs one cell again."""
    words = ["mmfuse-bench", "--grid", request.grid, "--results", str(folder.path)]
    if request.data_root is not None:
        words += ["--data-root", str(request.data_root)]
    if request.annotations is not None:
        words += ["--annotations", str(request.annotations)]
    for axis, value in cell.axes._asdict().items():
        words += ["--only", f"{axis}={value}"]
    return shlex.join([*words, "--rerun", "all"])


def _run_cells(
    request: Request, loaded: LoadedGrid, folder: ResultsFolder, entries: list[Entry], waiting: list[Entry]
) -> int:
    from mmfuse.bench.clip_cache import choose
    from mmfuse.bench.job import Job
    from mmfuse.bench.runner import Runner, Task, log_folder
    from mmfuse.cli.live import LiveView, PlainView

    settings = loaded.grid.run
    estimator = _estimator(entries, loaded)
    keeping = choose(
        [entry.cell for entry in waiting],
        data_root=request.root,
        wish=request.store,
        annotations=request.annotations,
    )
    tasks = [
        Task(
            entry,
            Job(
                cell=entry.cell,
                data_root=str(request.root.absolute()),
                annotations=str(user_path(request.annotations).absolute()) if request.annotations else None,
                known=entry.planned.inputs,
                command=rerun_command(request, entry.cell, folder),
                keep_checkpoint=settings.keep_checkpoints,
                loader_workers=settings.loader_workers,
                devices=settings.devices,
                loggers=settings.loggers,
                log_folder=str(log_folder(folder).absolute()) if settings.loggers else None,
                store=keeping.store_for(entry.cell),
                speed=request.speed,
            ),
        )
        for entry in estimator.longest_first(waiting)
    ]
    engine = _engine(request, loaded, len(tasks))
    console = notes()
    done = counts(entries)["done"]
    console.print(
        f"{loaded.grid.name}: {len(entries)} cells, {done} done, {len(tasks)} to run with {engine.workers} "
        f"worker{'s' * (engine.workers > 1)}, results in {folder.path}",
        markup=False,
        soft_wrap=True,
    )
    if keeping.message:
        console.print(keeping.message, markup=False, soft_wrap=True)
    kind = LiveView if console.is_terminal and not request.json else PlainView
    with kind(console=console, tasks=tasks, entries=entries, estimator=estimator) as view:
        tally = Runner(folder=folder, tasks=tasks, engine=engine, view=view, fail_fast=request.fail_fast).run()
    if tally.interrupted:
        console.print("interrupted; the same command goes on where this one stopped")
        return INTERRUPTED
    return FAILED if tally.failed else DONE


def _engine(request: Request, loaded: LoadedGrid, tasks: int) -> Any:
    from mmfuse.bench.engines.local import Limits, LocalEngine, device_slots

    settings = loaded.grid.run
    limits = Limits(total=request.time_limit or settings.time_limit, silence=settings.silence_limit)
    if request.engine == "ray":
        from mmfuse.bench.engines.ray import RayEngine

        return RayEngine(limits=limits, devices=settings.devices * settings.gpu_share, workers=request.workers)
    slots = device_slots(
        workers=request.workers,
        devices_per_cell=settings.devices,
        share=settings.gpu_share,
        threads=settings.threads,
    )
    return LocalEngine(slots=slots[: max(1, tasks)], limits=limits)


def _conclude(request: Request, loaded: LoadedGrid, folder: ResultsFolder, chosen: set[str], code: int) -> int:
    """Print what has come of it. Cells that failed earlier and were not tried again still count."""
    entries = read_entries(folder)
    mine = [entry for entry in entries if entry.cell.name in chosen]
    if code == DONE and any(entry.state == "failed" for entry in mine):
        code = FAILED
    if request.json:
        print_json(
            {
                "grid": loaded.grid.name,
                "results": str(folder.path),
                "cells": [as_row(entry) for entry in mine],
                "counts": counts(mine),
            }
        )
        return code
    if code != INTERRUPTED:
        from mmfuse.report.tables.build import print_tables

        print_tables(entries, folder, style=request.style, console=out())
        _hint(mine)
    return code


def _hint(entries: list[Entry]) -> None:
    """Say what to do about cells that have no number."""
    found = counts(entries)
    hints = {
        "failed": "--retry-failed runs them again",
        "stale": "their inputs or settings have changed; --rerun stale runs them again",
        "running": "another runner is at them",
        "missing": "the same command runs them",
    }
    for state, hint in hints.items():
        if found[state]:
            notes().print(f"{found[state]} {state}: {hint}", markup=False, soft_wrap=True)


def check_request(request: Request) -> None:
    """Refuse what no option can mean.

    Raises:
        MmfuseError: what is wrong.
    """
    from mmfuse.errors import unknown

    if request.engine not in ENGINES:
        raise unknown("engine", request.engine, ENGINES)
    if request.rerun not in (None, "stale", "all"):
        raise unknown("value of --rerun", request.rerun, ("stale", "all"))
    if request.workers is not None and request.workers < 1:
        raise MmfuseError(f"--workers counts from 1; got {request.workers}")
    if request.time_limit is not None and not 0 < request.time_limit <= LONGEST:
        raise MmfuseError(f"--time-limit is a number of seconds above 0, at most {LONGEST:,}; got {request.time_limit}")

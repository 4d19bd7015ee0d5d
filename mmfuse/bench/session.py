"""One run of a grid into a results folder: planned, checked, run. `mmfuse-bench --grid` and `run_grid` are its faces.

No torch here: a plan is made, and most of what is wrong with a request is found, before the heavy libraries load.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmfuse.bench.added_draws import AddedDraws, wanted_entries
from mmfuse.bench.engines.base import Engine, Limits
from mmfuse.bench.estimate import Estimator, read_calibration
from mmfuse.bench.grid import LoadedGrid, load_grid
from mmfuse.bench.job import Job
from mmfuse.bench.logger_names import absent_logger, refuse_loggers, refuse_unknown_loggers
from mmfuse.bench.plan import planned_entries, select, to_run, with_known_inputs
from mmfuse.bench.runner import Runner, Tally, Task, View, log_folder
from mmfuse.bench.shards import Share, share_of
from mmfuse.bench.yaml_source import YamlSource
from mmfuse.errors import MmfuseError, MmfuseWarning, unknown
from mmfuse.model.optimizations import DEFAULT_OPTIMIZATIONS, Optimizations
from mmfuse.records.cell import Cell
from mmfuse.records.folder import Manifest, ResultsFolder
from mmfuse.records.selection import Shard
from mmfuse.records.status import Entry, read_entries
from mmfuse.records.until_decided import UntilDecided
from mmfuse.utils.files import default_data_root, user_path, write_atomically

if TYPE_CHECKING:
    from mmfuse.bench.clip_cache import CachePlan

ENGINES = ("local", "ray", "slurm")
LONGEST = 1_000_000_000
"""Seconds that a time limit may have, as in a grid."""
RERUNS = (None, "stale", "all")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be run, and how.

    Args:
        grid: the name of a grid that ships with the package, a grid file, or the keys of one.
        results: the results folder; by default `results/<name of the grid>`.
        data_root: the folder that holds the data sets; by default $MMFUSE_DATA, else `data`.
        annotations: the folder with official lists, where they do not lie below the data.
        only: only such cells: "pair=dora+adapter", "shots=2,4".
        shard: the part of these cells that is run, such as "1/4"; by default the grid's, else all.
        workers: cells at a time; by default one a device, or one a core.
        engine: where cells run: "local", "ray" or "slurm".
        slurm: parameters of Slurm's jobs, such as "partition=gpu"; they win over the grid's.
        retry_failed: run failed cells again.
        rerun: "stale" for cells whose inputs or settings have changed, "all" for every cell.
        fail_fast: begin no further cell after one has failed.
        time_limit: seconds after which a cell is stopped.
        store: where decoded clips are kept: "auto", "off" or a folder.
        optimizations: which optimisations are on.
        loggers: Lightning's loggers by name, beside those of the grid: csv, mlflow, tensorboard, wandb.

    Raises:
        MmfuseError: a value that means nothing.
    """

    grid: str | Path | Mapping[str, Any]
    results: Path | None = None
    data_root: Path | None = None
    annotations: Path | None = None
    only: Sequence[str] = ()
    shard: str | None = None
    workers: int | None = None
    engine: str = "local"
    slurm: Sequence[str] = ()
    retry_failed: bool = False
    rerun: str | None = None
    fail_fast: bool = False
    time_limit: float | None = None
    store: str = "auto"
    optimizations: Optimizations = field(default=DEFAULT_OPTIMIZATIONS)
    loggers: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)
        if self.slurm and self.engine != "slurm":
            raise MmfuseError("--slurm tells what jobs of Slurm ask for; it needs --engine slurm")
        refuse_unknown_loggers(self.loggers)
        if self.rerun not in RERUNS:
            raise unknown("value of --rerun", self.rerun, RERUNS[1:])
        if self.shard is not None:
            Shard.parse(self.shard)
        if self.workers is not None and self.workers < 1:
            raise MmfuseError(f"--workers counts from 1; got {self.workers}")
        if self.time_limit is not None and not 0 < self.time_limit <= LONGEST:
            told = f"--time-limit is a number of seconds above 0, at most {LONGEST:,}"
            raise MmfuseError(f"{told}; got {self.time_limit}")

    @property
    def root(self) -> Path:
        """Where the data sets are."""
        return self.data_root or default_data_root()


class Session:
    """A grid in a results folder.

    Args:
        request: what is to be run.

    Raises:
        MmfuseError: the grid is wrong, `only` selects nothing, or the results folder is something else.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._grid = _loaded(request.grid)
        self.grid_name = self._grid.grid.name
        self.folder = ResultsFolder(request.results or Path("results") / self.grid_name)
        cells = self._grid.cells()
        self.cells: list[Cell] = select(cells, request.only)
        """The cells that `only` lets through, in table order; of a shard its own."""
        self.share: Share | None = None
        """What the shard has of them, where one was asked for."""
        if (shard := self._shard()) is not None:
            self.share = share_of(self.cells, shard, until_decided=self.until_decided)
            self.cells = self.share.cells
        if request.engine == "slurm":
            self._slurm_parameters()  # what is wrong with them is told before anything is written
        self._chosen = {cell.name for cell in self.cells}
        self._planned = with_known_inputs(cells)

    def _slurm_parameters(self) -> dict[str, Any]:
        """What jobs of Slurm ask for: of the command line, else of the grid."""
        from mmfuse.bench.engines.slurm import parameters_of, parse_parameters

        settings = self._grid.grid.run
        given = {**settings.slurm, **parse_parameters(self.request.slurm)}
        return parameters_of(given, devices=settings.devices)

    def _shard(self) -> Shard | None:
        if self.request.shard is not None:
            return Shard.parse(self.request.shard)
        return self._grid.grid.run.shard

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def until_decided(self) -> UntilDecided | None:
        """The rule by which draws are added; `None` where the grid lists them."""
        return self._grid.grid.until_decided

    @property
    def undiagnosed(self) -> int:
        """Finished cells without the diagnosis that the grid asks for: they ran before it did."""
        wanted = "test_selection" in self._grid.grid.diagnose
        found = [entry.record for entry in self.entries() if entry.state == "done"] if wanted else []
        return sum(record is not None and record.test_selection is None for record in found)

    def possible_entries(self) -> list[Entry]:
        """The state of all cells that the grid may come to, by what is known of their inputs now."""
        return planned_entries(self.folder, self._planned)

    def entries(self) -> list[Entry]:
        """The state of each cell that was asked for, and is wanted so far where draws are added."""
        return self._asked_for(wanted_entries(self.possible_entries(), self.until_decided))

    def further_entries(self) -> list[Entry]:
        """Cells that may be wanted later, where draws are added."""
        possible = self.possible_entries()
        wanted = {entry.cell.name for entry in wanted_entries(possible, self.until_decided)}
        return self._asked_for([entry for entry in possible if entry.cell.name not in wanted])

    def recorded(self) -> list[Entry]:
        """The state of every cell that any grid asked for in this folder."""
        return read_entries(self.folder)

    def is_asked_for(self, entry: Entry) -> bool:
        """Whether `only` lets a cell through."""
        return entry.cell.name in self._chosen

    def to_run(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of the entries that a run takes up."""
        return to_run(entries, retry_failed=self.request.retry_failed, rerun=self.request.rerun)

    def estimator(self, entries: Sequence[Entry]) -> Estimator:
        """Expected costs, by past records and this machine's calibration."""
        records = [entry.record for entry in entries if entry.record is not None]
        kept = self._grid.grid.run.keep_checkpoints
        return Estimator(records, calibration=read_calibration(), keep_checkpoints=kept)

    def _asked_for(self, entries: Sequence[Entry]) -> list[Entry]:
        return [entry for entry in entries if self.is_asked_for(entry)]

    # -- what is done -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Check data, towers and loggers of all cells to be run, and write the plan into the results folder.

        Raises:
            MmfuseError: what is missing or wrong, one line for each data set and tower. Nothing was written then.
        """
        from mmfuse.bench.preflight import check_towers, prepare
        from mmfuse.bench.prompt_files import check_lengths

        # Draws that may be added are looked at as well: none may lack clips in the middle of a run.
        entries = self._asked_for(self.possible_entries())
        problems: list[str] = []
        # What the data say is known only now: it may make more cells stale, and refuses what cannot run.
        with _collected(problems):
            ready = prepare(
                entries, data_root=self.request.root, will_run=self.to_run, annotations=self.request.annotations
            )
        if self.request.engine != "ray":  # the nodes of a cluster may have what this machine has not
            with _collected(problems):
                check_towers([entry.cell for entry in self.to_run(entries)])
            with _collected(problems):
                check_lengths(entry.cell for entry in self.to_run(entries))
            with _collected(problems):
                self._refuse_absent_loggers()
        if problems:
            raise MmfuseError("\n".join(problems))
        self.folder.prepare()
        known = {item.cell.name: item for item in ready}
        self._planned = [known.get(item.cell.name, item) for item in self._planned]
        self._tell_outdated_tuning()
        if isinstance(self.request.grid, Mapping):
            text = yaml.safe_dump(dict(self.request.grid), sort_keys=False, allow_unicode=True)
            write_atomically(self._grid_file(), text)
        self.folder.write_manifest(self._manifest(wanted_entries(self.possible_entries(), self.until_decided)))

    def _tell_outdated_tuning(self) -> None:
        """Warn of settings that were searched on other data or towers than there are now."""
        if (tuned := self._grid.tuned) is None:
            return
        known = ((item.cell, item.inputs.model_dump(exclude_none=True)) for item in self._planned)
        if changed := tuned.outdated(known):
            told = f"{self._grid.grid.tuned} was searched before {' and '.join(changed)} changed; search again"
            warnings.warn(told, MmfuseWarning, stacklevel=3)

    def run(self, watched: Callable[[Plan], AbstractContextManager[View]]) -> Tally:
        """Run what is to be run.

        Args:
            watched: given the plan, makes what shows the run.

        Raises:
            MmfuseError: workers do not start, or the results folder can no longer be written.
        """
        from mmfuse.bench.clip_cache import fill_ahead, plan_cache  # bring pandas along, which a plan does without

        every = wanted_entries(self.possible_entries(), self.until_decided)
        waiting = self.to_run(self._asked_for(every))
        if not waiting:
            return Tally()
        estimator = self.estimator(every)
        clips = plan_cache(
            [entry.cell for entry in waiting],
            data_root=self.request.root,
            wish=self.request.store,
            annotations=self.request.annotations,
        )
        tasks = [Task(entry, self._job(entry, clips)) for entry in estimator.longest_first(waiting)]
        engine = self._engine(len(tasks))
        plan = Plan(every, tasks, estimator, workers=engine.workers, message=clips.message)
        added = self._added_draws(every, waiting)

        def further(ended: Cell) -> list[Task]:
            return [Task(entry, self._job(entry, clips)) for entry in estimator.longest_first(added.after(ended))]

        with watched(plan) as view:
            runner = Runner(
                folder=self.folder,
                tasks=tasks,
                engine=engine,
                view=view,
                fail_fast=self.request.fail_fast,
                further=None if self.until_decided is None else further,
                # The nodes of a cluster have stores of their own, which their cells fill.
                before=partial(fill_ahead, clips, report=view.decoding) if self.request.engine == "local" else None,
            )
            return runner.run()

    def _manifest(self, entries: Sequence[Entry]) -> Manifest:
        command = shlex.join(["mmfuse-bench", *self._arguments()])
        return Manifest(self.grid_name, [entry.planned for entry in entries], command, self.until_decided)

    def _added_draws(self, wanted: Sequence[Entry], begun: Sequence[Entry]) -> AddedDraws:
        return AddedDraws(
            folder=self.folder, manifest=self._manifest(wanted), cells=self._planned, chosen=self._chosen, begun=begun
        )

    def rerun_command(self, cell: Cell) -> str:
        """The command that runs one cell again."""
        only = [word for axis, value in cell.axes._asdict().items() for word in ("--only", f"{axis}={value}")]
        # A record is the grid's, not a shard's: of one cell alone, the shard of the grid file would be another.
        whole = [] if self._grid.grid.run.shard is None else ["--shard", "1/1"]
        return shlex.join(["mmfuse-bench", *self._place(), *only, *whole, "--rerun", "all"])

    def _place(self) -> list[str]:
        """The options that say which grid, where its results and its data are."""
        grid = self.request.grid
        words = ["--grid", str(self._grid_file() if isinstance(grid, Mapping) else grid)]
        words += ["--results", str(self.folder.path)]
        for option, path in (("--data-root", self.request.data_root), ("--annotations", self.request.annotations)):
            words += [] if path is None else [option, str(path)]
        return words

    def _arguments(self) -> list[str]:
        return self._place() + [word for text in self.request.only for word in ("--only", text)]

    def _grid_file(self) -> Path:
        """Where a grid that was given as keys is kept, so that a command can run it again."""
        return self.folder.path / "grids" / f"{self.grid_name}.yaml"

    def _job(self, entry: Entry, clips: CachePlan) -> Job:
        settings, request = self._grid.grid.run, self.request
        return Job(
            cell=entry.cell,
            data_root=str(request.root.absolute()),
            annotations=str(user_path(request.annotations).absolute()) if request.annotations else None,
            known=entry.planned.inputs,
            command=self.rerun_command(entry.cell),
            keep_checkpoint=settings.keep_checkpoints,
            loader_workers=settings.loader_workers,
            loggers=self._loggers,
            log_folder=str(log_folder(self.folder).absolute()) if self._loggers else None,
            store=clips.store_for(entry.cell),
            diagnose=self._grid.grid.diagnose,
            optimizations=request.optimizations,
            tuned=None if self._grid.tuned is None else self._grid.tuned.told(entry.cell),
        )

    @property
    def _loggers(self) -> tuple[str, ...]:
        """The loggers of the grid and of the request, each once."""
        return tuple(dict.fromkeys((*self._grid.grid.run.loggers, *self.request.loggers)))

    def _engine(self, tasks: int) -> Engine:
        settings = self._grid.grid.run
        limits = Limits(total=self.request.time_limit or settings.time_limit, silence=settings.silence_limit)
        if self.request.engine == "ray":
            from mmfuse.bench.engines.ray import RayEngine

            return RayEngine(
                limits=limits, devices=settings.devices, share=settings.gpu_share, workers=self.request.workers
            )
        if self.request.engine == "slurm":
            from mmfuse.bench.engines.slurm import SlurmEngine

            return SlurmEngine(
                folder=self.folder.path,
                limits=limits,
                parameters=self._slurm_parameters(),
                devices=settings.devices,
                share=settings.gpu_share,
                threads=settings.threads,
                workers=self.request.workers,
                cells=tasks,
            )
        from mmfuse.bench.engines.local import LocalEngine, device_slots

        slots = device_slots(
            workers=self.request.workers,
            devices_per_cell=settings.devices,
            share=settings.gpu_share,
            threads=settings.threads,
        )
        return LocalEngine(slots=slots[: max(1, tasks)], limits=limits)

    def _refuse_absent_loggers(self) -> None:
        """Name a logger whose package is missing now, and not in every cell."""
        for position, name in enumerate(self._grid.grid.run.loggers):
            if (told := absent_logger(name)) is not None:
                raise self._grid.source.error(["run", "loggers", position], told)
        refuse_loggers(self.request.loggers)


@dataclass(frozen=True)
class Plan:
    """What a run is about to do, for whoever shows it.

    Args:
        entries: the state of every cell of the grid.
        tasks: the cells that are run, in this order.
        estimator: what they are expected to cost.
        workers: cells at a time.
        message: where decoded clips are kept, if there is anything to say of it.
    """

    entries: list[Entry]
    tasks: list[Task]
    estimator: Estimator
    workers: int
    message: str = ""


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Note what is wrong and go on, so that everything that is missing is told at once."""
    try:
        yield
    except MmfuseError as error:
        problems.append(str(error))


def _loaded(grid: str | Path | Mapping[str, Any]) -> LoadedGrid:
    if not isinstance(grid, Mapping):
        return load_grid(str(grid))
    try:
        text = yaml.safe_dump(dict(grid), sort_keys=False, allow_unicode=True)
    except yaml.YAMLError:
        raise MmfuseError("a grid holds texts, numbers, lists and mappings, as a grid file does") from None
    return LoadedGrid(YamlSource(Path("grid"), text=text))


class SilentView:
    """Shows nothing of a run."""

    def started(self, worker: int, job: Job) -> None:
        """See `View`."""

    def progressed(self, worker: int, job: Job, progress: Any) -> None:
        """See `View`."""

    def finished(self, worker: int, record: Any) -> None:
        """See `View`."""

    def skipped(self, job: Job) -> None:
        """See `View`."""

    def added(self, tasks: list[Task]) -> None:
        """See `View`."""

    def decoding(self, dataset: str, done: int, total: int) -> None:
        """See `View`."""

    def tick(self) -> None:
        """See `View`."""


def run_grid(
    grid: str | Path | Mapping[str, Any],
    *,
    results: Path | str | None = None,
    data_root: Path | str | None = None,
    annotations: Path | str | None = None,
    only: Sequence[str] = (),
    shard: str | None = None,
    workers: int | None = None,
    engine: str = "local",
    slurm: Sequence[str] = (),
    retry_failed: bool = False,
    rerun: str | None = None,
    fail_fast: bool = False,
    time_limit: float | None = None,
    store: str = "auto",
    optimizations: Optimizations = DEFAULT_OPTIMIZATIONS,
    loggers: Sequence[str] = (),
    view: View | None = None,
) -> ResultsFolder:
    """Run a grid, or go on with it, and give back its results.

    Cells run in processes of their own, which need no main guard; finished cells keep their numbers, so that the same
    call goes on where an earlier one was stopped. Nothing is printed.

    Args:
        grid: the name of a grid that ships with the package, a grid file, or the keys of one.
        results, data_root, annotations, only, shard, workers, engine, slurm, retry_failed, rerun, fail_fast,
            time_limit, store, optimizations, loggers: see `Request`.
        view: told of each cell that starts, goes on and ends; see `mmfuse.bench.runner.View`.

    Returns:
        The results folder, which `mmfuse.load_results` makes tables of: a record of each cell, also of failed ones.

    Raises:
        MmfuseError: the grid, an option, the data or a tower is wrong or missing; no cell has been run then.
        KeyboardInterrupt: stopped by Ctrl-C; the cells that were running are marked, and nothing finished is lost.

    >>> import tempfile
    >>> mine = {"name": "mine", "datasets": ["tiny"], "shots": [1], "pairs": ["frozen+frozen"], "train": {"epochs": 1}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = run_grid(mine, results=folder, workers=1)
    ...     [record.state for record in results.read()[0]]
    ['done']
    """
    session = Session(
        Request(
            grid=grid,
            results=_optional_path(results),
            data_root=_optional_path(data_root),
            annotations=_optional_path(annotations),
            only=only,
            shard=shard,
            workers=workers,
            engine=engine,
            slurm=slurm,
            retry_failed=retry_failed,
            rerun=rerun,
            fail_fast=fail_fast,
            time_limit=time_limit,
            store=store,
            optimizations=optimizations,
            loggers=loggers,
        )
    )
    session.prepare()
    tally = session.run(lambda plan: nullcontext(view or SilentView()))
    if tally.interrupted:
        raise KeyboardInterrupt
    return session.folder


def _optional_path(given: Path | str | None) -> Path | None:
    return None if given is None else user_path(given)

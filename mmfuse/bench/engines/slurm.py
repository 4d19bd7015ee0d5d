"""The engine `slurm`: cells in job arrays of a Slurm cluster, submitted by submitit.

A job takes cell after cell from a folder below the results until there are none, so that towers stay loaded and short
cells cost no job each. One that is preempted, or whose time is up, is put into the queue again and goes on with the
cells that it had begun. Records come back over the same folder; only the runner writes results.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmfuse.bench.engines.base import DETERMINISTIC, RUN_CELL, Limits, NextJob
from mmfuse.bench.engines.exchange import Exchange
from mmfuse.bench.engines.slurm_job import Work, code_digest
from mmfuse.bench.job import Event, Finished, Job, Outcome, Progress, Progressed, Started, Tick
from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.record import Failure, failed
from mmfuse.utils.processes import python_path

MOST_JOBS = 64
"""Jobs at a time where `--workers` does not say it."""
MINUTES = 240
"""Time of a job where `time` does not say it."""
LOOK_EVERY = 10.0
"""Seconds between two questions to the scheduler."""
UNSEEN = 600.0
"""Seconds that a running job may take to its first sign of life: Python may start slowly from a busy file system."""
STARTS = 3
"""Arrays in a row that may end without a cell before the run gives up."""
OURS = {
    "array_parallelism": "--workers",
    "nodes": "devices",
    "ntasks_per_node": "devices",
    "num_gpus": "gpus_per_node",
    "gpus_per_task": "gpus_per_node",
    "use_srun": "nothing else",
}
"""Parameters of submitit that the engine sets itself, and what says it instead."""
CAUSES = {"OUT_OF_MEMORY": "OutOfMemory", "TIMEOUT": "TimeLimit", "NODE_FAIL": "NodeLost", "CANCELLED": "Cancelled"}
"""Kinds of failure by how Slurm says that a job ended."""
VARIABLES = ("MMFUSE_", "HF_")
"""Variables of these beginnings are the runner's in each job."""


@dataclass
class _Task:
    """A job of an array.

    Args:
        name: in the exchange.
        job: submitit's.
        running: since when the scheduler says that it runs; `None` before.
        sign: its last sign of life; `None` before the first.
        heard: when that came.
        over: since when it is known to have ended.
        numbers: cells that it has taken and not brought to their end.
    """

    name: str
    job: Any
    running: float | None = None
    sign: float | None = None
    heard: float = 0.0
    over: float | None = None
    numbers: set[int] = field(default_factory=set)

    @property
    def log(self) -> Path:
        """Where it writes what goes wrong."""
        return Path(self.job.paths.stderr)


def parameters_of(given: Mapping[str, Any], *, devices: int = 1) -> dict[str, Any]:
    """Parameters of submitit from those that were asked for.

    Args:
        given: by the names of submitit, which are those of `sbatch` with `_`; `timeout_min` and `mem_gb` as well.
        devices: GPUs that a job asks for, unless `gpus_per_node` or `gres` says otherwise.

    Raises:
        MmfuseError: submitit is not installed, or a parameter is unknown or set by the engine.
    """
    submitit = _submitit()
    known = set(submitit.SlurmExecutor._valid_parameters()) - OURS.keys()
    found: dict[str, Any] = {"time": MINUTES, "job_name": "mmfuse", "gpus_per_node": devices, "wckey": None}
    for key, value in given.items():
        name = {"timeout_min": "time", "mem_gb": "mem", "cpus": "cpus_per_task"}.get(key, key).replace("-", "_")
        if name in OURS:
            raise MmfuseError(f"slurm: {key} is set by the engine; say {OURS[name]} instead")
        if name not in known:
            raise unknown("parameter of slurm", key, known)
        found[name] = f"{value}G" if key == "mem_gb" else value
    if "gres" in given and "gpus_per_node" not in given:
        found["gpus_per_node"] = None
    found["time"] = _minutes(found["time"])
    for name in ("setup", "teardown", "srun_args"):
        if isinstance(found.get(name), str):
            found[name] = [found[name]]
    if (cores := found.get("cpus_per_task")) is not None:
        # Since Slurm 22.05 srun does not take it over from sbatch.
        found["srun_args"] = [f"--cpus-per-task={cores}", *(found.get("srun_args") or [])]
    if not found["gpus_per_node"]:
        found["gpus_per_node"] = None
    return found


def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Parameters as they are written on the command line, `partition=gpu`.

    Raises:
        MmfuseError: not of this form.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise MmfuseError(f"--slurm is written KEY=VALUE, such as partition=gpu; got {text!r:.80}")
        value = value.strip()
        found[key.strip()] = int(value) if value.isascii() and value.isdecimal() else value
    return found


def _minutes(value: Any) -> int:
    """Minutes of a time as `sbatch --time` takes it.

    >>> _minutes(90), _minutes("4:00:00"), _minutes("1-12"), _minutes("30:30")
    (90, 240, 2160, 31)
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(value).strip(), re.ASCII)
    if found is None or isinstance(value, bool):
        raise MmfuseError(f"slurm: time is minutes, or [days-]hours:minutes:seconds as for sbatch; got {value!r:.60}")
    days, first, second, third = (None if part is None else int(part) for part in found.groups())
    if days is not None:
        seconds = 86400 * days + 3600 * (first or 0) + 60 * (second or 0) + (third or 0)
    elif third is not None:
        seconds = 3600 * (first or 0) + 60 * (second or 0) + third
    else:
        seconds = 60 * (first or 0) + (second or 0)
    if not 60 <= seconds <= 365 * 86400:
        raise MmfuseError(f"slurm: time is at least a minute and at most a year; got {value!r:.60}")
    return math.ceil(seconds / 60)


class SlurmEngine:
    """Cells in jobs of a Slurm cluster.

    Args:
        folder: the results folder, which runner and nodes share; logs and what is exchanged lie below its `slurm`.
        limits: when a cell counts as hung.
        parameters: of submitit, as `parameters_of` gives them.
        devices, share, threads: see `device_slots`.
        workers: cells at a time; `None` for `MOST_JOBS` jobs.
        cells: that wait to be run; no more jobs than these are submitted at first.
        runner: `module:function` that runs a job.
        executor: submitit's; by default that of Slurm.

    Raises:
        MmfuseError: submitit is not installed, or there is no Slurm here.
    """

    def __init__(
        self,
        *,
        folder: Path,
        limits: Limits,
        parameters: Mapping[str, Any],
        devices: int = 1,
        share: float = 1.0,
        threads: int | None = None,
        workers: int | None = None,
        cells: int = MOST_JOBS,
        runner: str = RUN_CELL,
        executor: str = "slurm",
    ) -> None:
        self._submitit = _submitit()
        self._limits, self._runner = limits, runner
        self._devices, self._share, self._threads = devices, share, threads
        self._slots = int(1 / share) if devices == 1 else 1
        wanted = min(workers or MOST_JOBS * self._slots, max(1, cells))
        self._most_jobs = math.ceil(wanted / self._slots)
        self.workers = min(wanted, self._most_jobs * self._slots)
        self._slots = min(self._slots, self.workers)
        self._minutes = float(parameters["time"])
        self._results = folder
        self._exchange = Exchange(folder.absolute() / "slurm" / uuid.uuid4().hex[:12])
        self._executor = self._make_executor(executor, parameters)
        self._tasks: dict[str, _Task] = {}
        self._open: dict[int, Job] = {}
        self._shown: dict[int, int] = {}
        self._made = self._given = self._barren = 0
        self._looked = 0.0
        self._answered = time.monotonic()

    def _make_executor(self, kind: str, parameters: Mapping[str, Any]) -> Any:
        logging.getLogger("submitit").setLevel(logging.ERROR)
        logs = self._exchange.path
        if kind == "debug":
            return self._submitit.DebugExecutor(folder=logs)
        if kind == "local":
            executor = self._submitit.LocalExecutor(folder=logs)
            delay = int(parameters.get("signal_delay_s", 30))
            executor.update_parameters(timeout_min=self._minutes, signal_delay_s=delay)
            return executor
        try:
            executor = self._submitit.SlurmExecutor(folder=logs, max_num_timeout=10**6)
        except RuntimeError:
            told = "there is no Slurm here (srun is not found)"
            raise MmfuseError(f"{told}; run on a login node of the cluster, or with --engine local") from None
        # A node begins with what its shell sets up, and not always with the environment of who submits.
        exported = [f"export PYTHONPATH={shlex.quote(python_path())}"]
        setup = [*(parameters.get("setup") or []), *exported]
        executor.update_parameters(**{**parameters, "setup": setup, "array_parallelism": self._most_jobs})
        return executor

    # -- the engine ---------------------------------------------------------------------------------------------------

    def run(self, next_job: NextJob) -> Iterator[Event]:
        """Run jobs until `next_job` gives none, yielding what happens.

        Raises:
            MmfuseError: the scheduler refuses the jobs, or they end, or run, without reaching the results folder.
        """
        while True:
            self._fill_queue(next_job)
            if not self._open:
                return
            self._submit_what_lacks()
            yield from self._heard()
            yield from self._lost()
            yield Tick()
            time.sleep(0.2 if len(self._open) < 3 else 1.0)

    def close(self) -> None:
        """Cancel all jobs, and leave nothing but their logs."""
        alive = [task for task in self._tasks.values() if task.over is None]
        if alive and isinstance(self._executor, self._submitit.SlurmExecutor):
            arrays = sorted({str(task.job.job_id).partition("_")[0] for task in alive})
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(["scancel", *arrays], capture_output=True, timeout=60, check=False)
        else:
            for task in alive:
                with contextlib.suppress(Exception):
                    task.job.cancel(check=False)
        self._tasks.clear()
        self._exchange.clear()

    # -- its parts ----------------------------------------------------------------------------------------------------

    def _fill_queue(self, next_job: NextJob) -> None:
        """Keep twice as many cells handed out as can run: a job that finds none ends."""
        while len(self._open) < 2 * self.workers and (job := next_job()) is not None:
            if not self._given:
                self._exchange.prepare()
            self._given += 1
            self._open[self._given] = job
            self._exchange.give(self._given, job)

    def _submit_what_lacks(self) -> None:
        queued = sum(self._exchange.is_queued(number) for number in self._open)
        alive = sum(task.over is None for task in self._tasks.values())
        lacking = min(self._most_jobs, math.ceil(queued / self._slots)) - alive
        if lacking <= 0 or (alive and lacking < self._most_jobs / 4):
            return
        names = [f"t{self._made + number}" for number in range(lacking)]
        self._made += lacking
        work = [
            Work(
                folder=str(self._exchange.path),
                task=name,
                code=code_digest(),
                environment=self._environment(),
                minutes=self._minutes,
                devices=self._devices,
                share=self._share,
                threads=self._threads,
                slots=self._slots,
                limits=self._limits,
                runner=self._runner,
            )
            for name in names
        ]
        jobs = self._submitted(work)
        self._tasks |= {name: _Task(name, job) for name, job in zip(names, jobs, strict=True)}

    def _submitted(self, work: list[Work]) -> list[Any]:
        try:
            # What a job of Slurm has set would be taken over by those that it submits.
            with self._submitit.helpers.clean_env(), self._executor.batch():
                return [self._executor.submit(one) for one in work]
        except (self._submitit.core.utils.FailedJobError, self._submitit.core.utils.FailedSubmissionError) as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            raise MmfuseError(f"the scheduler refuses the jobs: {' '.join(said)[:500]}") from None

    @staticmethod
    def _environment() -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
        return {**ours, **DETERMINISTIC}

    def _heard(self) -> Iterator[Event]:
        """What has begun, goes on and has come back."""
        for number, name in self._exchange.taken_by().items():
            if number in self._open and name in self._tasks:
                self._tasks[name].numbers.add(number)
                yield from self._started(number)
        for name, sign in self._exchange.signs().items():
            if (task := self._tasks.get(name)) is not None:
                if task.sign != sign.get("at"):
                    task.sign, task.heard = sign.get("at"), time.monotonic()
                if sign.get("ended") and task.over is None:
                    task.over = time.monotonic()
                yield from self._news(sign.get("news", {}))
        for number, outcome in self._exchange.ended().items():
            self._barren = 0
            yield from self._ended(number, outcome)

    def _started(self, number: int) -> Iterator[Event]:
        if number not in self._shown:
            self._shown[number] = min(set(range(len(self._shown) + 1)) - set(self._shown.values()))
            yield Started(self._shown[number], self._open[number])

    def _news(self, news: Mapping[str, Mapping[str, Any]]) -> Iterator[Event]:
        for key, told in news.items():
            number = int(key)
            if told and number in self._open:
                yield from self._started(number)
                yield Progressed(self._shown[number], self._open[number], Progress(**told))

    def _ended(self, number: int, outcome: Outcome) -> Iterator[Event]:
        if (job := self._open.get(number)) is None:
            return
        yield from self._started(number)
        del self._open[number]
        for task in self._tasks.values():
            task.numbers.discard(number)
        yield Finished(self._shown.pop(number), job, outcome)

    def _lost(self) -> Iterator[Event]:
        """Cells of jobs that are no more, and jobs that never reached the folder."""
        if (now := time.monotonic()) - self._looked < LOOK_EVERY and self._looked:
            return
        self._looked = now
        alive = [task for task in self._tasks.values() if task.over is None]
        states = self._states(alive)
        for task in alive:
            state = states[task.name]
            if state == "RUNNING":
                task.running = task.running or now
                if task.sign is None and now - task.running > UNSEEN:
                    raise MmfuseError(self._unreached(task, f"runs for {UNSEEN:g} s and has not been heard of"))
            elif state == "UNKNOWN":
                if task.sign is not None and now - task.heard > UNSEEN:
                    yield from self._buried(task, f"not heard of for {UNSEEN:g} s, and the scheduler does not answer")
            elif state != "PENDING":
                # What it brought last may still be on its way over a slow file system.
                yield from self._heard()
                yield from self._buried(task, state)

    def _buried(self, task: _Task, state: str) -> Iterator[Event]:
        task.over = time.monotonic()
        if task.sign is None:
            raise MmfuseError(self._unreached(task, f"ended ({state}) before it was heard of"))
        kind = CAUSES.get(state.split()[0], "JobLost")
        for number in sorted(task.numbers):
            job = self._open[number]
            message = f"job {task.job.job_id} is gone ({state}) in the middle of this cell; its log: {task.log}"
            failure = Failure(kind=kind, message=message, traceback=_tail(task.log))
            outcome = Outcome(failed(job.cell, failure, inputs=job.known, command=job.command))
            yield from self._ended(number, outcome)
        if state != "COMPLETED":
            self._barren += 1
        if self._barren > STARTS * self._most_jobs:
            last = (_tail(task.log) or state).splitlines()[-1]
            raise MmfuseError(f"jobs of the cluster end before they have run a cell: {last}; log: {task.log}")

    def _unreached(self, task: _Task, what: str) -> str:
        last = (_tail(task.log) or "").splitlines()[-1:]
        told = f": {last[0]}" if last else f"; is {self._results} on a file system that the nodes share?"
        return f"job {task.job.job_id} {what}{told} Its log: {task.log}"

    def _states(self, tasks: list[_Task]) -> dict[str, str]:
        """PENDING, RUNNING, UNKNOWN, or how a job ended, by task."""
        if not isinstance(self._executor, self._submitit.SlurmExecutor):
            return {task.name: _state_here(task.job) for task in tasks}
        arrays = sorted({str(task.job.job_id).partition("_")[0] for task in tasks})
        queue, fault = _squeue(arrays)
        if queue is not None:
            self._answered = time.monotonic()
        elif time.monotonic() - self._answered > UNSEEN and all(task.sign is None for task in tasks):
            raise MmfuseError(f"the scheduler has not answered for {UNSEEN:g} s: {fault}")
        if queue is None:
            return dict.fromkeys((task.name for task in tasks), "UNKNOWN")
        found = {}
        for task in tasks:
            name = str(task.job.job_id)
            # An array of one job is no array.
            state = queue.get(name) or queue.get(f"{name}_0")
            found[task.name] = _in_queue(state) if state else _how_it_ended(task.job)
        return found


def _submitit() -> Any:
    try:
        import submitit
        import submitit.core.utils
    except ModuleNotFoundError:
        raise MmfuseError("the engine 'slurm' needs submitit: pip install 'mmfuse[slurm]'") from None
    return submitit


def _squeue(arrays: list[str]) -> tuple[dict[str, str] | None, str]:
    """The jobs that the scheduler still has, by id with state; where it does not answer, `None` and what is wrong."""
    command = ["squeue", "--noheader", "--array", "--format=%i|%T", f"--jobs={','.join(arrays)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
    if done.returncode and "nvalid job id" not in done.stderr:
        return None, " ".join(done.stderr.split())[
            -300:
        ]  # busy or restarting; "invalid job id" means that all have been gone for some time
    rows = (line.strip().partition("|") for line in done.stdout.splitlines())
    return {name: state for name, _, state in rows if state}, ""


def _in_queue(state: str) -> str:
    """A state of a job that is still in the queue; those that are started again are waiting."""
    if state in ("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "SIGNALING", "STAGE_OUT"):
        return "RUNNING"
    ended = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
    return state if state in ended else "PENDING"


def _how_it_ended(job: Any) -> str:
    """By accounting, which some clusters do not have."""
    if Path(job.paths.result_pickle).exists():
        return "COMPLETED"
    try:
        state = str(job.watcher.get_state(job.job_id, mode="force")).upper()
    except Exception:  # whatever accounting says that submitit cannot read
        state = "UNKNOWN"
    return state if _in_queue(state) == state else "gone from the queue"


def _state_here(job: Any) -> str:
    """Of submitit's other executors, which run on this machine."""
    if not job.done():
        return "RUNNING"
    if Path(job.paths.result_pickle).exists():
        return "COMPLETED"
    return {"DONE": "COMPLETED", "FINISHED": "FAILED"}.get(str(job.state), str(job.state))


def _tail(path: Path, most: int = 8000) -> str | None:
    try:
        return path.read_bytes()[-most:].decode(errors="replace").strip() or None
    except OSError:
        return None

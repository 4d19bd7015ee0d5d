"""The engine `ray`: the same cells on a Ray cluster, with results that come back over Ray alone.

Each cell is one task with one attempt of its own: a cell that fails says so, while a cell whose node is lost is run
again on another. Worker processes are Ray's; it keeps them, and with them the towers that they have loaded, for the
next cell of the same kind.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from mmfuse.bench.engines.base import RUN_CELL, Limits, NextJob
from mmfuse.bench.engines.worker import resolve, run_guarded
from mmfuse.bench.job import Event, Finished, Job, Outcome, Progress, Progressed, Started, Tick
from mmfuse.errors import MmfuseError
from mmfuse.records.record import Failure, failed

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError:  # an optional extra
    ray = None

RETRIES_OF_LOST_NODES = 2
TICK = 0.5


class _Mailbox:
    """An actor that keeps the latest news of each running cell."""

    def __init__(self) -> None:
        self._news: dict[str, tuple[float, Progress]] = {}

    def put(self, key: str, progress: Progress) -> None:
        """Keep news of a cell."""
        self._news[key] = (time.monotonic(), progress)

    def take(self) -> dict[str, Progress]:
        """All news since the last time."""
        found = {key: progress for key, (_, progress) in self._news.items()}
        self._news.clear()
        return found


def _task(job: Job, runner: str, mailbox: Any) -> Outcome:
    """What a Ray worker does: one cell."""
    key, last = job.cell.config_hash, 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 1.0:
            last = time.monotonic()
            mailbox.put.remote(key, progress)

    return run_guarded(resolve(runner), job, report)


class RayEngine:
    """Cells as tasks of a Ray cluster.

    Connects to the cluster that `RAY_ADDRESS` names, else to one on this machine, else starts one here. The nodes need
    this package and, at the same place, the data; they need no results folder.

    Args:
        limits: when a cell counts as hung.
        devices: GPUs a cell asks for where the cluster has any; a fraction lets several cells share one.
        workers: cells at a time; `None` for as many as the cluster's devices, or cores, hold.
        runner: `module:function` that runs a job.

    Raises:
        MmfuseError: Ray is not installed, or no cluster can be reached.
    """

    def __init__(
        self, *, limits: Limits, devices: float = 1, workers: int | None = None, runner: str = RUN_CELL
    ) -> None:
        if ray is None:
            raise MmfuseError("the engine 'ray' needs Ray: pip install 'mmfuse[ray]'")
        self._limits = limits
        self._runner = runner
        self._started_here = _connect()
        resources = ray.cluster_resources()
        gpus = resources.get("GPU", 0)
        # max_calls=0: a worker lives on after a cell, also where it has a GPU, so that its towers stay loaded.
        self._options: dict[str, Any] = {"num_cpus": 1, "max_retries": RETRIES_OF_LOST_NODES, "max_calls": 0}
        if gpus:
            self._options["num_gpus"] = devices
        room = gpus / devices if gpus else resources.get("CPU", 1)
        self.workers = workers or max(1, int(room))
        # News stay on this node: an actor that is lost with another would make every cell look silent.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._running: dict[Any, tuple[int, Job]] = {}
        self._begun: dict[str, float] = {}
        self._heard: dict[str, float] = {}

    def run(self, next_job: NextJob) -> Iterator[Event]:
        """Run jobs until `next_job` gives none, yielding what happens."""
        task = ray.remote(**self._options)(_task)
        waiting = list(range(self.workers))
        while True:
            while waiting and (job := next_job()) is not None:
                number = waiting.pop(0)
                reference = task.remote(job, self._runner, self._mailbox)
                self._running[reference] = (number, job)
                self._begun[job.cell.config_hash] = self._heard[job.cell.config_hash] = time.monotonic()
                yield Started(number, job)
            if not self._running:
                return
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=TICK)
            for reference in ready:
                number, job = self._running.pop(reference)
                waiting.append(number)
                yield Finished(number, job, _outcome(reference, job))
            yield from self._news()
            for number, job, failure in self._overdue():
                waiting.append(number)
                yield Finished(number, job, Outcome(failed(job.cell, failure, inputs=job.known, command=job.command)))

    def _news(self) -> Iterator[Event]:
        try:
            found: dict[str, Progress] = ray.get(self._mailbox.take.remote(), timeout=5)
        except Exception:  # news are a comfort; a cluster that is busy healing has none
            found = {}
        for number, job in list(self._running.values()):
            if (progress := found.get(job.cell.config_hash)) is not None:
                self._heard[job.cell.config_hash] = time.monotonic()
                yield Progressed(number, job, progress)
        yield Tick()

    def _overdue(self) -> list[tuple[int, Job, Failure]]:
        """Cells that hang, stopped. Only time since news counts for silence: a task may wait for a free node."""
        found = []
        for reference, (number, job) in list(self._running.items()):
            now, spec = time.monotonic(), job.cell.config_hash
            failure = None
            if self._limits.total is not None and now - self._begun[spec] > self._limits.total:
                failure = Failure(kind="TimeLimit", message=f"stopped after the time limit of {self._limits.total:g} s")
            elif self._limits.silence is not None and now - self._heard[spec] > self._limits.silence:
                failure = Failure(kind="Hung", message=f"stopped after {self._limits.silence:g} s without any news")
            if failure is not None:
                ray.cancel(reference, force=True)
                del self._running[reference]
                found.append((number, job, failure))
        return found

    def close(self) -> None:
        """Cancel what runs; leave a cluster that others started as it is."""
        for reference in self._running:
            with contextlib.suppress(Exception):
                ray.cancel(reference, force=True)
        self._running.clear()
        with contextlib.suppress(Exception):
            ray.kill(self._mailbox)
        if self._started_here:
            ray.shutdown()


def _outcome(reference: Any, job: Job) -> Outcome:
    """What a task brought back; a task that Ray could not bring to its end says why."""
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        lost = isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.NodeDiedError)
        message = " ".join(str(error).split())[:500]
        failure = Failure(kind="NodeLost" if lost else type(error).__name__, message=message)
        return Outcome(failed(job.cell, failure, inputs=job.known, command=job.command))
    return outcome


def _connect() -> bool:
    """Join a cluster; returns whether it was started here.

    Raises:
        MmfuseError: the cluster that is named cannot be reached.
    """
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address and address != "local":  # Ray's own word for a cluster that is started here
            ray.init(address=address, log_to_driver=False, logging_level="error")
            return False
        ray.init(**quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster {address}" if address else "Ray"
        raise MmfuseError(f"{where} cannot be reached: {' '.join(str(error).split())[:300]}") from None
    return True

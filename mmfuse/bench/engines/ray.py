"""The engine `ray`: the same cells on a Ray cluster, with results that come back over Ray alone.

One actor a GPU (or a core) runs cell after cell, so that its towers stay loaded and its GPU stays the same. A cell that
fails says so, while a cell whose node is lost is run again on another.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mmfuse.bench.engines.base import DETERMINISTIC, RUN_CELL, Limits, NextJob, SecondTries
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
LOST = "NodeLost"
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


class _CellWorker:
    """An actor that runs cells one after the other: a process of its own, whose towers and GPU stay.

    A task may find itself in a process that torch was started in with another GPU, which torch then goes on to use.
    """

    def __init__(self, runner: str, mailbox: Any) -> None:
        os.environ.update(DETERMINISTIC)
        self._run = resolve(runner)
        self._mailbox = mailbox

    def run(self, job: Job) -> Outcome:
        """Run one cell."""
        key, last = job.cell.config_hash, 0.0

        def report(progress: Progress) -> None:
            nonlocal last
            if time.monotonic() - last > 1.0:
                last = time.monotonic()
                self._mailbox.put.remote(key, progress)

        report(Progress("loading"))
        return run_guarded(self._run, job, report)


@dataclass
class _Running:
    """A job on its way: which worker has it, since when it runs, and when it was last heard of.

    Until its first news it waits for a free node, which may take any time.
    """

    worker: int
    job: Job
    begun: float | None = None
    heard: float = 0.0

    def hear(self) -> None:
        """There are news."""
        self.heard = time.monotonic()
        self.begun = self.begun or self.heard

    def overdue(self, limits: Limits) -> Failure | None:
        """Why the job must be stopped, if it must."""
        if self.begun is None:
            return None
        now = time.monotonic()
        if limits.total is not None and now - self.begun > limits.total:
            return Failure(kind="TimeLimit", message=f"stopped after the time limit of {limits.total:g} s")
        if limits.silence is not None and now - self.heard > limits.silence:
            return Failure(kind="Hung", message=f"stopped after {limits.silence:g} s without any news")
        return None


class RayEngine:
    """Cells on actors of a Ray cluster.

    Connects to the cluster that `RAY_ADDRESS` names, else to one on this machine, else starts one here. The nodes need
    this package and, at the same place, the data; they need no results folder.

    Args:
        limits: when a cell counts as hung.
        devices: GPUs that a cell trains on, where the cluster has any.
        share: of a GPU that a cell takes, where it trains on one.
        workers: cells at a time; `None` for as many as the cluster's devices, or cores, hold.
        runner: `module:function` that runs a job.

    Raises:
        MmfuseError: Ray is not installed, no cluster can be reached, or no node has the devices of one cell.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        devices: int = 1,
        share: float = 1.0,
        workers: int | None = None,
        runner: str = RUN_CELL,
    ) -> None:
        if ray is None:
            raise MmfuseError("the engine 'ray' needs Ray: pip install 'mmfuse[ray]'")
        self._limits = limits
        self._runner = runner
        self._started_here = _connect()
        nodes = _nodes()
        self._needs, room = _needs(nodes, devices=devices, share=share)
        self.workers = workers or max(1, room)
        self._on_a_node = math.ceil(self.workers / max(1, len(nodes)))
        # News stay on this node: an actor that is lost with another would make every cell look silent.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._actors: dict[int, Any] = {}
        self._running: dict[Any, _Running] = {}
        self._lost: Counter[str] = Counter()
        self._second_tries = SecondTries()

    def run(self, next_job: NextJob) -> Iterator[Event]:
        """Run jobs until `next_job` gives none, yielding what happens."""
        waiting = list(range(self.workers))
        while True:
            while waiting and (job := next_job()) is not None:
                number = waiting.pop(0)
                self._give(number, job)
                yield Started(number, job)
            for number in waiting:  # what is idle now may be what another worker waits for
                self._end(number)
            if not self._running:
                return
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=TICK)
            for event in (*map(self._ended, ready), *self._news(), *self._overdue()):
                if isinstance(event, Finished):
                    waiting.append(event.worker)
                yield event

    def _give(self, number: int, job: Job) -> None:
        if number not in self._actors:
            actor = ray.remote(_CellWorker).options(**self._needs, max_restarts=0, max_task_retries=0)
            self._actors[number] = actor.remote(self._runner, self._mailbox)
        job = replace(job, at_a_time=self._on_a_node)
        self._running[self._actors[number].run.remote(job)] = _Running(number, job)

    def _end(self, number: int) -> None:
        if (actor := self._actors.pop(number, None)) is not None:
            with contextlib.suppress(Exception):
                ray.kill(actor)

    def _ended(self, reference: Any) -> Event:
        """A job that has come to its end, or is begun again on a fresh worker where the old one was lost."""
        running = self._running.pop(reference)
        number, job = running.worker, running.job
        outcome = _outcome(reference, job)
        lost = outcome.record.error is not None and outcome.record.error.kind == LOST
        if lost or outcome.device_fault:
            self._end(number)
        if lost:
            self._lost[job.cell.config_hash] += 1
        tried_too_often = self._lost[job.cell.config_hash] > RETRIES_OF_LOST_NODES
        if (lost and not tried_too_often) or self._second_tries.is_due(job, outcome):
            self._give(number, job)
            return Progressed(number, job, Progress("loading"))
        return Finished(number, job, self._second_tries.told(job, outcome))

    def _news(self) -> Iterator[Event]:
        try:
            found: dict[str, Progress] = ray.get(self._mailbox.take.remote(), timeout=5)
        except Exception:  # news are a comfort; a cluster that is busy healing has none
            found = {}
        for running in list(self._running.values()):
            if (progress := found.get(running.job.cell.config_hash)) is not None:
                running.hear()
                yield Progressed(running.worker, running.job, progress)
        yield Tick()

    def _overdue(self) -> Iterator[Event]:
        """Cells that hang, stopped."""
        for reference, running in list(self._running.items()):
            if (failure := running.overdue(self._limits)) is not None:
                del self._running[reference]
                self._end(running.worker)
                job = running.job
                outcome = Outcome(failed(job.cell, failure, inputs=job.known, command=job.command))
                yield Finished(running.worker, job, self._second_tries.told(job, outcome))

    def close(self) -> None:
        """End what runs; leave a cluster that others started as it is."""
        for number in list(self._actors):
            self._end(number)
        self._running.clear()
        with contextlib.suppress(Exception):
            ray.kill(self._mailbox)
        if self._started_here:
            ray.shutdown()


def _nodes() -> list[dict[str, float]]:
    """What each node of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _needs(nodes: list[dict[str, float]], *, devices: int, share: float) -> tuple[dict[str, float], int]:
    """What an actor asks for, and how many of them the cluster holds. A cell's devices are those of one node.

    Raises:
        MmfuseError: no node has so many GPUs.
    """
    gpus = [node.get("GPU", 0.0) for node in nodes]
    if not any(gpus):
        return {"num_cpus": devices}, sum(int(node.get("CPU", 0)) // devices for node in nodes)
    asked = share if devices == 1 else devices
    room = sum(int(count / asked) for count in gpus)
    if not room:
        told = f"a cell of this grid wants {devices} devices; no node of the cluster has more than {int(max(gpus))}"
        raise MmfuseError(told)
    return {"num_cpus": 1, "num_gpus": asked}, room


def _outcome(reference: Any, job: Job) -> Outcome:
    """What an actor brought back; a job that Ray could not bring to its end says why."""
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        lost = isinstance(error, ray.exceptions.RayActorError | ray.exceptions.NodeDiedError)
        message = " ".join(str(error).split())[:500]
        failure = Failure(kind=LOST if lost else type(error).__name__, message=message)
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

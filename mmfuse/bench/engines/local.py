"""The engine `local`: one long-lived worker process a device slot of this machine.

An engine knows nothing of results folders, grids or views. It asks for the next job when a worker is free, and yields
what happens. Workers never write: what they find comes back over their pipe, so a worker can die at any moment without
leaving half a file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from mmfuse.bench.accelerators import Host
from mmfuse.bench.engines.base import DETERMINISTIC, RUN_CELL, Limits, NextJob, SecondTries
from mmfuse.bench.engines.worker import READY
from mmfuse.bench.job import Event, Finished, Job, Outcome, Progress, Progressed, Started, Tick
from mmfuse.errors import MmfuseError, MmfuseWarning
from mmfuse.records.record import Failure, failed
from mmfuse.utils.processes import ending, python_path, usable_cores

TICK = 0.25


@dataclass(frozen=True)
class Slot:
    """A place for one worker: the environment that gives it its device and its share of the CPU."""

    environment: dict[str, str]


class _Worker:
    """A worker process and the parent's end of its pipe."""

    def __init__(self, number: int, slot: Slot, runner: str) -> None:
        self.number = number
        self.job: Job | None = None
        self.ready = False
        self.begun = self.heard = time.monotonic()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C reaches the runner alone, and the worker's own children can be ended with it.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mmfuse.bench.engines.worker", str(theirs.fileno()), runner],
                env={**os.environ, "PYTHONPATH": python_path(), **slot.environment},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
            )
        self.connection = Connection(ours.detach())

    def give(self, job: Job) -> None:
        """Hand over a job. A worker that has just died shows at the next look."""
        self.job, self.begun, self.heard = job, time.monotonic(), time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.send(job)

    def receive(self) -> Any:
        """The next message.

        Raises:
            EOFError, OSError: the worker is gone.
        """
        message = self.connection.recv()
        self.heard = time.monotonic()
        return message

    def overdue(self, limits: Limits) -> Failure | None:
        """Why the running job must be stopped, if it must."""
        now = time.monotonic()
        if self.job is None or not self.ready:
            return None
        if limits.total is not None and now - self.begun > limits.total:
            return Failure(kind="TimeLimit", message=f"stopped after the time limit of {limits.total:g} s")
        if limits.silence is not None and now - self.heard > limits.silence:
            return Failure(kind="Hung", message=f"stopped after {limits.silence:g} s without any news")
        return None

    def end(self) -> tuple[str, str | None]:
        """Stop the process and its children; returns how it ended, and the end of what it wrote to its streams."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self.connection.close()
        with self._errors:
            size = self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, size - 8000))
            words = self._errors.read().decode(errors="replace").strip()
        return ending(code), words or None


class LocalEngine:
    """Worker processes on this machine.

    Args:
        slots: one a worker.
        limits: when a cell counts as hung.
        runner: `module:function` that runs a job.
    """

    def __init__(self, *, slots: list[Slot], limits: Limits, runner: str = RUN_CELL) -> None:
        self.workers = len(slots)
        self._slots = slots
        self._limits = limits
        self._runner = runner
        self._running: dict[int, _Worker] = {}
        self._stillborn = 0
        self._second_tries = SecondTries()

    def run(self, next_job: NextJob) -> Iterator[Event]:
        """Run jobs until `next_job` gives none, yielding what happens.

        Raises:
            MmfuseError: workers end before they can take a job.
        """
        waiting: list[int] = list(range(self.workers))
        while True:
            while waiting and (job := next_job()) is not None:
                yield self._start(waiting.pop(0), job)
            busy = {number: worker for number, worker in self._running.items() if worker.job is not None}
            if not busy:
                return
            for event in self._listen(busy):
                if isinstance(event, Finished):
                    waiting.append(event.worker)
                yield event

    def _start(self, number: int, job: Job) -> Started:
        worker = self._running.get(number)
        if worker is None:
            worker = self._running[number] = _Worker(number, self._slots[number], self._runner)
        worker.give(replace(job, at_a_time=self.workers))
        return Started(number, job)

    def _listen(self, busy: dict[int, _Worker]) -> Iterator[Event]:
        by_connection = {worker.connection: worker for worker in busy.values()}
        heard = wait(list(by_connection), timeout=TICK)
        for connection in heard:
            event = self._message(by_connection[connection])  # type: ignore[index]
            if event is not None:
                yield event
        if not heard:
            yield Tick()
        for worker in busy.values():
            if (failure := worker.overdue(self._limits)) is not None:
                yield self._bury(worker, failure)

    def _message(self, worker: _Worker) -> Event | None:
        job = worker.job
        assert job is not None
        try:
            message = worker.receive()
        except (EOFError, OSError):
            return self._bury(worker, None)
        except Exception as error:  # what a dying worker sent is not to be trusted
            return self._bury(worker, Failure(kind="WorkerDied", message=f"its answer cannot be read: {error}"))
        if message == READY:
            worker.ready = True
            worker.begun = time.monotonic()
            self._stillborn = 0
            return None
        if isinstance(message, Outcome):
            return self._come_to_an_end(worker, job, message)
        if isinstance(message, Progress):
            return Progressed(worker.number, job, message)
        return None

    def _come_to_an_end(self, worker: _Worker, job: Job, outcome: Outcome) -> Event:
        """Take an outcome; a worker whose device has failed is replaced, and its job runs once more."""
        worker.job = None
        if outcome.device_fault:
            worker.end()
            del self._running[worker.number]
        if self._second_tries.is_due(job, outcome):
            self._start(worker.number, job)
            return Progressed(worker.number, job, Progress("loading"))
        return Finished(worker.number, job, self._second_tries.told(job, outcome))

    def _bury(self, worker: _Worker, failure: Failure | None) -> Finished:
        """End a worker; its job fails, and the next job gets a new worker."""
        job = worker.job
        assert job is not None
        ending, words = worker.end()
        del self._running[worker.number]
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn > self.workers:
                reason = words.splitlines()[-1] if words else ending
                raise MmfuseError(f"worker processes do not start: {reason}")
        if failure is None:
            failure = Failure(kind="WorkerDied", message=f"the worker was lost: {ending}", traceback=words)
        worker.job = None
        outcome = Outcome(failed(job.cell, failure, inputs=job.known, command=job.command))
        return Finished(worker.number, job, self._second_tries.told(job, outcome))

    def close(self) -> None:
        """Stop all workers at once."""
        for worker in self._running.values():
            worker.end()
        self._running.clear()


def device_slots(
    *,
    workers: int | None,
    devices_per_cell: int = 1,
    share: float = 1.0,
    threads: int | None = None,
    host: Host | None = None,
) -> list[Slot]:
    """Places for workers: one a group of devices, or one a CPU core where there are none.

    A sum over several threads is rounded otherwise than over one. So that numbers do not depend on the number of
    workers, a CPU worker computes with one thread unless it is told otherwise; beside a GPU, whose numbers do not
    depend on it, the cores are shared out.

    Args:
        workers: how many; `None` for as many as there are devices or cores.
        devices_per_cell: devices that one cell trains on.
        share: of a device that a cell takes: at 0.5 two workers share one.
        threads: CPU threads of a worker.
        host: the machine; by default this one.

    Raises:
        MmfuseError: a cell wants more devices than there are.

    Warns:
        MmfuseWarning: there is a GPU that the installed torch cannot use.
    """
    host = host or Host.here()
    if fault := host.fault():
        warnings.warn(fault, MmfuseWarning, stacklevel=2)
    found = host.devices()
    cpus = usable_cores()
    groups = [",".join(found[at : at + devices_per_cell]) for at in range(0, len(found), devices_per_cell)]
    groups = [group for group in groups if group.count(",") == devices_per_cell - 1]
    if found and not groups:
        raise MmfuseError(f"a cell of this grid wants {devices_per_cell} devices; this machine has {len(found)}")
    count = workers or int(len(groups) / share) or (1 if host.apple else max(1, cpus // devices_per_cell))
    if threads is None:
        threads = max(1, cpus // (count * devices_per_cell)) if groups else 1
    slots = []
    for number in range(count):
        environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "0"}
        if groups:
            environment |= {**host.binding(groups[number % len(groups)]), **DETERMINISTIC}
        slots.append(Slot(environment))
    return slots

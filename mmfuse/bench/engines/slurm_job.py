"""What a job of a scheduler does: runs cells from the exchange folder until there are none, by a local engine."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmfuse.bench.engines.base import RUN_CELL, Limits
from mmfuse.bench.engines.exchange import Exchange
from mmfuse.bench.engines.local import LocalEngine, device_slots
from mmfuse.bench.job import Event, Finished, Job, Outcome, Progressed, Started
from mmfuse.errors import MmfuseError
from mmfuse.records.record import Failure, failed
from mmfuse.utils.resources import package_folder

SIGN_EVERY = 5.0
STOPPED_BY_SCHEDULER = re.compile(r"was ended by SIG(TERM|USR1|USR2|CONT)\b")
"""A scheduler signals all processes of a job at once, and so the workers of its cells too."""
NEARLY = 0.8
"""Share of a job's time after which a signal means that its time is up, and not that it is preempted."""


@cache
def code_digest() -> str:
    """A digest of the code that runs."""
    digest = hashlib.sha256()
    for path in sorted(package_folder().rglob("*.py")):
        digest.update(path.relative_to(package_folder()).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@dataclass
class Work:
    """A task: what submitit starts on a node, and starts again when it was preempted.

    Args:
        folder: of the exchange.
        task: its name there.
        code: digest of the code that the runner runs.
        environment: variables to be set.
        minutes: that the job may take.
        devices, share, threads: see `device_slots`.
        slots: cells at a time.
        limits: when a cell counts as hung.
        runner: `module:function` that runs a job.
    """

    folder: str
    task: str
    code: str
    environment: dict[str, str]
    minutes: float
    devices: int = 1
    share: float = 1.0
    threads: int | None = None
    slots: int = 1
    limits: Limits = field(default_factory=Limits)
    runner: str = RUN_CELL

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        self._first: set[int] = set()
        self._numbers: dict[str, int] = {}
        self._running: dict[int, Job] = {}
        self._news: dict[int, dict[str, Any]] = {}
        self._signed = 0.0
        self._engine: LocalEngine | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self) -> None:
        """Run cells until the queue is empty.

        Raises:
            MmfuseError: this node runs other code than the runner, or has not the devices of a cell.
        """
        self._begun = time.monotonic()
        self._sign(at_once=True)
        if code_digest() != self.code:
            raise MmfuseError("this node runs another version of mmfuse than the runner; start the run again")
        os.environ.update(self.environment)
        slots = device_slots(workers=self.slots, devices_per_cell=self.devices, share=self.share, threads=self.threads)
        exchange = Exchange(Path(self.folder))
        again = list(exchange.unfinished(self.task))

        def next_job() -> Job | None:
            taken = again.pop(0) if again else exchange.take(self.task)
            if taken is None:
                return None
            number, job = taken
            if len(self._first) < self.slots:
                self._first.add(number)
            self._numbers[job.cell.config_hash] = number
            return job

        self._engine = LocalEngine(slots=slots, limits=self.limits, runner=self.runner)
        try:
            for event in self._engine.run(next_job):
                self._handle(event, exchange, again)
        finally:
            self._engine.close()
        self._sign(at_once=True, ended=True)

    def _handle(self, event: Event, exchange: Exchange, again: list[tuple[int, Job]]) -> None:
        if isinstance(event, Started | Progressed | Finished):
            number = self._numbers[event.job.cell.config_hash]
            self._running[number] = event.job
            self._news.setdefault(number, {})
            if isinstance(event, Progressed):
                self._news[number] = asdict(event.progress)
            if isinstance(event, Finished):
                del self._running[number], self._news[number]
                if _was_signalled(event.outcome):
                    again.append((number, event.job))  # our own signal is on its way
                    time.sleep(1.0)
                else:
                    exchange.bring(number, self.task, event.outcome)
        self._sign(at_once=isinstance(event, Started))

    def _sign(self, *, at_once: bool, ended: bool = False) -> None:
        if (now := time.monotonic()) - self._signed < SIGN_EVERY and not at_once:
            return
        self._signed = now
        news = {str(number): told for number, told in self._news.items()}
        told = {"node": socket.gethostname(), "at": now, "news": news, "ended": ended}
        Exchange(Path(self.folder)).sign(self.task, told)

    def checkpoint(self) -> Any:
        """Called by submitit when the job is preempted or its time is nearly up: go on with what is unfinished.

        A cell that had the job's whole time and did not end in it never will.
        """
        from submitit.helpers import DelayedSubmission

        if self._engine is not None:
            self._engine.close()
        if time.monotonic() - self._begun > NEARLY * 60 * self.minutes:
            told = f"not ended within the {self.minutes:g} minutes of a job; give it more by --slurm time=..."
            for number, job in self._running.items():
                if number in self._first:
                    failure = Failure(kind="TimeLimit", message=told)
                    record = failed(job.cell, failure, inputs=job.known, command=job.command)
                    Exchange(Path(self.folder)).bring(number, self.task, Outcome(record))
        return DelayedSubmission(self)


def _was_signalled(outcome: Outcome) -> bool:
    error = outcome.record.error
    return error is not None and error.kind == "WorkerDied" and bool(STOPPED_BY_SCHEDULER.search(error.message))

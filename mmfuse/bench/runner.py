"""The runner: takes a plan through an engine, cell by cell, and writes each record as it comes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mmfuse.bench.engines.base import Engine
from mmfuse.bench.job import Event, Finished, Job, Outcome, Progress, Progressed, Started
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.locks import Claim, Claims
from mmfuse.records.record import Failure, Record, failed, now
from mmfuse.records.status import Entry
from mmfuse.utils.files import refresh_listing
from mmfuse.utils.interrupts import Interrupts

UNWRITTEN_AT_MOST = 64
LOOK_AGAIN = 1.0
"""Seconds between two looks at claims of which it is not known yet whether their runners live."""


class View(Protocol):
    """What shows a run to a person."""

    def started(self, worker: int, job: Job) -> None:
        """A worker has begun a cell."""

    def progressed(self, worker: int, job: Job, progress: Progress) -> None:
        """A worker has news of its cell."""

    def finished(self, worker: int, record: Record) -> None:
        """A cell has come to its end."""

    def skipped(self, job: Job) -> None:
        """A cell is done, or being done, by another runner."""

    def added(self, tasks: list[Task]) -> None:
        """There is more to run than was known when the run began."""

    def decoding(self, dataset: str, done: int, total: int) -> None:
        """Clips are decoded before the first cell; of none, if another run does so and is waited for."""

    def tick(self) -> None:
        """Time has passed."""


@dataclass
class Tally:
    """How a run went."""

    done: int = 0
    failed: list[Record] = field(default_factory=list)
    elsewhere: int = 0
    interrupted: bool = False


@dataclass(frozen=True)
class Task:
    """A cell that is to be run, with the state that it is in now."""

    entry: Entry
    job: Job


class Runner:
    """Runs tasks and keeps their records.

    Args:
        folder: where records go.
        tasks: what to run, in this order.
        engine: where to run it.
        view: who watches.
        fail_fast: begin no further cell after one has failed.
        further: asked when a cell has come to its end, here or elsewhere, for what is to be run besides.
        before: what is done before the first cell.
    """

    def __init__(
        self,
        *,
        folder: ResultsFolder,
        tasks: list[Task],
        engine: Engine,
        view: View,
        fail_fast: bool = False,
        further: Callable[[Cell], list[Task]] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._folder = folder
        self._waiting = list(reversed(tasks))
        self._engine = engine
        self._view = view
        self._fail_fast = fail_fast
        self._further = further
        self._before = before
        self._claims = Claims(folder.running)
        self._locks: dict[str, Claim] = {}
        self._aside: list[Task] = []
        self._jobs: dict[str, Job] = {}
        self._unwritten: list[tuple[Job, Outcome]] = []
        self._unlockable = ""
        self._interrupts = Interrupts()
        self.tally = Tally()

    def run(self) -> Tally:
        """Run everything; a failing cell does not stop the others.

        Ctrl-C and SIGTERM stop the running cells, mark them, and end the run with `interrupted` set.

        Raises:
            MmfuseError: workers do not start, or the results folder can no longer be written.
        """
        with self._interrupts.watched():
            try:
                if self._before is not None:
                    self._before()
                self._run_all()
                if self._unlockable:
                    raise MmfuseError(self._unlockable)
            except KeyboardInterrupt:
                self.tally.interrupted = True
            finally:
                self._interrupts.ignored()
                self._engine.close()
                self._mark_running()
                self._write_what_is_left()
        return self.tally

    def _run_all(self) -> None:
        """Run what there is, and then what a runner of another machine has left behind, should it prove dead."""
        while True:
            for event in self._engine.run(self._next_job):
                self._handle(event)
            if not self._aside:
                return
            self._view.tick()
            time.sleep(LOOK_AGAIN)
            self._waiting, self._aside = list(reversed(self._aside)), []

    def _next_job(self) -> Job | None:
        while self._waiting and not self._unlockable and not (self._fail_fast and self.tally.failed):
            task = self._waiting.pop()
            try:
                with self._interrupts.held():
                    locked = self._lock(task)
            except OSError as error:
                self._stop_at(error)
                return None
            if locked:
                return task.job
            if self._claims.is_watched(task.job.cell.config_hash):
                self._aside.append(task)
                continue
            self.tally.elsewhere += 1
            self._view.skipped(task.job)
            self._ask_for_more(task.job.cell)
        return None

    def _stop_at(self, error: OSError) -> None:
        """Begin no further cell. What runs is brought to its end first: its records may still find room."""
        reason = error.strerror or error
        self._unlockable = f"{self._folder.path} can no longer be written ({reason}); run the grid again then"

    def _lock(self, task: Task) -> bool:
        config_hash = task.job.cell.config_hash
        if config_hash in self._locks:
            return False  # the same cell under another name is running
        lock = self._claims.take(config_hash)
        if lock is None:
            return False
        if self._done_meanwhile(task):
            lock.release()
            return False
        lock.write({"cell": task.job.cell.name, "pid": os.getpid(), "since": now()})
        self._locks[config_hash], self._jobs[config_hash] = lock, task.job
        self._folder.discard_damaged(task.entry.damaged)
        return True

    def _done_meanwhile(self, task: Task) -> bool:
        """Whether another runner has finished the cell since it was planned."""
        before = task.entry.record
        refresh_listing(self._folder.records)
        for found in self._folder.finished(task.job.cell, task.job.known):
            known = before is not None and before.provenance.finished == found.provenance.finished
            if not known and task.job.known.agrees_with(found.inputs):
                return True
        return False

    def _handle(self, event: Event) -> None:
        if isinstance(event, Started):
            self._view.started(event.worker, event.job)
        elif isinstance(event, Progressed):
            self._tell_others(event)
            self._view.progressed(event.worker, event.job, event.progress)
        elif isinstance(event, Finished):
            with self._interrupts.held():
                self._finish(event)
            self._ask_for_more(event.job.cell)
        else:
            self._view.tick()

    def _ask_for_more(self, ended: Cell) -> None:
        """What has become known with the end of a cell waits behind what waits already."""
        if self._further is None or (self._fail_fast and self.tally.failed):
            return
        try:
            tasks = self._further(ended)
        except OSError as error:
            self._stop_at(error)
            return
        if tasks:
            self._waiting[:0] = reversed(tasks)
            self._view.added(tasks)

    def _tell_others(self, event: Progressed) -> None:
        news = event.progress
        self._locks[event.job.cell.config_hash].write(
            {
                "cell": event.job.cell.name,
                "pid": os.getpid(),
                "worker": event.worker,
                "phase": news.phase,
                "epoch": news.epoch,
                "epochs": news.epochs,
                "fraction": news.fraction,
                "loss": news.loss,
                "clips_per_second": news.clips_per_second,
                "updated": now(),
            }
        )

    def _finish(self, event: Finished) -> None:
        record = event.outcome.record
        if not self._write(event.job, event.outcome):
            record = _not_written(event.job)
            self._unwritten.append((event.job, event.outcome))
            if len(self._unwritten) > UNWRITTEN_AT_MOST:
                raise MmfuseError(f"{self._folder.path} can no longer be written; {UNWRITTEN_AT_MOST} records wait")
        self._count(record)
        self._view.finished(event.worker, record)

    def _write(self, job: Job, outcome: Outcome) -> bool:
        """Write an outcome and let its lock go; false where the disk does not take it."""
        try:
            self._folder.write(outcome.record, outcome.files)
        except OSError:
            return False
        self._release(job.cell.config_hash)
        return True

    def _release(self, config_hash: str) -> None:
        self._jobs.pop(config_hash, None)
        if (lock := self._locks.pop(config_hash, None)) is not None:
            lock.release()

    def _count(self, record: Record) -> None:
        if record.state == "done":
            self.tally.done += 1
        else:
            self.tally.failed.append(record)

    def _mark_running(self) -> None:
        """Leave a record that says so for each cell that is stopped in the middle."""
        pending = {job.cell.config_hash for job, _ in self._unwritten}
        for config_hash, job in list(self._jobs.items()):
            if config_hash in pending:
                continue
            failure = Failure(kind="Interrupted", message="stopped in the middle; run the grid again to go on")
            record = failed(job.cell, failure, inputs=job.known, command=job.command)
            with contextlib.suppress(OSError):
                self._folder.write(record)
            self._release(config_hash)

    def _write_what_is_left(self) -> None:
        """Try once more for records that the disk did not take; what still fails is at least named."""
        for job, outcome in self._unwritten:
            if self._write(job, outcome):
                self.tally.failed = [
                    record for record in self.tally.failed if record.config_hash != job.cell.config_hash
                ]
                self._count(outcome.record)
                continue
            with contextlib.suppress(OSError):
                self._folder.write(_not_written(job))
            self._release(job.cell.config_hash)


def _not_written(job: Job) -> Record:
    message = "its record could not be written (is the disk full?); make room and run the grid again"
    return failed(job.cell, Failure(kind="RecordNotWritten", message=message), inputs=job.known, command=job.command)


def log_folder(folder: ResultsFolder) -> Path:
    """Where Lightning's loggers write."""
    return folder.path / "logs"

"""A worker process: takes jobs from its runner one after the other; towers and decoded clips stay warm between them.

Started as `python -m mmfuse.bench.engines.worker FD RUNNER`, where FD is one end of a socket pair.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from mmfuse.bench.device_faults import is_device_fault
from mmfuse.bench.job import CellRunner, Job, Outcome, Progress
from mmfuse.records.record import Failure, failed

READY = "ready"
NEWS_EVERY = 0.2


def resolve(name: str) -> CellRunner:
    """The function behind `package.module:function`."""
    module, _, function = name.partition(":")
    found: CellRunner = getattr(importlib.import_module(module), function)
    return found


def run_guarded(runner: CellRunner, job: Job, report: Any) -> Outcome:
    """Run a job; whatever it raises becomes a failed record that names it."""
    try:
        return runner(job, progress=report)
    except BaseException as error:
        record = failed(job.cell, describe(error), inputs=job.known, command=job.command)
        return Outcome(record, device_fault=is_device_fault(error))


def describe(error: BaseException) -> Failure:
    """An exception as records keep it."""
    message = " ".join(str(error).split()) or type(error).__name__
    text = "".join(traceback.format_exception(error))
    return Failure(kind=type(error).__name__, message=message[:2000], traceback=text[-20000:])


def serve(connection: Connection, runner_name: str) -> None:
    """Answer jobs until the runner hangs up."""
    runner = resolve(runner_name)
    connection.send(READY)
    settled = False
    while True:
        try:
            job: Job | None = connection.recv()
        except (EOFError, OSError):
            return
        if job is None:
            return
        outcome = run_guarded(runner, job, Reporter(connection))
        connection.send(outcome)
        if outcome.device_fault:
            return
        if not settled:
            # Libraries and towers stay for good: a collector that need not walk them takes 10 ms instead of 400.
            gc.collect()
            gc.freeze()
            settled = True


class Reporter:
    """Sends progress, but not more often than anyone can read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = 0.0
        self._phase = ""

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase == self._phase and now - self._last < NEWS_EVERY:
            return
        self._last, self._phase = now, progress.phase
        self._connection.send(progress)


def _die_with(parent: int) -> None:
    """End this process and its own children when the runner is gone: an orphan would hold memory for nothing."""
    while os.getppid() == parent:
        time.sleep(0.5)
    with contextlib.suppress(OSError):
        os.killpg(os.getpgid(0), signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """Entry point of the process."""
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    serve(Connection(int(arguments[0])), arguments[1])


if __name__ == "__main__":
    main(sys.argv[1:])

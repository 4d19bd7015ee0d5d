"""Several devices for one cell: one process a device, ranks of Lightning's DDP, all of them watched.

Lightning's own launchers start the command line again, or bring nothing but weights back; a long-lived worker needs
neither. Every rank runs the same cell, and rank 0 makes the record. The worker itself is none of them: a rank that
waits for another one can do nothing else, and would wait half an hour for one that is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from mmfuse.bench.job import Attempt, Job, Outcome, Progress, Report
from mmfuse.records.record import Failure
from mmfuse.utils.processes import ending, python_path

RANK = "mmfuse.bench.engines.ddp_rank"
"""The module that a rank runs; it is named here and not imported, since it brings torch along."""
DONE = "done"
"""What ranks other than the first say at their end."""
LOOK_EVERY = 1.0
OTHERS = 2.0
"""Seconds in which further ranks may tell what they ended of, once one has failed."""
OF_ANOTHER = re.compile(
    r"connection (was )?(closed|reset)|closed by peer|broken pipe|\bnccl|\bgloo\b|timed? ?out|\bsocket\b", re.IGNORECASE
)
"""Words of a rank that lost touch with another one, which is then the one to be named."""


class RankFailed(RuntimeError):
    """One of a cell's ranks failed; the others were ended."""


class RankDied(RankFailed):
    """One of a cell's ranks ended without a word, such as by the system when memory runs out."""


class _Rank:
    """The process of a rank, and the worker's end of its pipe."""

    def __init__(self, number: int, count: int, variables: dict[str, str]) -> None:
        self.name = f"rank {number} of {count}"
        self.done = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the rank
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", RANK, str(theirs.fileno())],
                env={**os.environ, **variables, "LOCAL_RANK": str(number), "PYTHONPATH": python_path()},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
            )
        self.connection = Connection(ours.detach())

    def send(self, message: Any) -> None:
        """A rank that has just died shows at the next look."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def heard(self) -> Any:
        """What it says: news, an outcome, `DONE`, or why it failed; None where it has nothing to say."""
        try:
            if self.connection.poll():
                return self.connection.recv()
        except (EOFError, OSError):
            self.process.wait(timeout=LOOK_EVERY)
        return None

    def fault(self) -> RankFailed | None:
        """The error of a rank that has ended without a word."""
        code = self.process.poll()
        if code is None or self.done:
            return None
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 8000))
        died = RankDied(f"{self.name} was lost: {ending(code)}")
        died.add_note(self._errors.read().decode(errors="replace").strip())
        return died

    def end(self) -> None:
        """Stop it at once."""
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self._errors.close()


def run_on_ranks(job: Job, attempt: Attempt, progress: Report) -> Outcome:
    """Run a cell on as many ranks as it has devices; all of them have ended when this returns.

    Args:
        job: what every rank runs.
        attempt: with how many clips a batch.
        progress: told what rank 0 tells.

    Raises:
        RankFailed: a rank failed or was lost; it is named, with its own error.
    """
    count = job.cell.devices
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "NODE_RANK": "0",
    }
    ranks: list[_Rank] = []
    try:
        for number in range(count):
            ranks.append(_Rank(number, count, shared))
            ranks[-1].send((job, attempt))
        return _watched(ranks, progress)
    finally:
        for rank in ranks:
            rank.end()


def _watched(ranks: list[_Rank], progress: Report) -> Outcome:
    while True:
        wait([rank.connection for rank in ranks if not rank.done], timeout=LOOK_EVERY)
        for rank, message in _heard(ranks):
            if isinstance(message, Outcome):
                return message
            if isinstance(message, Progress):
                progress(message)
            else:
                raise _cause([_error_of(rank, message), *_told_soon_after(ranks)])
        if lost := [fault for rank in ranks if (fault := rank.fault())]:
            raise _cause([*lost, *_told_soon_after(ranks)])


def _heard(ranks: list[_Rank]) -> Iterator[tuple[_Rank, Any]]:
    for rank in ranks:
        message = rank.heard()
        if message == DONE:
            rank.done = True
        elif message is not None:
            yield rank, message


def _told_soon_after(ranks: list[_Rank]) -> list[RankFailed]:
    """Errors of further ranks: the first to speak may only have lost touch with the one that failed."""
    found: list[RankFailed] = []
    until = time.monotonic() + OTHERS
    while time.monotonic() < until and not any(_is_a_cause(error) for error in found):
        found += [_error_of(rank, message) for rank, message in _heard(ranks) if isinstance(message, Failure)]
        found += [fault for rank in ranks if (fault := rank.fault())]
        time.sleep(0.05)
    return found


def _error_of(rank: _Rank, failure: Failure) -> RankFailed:
    rank.done = True
    error = RankFailed(f"{rank.name}: {failure.kind}: {failure.message}")
    error.add_note(failure.traceback or "")
    return error


def _is_a_cause(error: RankFailed) -> bool:
    return not OF_ANOTHER.search(str(error))


def _cause(errors: list[RankFailed]) -> RankFailed:
    return next(filter(_is_a_cause, errors), errors[0])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

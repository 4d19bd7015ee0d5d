"""Filling a clip store: in parallel, with its disk need told first, and to be taken up again after any interruption."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmfuse.data.cache.clip_store import ClipStore, WantedClip, free_bytes
from mmfuse.errors import MmfuseError
from mmfuse.utils.processes import map_unordered

Report = Callable[[int, int], None]
"""Told after each clip: clips done, clips to do."""

_SPARE = 2**26  # bytes of the disk that are left alone


@dataclass(frozen=True)
class FillPlan:
    """What filling a store will do."""

    todo: list[WantedClip]
    present: int
    bytes_needed: int
    bytes_free: int
    failures: dict[str, str]
    """clip -> why its video cannot be read."""

    @property
    def to_be_done(self) -> bool:
        """Whether anything is missing."""
        return bool(self.todo or self.failures)


def plan_fill(store: ClipStore, wanted: Sequence[WantedClip]) -> FillPlan:
    """Find out what is missing and how much room it takes, without decoding."""
    absent = [want for want in dict.fromkeys(wanted) if not store.holds(want)]
    failures: dict[str, str] = {}

    def need(want: WantedClip) -> int:
        try:
            return store.bytes_needed(want)
        except MmfuseError as fault:
            failures[want.clip] = str(fault)
            return 0

    with ThreadPoolExecutor(max_workers=8) as pool:  # headers wait for the disk more than they compute
        needed = sum(pool.map(need, absent))
    todo = [want for want in absent if want.clip not in failures]
    return FillPlan(todo, len(set(wanted)) - len(absent), needed, free_bytes(store.folder), failures)


def ensure(
    store: ClipStore,
    wanted: Sequence[WantedClip],
    *,
    workers: int,
    announce: Callable[[FillPlan], None] | None = None,
    report: Report | None = None,
    waits: Callable[[], None] | None = None,
) -> dict[str, str]:
    """Fill a store with whatever it lacks, one process of this machine at a time.

    Args:
        store, workers, report: see `fill`.
        wanted: what it is to hold.
        announce: told what will be done before it is begun; not called where nothing is to be done.
        waits: told that another process fills the store and is waited for.

    Returns, raises: see `fill`.
    """
    if not plan_fill(store, wanted).to_be_done:
        return {}
    with _alone(store.folder, waits):
        work = plan_fill(store, wanted)  # again: another process may have done it in the meantime
        if announce is not None and work.to_be_done:
            announce(work)
        return fill(store, work, workers=workers, report=report)


@contextlib.contextmanager
def _alone(folder: Path, waits: Callable[[], None] | None) -> Iterator[None]:
    """Wait until no other process of this machine fills the store; a killed process lets go by itself."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".filling").open("w")
    except OSError as fault:
        raise MmfuseError(f"{folder}: cannot be written ({fault.strerror or fault})") from fault
    with lock:
        try:
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waits is not None:
                    waits()
                fcntl.flock(lock, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass  # no such lock on this system or disk: clips may be decoded twice, with the same result
        yield


def fill(store: ClipStore, plan: FillPlan, *, workers: int, report: Report | None = None) -> dict[str, str]:
    """Decode what a plan lists.

    Args:
        store: where to.
        plan: from `plan_fill`.
        workers: processes; 1 decodes in this one.
        report: told of the progress.

    Returns:
        clip -> why it could not be decoded; what could be is in the store all the same.

    Raises:
        MmfuseError: the disk has too little room (before anything is decoded, or when it runs full), or the folder
            cannot be written.
    """
    if plan.bytes_needed + _SPARE > plan.bytes_free:
        raise MmfuseError(
            f"the clip store needs {size(plan.bytes_needed)} below {store.folder}, and {size(plan.bytes_free)} are "
            "free; make room, name another folder, or keep fewer frames, clips or pixels"
        )
    failures = dict(plan.failures)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        store.sweep()
        for done, (clip, fault) in enumerate(map_unordered(partial(_add, store), plan.todo, workers=workers), start=1):
            if fault:
                failures[clip] = fault
            if report is not None:
                report(done, len(plan.todo))
    except OSError as fault:
        full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"cannot be written ({fault.strerror or fault})"
        raise MmfuseError(
            f"{store.folder}: {what}; what was decoded is kept, and filling goes on from there"
        ) from fault
    except BrokenProcessPool as fault:
        raise MmfuseError(f"{store.folder}: a decoding process was killed; start again to go on from there") from fault
    return failures


def _add(store: ClipStore, want: WantedClip) -> tuple[str, str]:
    """(clip, why it could not be added or nothing)."""
    try:
        store.add(want)
    except MmfuseError as fault:
        return want.clip, str(fault)
    return want.clip, ""


def size(count: float) -> str:
    """Bytes for people.

    >>> size(1536), size(74_300_000_000)
    ('1.5 kB', '74.3 GB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

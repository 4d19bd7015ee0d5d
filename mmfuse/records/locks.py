"""Claims on cells: two runners in one results folder, on one machine or on several, never run a cell twice.

A claim is a file that only one can make (`O_EXCL`), holds who made it, and is locked (`flock`) as long as its runner
lives. What tells that a runner is dead:

- on the machine that made the claim the lock: the system lets it go when the process ends, however it ends;
- from another machine a lock that is held tells that its runner lives, but one that is free tells nothing, since many
  shared file systems keep `flock` to one machine. There a claim is dead when its content has not changed for a while,
  by the watch of whoever looks: its runner writes a sign of life every few seconds. No two clocks are compared.

Should a runner that was taken for dead come back, the cell has been run twice, to the same numbers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from mmfuse.utils.files import parse_json

BEAT = 20.0
"""Seconds between two signs of life of a runner."""
DEAD_AFTER = 90.0
"""Seconds without any after which a runner of another machine is taken for dead."""
ATTEMPTS = 20
"""A claim may be let go between two looks at it, but hardly so often."""
OWN = ("boot", "token", "beat")
"""Keys of a claim that say nothing to a reader."""


class _Verdict(Enum):
    HELD = "held"
    DEAD = "dead"
    GONE = "gone"


def _boot() -> str:
    """Which running system this is: file locks are exact within one, whatever the file system."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not on this system
        return platform.node()


class Claim:
    """A claim of ours. Get one from `Claims.take`."""

    def __init__(self, path: Path, handle: int, boot: str) -> None:
        self.path = path
        self._handle: int | None = handle
        self._one_at_a_time = threading.Lock()
        self._own: dict[str, Any] = {"host": platform.node(), "boot": boot, "token": uuid.uuid4().hex, "beat": 0}
        self._content: dict[str, Any] = {}

    def write(self, content: dict[str, Any]) -> None:
        """Say what is being done, for other terminals. A disk that is full must not stop the work."""
        with self._one_at_a_time:
            self._content = content
            self._write()

    def beat(self) -> None:
        """Give a sign of life, which is on its way to other machines when this returns."""
        with self._one_at_a_time:
            self._own["beat"] += 1
            self._write()
            if self._handle is not None:
                with contextlib.suppress(OSError):
                    os.fsync(self._handle)

    def _write(self) -> None:
        data = json.dumps(self._content | self._own).encode()
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._handle, data, 0)
                os.ftruncate(self._handle, len(data))

    def release(self) -> None:
        """Let go, and remove the file while it is still ours."""
        with self._one_at_a_time:
            if self._handle is None:
                return
            if self._ours(self._handle):
                self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None

    def _ours(self, handle: int) -> bool:
        """Whether nobody has taken us for dead meanwhile."""
        if _same_file(handle, self.path):
            return True
        try:
            return _parsed(self.path.read_bytes()).get("token") == self._own["token"]
        except OSError:
            return False


class _Heart(threading.Thread):
    """Gives signs of life for all claims of this process, as long as it lives."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="claims")
        self.claims: weakref.WeakSet[Claim] = weakref.WeakSet()

    def run(self) -> None:
        """See `threading.Thread`."""
        while True:
            time.sleep(BEAT)
            for claim in list(self.claims):
                claim.beat()


class Claims:
    """The claims of a results folder, as one runner takes and watches them.

    Args:
        folder: where they lie.
        boot: which running system this is.
        clock: seconds of a watch that never goes back.
        patience: seconds without a sign of life after which a runner of another machine is taken for dead.
    """

    def __init__(
        self,
        folder: Path,
        *,
        boot: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        patience: float = DEAD_AFTER,
    ) -> None:
        self._folder = folder
        self._boot = boot or _boot()
        self._clock = clock
        self._patience = patience
        self._watched: dict[str, tuple[bytes, float]] = {}
        self._heart: _Heart | None = None

    def take(self, key: str) -> Claim | None:
        """Claim what `key` stands for; `None` where another runner has it, or may have it: see `is_watched`.

        Raises:
            OSError: no file can be made in the folder.
        """
        path = self._folder / f"{key}.lock"
        for _ in range(ATTEMPTS):
            if (claim := self._make(path)) is not None:
                return claim
            try:
                handle = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                verdict, content = self._judge(path, handle)
            finally:
                os.close(handle)
            if verdict is _Verdict.HELD:
                return None
            if verdict is _Verdict.DEAD:
                return self._take_over(path, content)
        return None

    def take_or_wait(self, key: str) -> Claim | None:
        """As `take`, but waits until it is known whether the runner that has the claim is alive."""
        while (claim := self.take(key)) is None and self.is_watched(key):
            time.sleep(1.0)
        return claim

    def is_watched(self, key: str) -> bool:
        """Whether it is still to be seen if the runner that has a claim is alive."""
        return f"{key}.lock" in self._watched

    def _make(self, path: Path) -> Claim | None:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return None
        return self._locked(path, handle, name=path)

    def _locked(self, path: Path, handle: int, *, name: Path) -> Claim | None:
        """A claim on a file that we have made, under the name that it has now."""
        for _ in range(100):
            if _lock(handle, fcntl.LOCK_EX) is not False:
                claim = Claim(path, handle, self._boot)
                claim.beat()
                self._keep_alive(claim)
                self._watched.pop(path.name, None)
                return claim
            time.sleep(0.01)  # whoever only asks whether it is held lets go at once
        name.unlink(missing_ok=True)
        os.close(handle)
        return None

    def _keep_alive(self, claim: Claim) -> None:
        if self._heart is None:
            self._heart = _Heart()
            self._heart.start()
        self._heart.claims.add(claim)

    def _judge(self, path: Path, handle: int) -> tuple[_Verdict, bytes]:
        free = _lock(handle, fcntl.LOCK_SH)
        if free is False:
            self._watched.pop(path.name, None)
            return _Verdict.HELD, b""
        content = os.pread(handle, 65536, 0)
        if not path.exists():
            return _Verdict.GONE, content
        if free and _parsed(content).get("boot") == self._boot:
            return (_Verdict.DEAD if _same_file(handle, path) else _Verdict.GONE), content
        return self._watch(path.name, content), content

    def _watch(self, name: str, content: bytes) -> _Verdict:
        """Judge by whether the content has changed since it was first seen."""
        known, since = self._watched.get(name, (None, 0.0))
        if known is None:
            self._watched[name] = content, self._clock()
        elif known != content:
            del self._watched[name]
        elif self._clock() - since >= self._patience:
            return _Verdict.DEAD
        return _Verdict.HELD

    def _take_over(self, path: Path, content: bytes) -> Claim | None:
        """Put a claim of ours in the place of a dead one.

        Of several that try it, only one can make the file that is named after what the dead one holds; and as long as
        that file is there, nobody else puts anything in its place.
        """
        taking = path.with_name(f".{path.name}.{hashlib.sha256(content).hexdigest()[:16]}.taking")
        try:
            handle = os.open(taking, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            with contextlib.suppress(OSError):
                if self._watch(taking.name, taking.read_bytes()) is _Verdict.DEAD:
                    taking.unlink()  # it died in the middle of it
                    del self._watched[taking.name]
            return None
        try:
            unchanged = path.read_bytes() == content
        except OSError:
            unchanged = False
        if not unchanged:
            os.close(handle)
            taking.unlink()
            self._watched.pop(path.name, None)
            return None
        if (claim := self._locked(path, handle, name=taking)) is not None:
            os.replace(taking, path)
        return claim


def _lock(handle: int, kind: int) -> bool | None:
    """Try to lock an open file; `None` where the file system has no locks."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _same_file(handle: int, path: Path) -> bool:
    try:
        there, ours = path.stat(), os.fstat(handle)
    except OSError:
        return False
    return (ours.st_ino, ours.st_dev) == (there.st_ino, there.st_dev)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        content = parse_json(data)
    except ValueError:  # caught while it is written
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class LockState:
    """A claim as others see it. `held` is false where its runner died."""

    key: str
    held: bool
    content: dict[str, Any]


def read_locks(folder: Path) -> Iterator[LockState]:
    """All claims in a folder, without disturbing them.

    Whether a runner of another machine is alive is told at once here, by the time of its last sign of life: by the
    clock of the file system where the folder can be written, else by this machine's.
    """
    now: float | None = None
    for path in sorted(folder.glob("*.lock")):
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            free = _lock(handle, fcntl.LOCK_SH)
            content, changed = _parsed(os.pread(handle, 65536, 0)), os.fstat(handle).st_mtime
        finally:
            os.close(handle)
        held = free is False
        if not held and not (free and content.get("boot") == _boot()):
            now = _now_in(folder) if now is None else now
            # A sign of life from far in the future is of a wrong clock, and tells nothing: a runner finds out.
            held = abs(now - changed) < DEAD_AFTER
        yield LockState(path.stem, held, {key: value for key, value in content.items() if key not in OWN})


def _now_in(folder: Path) -> float:
    """The time by the clock that dates the files of a folder."""
    probe = folder / f".{uuid.uuid4().hex}.now"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()

"""Locks on cells: two runners in one results folder never run a cell twice.

A lock is taken on a file, which the system lets go when its process ends, however it ends. The file holds what
`status` shows from another terminal.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfuse.errors import MmfuseError
from mmfuse.utils.files import parse_json


class CellLock:
    """A held lock. Get one by `CellLock.take`."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    @classmethod
    def take(cls, path: Path) -> CellLock | None:
        """CellLock what `path` stands for; `None` where another runner holds it.

        Raises:
            MmfuseError: the file system has no locks.
        """
        attempts = 5
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    attempts -= 1
                    if attempts == 0:
                        return None
                    time.sleep(0.01)  # whoever only asks whether it is held lets go at once
                    continue
                raise MmfuseError(f"{path.parent} is on a file system without locks: {error.strerror}") from None
            if _same_file(handle, path):
                return cls(path, handle)
            os.close(handle)  # its last holder removed it between our opening and locking

    def write(self, content: dict[str, Any]) -> None:
        """Say what is being done, for other terminals. A disk that is full must not stop the work."""
        try:
            data = json.dumps(content).encode()
            os.pwrite(self._handle, data, 0)
            os.ftruncate(self._handle, len(data))
        except OSError:
            pass

    def release(self) -> None:
        """Let go, and remove the file while it is still ours."""
        self.path.unlink(missing_ok=True)
        os.close(self._handle)


def _same_file(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(handle)
    return (ours.st_ino, ours.st_dev) == (there.st_ino, there.st_dev)


@dataclass(frozen=True)
class LockState:
    """A lock as others see it. `held` is false where its runner died."""

    key: str
    held: bool
    content: dict[str, Any]


def read_locks(folder: Path) -> Iterator[LockState]:
    """All locks in a folder, without disturbing them."""
    for path in sorted(folder.glob("*.lock")):
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            yield LockState(path.stem, _held(handle), _content(handle))
        finally:
            os.close(handle)


def _held(handle: int) -> bool:
    try:
        # A shared lock that is not kept: it only asks, and two who ask do not hinder each other.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def _content(handle: int) -> dict[str, Any]:
    try:
        content = parse_json(os.pread(handle, 65536, 0))
    except ValueError:  # caught while it is written
        return {}
    return content if isinstance(content, dict) else {}

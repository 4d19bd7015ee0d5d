"""Which entries of a store a process is working on, so that no other does the same at the same time."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on this system
    HAS_LOCKS = False
else:
    HAS_LOCKS = True


class Claims:
    """Locks on single bytes of a file, one an entry, which the system lets go of when their process ends.

    They are record locks of POSIX, which network file systems know as well. Where a disk has none, every claim is
    granted: an entry may then be worked on twice, with the same result.

    Args:
        path: the file; it stays empty.
    """

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        self._held: set[int] = set()
        if not HAS_LOCKS:
            return
        with contextlib.suppress(OSError):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            weakref.finalize(self, os.close, self._file)

    def take(self, entry: int) -> bool:
        """Claim an entry; False where another process has it."""
        if self._file is not None:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, entry)
            except (BlockingIOError, PermissionError):
                return False
            except OSError:  # no locks on this disk
                return True
        self._held.add(entry)
        return True

    def release(self, entry: int) -> None:
        """Let another process have an entry."""
        if self._file is not None and entry in self._held:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, entry)
        self._held.discard(entry)

    def release_all(self) -> None:
        """Let go of every entry."""
        for entry in list(self._held):
            self.release(entry)

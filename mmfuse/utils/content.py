"""Digests of the content of many files, remembered from one process to the next.

A digest is of the bytes alone, so that a copy on another machine has the same. It is computed once, and again when the
size, the time of change or the time of the last status change of the file is another: the last one no program can set,
so that neither a preserved modification time nor an equal size hides a file that was replaced.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from mmfuse.utils.files import cache_folder, parse_json, sha256_of_file, sha256_of_json, write_atomically
from mmfuse.utils.processes import usable_cores

Report = Callable[[int, int], None]
"""Told how many files of how many are read."""

_SETTLED_AFTER = 2.0  # seconds: a file that changed this recently may change again within one tick of its clock


def digests_of(paths: Sequence[Path], *, report: Report | None = None) -> list[str]:
    """SHA-256 of each file.

    Args:
        paths: files of one data set; their digests are remembered together, in the cache folder.
        report: told after each file that has to be read.

    Raises:
        OSError: a file cannot be read.
    """
    kept = _Memory(paths)
    marks = [file_version(path) for path in paths]
    found: list[str | None] = [kept.digest(path, mark) for path, mark in zip(paths, marks, strict=True)]
    unknown = [at for at, digest in enumerate(found) if digest is None]
    # Hashing lets other threads run, and waits for the disk.
    with ThreadPoolExecutor(min(8, usable_cores())) as pool:
        for done, (at, digest) in enumerate(
            zip(unknown, pool.map(lambda at: sha256_of_file(paths[at]), unknown), strict=True), start=1
        ):
            found[at] = digest
            kept.add(paths[at], marks[at], digest)
            if report is not None:
                report(done, len(unknown))
    kept.write()
    return [digest for digest in found if digest is not None]


def file_version(path: str | os.PathLike[str]) -> list[int]:
    """What changes whenever a file's content does: its size, the time of its change, and of its last status change.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


class _Memory:
    """What is remembered of a set of files, in one JSON file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        name = sha256_of_json(os.path.commonpath(paths) if paths else "")[:32]
        self._file = cache_folder() / "digests" / f"{name}.json"
        self._entries: dict[str, list[object]] = {}
        self._new = False
        with suppress(OSError, ValueError):
            found = parse_json(self._file.read_bytes())
            self._entries = found if isinstance(found, dict) else {}

    def digest(self, path: Path, mark: list[int]) -> str | None:
        match self._entries.get(str(path)):
            case [*kept, str(digest)] if kept == mark:
                return digest
        return None

    def add(self, path: Path, mark: list[int], digest: str) -> None:
        if time.time() - mark[-1] / 1e9 > _SETTLED_AFTER:
            self._entries[str(path)] = [*mark, digest]
            self._new = True

    def write(self) -> None:
        """Keep what is new; a cache folder that cannot be written costs time at the next start, and nothing else."""
        if self._new:
            with suppress(OSError):
                write_atomically(self._file, json.dumps(self._entries), sync=False)

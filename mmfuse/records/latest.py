"""Which results folder is meant where none is named: the one that was written last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmfuse.errors import one_line
from mmfuse.records.folder import MARK

DEPTH = 2
"""Levels below `results` that are looked at; results folders themselves are not entered."""


@dataclass(frozen=True)
class FoundResults:
    """Results folders that were found, and what could not be looked into.

    Args:
        folders: the one that was written last first; of equal times, in the order of their names.
        times: when each was written last, in nanoseconds of the file system's clock.
        unreadable: one line for each folder that could not be read.
    """

    folders: list[Path] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def as_recent(self) -> list[Path]:
        """Those that were written at the same time as the first one."""
        return [path for path, time in zip(self.folders, self.times, strict=True) if time == self.times[0]][1:]


def find_results(place: Path, *, depth: int = DEPTH) -> FoundResults:
    """The results folders at and below a place.

    Args:
        place: a folder, which need not exist. Where it is a results folder, it is the only one.
        depth: how many levels below it are looked at.
    """
    unreadable: list[str] = []
    found = []
    for path in _folders(place, depth, unreadable):
        try:
            found.append((-_last_written(path), path))
        except OSError as error:
            unreadable.append(f"{path} cannot be read: {one_line(error.strerror or error)}")
    found.sort()
    return FoundResults([path for _, path in found], [-time for time, _ in found], unreadable)


def _folders(place: Path, depth: int, unreadable: list[str]) -> Iterator[Path]:
    try:
        if (place / MARK).is_file():
            yield place
            return
        below = sorted(place / entry.name for entry in os.scandir(place) if entry.is_dir()) if depth else []
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        unreadable.append(f"{place} cannot be read: {one_line(error.strerror or error)}")
        return
    for path in below:
        yield from _folders(path, depth - 1, unreadable)


def _last_written(folder: Path) -> int:
    """When a runner last wrote a file that results are read from. Folders' own times change by reading, too."""
    files = [folder / MARK]
    for name in ("manifests", "records", "running"):
        if (folder / name).is_dir():
            files += [Path(entry.path) for entry in os.scandir(folder / name)]
    return max(_written(file) for file in files)


def _written(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:  # a lock that has been let go since, or a link to nowhere
        return 0

"""One video that stands twice in a user's lists: under another spelling, by a link, or as a copy.

A video that is in both lists makes the test meaningless, and one with two labels teaches what is not so: both are
refused. Files are told apart by what they are (device and inode), and by their bytes where their sizes agree, so that a
large data set costs one look at each file and hardly any reading.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from mmfuse.errors import MmfuseError

_HEAD = 2**16  # bytes: of files of one size, only those that begin alike are read to their end


class Entry(NamedTuple):
    """A clip as a user's list or folder names it."""

    path: str
    """As it was given."""
    label: str
    group: str | None
    """The source that it was cut from, where one was given."""
    part: str
    """"train" or "test"."""
    where: str
    """What names it, for errors: a file and its line, or the file itself."""
    located: str
    """Where it lies."""


def refuse_duplicates(entries: Sequence[Entry]) -> list[str]:
    """Refuse a video in both lists, with two labels, or twice in one list.

    Returns:
        Warnings: copies of a video under one label in one list, and sources that have clips in both lists.

    Raises:
        MmfuseError: both places are named, and in which way they are one video.
    """
    status = [_status(entry.located) for entry in entries]
    for together in _grouped(entries, [entry.located for entry in entries]):
        _refuse(together, "")
    for together in _grouped(entries, [file and file.identity for file in status]):
        _refuse(together, "the same file as")
    for together in _grouped(entries, [_spelling(entry.located) for entry in entries]):
        # Two files whose names differ in case alone are two, where the disk holds both.
        if any(_status(entry.located) is None for entry in together):
            _refuse(together, "another spelling of")
    copies = 0
    for together in _grouped(entries, _digests(entries, status)):
        _refuse(together, "a copy, byte for byte, of", twice=False)
        copies += len(together) - 1
    return ([_copies(copies)] if copies else []) + _shared_sources(entries)


class _File(NamedTuple):
    identity: tuple[int, int]
    size: int
    changed: int
    """The time of the last status change, which no program can set."""


def _status(path: str) -> _File | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # missing, or no path at all: other checks tell of it
        return None
    return _File((status.st_dev, status.st_ino), status.st_size, status.st_ctime_ns) if status.st_ino else None


def _grouped(entries: Sequence[Entry], keys: Iterable[Hashable]) -> list[list[Entry]]:
    """The entries that share a key with another one; those without a key share none."""
    found: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry, key in zip(entries, keys, strict=True):
        if key is not None:
            found[key].append(entry)
    return [together for together in found.values() if len(together) > 1]


def _spelling(path: str) -> str:
    """What is common to the ways of writing one path: case, Unicode's forms, `./`, `x/../` and backslashes."""
    return unicodedata.normalize("NFC", os.path.normpath(path.replace("\\", "/"))).casefold()


def _digests(entries: Sequence[Entry], status: Sequence[_File | None]) -> list[str | None]:
    """Digest of the content of each file that has a twin in size and beginning; `None` for others and empty files."""
    digests: list[str | None] = [None] * len(entries)
    sizes: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)  # size -> one row for each file
    for row, file in enumerate(status):
        if file is not None and file.size:
            sizes[file.size].setdefault(file.identity, row)
    for size, rows in sizes.items():
        begins: dict[str | None, list[int]] = defaultdict(list)
        for row in rows.values() if len(rows) > 1 else ():
            begins[_digest(entries[row].located, size, _changed(status, row), _HEAD)].append(row)
        for alike in begins.values():
            for row in alike if len(alike) > 1 else ():
                digests[row] = _digest(entries[row].located, size, _changed(status, row), None)
    return digests


def _changed(status: Sequence[_File | None], row: int) -> int:
    file = status[row]
    return 0 if file is None else file.changed


@lru_cache(maxsize=2**16)
def _digest(path: str, _size: int, _changed: int, most: int | None) -> str | None:
    """Digest of a file's first bytes, or of all; `None` where it cannot be read, which is told when it is decoded."""
    try:
        with open(path, "rb") as file:
            if most is None:
                return hashlib.file_digest(file, "sha256").hexdigest()
            return hashlib.sha256(file.read(most)).hexdigest()
    except OSError:
        return None


def _refuse(together: Sequence[Entry], how: str, *, twice: bool = True) -> None:
    """Refuse entries that are one video; `how` says in which way, where they are not written alike.

    Args:
        twice: whether they may not both stand in one list under one label either.
    """
    first = together[0]
    for other in together[1:]:
        named = f"{other.where}: {other.path}"
        same = f"{named} is {how} {first.path} ({first.where})"
        if first.part != other.part:
            both = f"{same}, which is in the" if how else f"{named} is in the"
            there = "" if how else f" ({first.where})"
            raise MmfuseError(
                f"{both} {_LISTS[first.part]} list too{there}: a test on clips that were trained on tells "
                "nothing; take it out of one of the two"
            )
        if first.label != other.label:
            both = f"{same}, but has another label" if how else f"{named} has two labels ({first.where})"
            raise MmfuseError(
                f"{both}, {first.label!r} and {other.label!r}: a clip has one class; take the wrong one out"
            )
        if twice:
            raise MmfuseError(f"{same}; take one of the two out" if how else f"{named} is listed twice ({first.where})")


_LISTS = {"train": "training", "test": "test"}


def _copies(count: int) -> str:
    clips = "1 clip is a copy" if count == 1 else f"{count:,} clips are copies"
    return f"{clips} of another one in the same list, with the same bytes: K shots may show fewer than K videos"


def _shared_sources(entries: Sequence[Entry]) -> list[str]:
    """Whether clips of one source stand in both lists: they are near-duplicates."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {"train": 0, "test": 0})
    for entry in entries:
        if entry.group is not None:
            counts[entry.group][entry.part] += 1
    shared = {group: found for group, found in counts.items() if found["train"] and found["test"]}
    if not shared:
        return []
    train, test = (sum(found[part] for found in shared.values()) for part in ("train", "test"))
    groups = "1 source has" if len(shared) == 1 else f"{len(shared):,} sources have"
    return [
        f"{groups} clips in both lists, such as {sorted(shared)[0]!r} ({train:,} training and {test:,} test clips): "
        "the test is easier than on new sources; keep each source in one list"
    ]

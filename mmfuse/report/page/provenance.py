"""Where the numbers come from, and why some are lacking."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from mmfuse.report.tables.cost import finished

COMMANDS = ("mmfuse-bench", "mmfuse")


@dataclass(frozen=True)
class Fact:
    """One line of the provenance: what it is, and its values with the number of cells that have each."""

    name: str
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Trouble:
    """Cells that lack their number for the same reason.

    Args:
        state: failed or stale.
        reason: in one line.
        cells: them.
        traceback: of the first one, where it is known.
    """

    state: str
    reason: str
    cells: tuple[Entry, ...]
    traceback: str | None = None


def facts(entries: Sequence[Entry]) -> list[Fact]:
    """Versions, devices, precision, commits and fingerprints of all finished cells."""
    records = finished(entries)
    libraries = dict.fromkeys(name for record in records for name in record.provenance.versions)
    found = [_fact(name, (record.provenance.versions.get(name) for record in records)) for name in libraries]
    found += [
        _fact("code commit", (record.provenance.commit for record in records)),
        _fact("device", (_device(record) for record in records)),
        _fact("precision", (record.provenance.precision for record in records)),
        _fact("threads", (record.provenance.threads for record in records)),
        _fact("clips a batch in memory", (record.provenance.micro_batch for record in records)),
        _fact("host", (record.provenance.host for record in records)),
    ]
    return [fact for fact in found if fact.values]


def fingerprints(entries: Sequence[Entry]) -> list[Fact]:
    """Digests of what was read: cards, lists, draws, towers."""
    records = finished(entries)
    found = []
    for name in dict.fromkeys(record.cell.dataset.name for record in records):
        of = [record for record in records if record.cell.dataset.name == name]
        found.append(_fact(f"{name}: card or lists", (record.inputs.dataset for record in of)))
        for split in sorted({record.cell.split for record in of}):
            here = [record for record in of if record.cell.split == split]
            found.append(_fact(f"{name}, split {split}: test list", (record.inputs.test_clips for record in here)))
            found += _draws(name, split, here)
    for tower in ("image", "text"):
        found.append(_fact(f"{tower} tower", (getattr(record.inputs, f"{tower}_tower") for record in records)))
        found.append(_fact(f"{tower} tower: weights", (record.provenance.weights.get(tower) for record in records)))
    return [fact for fact in found if fact.values]


def _draws(name: str, split: int, records: Sequence[Record]) -> list[Fact]:
    places = dict.fromkeys((record.cell.shots, record.cell.draw) for record in records)
    ordered = sorted(places, key=lambda place: (place[0] == "all", 0 if place[0] == "all" else place[0], place[1]))
    return [
        _fact(
            f"{name}, split {split}: K={shots}, draw {draw}",
            (record.inputs.train_clips for record in records if (record.cell.shots, record.cell.draw) == (shots, draw)),
        )
        for shots, draw in ordered
    ]


def _fact(name: str, values: Iterable[object]) -> Fact:
    known = Counter(str(value) for value in values if value is not None)
    return Fact(name, tuple(known.most_common()))


def _device(record: Record) -> str | None:
    device, devices = record.provenance.device, record.provenance.devices
    return f"{devices} × {device}" if device and devices > 1 else device


def troubles(entries: Sequence[Entry]) -> list[Trouble]:
    """Why cells failed or are stale, each reason once, the most frequent first."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.failure is not None:
            key = ("failed", f"{entry.failure.kind}: {entry.failure.message}")
            found.setdefault(key, []).append(entry)
        elif entry.state == "stale":
            found.setdefault(("stale", entry.reason), []).append(entry)
    made = [Trouble(state, reason, tuple(cells), _traceback(cells)) for (state, reason), cells in found.items()]
    return sorted(made, key=lambda trouble: (trouble.state, -len(trouble.cells)))


def _traceback(cells: Sequence[Entry]) -> str | None:
    return next((entry.failure.traceback for entry in cells if entry.failure and entry.failure.traceback), None)


_FOLDERS = re.compile(r"(?<![\w.:/\\~…])(?:~?/|[A-Za-z]:[\\/])(?:[^\s/\\:'\"<>|]+[/\\])+(?=[^\s/\\])")
"""The folders of an absolute path."""


def without_folders(text: str) -> str:
    """A text whose absolute paths are cut down to their last part: a page is sent to others, whose folders differ.

    >>> without_folders("no video in /home/me/videos/ucf101; see https://example.org/a/b")
    'no video in …/ucf101; see https://example.org/a/b'
    >>> without_folders("C:\\\\data\\\\x.mp4 and a/b and K=8/16")
    '…/x.mp4 and a/b and K=8/16'
    """
    return _FOLDERS.sub("…/", text)


def command_of(text: str) -> str:
    """A command as it is safe to be copied: one call of this package's own commands, all else quoted; or nothing.

    Records may come from others, and what a page offers to copy is run.

    >>> command_of("mmfuse-bench --grid demo --only shots=2")
    'mmfuse-bench --grid demo --only shots=2'
    >>> command_of("mmfuse-bench --grid x; rm y")
    "mmfuse-bench --grid 'x;' rm y"
    >>> command_of("rm -r x")
    ''
    """
    try:
        words = shlex.split(text)
    except ValueError:
        return ""
    # Categories C*: control characters, and marks that turn the direction of what is shown.
    if any(unicodedata.category(letter)[0] == "C" for letter in text):
        return ""
    return shlex.join(words) if words and words[0] in COMMANDS else ""

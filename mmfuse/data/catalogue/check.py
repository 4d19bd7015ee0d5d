"""`mmfuse data check`: is a data set on the disk what its authors published, and can every file be read?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.catalogue.locate import find_videos
from mmfuse.data.catalogue.walk import walk
from mmfuse.data.frames.video import UnreadableVideo, decoder_version, examine
from mmfuse.utils.content import file_version
from mmfuse.utils.files import cache_folder, parse_json, sha256_of_json
from mmfuse.utils.processes import map_unordered

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class FileFinding:
    """What was found out about one file."""

    path: str
    state: str
    """"good", "empty", "unreadable" or "truncated"."""
    why: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    """Decoded frames, or those that the header announces where nothing was decoded."""


@dataclass
class Findings:
    """What was found out about a data set."""

    dataset: str
    root: str
    split: int
    decoded: bool
    official: dict[str, int]
    listed: dict[str, int]
    """Clips in the lists: train, test, unused."""
    present: int = 0
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)
    """What might have been meant as a video, and why it is not taken for one."""
    warnings: list[str] = field(default_factory=list)
    """Of the lists, such as sources with clips in both of them."""
    empty: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    truncated: dict[str, str] = field(default_factory=dict)
    codecs: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    """least, most and total frames of the good files."""

    @property
    def good(self) -> bool:
        """Whether every listed clip is there and sound. Extra files do no harm, and warnings are for a reader."""
        return not (self.missing or self.empty or self.unreadable or self.truncated)

    def as_json(self) -> dict[str, Any]:
        """Everything, and whether it is good."""
        return {"good": self.good, **asdict(self)}


def check(
    catalogue: Catalogue,
    root: Path,
    *,
    decode: bool = False,
    workers: int = 1,
    journal: Path | None = None,
    report: Report | None = None,
) -> Findings:
    """Compare a data set's folder with its lists, and look into each of its files.

    Args:
        catalogue: from `mmfuse.data.catalogue.load.published`.
        root: the folder with the videos.
        decode: decode every frame of every file, instead of reading headers.
        workers: processes.
        journal: where findings are noted as they are made, so that a check that was interrupted goes on from there;
            files that have changed since are looked at again. None keeps no journal.
        report: told (files done, files to do).
    """
    table = catalogue.table
    findings = Findings(
        dataset=catalogue.name,
        root=str(root),
        split=catalogue.split,
        decoded=decode,
        official=dict(catalogue.card.splits.get(catalogue.split, {})),
        listed={str(part): int(count) for part, count in table["part"].value_counts().items()},
        warnings=list(catalogue.warnings),
    )
    paths = _present(table, root, findings)
    for finding in _examined(paths, decode=decode, workers=workers, journal=journal, report=report):
        _sort_in(findings, finding)
    findings.codecs, findings.sizes = _by_count(findings.codecs), _by_count(findings.sizes)
    return findings


def journal_for(catalogue: Catalogue, root: Path) -> Path:
    """Where the journal of a deep check of this folder is kept."""
    name = sha256_of_json([catalogue.name, str(root.absolute()), decoder_version()])[:16]
    return cache_folder() / "checks" / f"{catalogue.name}-{name}.jsonl"


def _present(table: pd.DataFrame, root: Path, findings: Findings) -> list[str]:
    """Note what is missing and what is extra; return the files that are there."""
    if findings.official:
        found = find_videos(table, root)
        absent = set(found.missing)
        there = [path for clip, path in zip(table["clip"], found.paths, strict=True) if clip not in absent]
        findings.missing = found.missing
        findings.extra = [str(path) for path in found.extra]
        findings.passed_over = {str(path): why for path, why in found.passed_over.items()}
    else:  # a user's lists name the files themselves
        named = dict(zip(table["clip"], (str(root / path) for path in table["path"]), strict=True))
        below = walk(root)
        findings.passed_over = {str(path): why for path, why in (below.passed_over | below.unreadable).items()}
        there = [path for path in named.values() if Path(path).is_file()]
        findings.missing = [clip for clip, path in named.items() if not Path(path).is_file()]
    findings.present = len(there)
    return there


def _sort_in(findings: Findings, finding: FileFinding) -> None:
    if finding.state == "empty":
        findings.empty.append(finding.path)
    elif finding.state == "unreadable":
        findings.unreadable[finding.path] = finding.why
    elif finding.state == "truncated":
        findings.truncated[finding.path] = finding.why
    if not finding.frames:
        return
    size = f"{finding.width}x{finding.height}"
    findings.codecs[finding.codec] = findings.codecs.get(finding.codec, 0) + 1
    findings.sizes[size] = findings.sizes.get(size, 0) + 1
    seen = findings.frames
    seen["least"] = min(seen.get("least", finding.frames), finding.frames)
    seen["most"] = max(seen.get("most", 0), finding.frames)
    seen["total"] = seen.get("total", 0) + finding.frames


def _by_count(counts: dict[str, int]) -> dict[str, int]:
    return dict(Counter(counts).most_common())


def _examined(
    paths: list[str], *, decode: bool, workers: int, journal: Path | None, report: Report | None
) -> Iterator[FileFinding]:
    noted = _read_journal(journal) if journal is not None else {}
    marks = {path: file_version(path) for path in paths}
    known = [noted[path][1] for path in paths if path in noted and noted[path][0] == marks[path]]
    yield from known
    done = {finding.path for finding in known}
    todo = [path for path in paths if path not in done]
    findings = map_unordered(partial(look_into, decode=decode), todo, workers=workers, chunk_size=1 if decode else 32)
    for number, finding in enumerate(_noting(findings, marks, journal), start=len(done) + 1):
        if report is not None:
            report(number, len(paths))
        yield finding


def look_into(path: str, *, decode: bool) -> FileFinding:
    """Examine one file; whatever is wrong with it becomes part of the finding."""
    try:
        if Path(path).stat().st_size == 0:
            return FileFinding(path, "empty")
        found = examine(path, decode=decode)
    except (UnreadableVideo, OSError) as fault:
        return FileFinding(path, "unreadable", str(fault).removeprefix(f"{path}: "))
    header = found.header
    frames = header.frames if found.decoded is None else found.decoded
    state = "truncated" if found.damage else "good"
    return FileFinding(path, state, found.damage, header.codec, header.width, header.height, frames)


def _noting(
    findings: Iterable[FileFinding], marks: dict[str, list[int]], journal: Path | None
) -> Iterator[FileFinding]:
    if journal is None:
        yield from findings
        return
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as file:
        file.write("\n")  # ends a line that a killed check may have left half-written
        for finding in findings:
            file.write(json.dumps({"mark": marks[finding.path], **asdict(finding)}) + "\n")
            file.flush()
            yield finding


def _read_journal(journal: Path) -> dict[str, tuple[list[int], FileFinding]]:
    noted = {}
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
    for line in lines:
        try:
            entry = parse_json(line)
            mark = entry.pop("mark")
            noted[str(entry["path"])] = (mark, FileFinding(**entry))
        except (ValueError, KeyError, TypeError, AttributeError):  # half-written
            continue
    return noted

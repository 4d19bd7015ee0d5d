"""From which source a clip was cut, by its name: clips of one source are near-duplicates and belong on one side.

First come the names of public data sets, then the words and numbers that people put behind the name of a recording. A
name that says nothing (`clip_012`, or the class and a number) makes no source: such a clip is its own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import pandas as pd

from mmfuse.errors import MmfuseError

NONE = "none"
"""In the place of a pattern: names say nothing."""
FOLDERS = "a folder below the class"
_MOST_OF_A_CLASS = 0.7
_GENERIC_WORDS = """
a action actions avi c cam camera clip clips cut data dsc dscn file film frame g gopr h img item mov movie mp mvi new no
nr output pxl rec recording sample seq sequence test the train untitled v val vid video videos x
"""
_GENERIC = frozenset(_GENERIC_WORDS.split())
_SEP = r"[\s._\-]"
_PARTS = "part|pt|clip|seg|segment|scene|shot|cut|chunk|piece|split|take|trial|rep|window"
_COPIES = "copy|h?flip|flipped|mirror|mirrored|aug|augmented|rot|rotated|crop|cropped"
_SECONDS = r"t?\d+(?:\.\d+)?s?"
_DATE = r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3])[-_.:h]?[0-5]\d(?:[-_.:m]?[0-5]\d(?:\d{3})?)?s?"


@dataclass(frozen=True)
class Scheme:
    """A way of naming clips.

    Args:
        title: what it is called when it is told of.
        pattern: of the whole name without its ending; the group `source` is the source.
        further: whether the source is a name that may be taken apart itself.
        bare: whether a number alone tells the clips of a source apart, which may as well count the clips of a class.
    """

    title: str
    pattern: re.Pattern[str]
    further: bool = False
    bare: bool = False


def _scheme(title: str, *patterns: str, further: bool = False, bare: bool = False) -> list[Scheme]:
    return [Scheme(title, re.compile(pattern, flags=re.IGNORECASE), further, bare) for pattern in patterns]


SCHEMES = (
    *_scheme("names as in UCF101", r"(?P<source>.+_g\d{1,3})_c\d{1,3}"),
    *_scheme(
        "names as in HMDB51", r"(?P<source>.+)_[hulf]_(?:cm|nm)_np\d_(?:fr|ba|le|ri)_(?:goo|med|bad)_\d+", further=True
    ),
    *_scheme("people as in NTU RGB+D", r"S\d{3}C\d{3}(?P<source>P\d{3})R\d{3}A\d{3}(?:_rgb)?"),
    *_scheme(
        "numbered people",
        r"(?:.*[^a-z])?(?P<source>(?:person|people|subject|subj|actor|user|participant|player|patient)[_\-]?\d+)(?:\D.*)?",
    ),
    *_scheme("recordings with times, as in Kinetics", r"(?P<source>.+)_\d{6}_\d{6}"),
    *_scheme(
        "copies of a recording",
        rf"(?P<source>.+?){_SEP}*\((?:{_COPIES})\)",
        rf"(?P<source>.+?){_SEP}+(?:{_COPIES}){_SEP}*\(?\d*\)?",
        further=True,
    ),
    *_scheme("parts of a recording", rf"(?P<source>.+?){_SEP}+(?:{_PARTS})s?{_SEP}*\(?\d+\)?", further=True),
    *_scheme(
        "times within a recording",
        rf"(?P<source>.+?){_SEP}+(?=[^a-z]*(?:\d\.\d|\ds|t\d)){_SECONDS}(?:-|_|_to_){_SECONDS}",
        r"(?P<source>.+?)[\s_]+\d+-\d+",
        further=True,
    ),
    *_scheme(
        "the time of a recording",
        rf"(?P<source>(?:.*{_SEP}|[a-z]*){_DATE}(?:[\sT_.\-]*(?:at\s)?{_TIME})?)(?:{_SEP}+\d{{1,3}}|\s?\(\d+\))?",
    ),
    *_scheme(
        "a number behind a name",
        rf"(?P<source>.+?)(?:{_SEP}+\d{{1,5}}|\s?\(\d+\))",
        r"(?P<source>[^\W\d_]{3,})\d{1,5}",
        bare=True,
    ),
)


class Source(NamedTuple):
    """The source of a clip, and how it is known."""

    name: str
    how: str
    bare: bool = False


@dataclass(frozen=True)
class Sources:
    """The sources of all clips."""

    groups: list[str]
    """One a clip; a clip of which nothing is known is its own source."""
    notes: list[str]
    """By what they were recognised, with examples."""


def sources_of(clips: pd.DataFrame, pattern: str | None) -> Sources:
    """The source of each clip: as it was given, by a pattern, or by the name.

    Args:
        clips: rows with `clip` (a path), `class`, and perhaps `group`.
        pattern: a regular expression with one group in parentheses, searched for in the path; "none" for no look at
            names; `None` recognises what is usual, where no groups are given.

    Raises:
        MmfuseError: a pattern that is none, has not one group, or fits no clip; a pattern beside given groups.
    """
    given = [None if pd.isna(group) else str(group) for group in clips["group"]] if "group" in clips else [None]
    names = clips["clip"].tolist()
    if any(group is not None for group in given):
        if pattern is not None:
            raise MmfuseError("the list has a column 'group' already; leave --groups out, or the column")
        groups = [clip if group is None else group for clip, group in zip(names, given, strict=True)]
        return Sources(groups, [f"the column 'group' names {_count(len(set(groups)), 'source')}"])
    if pattern is None:
        return _recognised(names, clips["class"].tolist())
    if pattern == NONE:
        return Sources(names, ["names were not looked at: every clip is its own source"])
    return _by_pattern(names, pattern)


def _by_pattern(names: Sequence[str], pattern: str) -> Sources:
    try:
        compiled = re.compile(pattern)
    except re.error as fault:
        raise MmfuseError(f"--groups {pattern!r} is no regular expression: {fault}") from None
    if compiled.groups != 1:
        raise MmfuseError(
            f"--groups {pattern!r} has {compiled.groups} groups in parentheses; put one around what names the source, "
            f"such as '(person\\d+)_', or say {NONE}"
        )
    found = [match and match[1] for match in map(compiled.search, names)]
    if not any(found):
        raise MmfuseError(f"--groups {pattern!r} fits no clip, such as {names[0]}; it is searched for in such paths")
    first = next(row for row, source in enumerate(found) if source)
    named = sum(map(bool, found))
    notes = [
        f"{pattern!r} names {_count(len(set(filter(None, found))), 'source')} of {_count(named, 'clip')}, such as "
        f"{found[first]!r} of {names[first]}"
    ]
    if named < len(names):
        other = names[next(row for row, source in enumerate(found) if not source)]
        notes.append(
            f"it does not fit {_count(len(names) - named, 'clip')}, such as {other}: each is taken as its own source"
        )
    return Sources([source or name for source, name in zip(found, names, strict=True)], notes)


def _recognised(names: Sequence[str], classes: Sequence[str]) -> Sources:
    found = [_recognise(name, of_class) for name, of_class in zip(names, classes, strict=True)]
    by_class: dict[str, list[int]] = defaultdict(list)
    for row, of_class in enumerate(classes):
        by_class[of_class].append(row)
    for rows in by_class.values():
        _leave_out_folders([names[row] for row in rows], rows, found, classes)
        _leave_out_counters(rows, found)
    known = {source.name.casefold() for source in found if source is not None}
    groups, told = [], defaultdict(list)
    for row, source in enumerate(found):
        stem = PurePosixPath(names[row]).stem.casefold()
        if source is not None:
            told[source.how].append(row)
        groups.append(source.name.casefold() if source is not None else stem if stem in known else names[row])
    repeated = Counter(groups)
    notes = [
        _told(how, rows, names, groups) for how, rows in told.items() if any(repeated[groups[r]] > 1 for r in rows)
    ]
    return Sources(groups, notes or ["names tell of no sources: every clip is taken as its own"])


def _told(how: str, rows: Sequence[int], names: Sequence[str], groups: Sequence[str]) -> str:
    counts = Counter(groups[row] for row in rows)
    largest = max(counts, key=lambda group: (counts[group], group))
    of_it = [names[row] for row in rows if groups[row] == largest]
    return (
        f"{_count(len(counts), 'source')} of {_count(len(rows), 'clip')} by {how}, such as {largest!r} of "
        f"{', '.join(of_it[:2])}"
    )


def _recognise(name: str, of_class: str) -> Source | None:
    """The source by the folder below the class, or else by the file's name."""
    path = PurePosixPath(name)
    folders = list(path.parent.parts)
    if of_class in folders and (below := folders[folders.index(of_class) + 1 :]):
        return Source("/".join(below), FOLDERS)
    stem, how = path.stem, ""
    for _ in range(4):  # a copy of a part of a recording
        scheme, source = _first(stem)
        if scheme is None or source is None or not _says_something(source, of_class):
            break
        how = how or scheme.title
        stem = source
        if not scheme.further:
            return Source(_without_class(stem, of_class), how, scheme.bare)
    return Source(_without_class(stem, of_class), how) if how else None


def _first(stem: str) -> tuple[Scheme | None, str | None]:
    for scheme in SCHEMES:
        if found := scheme.pattern.fullmatch(stem):
            return scheme, found["source"]
    return None, None


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", text) if word]


def _says_something(source: str, of_class: str) -> bool:
    """Whether a name is more than the class and words such as "clip"."""
    of_class_words = {word.casefold() for word in (*_words(of_class), of_class)}
    return any(word.casefold() not in _GENERIC | of_class_words for word in _words(source))


def _without_class(source: str, of_class: str) -> str:
    """A source without the name of the class behind it, so that one film is one source in all classes."""
    return re.sub(rf"(?<=.){_SEP}+{re.escape(of_class)}$", "", source, flags=re.IGNORECASE)


def _leave_out_folders(
    names: Sequence[str], rows: Sequence[int], found: list[Source | None], classes: Sequence[str]
) -> None:
    """Where all clips of a class lie in one folder below it, that folder says nothing; their names may."""
    of = [found[row] for row in rows]
    folders = {source.name for source in of if source is not None and source.how == FOLDERS}
    if len(folders) == 1 and all(source is not None and source.how == FOLDERS for source in of):
        for name, row in zip(names, rows, strict=True):
            found[row] = _recognise(f"{classes[row]}/{PurePosixPath(name).name}", classes[row])


def _leave_out_counters(rows: Sequence[int], found: list[Source | None]) -> None:
    """Numbers behind one name, or nearly one, count the clips of a class."""
    bare = [row for row in rows if (source := found[row]) is not None and source.bare]
    counts = Counter(source.name.casefold() for row in bare if (source := found[row]) is not None)
    if counts and (len(counts) == 1 or max(counts.values()) > _MOST_OF_A_CLASS * len(rows)):
        for row in bare:
            found[row] = None


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"

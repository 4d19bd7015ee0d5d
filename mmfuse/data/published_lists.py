"""Training lists that others have published, so that their splits can be run.

Three kinds are read, one clip a line: `path label` (mmaction2) and `clip.avi label` (ViFi-CLIP), with labels from 0,
and `Class/clip` without a label (Ju et al. 2022).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import pandas as pd

from mmfuse.data import few_shot
from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.few_shot import Shots
from mmfuse.data.protocols import find_list, load_protocol
from mmfuse.errors import MmfuseError


def training_clips(
    catalogue: Catalogue,
    *,
    shots: Shots,
    draw: int,
    train_list: Path | str | None = None,
    protocol: str | None = None,
) -> pd.DataFrame:
    """The clips of a draw, or of the published list that takes its place.

    Args:
        catalogue: all clips of the split.
        shots: clips a class, or "all".
        draw: which ones; with a protocol, which of its lists.
        train_list: the file of a list.
        protocol: the name of a published protocol, whose list is looked for in `catalogue.places`.

    Raises:
        MmfuseError: as `few_shot.draw_clips`, `Protocol.training_list`, `find_list` or `read_list`; the list holds
            another number of clips of a class than `shots`; both a list and a protocol are given.
    """
    if train_list is not None and protocol is not None:
        raise MmfuseError("say either train_list (a list of your own choice) or protocol (published lists by name)")
    if protocol is not None:
        train_list = _list_of_protocol(catalogue, protocol, shots=shots, draw=draw)
    if shots == 0:
        return catalogue.part("train").iloc[:0]
    if train_list is None:
        return few_shot.draw_clips(catalogue, shots=shots, draw=draw)
    rows = read_list(catalogue, Path(train_list))
    counts = rows["class"].value_counts()
    for name in catalogue.class_names if shots != "all" else ():
        found = int(counts.get(name, 0))
        if found != shots and name not in catalogue.card.dead_classes:
            raise MmfuseError(f"{train_list}: {found} clips of {name!r}; at K = {shots} each class has {shots}")
    return rows


def _list_of_protocol(catalogue: Catalogue, name: str, *, shots: Shots, draw: int) -> Path:
    protocol = load_protocol(name)
    wanted = protocol.training_list(catalogue.name, shots=shots, draw=draw, split=catalogue.split)
    return find_list(wanted, catalogue.places, protocol=protocol)


def read_list(
    catalogue: Catalogue, path: Path, *, part: Literal["train", "test"] = "train", renumbered: bool = False
) -> pd.DataFrame:
    """The rows that a list names, in the list's order.

    Args:
        catalogue: says which label each clip really has.
        path: the list; its first line says of which kind all its lines are.
        part: the part of the split that all its clips are in.
        renumbered: the list numbers its classes by itself; each number must still mean one class.

    Raises:
        MmfuseError: a line that is not of the list's kind, a clip that is not in this part of this split, a
            label or a folder that means another class than the clip's own (both are named, and what kind of list this
            seems to be), a clip named twice. Each names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise MmfuseError(f"{path}: the list cannot be read ({fault})") from fault
    known = _by_name(catalogue)
    chosen: dict[int, _Line] = {}
    parsed = _parser([text for text in lines if text.strip()])
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        line = parsed(text.strip(), f"{path}:{number}")
        row = _row(catalogue, known, line, part)
        if row in chosen:
            raise MmfuseError(f"{line.where}: {line.clip} is named already ({chosen[row].where})")
        chosen[row] = line
    if not chosen:
        raise MmfuseError(f"{path}: the list names no clips")
    _check_labels(catalogue, chosen, renumbered=renumbered)
    return catalogue.table.iloc[list(chosen)].reset_index(drop=True)


class _Line(NamedTuple):
    clip: str
    label: int | None
    """`None` in a list that names classes by folders."""
    where: str


def _parser(lines: Sequence[str]) -> Callable[[str, str], _Line]:
    """How the lines of a list are read: by its first one, so that a label that was lost is not taken for none."""
    first = lines[0].strip() if lines else ""
    unlabelled = "/" in first and not first.rpartition(" ")[2].isdecimal()
    return _parse_filed if unlabelled else _parse_labelled


def _parse_filed(line: str, where: str) -> _Line:
    """A line `Class/clip`."""
    if not PurePosixPath(line).parent.name:
        raise MmfuseError(f"{where}: expected 'class/clip' as in the list's first line; found {line!r:.200}")
    return _Line(line, None, where)


def _parse_labelled(line: str, where: str) -> _Line:
    """A line `clip label`."""
    name, _, label = line.rpartition(" ")
    # int() reads digits of all scripts, but not the likes of ², and not thousands of them.
    if not name or not label.isdecimal() or len(label) > 9:
        raise MmfuseError(f"{where}: expected 'clip label', with the label a number from 0; found {line!r:.200}")
    return _Line(name.strip(), int(label), where)


def _row(catalogue: Catalogue, known: Mapping[str, list[int]], line: _Line, part: str) -> int:
    """The row of a line's clip, which must be in one part of the split."""
    row = _row_of(line.clip, known, catalogue, line.where)
    if row is None:
        name, _, frames = line.clip.rpartition(" ")
        if line.label is not None and frames.isdecimal() and _row_of(name, known, catalogue, line.where) is not None:
            raise MmfuseError(
                f"{line.where}: this is a list of raw frames (path frames label); give the one of videos (path label)"
            )
        raise MmfuseError(f"{line.where}: {line.clip} is not a clip of {catalogue.card.title} split {catalogue.split}")
    clip = catalogue.table.iloc[row]
    if clip["part"] != part:
        where = f"{line.where}: {clip['clip']} is in the {clip['part']} part of split {catalogue.split}"
        leak = "; training on it would leak" if part == "train" else f", and this is a {part} list"
        raise MmfuseError(f"{where}{leak}: choose the split that the list was made for")
    return row


def _check_labels(catalogue: Catalogue, chosen: Mapping[int, _Line], *, renumbered: bool) -> None:
    """Refuse labels and folders that mean other classes, and say why that may be."""
    labels, classes, clips = catalogue.table["label"], catalogue.table["class"], catalogue.table["clip"]
    given = {row: line.label for row, line in chosen.items() if line.label is not None}
    for row, line in chosen.items():
        folder = PurePosixPath(line.clip).parent.name
        if row not in given and folder.casefold() != str(classes[row]).casefold():
            raise MmfuseError(f"{line.where}: {clips[row]} is listed in {folder}, but shows {classes[row]}")
    if renumbered:
        pairs = {(int(labels[row]), label) for row, label in given.items()}
        if len({ours for ours, _ in pairs}) == len(pairs) == len({theirs for _, theirs in pairs}):
            return
        raise MmfuseError(f"{next(iter(chosen.values())).where}: some labels of the list are wrong; fetch it again")
    wrong = next((row for row, label in given.items() if label != labels[row]), None)
    if wrong is None:
        return
    names, label = catalogue.class_names, given[wrong]
    meant = names[label] if label < len(names) else f"none of the {len(names)} classes"
    raise MmfuseError(
        f"{chosen[wrong].where}: label {label} is {meant}, but {clips[wrong]} shows {classes[wrong]}: "
        f"{_cause([(int(labels[row]), label) for row, label in given.items()], len(names))}"
    )


def _cause(pairs: Sequence[tuple[int, int]], classes: int) -> str:
    """What kind of list gives such labels.

    Args:
        pairs: the label that a clip has, and the one that the list gives it.
        classes: how many there are.
    """
    if all(given == label + 1 for label, given in pairs):
        return "the list counts its labels from 1; take 1 off each"
    renamed = dict(pairs)
    if len(set(pairs)) != len(renamed) or len(set(renamed.values())) != len(renamed):
        return "some labels of the list are wrong; fetch it again"
    if len(renamed) < classes:
        return (
            f"the list holds {len(renamed)} of the {classes} classes and numbers these by themselves, as lists of a "
            "base-to-novel setting do; few-shot lists of all classes are read"
        )
    return "the list numbers the classes in another order"


def _by_name(catalogue: Catalogue) -> dict[str, list[int]]:
    """Rows by the names that a list may call their clip."""
    known: dict[str, list[int]] = defaultdict(list)
    for row, clip in enumerate(catalogue.table["clip"]):
        for name in _names(clip):
            known[name].append(row)
    return known


def _row_of(clip: str, known: Mapping[str, list[int]], catalogue: Catalogue, where: str) -> int | None:
    """The row of a clip as a list calls it; `None` where there is none.

    Raises:
        MmfuseError: several clips have this name, and its folder tells none of them apart.
    """
    rows = next((known[name] for name in _names(clip) if name in known), [])
    if len(rows) > 1:
        wanted = _folders(clip)
        shared = {row: _agreeing(_folders(catalogue.table["path"][row]), wanted) for row in rows}
        rows = [row for row in rows if shared[row] == max(shared.values())]
    if len(rows) > 1:
        raise MmfuseError(f"{where}: {len(rows)} clips are called {clip}; write the folder that each lies in before it")
    return rows[0] if rows else None


def _folders(path: str) -> list[str]:
    """The folders that a file lies in, the innermost first."""
    return [folder.name.casefold() for folder in PurePosixPath(path.replace("\\", "/")).parents]


def _agreeing(one: Sequence[str], other: Sequence[str]) -> int:
    """How many folders two paths share, from the innermost on."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _names(clip: str) -> list[str]:
    """Clips are matched by file name without folder and case: as it is first, then without its suffix."""
    name = PurePosixPath(clip.replace("\\", "/")).name.casefold()
    stem, dot, suffix = name.rpartition(".")
    return [name, stem] if stem and dot and len(suffix) <= 4 else [name]

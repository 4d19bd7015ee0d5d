"""Training lists that others have published, so that their splits can be run.

Two kinds are read: `path label` (mmaction2) and `clip.avi label` (ViFi-CLIP), one clip a line, labels from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from mmfuse.data import few_shot
from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.few_shot import Shots
from mmfuse.errors import MmfuseError


def training_clips(
    catalogue: Catalogue, *, shots: Shots, draw: int, train_list: Path | str | None = None
) -> pd.DataFrame:
    """The clips of a draw, or of the published list that takes its place.

    Raises:
        MmfuseError: as `few_shot.draw_clips` or `read_list`, or the list holds another number of clips of a class than
            `shots`.
    """
    if train_list is None:
        return few_shot.draw_clips(catalogue, shots=shots, draw=draw)
    rows = read_list(catalogue, Path(train_list))
    counts = rows["class"].value_counts()
    for name in catalogue.class_names if shots != "all" else ():
        found = int(counts.get(name, 0))
        if found != shots and name not in catalogue.card.dead_classes:
            raise MmfuseError(f"{train_list}: {found} clips of {name!r}; at K = {shots} each class has {shots}")
    return rows


def read_list(catalogue: Catalogue, path: Path) -> pd.DataFrame:
    """The rows of the training part that a list names, in the list's order.

    Args:
        catalogue: says which label each clip really has.
        path: the list.

    Raises:
        MmfuseError: a line that is not "clip label", a clip that is not in the training part of this split, a label
            that means another class than the clip's own (both are named, and what kind of list this seems to be), a
            clip named twice. Each names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise MmfuseError(f"{path}: the list cannot be read ({fault})") from fault
    known = {_key(clip): row for row, clip in enumerate(catalogue.table["clip"])}
    chosen: dict[int, _Line] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        line = _parsed(text.strip(), f"{path}:{number}")
        row = _row(catalogue, known, line)
        if row in chosen:
            raise MmfuseError(f"{line.where}: {line.clip} is named already ({chosen[row].where})")
        chosen[row] = line
    if not chosen:
        raise MmfuseError(f"{path}: the list names no clips")
    _check_labels(catalogue, chosen)
    return catalogue.table.iloc[list(chosen)].reset_index(drop=True)


class _Line(NamedTuple):
    clip: str
    label: int
    where: str


def _parsed(line: str, where: str) -> _Line:
    name, _, label = line.rpartition(" ")
    # int() reads digits of all scripts, but not the likes of ², and not thousands of them.
    if not name or not label.isdecimal() or len(label) > 9:
        raise MmfuseError(f"{where}: expected 'clip label', with the label a number from 0; found {line!r:.200}")
    return _Line(name.strip(), int(label), where)


def _row(catalogue: Catalogue, known: dict[str, int], line: _Line) -> int:
    """The row of a line's clip, which must be one to train on."""
    row = known.get(_key(line.clip))
    if row is None:
        name, _, frames = line.clip.rpartition(" ")
        if frames.isdecimal() and _key(name) in known:
            raise MmfuseError(
                f"{line.where}: this is a list of raw frames (path frames label); give the one of videos (path label)"
            )
        raise MmfuseError(f"{line.where}: {line.clip} is not a clip of {catalogue.card.title} split {catalogue.split}")
    clip = catalogue.table.iloc[row]
    if clip["part"] != "train":
        raise MmfuseError(
            f"{line.where}: {clip['clip']} is in the test part of split {catalogue.split}; training on it would leak: "
            "choose the split that the list was made for"
        )
    return row


def _check_labels(catalogue: Catalogue, chosen: Mapping[int, _Line]) -> None:
    """Refuse labels that mean other classes, and say why that may be."""
    labels, classes, names = catalogue.table["label"], catalogue.table["class"], catalogue.class_names
    wrong = next((row for row, line in chosen.items() if line.label != labels[row]), None)
    if wrong is None:
        return
    line = chosen[wrong]
    meant = names[line.label] if line.label < len(names) else f"none of the {len(names)} classes"
    raise MmfuseError(
        f"{line.where}: label {line.label} is {meant}, but {catalogue.table['clip'][wrong]} shows {classes[wrong]}: "
        f"{_cause([(int(labels[row]), line.label) for row, line in chosen.items()], len(names))}"
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


def _key(clip: str) -> str:
    """Clips are matched by file name without folder, suffix and case."""
    name = PurePosixPath(clip.replace("\\", "/")).name
    stem, dot, suffix = name.rpartition(".")
    return (stem if dot and len(suffix) <= 4 else name).casefold()

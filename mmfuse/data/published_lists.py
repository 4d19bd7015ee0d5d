"""Training lists that others have published, so that their splits can be run.

Two kinds are read: `path label` (mmaction2) and `clip.avi label` (ViFi-CLIP), one clip a line, labels from 0.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

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
        MmfuseError: as `few_shot.draw` or `read_list`, or the list holds another number of clips of a class than
            `shots`.
    """
    if train_list is None:
        return few_shot.draw(catalogue, shots=shots, draw=draw)
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
            that means another class than the clip's own (both are named), a clip named twice. Each names file and
            line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise MmfuseError(f"{path}: the list cannot be read ({fault})") from fault
    known = {_key(clip): row for row, clip in enumerate(catalogue.table["clip"])}
    chosen: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = _row(catalogue, known, line.strip(), f"{path}:{number}")
            if row in chosen:
                raise MmfuseError(f"{path}:{number}: {line.split()[0]} is on line {chosen[row]} already")
            chosen[row] = number
    if not chosen:
        raise MmfuseError(f"{path}: the list names no clips")
    return catalogue.table.iloc[list(chosen)].reset_index(drop=True)


def _row(catalogue: Catalogue, known: dict[str, int], line: str, where: str) -> int:
    name, _, label = line.rpartition(" ")
    if not name or not label.isdecimal():
        raise MmfuseError(f"{where}: expected 'clip label', with the label a number from 0; found {line!r}")
    row = known.get(_key(name.strip()))
    if row is None:
        raise MmfuseError(f"{where}: {name.strip()} is not a clip of {catalogue.card.title} split {catalogue.split}")
    clip = catalogue.table.iloc[row]
    if clip["part"] != "train":
        raise MmfuseError(
            f"{where}: {clip['clip']} is in the test part of split {catalogue.split}; training on it would leak: "
            "choose the split that the list was made for"
        )
    names = catalogue.class_names
    meant = names[int(label)] if int(label) < len(names) else f"none of the {len(names)} classes"
    if meant != clip["class"]:
        raise MmfuseError(
            f"{where}: label {label} is {meant}, but {clip['clip']} shows {clip['class']}: the list numbers the "
            "classes in another order"
        )
    return row


def _key(clip: str) -> str:
    """Clips are matched by file name without folder, suffix and case."""
    name = PurePosixPath(clip.replace("\\", "/")).name
    stem, dot, suffix = name.rpartition(".")
    return (stem if dot and len(suffix) <= 4 else name).casefold()

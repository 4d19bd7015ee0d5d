"""A user's own videos: two CSV files, or the folders train/<class>/* and test/<class>/*."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmfuse.data.catalogue.cards import DataCard, in_words, parse_classes
from mmfuse.data.catalogue.locate import VIDEO_SUFFIXES
from mmfuse.data.catalogue.official_lists import Row
from mmfuse.errors import MmfuseError, unknown
from mmfuse.utils.files import refuse_name

_KEYS = ("name", "root", "train", "test", "classes")
LONGEST_PATH = 4000
_COLUMNS = ("path", "label", "group")


class _Entry(NamedTuple):
    path: str
    label: str
    group: str
    part: str
    where: str


def read(dataset: Mapping[str, Any], *, root: Path | None = None) -> tuple[DataCard, list[Row], Path | None]:
    """Read a data set of one's own.

    Args:
        dataset: `name`; `train` and `test` (CSV files with the columns path, label and, if wanted, group), or `root`
            alone for folders; `classes` to give their order or their phrases. Videos and lists lie below `root` or
            are absolute.
        root: takes the place of `dataset["root"]` where that is not given.

    Returns:
        Its card, its rows (the clip's id is its path as given), and the folder that relative paths start from.

    Raises:
        MmfuseError: a key, column, row or label that is wrong, named with its file and line.
    """
    for key in dataset:
        if key not in _KEYS:
            raise unknown("key of a data set", key, _KEYS)
    name = dataset.get("name")
    if not name:
        raise MmfuseError("a data set of your own needs a name")
    refuse_name(str(name), what="data set")
    given = dataset.get("root") or root
    folder = Path(given).expanduser().absolute() if given else None
    entries = list(_entries(str(name), dataset, folder))
    classes = _classes(dataset, entries, str(name))
    _check(entries, classes, str(name))
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    card = DataCard(
        name=str(name),
        title=str(name),
        class_names=tuple(classes),
        phrases=tuple(classes.values()),
        short_side=256,
        dead_classes=tuple(c for c in classes if not any(entry.label == c for entry in entries)),
    )
    rows = [
        Row(entry.path, label_of[entry.label], entry.label, entry.group, entry.part, _located(entry.path, folder))
        for entry in entries
    ]
    return card, rows, folder


def _entries(name: str, dataset: Mapping[str, Any], folder: Path | None) -> Iterator[_Entry]:
    if bool(dataset.get("train")) != bool(dataset.get("test")):
        raise MmfuseError(f"data set {name!r}: give both lists, 'train' and 'test', or neither and a root with folders")
    for part in ("train", "test"):
        if dataset.get("train"):
            yield from _from_csv(Path(_located(str(dataset[part]), folder)), part)
        elif folder is None:
            raise MmfuseError(f"data set {name!r}: give 'train' and 'test' lists, or a 'root' with folders")
        else:
            yield from _from_folders(folder, part)


def _from_csv(path: Path, part: str) -> Iterator[_Entry]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = reader.fieldnames or []
            if not {"path", "label"} <= set(columns):
                raise MmfuseError(f"{path}: the first line must name the columns path,label[,group], not {columns}")
            if surplus := sorted(set(columns) - set(_COLUMNS)):
                raise MmfuseError(f"{path}: {unknown('column', surplus[0], _COLUMNS)}")
            count = 0
            for row in reader:
                count += 1
                yield _entry(row, part, f"{path}:{reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else fault
        raise MmfuseError(f"{path}: the list cannot be read ({reason})") from fault
    if not count:
        raise MmfuseError(f"{path}: the list holds no clips; write one a line, as path,label[,group]")


def _entry(row: dict[str | Any, str | Any], part: str, where: str) -> _Entry:
    if None in row or any(row.get(column) is None for column in ("path", "label")):
        raise MmfuseError(
            f"{where}: another number of fields than the first line has; a path with a comma stands in quotes"
        )
    path, label = row["path"].strip(), row["label"].strip()
    if not path or not label:
        raise MmfuseError(f"{where}: the {'path' if not path else 'label'} is empty")
    if "\0" in path or len(path) > LONGEST_PATH:
        raise MmfuseError(f"{where}: {path!r:.80} is no path of a file; correct the list")
    # Without a group a clip is its own source.
    return _Entry(path, label, (row.get("group") or "").strip() or path, part, where)


def _from_folders(folder: Path, part: str) -> Iterator[_Entry]:
    base = folder / part
    if not base.is_dir():
        raise MmfuseError(f"{folder}: expected the folders train/<class> and test/<class>; {part} is not there")
    count = 0
    for class_folder in sorted(entry for entry in base.iterdir() if entry.is_dir() and entry.name[0] != "."):
        for video in sorted(class_folder.rglob("*")):
            if video.suffix.lower() in VIDEO_SUFFIXES and video.name[0] != ".":
                count += 1
                path = video.relative_to(folder).as_posix()
                yield _Entry(path, class_folder.name, path, part, str(video))
    if not count:
        raise MmfuseError(f"{base}: no videos in {part}/<class>/; put them there, or give lists")


def _classes(dataset: Mapping[str, Any], entries: list[_Entry], name: str) -> dict[str, str]:
    if dataset.get("classes"):
        return parse_classes(dataset["classes"], where=f"data set {name!r}")
    names = {entry.label for entry in entries if entry.part == "train"}
    # Numbers are sorted as numbers, so that label "10" comes after "9".
    ordered = sorted(names, key=lambda label: (0, int(label), label) if label.isdecimal() else (1, 0, label))
    return {label: in_words(label) for label in ordered}


def _check(entries: list[_Entry], classes: dict[str, str], name: str) -> None:
    seen: dict[str, _Entry] = {}
    for entry in entries:
        if entry.label not in classes:
            raise MmfuseError(f"{entry.where}: {unknown('class', entry.label, classes)}")
        if earlier := seen.get(entry.path):
            if earlier.part != entry.part:
                raise MmfuseError(f"{entry.where}: {entry.path} is in the training list too ({earlier.where})")
            raise MmfuseError(f"{entry.where}: {entry.path} is listed twice ({earlier.where})")
        seen[entry.path] = entry
    if len(classes) < 2:
        raise MmfuseError(f"data set {name!r}: one class alone cannot be told from anything; list at least two")
    if len(set(classes.values())) < len(classes):
        twice = sorted(p for p in classes.values() if list(classes.values()).count(p) > 1)[0]
        raise MmfuseError(f"data set {name!r}: two classes share the words {twice!r}; give each its own phrase")


def _located(path: str, folder: Path | None) -> str:
    given = Path(path).expanduser()
    return str(given if given.is_absolute() or folder is None else folder / given)

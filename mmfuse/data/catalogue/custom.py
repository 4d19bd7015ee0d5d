"""A user's own videos: a folder with train.csv and test.csv, or with the folders train/<class>/* and test/<class>/*.

What the classes are called in prompts is said by `classes` in the request, or by a file `classes.csv` in the root.
"""

from __future__ import annotations

import csv
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from mmfuse.data.catalogue.cards import DataCard, card_names, in_words, parse_classes
from mmfuse.data.catalogue.duplicates import Entry, refuse_duplicates
from mmfuse.data.catalogue.official_lists import Row
from mmfuse.data.catalogue.walk import described, walk, why_no_video
from mmfuse.errors import MmfuseError, unknown
from mmfuse.utils.files import refuse_name, user_path

PARTS = ("train", "test")
_KEYS = ("name", "root", "train", "test", "classes")
LONGEST_PATH = 4000
CLASSES_FILE = "classes.csv"
_COLUMNS = ("path", "label", "group")


class Custom(NamedTuple):
    """What a user's lists or folders say."""

    card: DataCard
    rows: list[Row]
    root: Path | None
    """The folder that relative paths start from, where one was given."""
    warnings: list[str]
    """What a user should know before a number is made of them."""


def named(dataset: str, *, beside: Path | None = None) -> str | dict[str, Any]:
    """A data set by what a user calls it: the name of a card, or a folder of clips.

    Args:
        dataset: what was written.
        beside: where a relative folder is looked for first; then in the current folder.

    Returns:
        The keys of a data set of one's own where it is a folder; else the name as it was given.

    Raises:
        MmfuseError: a path where no folder is, or a list of clips that are not divided.
    """
    given = user_path(dataset)
    place = beside / given if beside is not None and (beside / given).exists() else given
    if dataset in card_names():
        return dataset
    if place.is_file() and place.suffix.lower() == ".csv":
        raise MmfuseError(
            f"{dataset} is one list, and a data set needs two, for training and test; divide it by source: "
            f"{_how_to_divide(dataset)}"
        )
    if not place.is_dir():
        if os.sep not in dataset and not place.exists():
            return dataset
        kind = "is no folder" if place.exists() else "is not there"
        raise MmfuseError(f"{dataset} {kind}; give the folder of your clips, or a data set by name")
    folder = place.absolute()
    return {"name": folder.name, "root": str(folder), **lists_in(folder)}


def lists_in(folder: Path) -> dict[str, str]:
    """The lists of a data set in its folder, by the keys that name them."""
    return {part: f"{part}.csv" for part in PARTS if (folder / f"{part}.csv").is_file()}


def _how_to_divide(clips: Path | str) -> str:
    return shlex.join(["mmfuse", "data", "divide", str(clips)])


def read(dataset: Mapping[str, Any], *, root: Path | None = None) -> Custom:
    """Read a data set of one's own.

    Args:
        dataset: `name`; `train` and `test` (CSV files with the columns path, label and, if wanted, group), or `root`
            alone for folders; `classes` to give their order or their phrases, which a file `classes.csv` in the root
            (columns name, phrase) gives as well. Videos and lists lie below `root` or are absolute.
        root: takes the place of `dataset["root"]` where that is not given.

    Returns:
        Its card, its rows (the clip's id is its path as given), its folder, and warnings.

    Raises:
        MmfuseError: a key, column, row or label that is wrong, named with its file and line; a video that stands in
            both lists, under two labels, or twice, however it is written.
    """
    for key in dataset:
        if key not in _KEYS:
            raise unknown("key of a data set", key, _KEYS)
    name = dataset.get("name")
    if not name:
        raise MmfuseError("a data set of your own needs a name")
    refuse_name(str(name), what="data set")
    given = dataset.get("root") or root
    folder = user_path(given).absolute() if given else None
    if folder is not None and not folder.is_dir():
        raise MmfuseError(f"data set {name!r}: there is no folder {folder}; name the folder of your clips as 'root'")
    if folder is not None and not (dataset.get("train") or dataset.get("test")):
        dataset = {**dataset, **lists_in(folder)}
    warnings: list[str] = []
    entries = list(_entries(str(name), dataset, folder, warnings))
    classes, named = _classes(dataset, entries, str(name), folder)
    _check_classes(entries, classes, str(name))
    warnings += refuse_duplicates(entries)
    if not named and all(label.isdecimal() for label in classes):
        warnings.append(_unnamed(classes))
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    used = {entry.label for entry in entries}
    card = DataCard(
        name=str(name),
        title=str(name),
        class_names=tuple(classes),
        phrases=tuple(classes.values()),
        short_side=256,
        dead_classes=tuple(c for c in classes if c not in used),
    )
    # Without a group a clip is its own source.
    rows = [
        Row(entry.path, label_of[entry.label], entry.label, entry.group or entry.path, entry.part, entry.located)
        for entry in entries
    ]
    return Custom(card, rows, folder, warnings)


def _entries(name: str, dataset: Mapping[str, Any], folder: Path | None, warnings: list[str]) -> Iterator[Entry]:
    if bool(dataset.get("train")) != bool(dataset.get("test")):
        raise MmfuseError(f"data set {name!r}: give both lists, 'train' and 'test', or neither and a root with folders")
    if folder is not None and not dataset.get("train"):
        _refuse_undivided(folder)
    for part in PARTS:
        if dataset.get("train"):
            yield from read_list(Path(_located(str(dataset[part]), folder)), part, folder)
        elif folder is None:
            raise MmfuseError(f"data set {name!r}: give 'train' and 'test' lists, or a 'root' with folders")
        else:
            yield from _from_folders(folder, part, warnings)


def read_list(path: Path, part: str, folder: Path | None) -> Iterator[Entry]:
    """The clips of a CSV file with the columns path, label and, if wanted, group.

    Args:
        path: the file.
        part: what its clips are for, "train" or "test".
        folder: where relative paths start.

    Raises:
        MmfuseError: a column or a line that is wrong, or no clips at all.
    """
    count = 0
    for where, row in _rows(path, columns=_COLUMNS, needed=2):
        count += 1
        clip, label = row["path"], row["label"]
        if not clip or not label:
            raise MmfuseError(f"{where}: the {'path' if not clip else 'label'} is empty")
        if "\0" in clip or len(clip) > LONGEST_PATH:
            raise MmfuseError(f"{where}: {clip!r:.80} is no path of a file; correct the list")
        yield Entry(clip, label, row.get("group") or None, part, where, _located(clip, folder))
    if not count:
        raise MmfuseError(f"{path}: the list holds no clips; write one a line, as path,label[,group]")


def _rows(path: Path, *, columns: tuple[str, ...], needed: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Place and fields of each line of a CSV file, without blanks around them.

    Args:
        path: the file.
        columns: that it may have.
        needed: how many of them, from the first, it must have.

    Raises:
        MmfuseError: another first line, a line of another length, or a file that cannot be read.
    """
    written = ",".join(columns[:needed]) + "".join(f"[,{column}]" for column in columns[needed:])
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            found = [(column or "").strip() for column in reader.fieldnames or []]
            if not set(columns[:needed]) <= set(found):
                raise MmfuseError(f"{path}: the first line must name the columns {written}, not {found}{_cause(found)}")
            if surplus := sorted(set(found) - set(columns)):
                raise MmfuseError(f"{path}: {unknown('column', surplus[0], columns)}")
            if len(set(found)) < len(found):
                raise MmfuseError(f"{path}: the first line names a column twice; name each of {written} once")
            reader.fieldnames = found
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or any(row.get(column) is None for column in columns[:needed]):
                    raise MmfuseError(
                        f"{where}: another number of fields than the first line has; a path with a comma stands in "
                        "quotes"
                    )
                yield where, {column: (value or "").strip() for column, value in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else fault
        raise MmfuseError(f"{path}: the list cannot be read ({reason})") from fault


def _cause(found: list[str]) -> str:
    """What a first line that names no columns probably is."""
    line = " ".join(found)
    if ";" in line or "\t" in line:
        return "; put commas between the fields, not semicolons or tabs"
    if len(found) == 1 and line.rpartition(" ")[2].isdecimal():
        fields = line.split()
        kind = "raw frames (path frames label)" if len(fields) > 2 and fields[-2].isdecimal() else "`path label`"
        return (
            f"; this is a list of {kind}: write a CSV of videos, with names for its numbered labels in {CLASSES_FILE}"
        )
    if any("." in field or "/" in field for field in found):
        return "; the columns are not named: put such a line before the first clip"
    return ""


def _refuse_undivided(folder: Path) -> None:
    """Say of a folder with a folder for each class what it is, and how it becomes a data set."""
    if any((folder / part).is_dir() for part in PARTS):
        return
    found = {place.name: len(walk(place).videos) for place in class_folders(folder)[0]}
    classes = [name for name, videos in found.items() if videos]
    if classes:
        shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
        raise MmfuseError(
            f"{folder}: {sum(found.values()):,} clips in {len(classes)} folders by class ({shown}), not divided into "
            f"training and test yet; divide them by source: {_how_to_divide(folder)}"
        )


def _from_folders(folder: Path, part: str, warnings: list[str]) -> Iterator[Entry]:
    base = folder / part
    if not base.is_dir():
        raise MmfuseError(f"{folder}: expected the folders train/<class> and test/<class>; {part} is not there")
    places, passed_over = class_folders(base)
    videos = {place: videos_of(place, passed_over) for place in places}
    if passed_over:
        warnings.append(f"{base}: {described(passed_over.items(), below=base)}")
    hint = f" ({described(passed_over.items(), below=base)})" if passed_over else ""
    if not any(videos.values()):
        raise MmfuseError(f"{base}: no videos in {part}/<class>/; put them there, or give lists{hint}")
    for place, inside in videos.items():
        if not inside:
            raise MmfuseError(f"{place}: the class has no videos; put some there, or remove the folder{hint}")
        for video in inside:
            path = video.relative_to(folder).as_posix()
            yield Entry(path, place.name, None, part, str(video), str(video))


def class_folders(base: Path) -> tuple[list[Path], dict[Path, str]]:
    """The folders that name classes, and what lies beside them that might have been meant as a clip."""
    try:
        inside = sorted(base.iterdir())
    except OSError as fault:
        raise MmfuseError(f"{base}: the folder cannot be read ({fault.strerror or fault})") from fault
    places = [place for place in inside if place.is_dir() and not place.name.startswith(".")]
    beside = {place: why_no_video(place) for place in inside if not place.is_dir()}
    return places, {place: why or "outside of the folders by class" for place, why in beside.items() if why != ""}


def videos_of(place: Path, passed_over: dict[Path, str]) -> list[Path]:
    """The videos of a class; what was passed over is added to `passed_over`.

    Raises:
        MmfuseError: a folder cannot be read.
    """
    found = walk(place)
    for unreadable, why in found.unreadable.items():
        raise MmfuseError(f"{unreadable}: the folder cannot be read ({why}), and its clips would be missing")
    passed_over |= found.passed_over
    return found.videos


def _classes(
    dataset: Mapping[str, Any], entries: list[Entry], name: str, folder: Path | None
) -> tuple[dict[str, str], bool]:
    """Class name -> phrase in label order, and whether the user has said them."""
    given = dataset.get("classes")
    if given is not None and len(given):
        given = given.tolist() if hasattr(given, "tolist") else given  # numpy and pandas hold names as well
        return parse_classes(given, where=f"data set {name!r}"), True
    file = folder / CLASSES_FILE if folder is not None else None
    if file is not None and file.is_file():
        rows = [row for _, row in _rows(file, columns=("name", "phrase"), needed=1)]
        return parse_classes(rows, where=str(file)), True
    names = {entry.label for entry in entries if entry.part == "train"}
    # Numbers are sorted as numbers, so that label "10" comes after "9".
    ordered = sorted(names, key=lambda label: (0, int(label), label) if label.isdecimal() else (1, 0, label))
    return {label: in_words(label) for label in ordered}, False


def _check_classes(entries: list[Entry], classes: dict[str, str], name: str) -> None:
    trained = {entry.label for entry in entries if entry.part == "train"}
    for entry in entries:
        if entry.label not in classes:
            raise MmfuseError(f"{entry.where}: {unknown('class', entry.label, classes)}")
        if entry.label not in trained:
            raise MmfuseError(
                f"{entry.where}: the class {entry.label!r} has test clips but no training clip, so that it could never "
                "be named; add some, or take it out of the test list"
            )
    if len(classes) < 2:
        raise MmfuseError(f"data set {name!r}: one class alone cannot be told from anything; list at least two")
    if len(set(classes.values())) < len(classes):
        twice = sorted(p for p in classes.values() if list(classes.values()).count(p) > 1)[0]
        raise MmfuseError(f"data set {name!r}: two classes share the words {twice!r}; give each its own phrase")


def _unnamed(classes: Mapping[str, str]) -> str:
    return (
        f"the {len(classes)} classes are numbers, so that prompts speak of 'a person {next(iter(classes))}': name them "
        f"in a file {CLASSES_FILE} in the root (columns name,phrase, such as 0,waving a hand), or by 'classes'"
    )


def _located(path: str, folder: Path | None) -> str:
    """Where a file of a list lies: below the folder, at home (`~/`), absolute, or a `file://` address."""
    if path.startswith("file://"):
        path = unquote(urlsplit(path).path)
    given = Path(path) if path.startswith("~") and _lies_in(folder, path) else user_path(path)
    placed = given if given.is_absolute() or folder is None else folder / given
    if "\\" in path and not placed.exists():  # as Windows writes paths; here it may be part of a name
        return _located(path.replace("\\", "/"), folder)
    return str(placed)


def _lies_in(folder: Path | None, path: str) -> bool:
    """Whether a name that begins with a tilde is a file's own."""
    return folder is not None and (folder / path).exists()

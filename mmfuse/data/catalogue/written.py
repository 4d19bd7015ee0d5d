"""A division written down: train.csv, test.csv and how they were made, all of them or none."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from mmfuse.data.catalogue import custom
from mmfuse.data.catalogue.divide import Division
from mmfuse.data.catalogue.undivided import Undivided
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import write_atomically

HOW_FILE = "division.json"
FILES = ("train.csv", "test.csv", HOW_FILE)


def refuse_taken(folder: Path, *, force: bool) -> None:
    """Refuse to write over a division.

    Raises:
        MmfuseError: one of the files is there, and `force` is not wanted.
    """
    taken = [name for name in FILES if (folder / name).exists()]
    if taken and not force:
        raise MmfuseError(
            f"{folder / taken[0]} is there already; name another folder by --out, or write over it by --force"
        )


def write_division(
    division: Division, clips: Undivided, folder: Path, *, how: Mapping[str, Any], force: bool = False
) -> None:
    """Write the lists of a division, and how they were made, into a folder, which is then a data set.

    Args:
        division: what to write.
        clips: what was divided. Their paths are written from `folder`, but for those that were given as absolute ones.
        folder: where to; made where it is not there.
        how: settings of the division, for the file that tells of it.
        force: write over a division that is there.

    Raises:
        MmfuseError: files of that name are there, or the lists make no data set; nothing is written then.
        OSError: the folder cannot be written; nothing is changed then.
    """
    refuse_taken(folder, force=force)
    parts = {"train": division.train, "test": division.test}
    counts = {part: rows["class"].value_counts().to_dict() for part, rows in parts.items()}
    told = {
        **how,
        "clips": {part: len(rows) for part, rows in parts.items()},
        "sources": division.groups,
        "classes": {name: {part: counts[part][name] for part in parts} for name in clips.class_names},
        "notes": [*division.notes, *clips.warnings],
    }
    contents = {f"{part}.csv": _list(rows, folder) for part, rows in parts.items()}
    contents[HOW_FILE] = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    if (named := clips.root / custom.CLASSES_FILE).is_file() and clips.root != folder:
        contents[custom.CLASSES_FILE] = named.read_text(encoding="utf-8")
    made = not folder.exists()
    beside = folder / ".division"  # in the same file system, so that the last step is a renaming
    try:
        for name, content in contents.items():
            write_atomically(beside / name, content)
        lists = {part: str(beside / f"{part}.csv") for part in parts}
        custom.read({"name": clips.name, "root": str(folder), **lists})
        for name in contents:
            os.replace(beside / name, folder / name)
    except BaseException:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        with suppress(OSError):
            shutil.rmtree(beside)


def list_text(rows: Iterable[tuple[str, str, str]]) -> str:
    """A list of clips as `custom.read_list` reads it.

    Args:
        rows: path, label and group of each clip.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "group"])
    writer.writerows(rows)
    return text.getvalue()


def _list(rows: pd.DataFrame, folder: Path) -> str:
    found = zip(rows["clip"], rows["path"], rows["class"], rows["group"], strict=True)
    return list_text(
        (clip if Path(clip).is_absolute() else _path_from(folder, Path(path)), label, group)
        for clip, path, label, group in found
    )


def _path_from(folder: Path, path: Path) -> str:
    """A file's path from a folder, by the folders' real places where it does not lie below."""
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    real = Path(os.path.realpath(path.parent)) / path.name
    return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()

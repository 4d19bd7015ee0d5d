"""Clips that are sorted into classes but not into training and test: class folders, or one CSV file."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mmfuse.data.catalogue import custom
from mmfuse.data.catalogue.duplicates import Entry, refuse_duplicates
from mmfuse.data.catalogue.walk import described
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import refuse_unprintable, user_path

COLUMNS = ("clip", "class", "group", "path")


@dataclass(frozen=True)
class Undivided:
    """Clips with their classes."""

    name: str
    """What the clips are called: their folder, or the CSV file without its ending."""
    table: pd.DataFrame
    """One row a clip, by class and then by name: `clip` (its path as given, from the root), `class`, `group` (the
    source that it was cut from; `None` where none was given), `path` (where it lies, absolute)."""
    root: Path
    """The folder that the paths of clips start from."""
    warnings: tuple[str, ...] = ()
    """Copies in one class, and what was passed over."""

    @property
    def class_names(self) -> list[str]:
        """The classes in order of their names."""
        return sorted(set(self.table["class"]))


def is_divided(folder: Path) -> bool:
    """Whether a folder has training and test clips already, as lists or as folders."""
    return any(all((folder / f"{part}{kind}").exists() for part in custom.PARTS) for kind in (".csv", ""))


def read_undivided(clips: Path | str) -> Undivided:
    """Read clips that are not divided yet.

    Args:
        clips: a folder with a folder for each class, or a CSV file with the columns path, label and, if wanted, group,
            whose paths start from the file's own folder or are absolute.

    Raises:
        MmfuseError: neither of these, or divided already; no clips, one class, a class with one clip; names that other
            systems or a list would confuse; a video that stands there twice, or under two labels.
    """
    place = user_path(clips).absolute()
    warnings: list[str] = []
    if all((place / part).is_dir() for part in custom.PARTS):
        raise MmfuseError(
            f"{place} is divided already, into the folders train and test; look at it by mmfuse data check, or name a "
            "folder of class folders"
        )
    if place.is_dir():
        root, entries = place, list(_from_class_folders(place, warnings))
    elif place.is_file():
        root, entries = place.parent, list(custom.read_list(place, "train", place.parent))
    else:
        raise MmfuseError(f"{clips}: there is no such folder or file; name the folder of your clips, or a CSV file")
    for entry in entries:
        _refuse_names(entry)
    _refuse_confusable(entries)
    warnings += refuse_duplicates(entries)
    _refuse_few(entries, clips)
    rows = [(entry.path, entry.label, entry.group, entry.located) for entry in entries]
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    table = table.sort_values(["class", "clip"], kind="stable", ignore_index=True)
    return Undivided(place.name if place.is_dir() else place.stem, table, root, tuple(warnings))


def _from_class_folders(root: Path, warnings: list[str]) -> Iterable[Entry]:
    places, passed_over = custom.class_folders(root)
    if not places:
        beside = f" ({described(passed_over.items(), below=root)})" if passed_over else ""
        raise MmfuseError(f"{root}: expected a folder for each class, with its videos in it{beside}")
    found = {place: custom.videos_of(place, passed_over) for place in places}
    hint = f" ({described(passed_over.items(), below=root)})" if passed_over else ""
    for place, videos in found.items():
        if not videos:
            raise MmfuseError(f"{place}: the class has no videos; put some there, or remove the folder{hint}")
        for video in videos:
            yield Entry(video.relative_to(root).as_posix(), place.name, None, "train", str(video), str(video))
    if passed_over:
        warnings.append(f"{root}: {described(passed_over.items(), below=root)}")


def _refuse_names(entry: Entry) -> None:
    """Refuse names that a list of clips cannot hold."""
    refuse_unprintable(entry.path, what="clip")
    refuse_unprintable(entry.label, what="class")
    try:
        entry.path.encode()
    except UnicodeEncodeError:
        raise MmfuseError(f"{entry.path!r}: the name is not UTF-8, and no list could name it; rename it") from None
    if entry.path != entry.path.strip():
        raise MmfuseError(f"{entry.path!r}: a path in a list neither begins nor ends with a blank; rename it")


class _Kind(NamedTuple):
    """A way in which two names may be confused."""

    what: str
    of: Callable[[Entry], str]
    key: Callable[[str], Hashable]


def _one_spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _one_word(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", _one_spelling(name)).strip()


_KINDS = (
    _Kind("classes", lambda entry: entry.label, _one_word),
    _Kind("clips", lambda entry: entry.located, _one_spelling),
)


def _refuse_confusable(entries: Iterable[Entry]) -> None:
    """Refuse two names that differ in case, blanks or the form of letters alone: elsewhere they are one."""
    for kind in _KINDS:
        names: dict[Hashable, dict[str, Entry]] = defaultdict(dict)
        for entry in entries:
            names[kind.key(kind.of(entry))].setdefault(kind.of(entry), entry)
        for alike in names.values():
            if len(alike) > 1:
                one, other = sorted(alike)[:2]
                raise MmfuseError(
                    f"the {kind.what} {one!r} and {other!r} differ in case, blanks or the form of their letters alone "
                    f"({alike[other].where}); rename one of them, or make them one"
                )


def _refuse_few(entries: list[Entry], clips: Path | str) -> None:
    counts: dict[str, int] = defaultdict(int)
    for entry in entries:
        counts[entry.label] += 1
    if len(counts) < 2:
        raise MmfuseError(
            f"{clips}: one class alone ({next(iter(counts))!r}) cannot be told from anything; at least two are needed"
        )
    single = sorted(name for name, count in counts.items() if count < 2)
    if single:
        more = f" (and {len(single) - 1} more classes)" if len(single) > 1 else ""
        raise MmfuseError(
            f"the class {single[0]!r} has one clip{more}, which cannot be in training and in test; add clips, or take "
            "the class out"
        )

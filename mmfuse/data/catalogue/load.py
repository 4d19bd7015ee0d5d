"""Official annotation files and users' own lists, read into one table a data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mmfuse.data.catalogue import custom, official_lists
from mmfuse.data.catalogue.cards import DataCard, card_names, load_card
from mmfuse.data.catalogue.locate import dataset_folder, find_videos
from mmfuse.data.catalogue.official_lists import Row
from mmfuse.data.catalogue.something_something import read_something_something
from mmfuse.errors import MmfuseError, MmfuseWarning, unknown
from mmfuse.utils.files import sha256_of_json

READERS = {**official_lists.READERS, "ssv2": read_something_something}
COLUMNS = ("clip", "label", "class", "phrase", "group", "part", "path")


@dataclass(frozen=True)
class Catalogue:
    """Every clip of one split of a data set."""

    name: str
    split: int
    card: DataCard
    table: pd.DataFrame
    """One row a clip: `clip` (id), `label` (from 0), `class` (official name), `phrase` (the class in words),
    `group` (clips of one source share it), `part` ("train" or "test"), `path` (below the root as published, or where it
    was found)."""
    root: Path | None = None
    """The folder that relative paths start from, where one was given."""
    places: tuple[Path, ...] = ()
    """The folders that lists are looked for in, first come first served."""
    warnings: tuple[str, ...] = ()
    """What a user should know before a number is made of these clips, such as sources with clips in both lists."""
    orders: dict[int, dict[int, list[int]]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `few_shot` has found of a draw: every number of shots is cut from one order of the clips."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Official names in label order."""
        return self.card.class_names

    @property
    def phrases(self) -> tuple[str, ...]:
        """The classes in words that complete a template, in label order."""
        return self.card.phrases

    @property
    def class_subsets(self) -> dict[str, tuple[int, ...]]:
        """Named sets of classes that are reported apart, by label; none where only some of the classes are here."""
        whole = load_card(self.name).class_count if self.name in card_names() else 0
        return dict(self.card.subsets) if len(self.class_names) == whole else {}

    @property
    def fingerprint(self) -> str:
        """Digest of which clip has which label in which part; where the files lie does not matter."""
        rows = zip(self.table["clip"], self.table["label"].tolist(), self.table["part"], strict=True)
        return sha256_of_json(sorted(list(row) for row in rows))

    def warn(self, *, stacklevel: int = 2) -> None:
        """Issue the warnings, each as a `MmfuseWarning`."""
        for text in self.warnings:
            warnings.warn(f"{self.card.title}: {text}", MmfuseWarning, stacklevel=stacklevel + 1)

    def part(self, name: str) -> pd.DataFrame:
        """The rows of "train" or "test", counted from 0."""
        return self.table[self.table["part"] == name].reset_index(drop=True)


def load_catalogue(
    dataset: str | dict[str, Any], *, split: int = 1, root: Path | None = None, annotations: Path | None = None
) -> Catalogue:
    """Read which clips a data set has.

    Args:
        dataset: the name of a card ("ucf101", "hmdb51", "diving48", "tiny"), or a mapping for clips of one's own:
            {"name", "root", "train", "test", ["classes"]} for two CSV files, {"name", "root"} for a folder with
            train.csv and test.csv or with train/<class>/* and test/<class>/*. Such a folder's path is enough, too.
        split: the official fold, from 1.
        root: the folder with the videos, or one that holds the data set's folder. Where it is given, `path` is
            where each video was found; videos that were not found keep the published path.
        annotations: the folder with the official lists; by default looked for below `root` and in
            $MMFUSE_ANNOTATIONS.

    Raises:
        MmfuseError: an unknown data set or split; lists that are missing, incomplete or of the wrong version.
    """
    catalogue = published(dataset, split=split, root=root, annotations=annotations)
    used = catalogue.table[catalogue.table["part"] != "unused"].reset_index(drop=True)
    return replace(catalogue, table=used)


def published(
    dataset: str | dict[str, Any], *, split: int = 1, root: Path | None = None, annotations: Path | None = None
) -> Catalogue:
    """Like `load_catalogue`, with the clips that the lists name but do not use, whose part is "unused"."""
    if isinstance(dataset, dict) and set(dataset) == {"name"}:
        dataset = dataset["name"]
    if isinstance(dataset, str):
        dataset = custom.named(dataset)
    if isinstance(dataset, dict):
        found = custom.read(dataset, root=root)
        _check_split(found.card.title, split, (1,))  # one pair of lists: another split would repeat the same numbers
        table = _table(found.rows, found.card)
        return Catalogue(found.card.name, split, found.card, table, found.root, warnings=tuple(found.warnings))
    if dataset not in card_names():
        raise unknown("data set", dataset, card_names())
    card = load_card(dataset)
    _check_split(card.title, split, card.splits)
    if card.generated:
        return _generated(card, split, root, _places(annotations, root, None))
    folder = dataset_folder(root, dataset) if root is not None else None
    places = _places(annotations, root, folder)
    # Who names the folder of the official lists means no other one.
    rows = READERS[dataset](card, split, places[:1] if annotations is not None else places)
    if not card.class_names:
        card = _named_by_lists(card, rows)
    table = _table(rows, card)
    check_counts(table, card, split)
    if folder is not None:
        table = table.assign(path=find_videos(table, folder).paths)
    return Catalogue(dataset, split, card, table, folder, tuple(places))


def _named_by_lists(card: DataCard, rows: list[Row]) -> DataCard:
    """The card with the class names of the official lists, which are phrases already."""
    named = {row.label: row.class_name for row in rows}
    names = tuple(named[label] for label in sorted(named))
    return replace(card, class_names=names, phrases=tuple(name.lower() for name in names))


def _check_split(title: str, split: int, known: Iterable[int]) -> None:
    if split not in known:
        raise MmfuseError(f"{title} has no split {split}; it has {', '.join(map(str, sorted(known)))}")


def check_counts(table: pd.DataFrame, card: DataCard, split: int) -> None:
    """Compare the lists with the official numbers of clips.

    Raises:
        MmfuseError: they differ.
    """
    for part, official_count in card.splits[split].items():
        found = int((table["part"] == part).sum())
        if found != official_count:
            raise MmfuseError(
                f"the {part} list of {card.title} split {split} holds {found:,} clips, the official one "
                f"{official_count:,}; fetch the official lists again (mmfuse data get {card.name})"
            )


def _places(annotations: Path | None, root: Path | None, folder: Path | None) -> list[Path]:
    """Where the official lists are looked for, first come first served."""
    environment = os.environ.get("MMFUSE_ANNOTATIONS")
    given = [annotations, folder, root, Path(environment) if environment else None]
    places: dict[Path, Path] = {}
    for place in given:
        if place is not None:
            places.setdefault(Path(place).absolute(), Path(place))
    return list(places.values())


def _generated(card: DataCard, split: int, root: Path | None, places: list[Path]) -> Catalogue:
    """The clips of the data set that `mmfuse.data.tiny` makes, with the places where they are or will be."""
    from mmfuse.data.tiny import dataset

    folder = dataset.default_root() if root is None else Path(root).absolute()
    table = _worded(dataset.listing(), card)
    table = table.assign(path=[str(folder / path) for path in table["path"]])
    return Catalogue(card.name, split, card, table, folder, tuple(places))


def _table(rows: Iterable[Row], card: DataCard) -> pd.DataFrame:
    return _worded(pd.DataFrame(rows, columns=["clip", "label", "class", "group", "part", "path"]), card)


def _worded(table: pd.DataFrame, card: DataCard) -> pd.DataFrame:
    return table.assign(phrase=[card.phrases[label] for label in table["label"]])[list(COLUMNS)]

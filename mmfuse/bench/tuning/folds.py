"""The clips that a search sees: training clips alone, cut by whole source groups into folds.

`training_pool` is the door. Behind it there is no test list any more: the pool holds training clips and a catalogue
without any others, and whatever searches is given the pool.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from mmfuse.data import few_shot
from mmfuse.data.catalogue.load import Catalogue
from mmfuse.errors import MmfuseError

PARTS = 4
"""Parts that the source groups of a class are cut into; each can be held out once."""
ENOUGH = 200
"""Validation clips, from which on a single fold is enough: one clip is then half a point, and the standard error of an
accuracy at most 3.5 points."""
NO_SPLIT = 0
"""Of the catalogue of a fold, which is no official split of its data set."""


@dataclass(frozen=True)
class TrainingPool:
    """Training clips, and what is to be known of their data set.

    Args:
        catalogue: of the data set, whose table holds the training clips only.
        clips: the training clips of one draw.
    """

    catalogue: Catalogue
    clips: pd.DataFrame

    @cached_property
    def fingerprint(self) -> str:
        """Digest of which clips these are."""
        return few_shot.fingerprint(self.clips)


def training_pool(catalogue: Catalogue, clips: pd.DataFrame) -> TrainingPool:
    """Leave the test list behind.

    Args:
        catalogue: of the data set, as it was read.
        clips: its training clips of one draw.

    Raises:
        MmfuseError: one of the clips stands in the test list.
    """
    tested = set(catalogue.part("test")["clip"])
    if common := [clip for clip in clips["clip"] if clip in tested]:
        raise MmfuseError(f"{common[0]} stands among the training clips and in the test list; nothing is searched then")
    kept = catalogue.table[catalogue.table["clip"].isin(set(clips["clip"]))].reset_index(drop=True)
    return TrainingPool(dataclasses.replace(catalogue, table=kept, split=NO_SPLIT, warnings=()), clips)


@dataclass(frozen=True)
class Fold:
    """One part held out.

    Args:
        catalogue: a data set of its own, whose "train" are the clips that are learnt from and whose "test" are those
            held out; all of them are training clips of the whole.
        clips: that are held out.
    """

    catalogue: Catalogue
    held: pd.DataFrame

    @property
    def kept(self) -> int:
        """How many clips are learnt from."""
        return int((self.catalogue.table["part"] == "train").sum())


def folds_of(pool: TrainingPool, *, enough: int = ENOUGH) -> tuple[Fold, ...]:
    """The folds of a pool: one where it holds out enough clips, else as many as that takes, at most all parts.

    Whole source groups are moved, so that near-duplicates never stand on both sides, and every class keeps a group to
    learn from.

    Raises:
        MmfuseError: a class has clips of one source only; it is named.
    """
    parts = _parts(pool)
    folds: list[Fold] = []
    for held in parts:
        folds.append(_fold(pool, held))
        if sum(len(fold.held) for fold in folds) >= enough:
            break
    return tuple(folds)


def _parts(pool: TrainingPool) -> list[set[str]]:
    """Clips by part. Groups are dealt out in the draw's order, the larger a class's number of groups the finer."""
    of_class: dict[int, list[list[str]]] = {}
    for label, members in pool.clips.groupby("label", sort=True):
        groups = [list(one["clip"]) for _, one in members.groupby("group", sort=False)]
        if len(groups) < 2:
            name = pool.catalogue.class_names[int(str(label))]
            raise MmfuseError(
                f"no validation part can be cut from {name!r}: its {len(members)} training clip"
                f"{'s are' if len(members) > 1 else ' is'} of one source; take more shots, or more videos of this class"
            )
        of_class[int(str(label))] = groups
    number = min(PARTS, *(len(groups) for groups in of_class.values()))
    parts: list[set[str]] = [set() for _ in range(number)]
    for groups in of_class.values():
        for place, clips in enumerate(reversed(groups)):
            parts[place % number].update(clips)
    return parts


def _fold(pool: TrainingPool, held: set[str]) -> Fold:
    table = pool.catalogue.table
    out = table["clip"].isin(held)
    named = table.assign(part=["test" if one else "train" for one in out])
    catalogue = dataclasses.replace(pool.catalogue, table=named)
    return Fold(catalogue, catalogue.part("test"))

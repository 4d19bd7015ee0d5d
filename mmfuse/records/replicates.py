"""Which cells may be averaged: those with the same settings and inputs, apart from their draw and their seed.

A results folder may hold several grids, and two of them may give one name to different settings. Numbers of such cells
are never averaged: each set of settings gets a row of its own, whose name says what differs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmfuse.records.cell import Cell, Inputs, flattened
from mmfuse.records.status import Entry

_OF_THE_DRAW = ("train_clips",)
"""Inputs that differ from draw to draw."""
_SHOWN_DIGITS = 8


@dataclass(frozen=True)
class _Condition:
    """One set of settings and inputs of a place in a table."""

    settings: Mapping[str, Any]
    inputs: Mapping[str, str]

    def admits(self, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
        """Whether a cell is a replicate: no setting, and no input that both know, differs."""
        known = self.inputs.keys() & inputs.keys()
        return self.settings == settings and all(self.inputs[name] == inputs[name] for name in known)

    def told(self) -> dict[str, Any]:
        """Settings and inputs under the names that a row shows."""
        digests = {name.replace("_", " "): digest[:_SHOWN_DIGITS] for name, digest in self.inputs.items()}
        return {**{_short_name(key): value for key, value in self.settings.items()}, **digests}


def variants(entries: Iterable[Entry]) -> list[str]:
    """What tells cells apart that stand at one place of a table and are no replicates of each other.

    A place is a data set, split, pair name and number of shots.

    Args:
        entries: cells of any places.

    Returns:
        One text for each entry, in their order, such as `epochs 12`; empty where the pair's name says all. Entries of
        one place with equal texts are replicates: they differ in draw and seed alone.
    """
    found = list(entries)
    by_pair: dict[Hashable, list[int]] = defaultdict(list)
    for at, entry in enumerate(found):
        by_pair[entry.cell.dataset.name, entry.cell.split, entry.cell.pair.name].append(at)
    texts = [""] * len(found)
    for members in by_pair.values():
        for at, text in zip(members, _variants_of_pair([found[at] for at in members]), strict=True):
            texts[at] = text
    return texts


def row_names(entries: Iterable[Entry]) -> list[str]:
    """The name of the row that each cell belongs to: its pair's, with what differs where that name has two meanings.

    Returns:
        One name for each entry: `dora+adapter`, or `dora+adapter (epochs 12)`.
    """
    found = list(entries)
    return [
        f"{entry.cell.pair.name} ({variant})" if variant else entry.cell.pair.name
        for entry, variant in zip(found, variants(found), strict=True)
    ]


def _variants_of_pair(entries: Sequence[Entry]) -> list[str]:
    by_shots: dict[Hashable, list[_Condition]] = defaultdict(list)
    conditions = [_place(by_shots[entry.cell.shots], entry) for entry in entries]
    told = {shots: [condition.told() for condition in members] for shots, members in by_shots.items()}
    # Dictionaries keep the order of the settings, so that rows of several K are named alike.
    varying = {key: None for members in told.values() for key in _varying(members)}
    if not varying:
        return [""] * len(entries)
    return [_text(told[entry.cell.shots][at], varying) for entry, at in zip(entries, conditions, strict=True)]


def _place(conditions: list[_Condition], entry: Entry) -> int:
    """The number of the condition that a cell belongs to; a new one is added where it belongs to none."""
    settings, inputs = _settings(entry.cell), _inputs(entry)
    for at, condition in enumerate(conditions):
        if condition.admits(settings, inputs):
            conditions[at] = _Condition(settings, {**inputs, **condition.inputs})
            return at
    conditions.append(_Condition(settings, inputs))
    return len(conditions) - 1


def _settings(cell: Cell) -> dict[str, Any]:
    return flattened(cell.replicate_settings)


def _inputs(entry: Entry) -> dict[str, str]:
    inputs: Inputs = entry.planned.inputs if entry.record is None else entry.record.inputs
    return {name: digest for name, digest in inputs if digest is not None and name not in _OF_THE_DRAW}


def _varying(members: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The keys whose values differ among the conditions of one place."""
    keys = {key: None for member in members for key in member}
    return [key for key in keys if any(member.get(key) != members[0].get(key) for member in members)]


def _text(told: Mapping[str, Any], keys: Iterable[str]) -> str:
    return ", ".join(f"{key} {_as_text(told[key])}" for key in keys if key in told)


def _as_text(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _short_name(key: str) -> str:
    """A setting as a row names it: `epochs` for `train.epochs`, `image.rank` for `pair.image.rank`."""
    return key.removeprefix("train.").removeprefix("recipes.").removeprefix("pair.")

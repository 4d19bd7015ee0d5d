"""The tests that one training is judged by.

Most cells have one: the official test list of the data set that was trained on. In the base-to-novel setting the
classes that were never trained on are tested apart, and a cell may be tested on other data sets as well. A table, an
interval or a mark never mixes them: each is a data set of its own there, under a label that says what was tested.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmfuse.records.cell import Cell, Target

NOVEL = "novel"
"""Name of the evaluation on the classes that were never trained on."""


@dataclass(frozen=True)
class Test:
    """One evaluation of a cell.

    Args:
        name: under which the record keeps it; empty for the main one, whose numbers stand in the record itself.
        label: the data set as tables call it.
        split: the official fold whose test list is read.
        target: the other data set, where it is one.
    """

    __test__ = False  # for pytest: not a test

    name: str
    label: str
    split: int
    target: Target | None = None


def name_on(target: Target, split: int) -> str:
    """Under which name the test on a split of another data set is kept."""
    return target.name if len(target.splits or (1,)) == 1 else f"{target.name} split {split}"


def tests_of(cell: Cell) -> list[Test]:
    """All evaluations of a cell, the main one first."""
    trained = cell.dataset.name
    # Trainings on several splits are no repetitions of each other, also where all are tested on the same list.
    trained_on = trained if cell.split == 1 else f"{trained} split {cell.split}"
    if cell.setting == "base-to-novel":
        found = [Test("", f"{trained} (base)", cell.split), Test(NOVEL, f"{trained} (novel)", cell.split)]
    else:
        found = [Test("", trained, cell.split)]
    for target in cell.test_on:
        for split in target.splits or (1,):
            found.append(Test(name_on(target, split), f"{target.name} (trained on {trained_on})", split, target))
    return found

"""`--shard i/n`: a grid parted among runs that need not know of each other, balanced by expected cost.

Which cells a part has follows from the grid and the lists that it names alone. What has been run, measured or decided
does not count, so that all parts agree wherever and whenever they are run.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmfuse.bench.added_draws import column_of
from mmfuse.bench.arithmetic import frame_flops
from mmfuse.bench.estimate import frames_at_test, keeps_features, work_of
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell, Source
from mmfuse.records.selection import Shard
from mmfuse.records.until_decided import UntilDecided
from mmfuse.utils.files import user_path

PIECES = 4
"""Cells that share a tower's features stay together where they cost no more than one in so many pieces of a part."""


@dataclass(frozen=True)
class Share:
    """What a shard has of the cells that are parted.

    Args:
        shard: which one.
        cells: its cells, in table order.
        of: cells in all.
        cost: its share of the expected cost, from 0 to 1, by arithmetic.
    """

    shard: Shard
    cells: list[Cell]
    of: int
    cost: float


@dataclass
class _Unit:
    """Cells that stay together.

    Args:
        place: in table order.
        cells: their places among all cells.
        own: operations of the image tower that no other cell shares.
        shared: those that cells of one key have in common, such as the test clips' features of a frozen tower.
    """

    place: int
    cells: list[int] = field(default_factory=list)
    own: int = 0
    shared: dict[Hashable, int] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        """Of the unit alone."""
        return self.own + sum(self.shared.values())


class _Load:
    """The parts as they fill: which is the least loaded one, of all or of those that have a key already."""

    def __init__(self, count: int) -> None:
        self.loads = [0] * count
        self.keys: list[set[Hashable]] = [set() for _ in range(count)]
        self._all = [(0, part) for part in range(count)]
        self._having: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)

    def least(self, unit: _Unit) -> int:
        """The part that would be the least loaded one with this unit; of equals one that has its keys."""
        candidates = [
            self._top(self._all),
            *(self._top(self._having[key]) for key in unit.shared if key in self._having),
        ]
        return min(
            candidates, key=lambda part: (self._with(unit, part), -len(unit.shared.keys() & self.keys[part]), part)
        )

    def add(self, unit: _Unit, part: int) -> None:
        """Give a unit to a part."""
        self.loads[part] = self._with(unit, part)
        for key in unit.shared.keys() - self.keys[part]:
            heapq.heappush(self._having[key], (self.loads[part], part))
        self.keys[part] |= unit.shared.keys()

    def _with(self, unit: _Unit, part: int) -> int:
        return self.loads[part] + unit.own + sum(n for key, n in unit.shared.items() if key not in self.keys[part])

    def _top(self, heap: list[tuple[int, int]]) -> int:
        """The least loaded part of a heap, whose entries may be of before a load grew."""
        while heap[0][0] != (load := self.loads[heap[0][1]]):
            heapq.heapreplace(heap, (load, heap[0][1]))
        return heap[0][1]


def share_of(cells: Sequence[Cell], shard: Shard, *, until_decided: UntilDecided | None = None) -> Share:
    """The cells of one part: each cell is in one part of the `n`, and in the same one whoever asks.

    The costliest units are given out first, each to the part that is the least loaded one with it (Graham, "Bounds on
    multiprocessing timing anomalies", 1969: at most 4/3 - 1/(3n) times the best possible, where nothing is shared).
    Where draws are added, a column (data set, split, K) is one unit: what it wants next is decided by all of its cells.

    Args:
        cells: all cells that may be run.
        shard: the part.
        until_decided: by which rule draws are added, if they are.

    Raises:
        MmfuseError: there are fewer units than parts and this one has none, or a list that says how much there is to do
            is not here.
    """
    whole_columns = until_decided is not None
    units = _units(cells, whole_columns=whole_columns)
    if not whole_columns:
        units = _kept_together(units, parts=shard.count)
    load = _Load(shard.count)
    mine: list[int] = []
    for unit in sorted(units, key=lambda unit: (-unit.cost, unit.place)):
        part = load.least(unit)
        load.add(unit, part)
        if part == shard.number - 1:
            mine += unit.cells
    if not mine:
        what = "columns (data set, split, K), which stay whole where draws are added" if until_decided else "cells"
        count = len(units) if whole_columns else len(cells)
        raise MmfuseError(f"the shard {shard} has nothing to run: there are {count} {what}; make no more parts")
    return Share(shard, [cells[at] for at in sorted(mine)], len(cells), load.loads[shard.number - 1] / sum(load.loads))


def _units(cells: Sequence[Cell], *, whole_columns: bool) -> list[_Unit]:
    units: dict[Hashable, _Unit] = {}
    for at, cell in enumerate(cells):
        _refuse_unknown_size(cell)
        unit = units.setdefault(column_of(cell) if whole_columns else at, _Unit(len(units)))
        unit.cells.append(at)
        frame = frame_flops(cell)
        work, tested = work_of(cell), frames_at_test(cell)
        if keeps_features(cell):
            work -= tested
            key = (cell.dataset.model_dump_json(), cell.split, cell.encoders.image, cell.clip.model_dump_json())
            tests = tuple(target.model_dump_json() for target in cell.test_on)
            unit.shared[(*key, cell.setting, tests)] = round(tested * frame)
        unit.own += max(1, round(work * frame))
    return list(units.values())


def _kept_together(units: list[_Unit], *, parts: int) -> list[_Unit]:
    """Units with cells of equal keys made one, where they are small enough for the others to even them out."""
    groups: dict[Hashable, list[_Unit]] = defaultdict(list)
    for unit in units:
        groups[tuple(unit.shared) or unit.place].append(unit)
    wholes = [_whole(group) for group in groups.values()]
    most = sum(whole.cost for whole in wholes) // (parts * PIECES)
    found: list[_Unit] = []
    for whole, group in zip(wholes, groups.values(), strict=True):
        found += [whole] if whole.cost <= most else group
    return found


def _whole(group: list[_Unit]) -> _Unit:
    cells = [at for unit in group for at in unit.cells]
    return _Unit(group[0].place, cells, sum(unit.own for unit in group), group[0].shared)


def _refuse_unknown_size(cell: Cell) -> None:
    """Without its lists the cost of a data set of one's own is a guess, and another machine would part otherwise."""
    sources: list[Source] = [cell.dataset, *cell.test_on]
    for source in sources:
        lists = [] if not source.own else [name for name in (source.train, source.test) if name]
        for name in lists:
            path = Path(source.root or ".") / user_path(name)
            if not path.is_file():
                raise MmfuseError(f"{path} is not here, and a grid is parted by how many clips its lists name")

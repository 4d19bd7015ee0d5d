"""Which cells of a grid are meant: by their axes (`--only KEY=VALUE`), or as one of several parts (`--shard i/n`)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.cell import AXES, Cell

MOST_SHARDS = 10_000


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A part as it is written, `1/4`.

        Raises:
            MmfuseError: it is none.

        >>> Shard.parse("3/4")
        Shard(number=3, count=4)
        """
        found = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text, re.ASCII)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count <= MOST_SHARDS:
            told = "a shard is written i/n, such as 1/4: part i of n, with i from 1 to n"
            raise MmfuseError(f"{told}, and n at most {MOST_SHARDS:,}; got {text!r:.60}")
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_only(filters: Sequence[str]) -> dict[str, set[str]]:
    """`--only` filters: `pair=dora+adapter`, `shots=2,4`; several of one key add up.

    Raises:
        MmfuseError: not of this form, or an unknown key.
    """
    wanted: dict[str, set[str]] = defaultdict(set)
    for text in filters:
        key, equals, values = text.partition("=")
        key = key.strip().removesuffix("s") if key.strip() != "shots" else "shots"
        if not equals or not values.strip():
            raise MmfuseError(f"--only is written KEY=VALUE[,VALUE], such as shots=2,4; got {text!r}")
        key = "shots" if key == "shot" else key
        if key not in AXES:
            raise unknown("key of --only", key, AXES)
        wanted[key] |= {value.strip() for value in values.split(",") if value.strip()}
    return dict(wanted)


def chosen(cells: Sequence[Cell], filters: Sequence[str], *, where: str) -> list[bool]:
    """For each cell, whether all `--only` filters let it through.

    Args:
        cells: the cells.
        filters: as they were written.
        where: what holds the cells, in the user's words ("the grid").

    Raises:
        MmfuseError: a value that no cell has, or a selection of nothing.
    """
    wanted = parse_only(filters)
    places = [{axis: str(value) for axis, value in cell.axes._asdict().items()} for cell in cells]
    for key, values in wanted.items():
        known = dict.fromkeys(place[key] for place in places)
        for value in sorted(values):
            if value not in known:
                raise unknown(f"{key} in --only ({where} has no such cells)", value, known)
    found = [all(place[key] in values for key, values in wanted.items()) for place in places]
    if wanted and not any(found):
        raise MmfuseError(f"--only {' '.join(filters)} selects no cell of {where}")
    return found

"""`--only KEY=VALUE`: which cells are meant, by their axes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.cell import AXES, Cell


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

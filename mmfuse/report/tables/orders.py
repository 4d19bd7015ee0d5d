"""Which tables are wanted, and how: by name, metric, cells, order of rows, and baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.selection import chosen, parse_only
from mmfuse.records.status import Entry
from mmfuse.report.groups import Group, finished, groups
from mmfuse.report.tables.accuracy import METRICS
from mmfuse.report.tables.build import all_tables
from mmfuse.report.tables.names import FIRST, NAMES
from mmfuse.report.tables.table import Row, Table, Value
from mmfuse.report.tables.tidy import axes_of

ASCENDING = (
    "rank",
    "weights",
    "train seconds",
    "image method",
    "text method",
    "fusion",
    "checkpoint MB",
    "train s",
    "waiting %",
    "peak MB",
)
"""Quantities of which less is better."""
DIRECTIONS = {":up": False, ":down": True}


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What is wanted of a results folder's tables.

    Args:
        names: of tables; nothing stands for the first table.
        every: all tables.
        metric: top1, top5 or mean_class; `None` for top1, with mean_class beside it where classes are unbalanced.
        only: filters by axis, such as `shots=2,4`.
        sort: the head of a column, with `:up` or `:down` behind it where the better end is not to come first.
        baseline: name of the pair that gains are measured against.
    """

    names: Sequence[str] = ()
    every: bool = False
    metric: str | None = None
    only: Sequence[str] = ()
    sort: str | None = None
    baseline: str | None = None


def ordered(entries: Sequence[Entry], folder: ResultsFolder, orders: Orders) -> list[Table]:
    """The tables that are wanted.

    Pairs that `only` leaves out are not shown, and still count: marks, ranks and corrections are those of all pairs, so
    that no choice of rows makes a gain hold. Other filters choose the cells that everything is computed from.

    Args:
        entries: the cells of a results folder with their states.
        folder: where their predictions lie.
        orders: what is wanted.

    Raises:
        MmfuseError: an unknown table, metric, pair, column or filter, or a table that these results do not have.
    """
    if not entries:
        return []
    for name in orders.names:
        if name not in NAMES:
            raise unknown("table", name, NAMES)
    _check_metric(entries, orders.metric)
    found = all_tables(_groups(entries, folder, orders), metric=orders.metric)
    wanted = _select_tables(found, orders)
    wanted = [_only_pairs(table, orders) for table in wanted]
    return _sorted(wanted, orders.sort) if orders.sort else wanted


def _check_metric(entries: Sequence[Entry], metric: str | None) -> None:
    if metric is None:
        return
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    records = finished(entries)
    have = {name for name in METRICS for record in records if getattr(record.metrics, name, None) is not None}
    if records and metric not in have:
        raise MmfuseError(f"no record here has the metric {metric!r}; they have: {', '.join(sorted(have)) or 'none'}")


def _groups(entries: Sequence[Entry], folder: ResultsFolder, orders: Orders) -> list[Group]:
    pairs = dict.fromkeys(entry.cell.pair.name for entry in entries)
    if orders.baseline is not None and orders.baseline not in pairs:
        raise unknown("pair for --baseline", orders.baseline, pairs)
    kept = chosen([entry.cell for entry in entries], orders.only, where="the results folder")
    # Pairs are left out where tables are shown, and not where they are computed.
    others = [text for text in orders.only if not _is_of_pairs(text)]
    if any(_is_of_pairs(text) for text in orders.only):
        kept = chosen([entry.cell for entry in entries], others, where="the results folder")
    cells = [entry for entry, wanted in zip(entries, kept, strict=True) if wanted]
    whole = {(group.dataset, group.split): group for group in groups(entries, folder)}
    made = []
    for group in groups(cells, folder):
        every = whole[group.dataset, group.split]
        other = orders.baseline if orders.baseline != every.baseline else None
        made.append(replace(group, planned=every.planned, measured_against=other))
    return made


def _is_of_pairs(text: str) -> bool:
    return set(parse_only([text])) == {"pair"}


def _select_tables(found: Sequence[Table], orders: Orders) -> list[Table]:
    if orders.every:
        return list(found)
    names = orders.names or (FIRST,)
    present = dict.fromkeys(table.key for table in found)
    for name in names:
        if name not in present:
            raise MmfuseError(f"these results have no table {name!r} ({NAMES[name]}); they have: {', '.join(present)}")
    return [table for name in dict.fromkeys(names) for table in found if table.key == name]


def _only_pairs(table: Table, orders: Orders) -> Table:
    """The rows of the pairs that are wanted, and a note of what was chosen."""
    if not orders.only:
        return table
    pairs = parse_only(orders.only).get("pair")
    told = f"Only {' and '.join(orders.only)} is shown"
    if pairs is None or not all(_pair_of(table, row) for row in table.rows):
        return replace(table, notes=(*table.notes, f"{told}."))
    rows = tuple(row for row in table.rows if _pair_of(table, row).partition(" (")[0] in pairs)
    note = f"{told}; marks, ranks and verdicts are those of all {len(table.rows)} rows."
    return replace(table, rows=rows, notes=(*table.notes, note))


def _pair_of(table: Table, row: Row) -> str:
    return axes_of(table, row, 0).get("pair", "") if table.columns else ""


def _sorted(found: Sequence[Table], sort: str) -> list[Table]:
    """Tables with their rows in the order of a column; those without it stay as they are."""
    head, direction = sort, None
    for suffix, descending in DIRECTIONS.items():
        if sort.endswith(suffix):
            head, direction = sort.removesuffix(suffix), descending
    places = [_column(table, head) for table in found]
    if all(place is None for place in places):
        known = dict.fromkeys(column for table in found for column in (table.corner, *table.columns))
        raise unknown("column to sort by", head, known)
    return [
        table if place is None else replace(table, rows=_in_order(table, place, direction))
        for table, place in zip(found, places, strict=True)
    ]


def _column(table: Table, head: str) -> int | None:
    """The column of a head, or of the only one that begins so; -1 for the names of the rows."""
    heads = [text.casefold() for text in (table.corner, *table.columns)]
    asked = head.strip().casefold()
    if asked in ("pair", "name"):
        return -1
    if asked in heads:
        return heads.index(asked) - 1
    begun = [at for at, text in enumerate(heads) if text.startswith(asked)]
    return begun[0] - 1 if len(begun) == 1 and asked else None


def _in_order(table: Table, at: int, descending: bool | None) -> tuple[Row, ...]:
    """Rows within their blocks; those without a number stand last."""
    quantity = axes_of(table, table.rows[0], at).get("quantity", "") if at >= 0 and table.rows else ""
    if descending is None:
        descending = at >= 0 and quantity not in ASCENDING
    blocks: list[list[Row]] = [[]]
    for row in table.rows:
        if row.rule_above and blocks[-1]:
            blocks.append([])
        blocks[-1].append(row)
    made: list[Row] = []
    for block in blocks:
        rule = bool(block) and block[0].rule_above
        rows = sorted(block, key=lambda row: _key(row, at, descending, quantity))
        made += [replace(row, rule_above=rule and number == 0) for number, row in enumerate(rows)]
    return tuple(made)


def _key(row: Row, at: int, descending: bool, quantity: str) -> tuple[bool, float, str, str]:
    if at < 0:
        return False, 0.0, "", row.name
    value: Value = row.values[at]
    number = value.mean.mean if value.mean is not None else _number(value.text, quantity)
    return bool(np.isnan(number)), -number if descending else number, value.text or "", row.name


def _number(text: str | None, quantity: str) -> float:
    """A number that is shown as a text; the baseline's gain is none."""
    if text == "–" and quantity == "gain":
        return 0.0
    try:
        return float((text or "").replace(",", ""))
    except ValueError:
        return float("nan")

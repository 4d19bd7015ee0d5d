"""Tables as data: one line for each value, a column for each axis."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from mmfuse.report.tables.table import Row, Table, Value

AXES = ("dataset", "split", "metric", "pair", "shots", "draw", "quantity")
"""Axes that come first, in this order; others follow by name."""


def axes_of(table: Table, row: Row, column: int) -> dict[str, str]:
    """What one value is of."""
    of_row = {"pair": row.name} if row.axes is None else row.axes
    return {**table.context, **of_row, **(table.axes[column] if table.axes else {})}


def tidy(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """A line for each value: table, row, column, all axes of all tables, then what stands there.

    Returns:
        `None` where a table has no such axis, and where a number is not known. `mean`, half widths and bounds are in
        the unit of the quantity: accuracies in per cent, gains in points.
    """
    places = [(table, row, at) for table in tables for row in table.rows for at in range(len(table.columns))]
    found = [axes_of(*place) for place in places]
    names = {axis for axes in found for axis in axes}
    ordered = [axis for axis in AXES if axis in names] + sorted(names - set(AXES))
    return [
        {
            "table": table.key,
            "row": row.name,
            "column": table.columns[at],
            **{axis: axes.get(axis) for axis in ordered},
            **_value_columns(row.values[at]),
        }
        for (table, row, at), axes in zip(places, found, strict=True)
    ]


def _value_columns(value: Value) -> dict[str, Any]:
    mean = value.mean
    low, high = value.bounds or (None, None)
    if mean is not None and mean.half is not None:
        low, high = mean.mean - mean.half, mean.mean + mean.half
    return {
        "mean": mean.mean if mean else None,
        "half_width": mean.half if mean else None,
        "half_width_clips": mean.half_clips if mean else None,
        "low": low,
        "high": high,
        "n": mean.n if mean else 0,
        "planned": value.planned,
        "state": value.gap() or ("done" if mean else None),
        "best": value.best,
        "tie": value.tie,
        "p_holm": value.p,
        "verdict": value.verdict or None,
        "text": value.text,
    }


def as_csv(tables: Iterable[Table]) -> str:
    """All tables as one tidy CSV."""
    found = list(tables)
    lines = tidy(found) or [{"table": None}]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_csv(name) for name in lines[0]])
    writer.writerows([_csv(value) for value in line.values()] for line in lines if found)
    return file.getvalue()


def _csv(value: Any) -> Any:
    """A value that a spreadsheet does not take for a formula; numbers may begin with a sign."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return f"'{value}"
    return "" if value is None else value


def document(tables: Sequence[Table]) -> dict[str, Any]:
    """All tables as one document: titles with their notes, and the values, tidy."""
    told = [{"table": table.key, "title": table.title, **table.context, "notes": list(table.notes)} for table in tables]
    return {"tables": told, "values": tidy(tables)}

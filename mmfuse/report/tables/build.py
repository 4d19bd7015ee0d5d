"""All tables of a results folder, in their order."""

from __future__ import annotations

from rich.console import Console

from mmfuse.errors import unknown
from mmfuse.records.status import Entry
from mmfuse.report.tables.ablation import ablation_sheet
from mmfuse.report.tables.accuracy import Comparison, Group, groups
from mmfuse.report.tables.cost import cost_sheet
from mmfuse.report.tables.formats import STYLES, show
from mmfuse.report.tables.literature import literature_sheet
from mmfuse.report.tables.table import Sheet

APART = 0.005
"""Where mean-class accuracy is further from top-1 than this, the classes are unbalanced and both are shown."""


def tables(entries: list[Entry]) -> list[Sheet]:
    """The tables of a results folder, data set by data set."""
    return [sheet for group in groups(entries) for sheet in group_tables(group)]


def group_tables(group: Group) -> list[Sheet]:
    """The tables of one data set and split: pairs × shots and gains, beside the literature, cost, ablation."""
    sheets = [group.comparison.sheet()]
    if (gains := group.comparison.gain_sheet()) is not None:
        sheets.append(gains)
    if _unbalanced(group.entries):
        sheets.append(Comparison(group, metric="mean_class").sheet())
    further = (literature_sheet(group), cost_sheet(group), ablation_sheet(group))
    return sheets + [sheet for sheet in further if sheet is not None]


def _unbalanced(entries: tuple[Entry, ...]) -> bool:
    metrics = [entry.record.metrics for entry in entries if entry.record and entry.record.metrics]
    return any(m.mean_class is not None and abs(m.mean_class - m.top1) > APART for m in metrics)


def print_tables(entries: list[Entry], *, style: str, console: Console) -> None:
    """Print all tables.

    Raises:
        MmfuseError: an unknown format.
    """
    if style not in STYLES:
        raise unknown("format", style, STYLES)
    show(tables(entries), style=style, console=console)

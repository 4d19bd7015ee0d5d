"""All tables of a results folder, in their order."""

from __future__ import annotations

from rich.console import Console

from mmfuse.errors import unknown
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import Entry
from mmfuse.report.groups import groups
from mmfuse.report.tables.ablation import ablation_table
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.cost import cost_table
from mmfuse.report.tables.formats import STYLES, show
from mmfuse.report.tables.literature import literature_table
from mmfuse.report.tables.table import Table
from mmfuse.report.tables.verdicts import verdict_table

APART = 0.005
"""Where mean-class accuracy is further from top-1 than this, the classes are unbalanced and both are shown."""


def tables(entries: list[Entry], folder: ResultsFolder) -> list[Table]:
    """The tables of a results folder, data set by data set.

    Args:
        entries: its cells with their states.
        folder: where their predictions lie.
    """
    return [table for group in groups(entries, folder) for table in group_tables(Comparison(group))]


def group_tables(comparison: Comparison) -> list[Table]:
    """The tables of one data set and split: pairs × shots and gains, beside the literature, cost, ablation."""
    group = comparison.group
    found = [comparison.table]
    if (verdicts := verdict_table(group)) is not None:
        found.append(verdicts)
    if comparison.gain_table is not None:
        found.append(comparison.gain_table)
    if _unbalanced(group.entries):
        found.append(Comparison(group, metric="mean_class").table)
    further = (literature_table(comparison), cost_table(group), ablation_table(comparison))
    return found + [table for table in further if table is not None]


def _unbalanced(entries: tuple[Entry, ...]) -> bool:
    metrics = [entry.record.metrics for entry in entries if entry.record and entry.record.metrics]
    return any(m.mean_class is not None and abs(m.mean_class - m.top1) > APART for m in metrics)


def print_tables(entries: list[Entry], folder: ResultsFolder, *, style: str, console: Console) -> None:
    """Print all tables.

    Raises:
        MmfuseError: an unknown format.
    """
    if style not in STYLES:
        raise unknown("format", style, STYLES)
    show(tables(entries, folder), style=style, console=console)

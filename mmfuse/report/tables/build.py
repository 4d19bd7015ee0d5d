"""All tables of a results folder, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from mmfuse.errors import unknown
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import Entry
from mmfuse.report.groups import Group, groups
from mmfuse.report.tables.ablation import ablation_table
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.cost import cost_table
from mmfuse.report.tables.formats import show
from mmfuse.report.tables.literature import literature_table
from mmfuse.report.tables.names import STYLES
from mmfuse.report.tables.overall import Overall
from mmfuse.report.tables.selection import selection_table
from mmfuse.report.tables.settings import setting_tables
from mmfuse.report.tables.subsets import subsets_table
from mmfuse.report.tables.table import Table
from mmfuse.report.tables.verdicts import verdict_table

APART = 0.005
"""Where mean-class accuracy is further from top-1 than this, the classes are unbalanced and both are shown."""


def tables(entries: list[Entry], folder: ResultsFolder) -> list[Table]:
    """All tables of a results folder: the first one over all data sets, then data set by data set.

    Args:
        entries: its cells with their states.
        folder: where their predictions lie.
    """
    return all_tables(groups(entries, folder))


def all_tables(found: Sequence[Group], *, metric: str | None = None) -> list[Table]:
    """All tables of these cells.

    Args:
        found: cells by data set and split.
        metric: see `Orders`.
    """
    if not found:
        return []
    comparisons = [Comparison(group, metric=metric or "top1") for group in found]
    by_group = [table for one in comparisons for table in group_tables(one, beside=metric is None)]
    main = [one for one in comparisons if one.group.main]
    return [Overall(main).table, *setting_tables(comparisons), *by_group]


def group_tables(comparison: Comparison, *, beside: bool = True) -> list[Table]:
    """The tables of one data set and split: pairs × shots and gains, beside the literature, cost, ablation, diagnosis.

    Args:
        comparison: the data set and split, and the metric.
        beside: show mean-class accuracy too where the classes are unbalanced.
    """
    group = comparison.group
    top1 = comparison.metric == "top1"
    found: list[Table | None] = [comparison.table]
    # What is decided, and what was published, is top-1 accuracy.
    found += [verdict_table(group)] if top1 else []
    found.append(comparison.gain_table)
    if beside and _unbalanced(group.entries):
        found.append(Comparison(group, metric="mean_class").table)
    # Costs, sets of classes and diagnoses are those of the main test; another one costs nothing of its own.
    found += [subsets_table(group)] if top1 and group.main else []
    found += [literature_table(comparison)] if top1 else []
    found += [cost_table(group)] if group.main else []
    found.append(ablation_table(comparison))
    found += [selection_table(group)] if top1 and group.main else []
    return [table for table in found if table is not None]


def _unbalanced(entries: tuple[Entry, ...]) -> bool:
    metrics = [entry.record.metrics for entry in entries if entry.record and entry.record.metrics]
    return any(m.mean_class is not None and abs(m.mean_class - m.top1) > APART for m in metrics)


def print_tables(entries: list[Entry], folder: ResultsFolder, *, style: str, console: Console) -> None:
    """Print the first table.

    Raises:
        MmfuseError: an unknown format.
    """
    if style not in STYLES:
        raise unknown("format", style, STYLES)
    comparisons = [Comparison(group) for group in groups(entries, folder) if group.main]
    if comparisons:
        show([Overall(comparisons).table], style=style, console=console)

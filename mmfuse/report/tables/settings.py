"""What the settings beside few-shot are summed up by: the harmonic mean of base and novel, and the mean over splits."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np

from mmfuse.report.statistics import Mean
from mmfuse.report.tables.accuracy import METRICS, Comparison, Span, gaps_of
from mmfuse.report.tables.literature import base_to_novel_table, zero_shot_table
from mmfuse.report.tables.table import Row, Table, Value


def setting_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """Tables over several groups of one results folder; none where all is few-shot on one split.

    Args:
        comparisons: of all groups, in one metric.
    """
    by_name = {(one.group.dataset, one.group.split): one for one in comparisons}
    found: list[Table | None] = []
    for base in comparisons:
        beside = by_name.get((base.group.novel or "", base.group.split))
        if beside is not None:
            table = _base_to_novel(base, beside)
            found += [table, base_to_novel_table(table, base.group) if base.metric == "top1" else None]
    for dataset in dict.fromkeys(one.group.dataset for one in comparisons):
        splits = [one for one in comparisons if one.group.dataset == dataset]
        if len(splits) > 1:
            table = _over_splits(splits)
            found += [table, zero_shot_table(table, splits[0].group) if splits[0].metric == "top1" else None]
    return [table for table in found if table is not None]


def harmonic_mean(base: float, novel: float) -> float:
    """2bn / (b + n); 0 where either is 0.

    >>> round(harmonic_mean(80.0, 60.0), 2)
    68.57
    """
    return 2 * base * novel / (base + novel) if base and novel else 0.0


def _base_to_novel(base: Comparison, novel: Comparison) -> Table:
    """Accuracies on base and on novel classes and their harmonic mean, for each number of shots."""
    spans: list[Span] = [(shots,) for shots in base.group.shots]
    columns, axes = [], []
    for span in spans:
        of_span = f", {base.heading(span)}" if len(spans) > 1 else ""
        columns += [f"{what}{of_span}" for what in ("base", "novel", "harmonic mean")]
        axes += [
            {"shots": str(span[0]), "quantity": f"accuracy, {what}"} for what in ("base", "novel", "harmonic mean")
        ]
    dataset = base.group.dataset.removesuffix(" (base)")
    rows = [
        Row(row, tuple(value for span in spans for value in _base_novel_mean(base, novel, row, span)))
        for row in base.group.pairs
    ]
    return Table(
        key="base-to-novel",
        title=f"{dataset}, split {base.group.split}: base to novel, {METRICS[base.metric]} accuracy in %",
        corner="image+text",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            "Trained on K clips of each base class; base clips are told apart among the base classes, novel ones among "
            "the novel classes, whose clips were never trained on.",
            "The harmonic mean is that of the two means over draws, as the field reports it; draws that lack either "
            "are left out of it. ± and marks of base and novel are explained at their own tables.",
        ),
        context={"dataset": dataset, "split": str(base.group.split), "metric": base.metric},
        axes=tuple(axes),
    )


def _base_novel_mean(base: Comparison, novel: Comparison, row: str, span: Span) -> list[Value]:
    """Base, novel and harmonic mean of one row."""
    both = [_value_of(one, row, span) for one in (base, novel)]
    cells = base.group.of(row, span[0])
    if row not in novel.group.pairs:
        return [*both, Value(gaps=gaps_of(cells))]
    found = np.array([one.accuracy(span)[one.group.pairs.index(row)] for one in (base, novel)])
    known = ~np.isnan(found).any(axis=0)
    planned = len({entry.cell.draw for entry in cells})
    if not known.any():
        return [*both, Value(planned=planned, gaps=gaps_of(cells), behind=tuple(cells))]
    means = found[:, known].mean(axis=1)
    mean = Mean(harmonic_mean(float(means[0]), float(means[1])), None, int(known.sum()))
    return [*both, Value(mean, planned, gaps_of(cells), behind=tuple(cells))]


def _value_of(comparison: Comparison, row: str, span: Span) -> Value:
    if row not in comparison.group.pairs or span not in comparison.spans:
        return Value()
    column = comparison.spans.index(span)
    return comparison.table.rows[comparison.group.pairs.index(row)].values[column]


def _over_splits(splits: Sequence[Comparison]) -> Table:
    """The mean over test splits with its standard deviation, as zero-shot results are reported."""
    first = splits[0]
    shots = list(dict.fromkeys(one for comparison in splits for one in comparison.group.shots))
    rows = list(dict.fromkeys(row for comparison in splits for row in comparison.group.pairs))
    return Table(
        key="splits",
        title=f"{first.group.dataset}: {METRICS[first.metric]} accuracy in % over {len(splits)} splits",
        corner="image+text",
        columns=tuple(f"K={one}" for one in shots),
        rows=tuple(Row(row, tuple(_over_splits_value(splits, row, (one,)) for one in shots)) for row in rows),
        notes=(
            "± is here the standard deviation over the splits, as the field reports it, and no interval: the splits of "
            "a data set share clips. Nothing is tested between rows of this table.",
        ),
        context={"dataset": first.group.dataset, "metric": first.metric},
        axes=tuple({"shots": str(one), "quantity": "accuracy ± deviation over splits"} for one in shots),
    )


def _over_splits_value(splits: Sequence[Comparison], row: str, span: Span) -> Value:
    values = [_value_of(comparison, row, span) for comparison in splits]
    cells = tuple(entry for comparison in splits for entry in comparison.group.of(row, span[0]))
    known = [value.mean.mean for value in values if value.mean is not None]
    lacking = "" if len(known) == len(splits) else f"{len(known)}/{len(splits)} splits"
    if not known:
        return Value(gaps=gaps_of(cells), behind=cells)
    mean = Mean(fmean(known), stdev(known) if len(known) > 1 else None, len(known))
    return Value(mean, len(splits), gaps_of(cells), lacking=lacking, behind=cells)

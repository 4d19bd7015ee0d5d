"""Accuracy on named sets of classes, such as those whose actions only motion tells apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from mmfuse.records.status import Entry
from mmfuse.report.groups import Group, finished
from mmfuse.report.statistics import Mean, mean_of
from mmfuse.report.tables.accuracy import gaps_of
from mmfuse.report.tables.table import Row, Table, Value


def subsets_table(group: Group) -> Table | None:
    """Top-1 accuracy on the test clips of each set of classes; `None` where the data set has no such sets.

    Models are those of the whole table: trained on all classes, and free to answer any of them.
    """
    named = next((record.class_subsets for record in finished(group.entries) if record.class_subsets), None)
    if not named:
        return None
    spans = [(name, frozenset(labels), shots) for name, labels in named.items() for shots in group.shots]
    rows = [
        Row(row, tuple(_subset_value(group, group.of(row, shots), of) for _, of, shots in spans)) for row in group.pairs
    ]
    told = [f"{name}: {len(of)} classes, {group.recognised.clips_of(of):,} test clips" for name, of in _sets(named)]
    return Table(
        key="subsets",
        title=f"{group.title}: top-1 accuracy in % by set of classes",
        corner="image+text",
        columns=tuple(f"{name}, K={shots}" for name, _, shots in spans),
        rows=tuple(rows),
        notes=(
            f"Of the same models as in the table over all classes, which may answer any class; {'; '.join(told)}.",
            "± is the 95% Student-t interval of the mean over draws. Nothing is tested here.",
        ),
        context={"dataset": group.dataset, "split": str(group.split), "metric": "top1"},
        axes=tuple({"classes": name, "shots": str(shots), "quantity": "accuracy"} for name, _, shots in spans),
        caption=f"Top-1 accuracy in % on {group.title} by set of classes.",
    )


def _sets(named: dict[str, tuple[int, ...]]) -> list[tuple[str, frozenset[int]]]:
    return [(name, frozenset(labels)) for name, labels in named.items()]


def _subset_value(group: Group, entries: Sequence[Entry], classes: Collection[int]) -> Value:
    by_draw: dict[int, list[float]] = defaultdict(list)
    for record in finished(entries):
        if (share := group.recognised.share_of(record, classes)) is not None:
            by_draw[record.cell.draw].append(100 * share)
    mean: Mean | None = mean_of([float(np.mean(shares)) for shares in by_draw.values()]) if by_draw else None
    return Value(mean, len({entry.cell.draw for entry in entries}), gaps_of(entries), behind=tuple(entries))

"""Two pairs against each other: over draws, and apart from that over test clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmfuse.errors import unknown
from mmfuse.report.groups import Group
from mmfuse.report.statistics import FEWEST_DRAWS, LEVEL, Column, differences, holm
from mmfuse.report.tables.accuracy import Comparison, gaps_of
from mmfuse.report.tables.table import Row, Table, Value


def pairwise_tables(groups: Sequence[Group], *, ours: str, theirs: str) -> list[Table]:
    """Two pairs against each other on every data set that has both.

    Args:
        groups: the cells by data set and split.
        ours: name of a row.
        theirs: name of another one, which is subtracted.

    Raises:
        MmfuseError: a pair that no data set has, or none that has both.
    """
    names = list(dict.fromkeys(name for group in groups for name in group.pairs))
    for name in (ours, theirs):
        if name not in names:
            raise unknown("pair", name, names)
    both = [group for group in groups if ours in group.pairs and theirs in group.pairs]
    if not both:
        beside = [name for group in groups if ours in group.pairs for name in group.pairs if name != ours]
        raise unknown(f"pair on the data sets of {ours!r}", theirs, beside)
    lacking = [group.title for group in groups if group not in both]
    left_out = [f"Without a table here: {', '.join(lacking)}, which lack one of the pairs."] if lacking else []
    return [_table(Comparison(group), ours, theirs, left_out) for group in both]


def _table(comparison: Comparison, ours: str, theirs: str, left_out: Sequence[str]) -> Table:
    """Every number of shots: the difference over draws with its test, and over test clips draw by draw."""
    group = comparison.group
    p = [comparison.p(ours, theirs, (shots,)) for shots in group.shots]
    rows = []
    for shots, plain, corrected in zip(group.shots, p, holm(p), strict=True):
        gaps = gaps_of([*group.of(ours, shots), *group.of(theirs, shots)])
        mean = comparison.difference(ours, theirs, (shots,))
        planned = len({entry.cell.draw for entry in group.of(ours, shots)})
        significant = None if corrected is None else corrected < LEVEL
        value = Value(mean, planned, gaps, signed=True, significant=significant, p=corrected)
        if mean is None and not gaps:
            value = Value(text="no draw in common")
        over_clips = [_over_clips(comparison, ours, theirs, shots, at) for at in range(len(group.draws))]
        rows.append(
            Row(
                f"K={shots}",
                (value, Value(text="–" if plain is None else f"{plain:.3g}"), *over_clips),
                axes={"shots": str(shots)},
            )
        )
    return Table(
        key="pairwise",
        title=f"{group.title}: {ours} - {theirs}, points of top-1",
        corner="shots",
        columns=("over draws", "p", *(f"over test clips, draw {draw}" for draw in group.draws)),
        rows=tuple(rows),
        notes=(*_notes(group), *left_out),
        context={"dataset": group.dataset, "split": str(group.split), "ours": ours, "theirs": theirs, "metric": "top1"},
        axes=(
            {"quantity": "gain"},
            {"quantity": "p"},
            *({"draw": str(draw), "quantity": "gain over test clips"} for draw in group.draws),
        ),
        caption=f"{ours} against {theirs} on {group.title}, in points of top-1 accuracy.",
    )


def _notes(group: Group) -> list[str]:
    notes = []
    if len(group.draws) < 2:
        notes.append("One draw of the training clips: no interval over draws and no test.")
    else:
        notes.append(
            "Over draws: mean paired difference on the same draws ± its 95% Student-t interval; a second ±, where it "
            "is the wider one, is over test clips, by source."
        )
        if "all" in group.shots:
            notes.append("At K=all every draw holds the same clips: there ± is over repeated trainings.")
    if len(group.draws) >= FEWEST_DRAWS:
        notes.append(
            "p: of the Behrens-Fisher test over draws and test clips, uncorrected. * the difference holds after Holm's "
            f"correction over the rows ({LEVEL:.0%}): a gain, or below zero a loss."
        )
    notes.append(
        "Over test clips: difference of the models of one draw with its 95% interval by source. It tells how much "
        "these test clips matter, and nothing of other draws of training clips."
    )
    if group.recognised.problems:
        count = len(group.recognised.problems)
        notes.append(
            f"The predictions of {count} cell{'s' * (count > 1)} cannot be used, so what rests on them is not tested: "
            f"{group.recognised.problems[0]}"
        )
    return notes


def _over_clips(comparison: Comparison, ours: str, theirs: str, shots: Any, draw: int) -> Value:
    """The difference of one draw with its interval over test clips."""
    column = comparison.column((shots,))
    at = [comparison.group.pairs.index(row) for row in (ours, theirs)]
    single = Column(
        column.accuracy[np.ix_(at, [draw])],
        column.recognised[np.ix_(at, [draw])],
        column.clips,
        heaviest=column.heaviest,
    )
    mean = differences(single).between(0, 1)
    if mean is None or mean.half_clips is None:
        return Value(text="–")
    low, high = mean.mean - mean.half_clips, mean.mean + mean.half_clips
    return Value(text=f"{mean.mean:+.1f} [{low:+.1f}, {high:+.1f}]")

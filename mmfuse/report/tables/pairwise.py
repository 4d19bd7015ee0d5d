"""Two pairs against each other: over draws, and apart from that over test clips."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.predictions import decode
from mmfuse.records.record import Record
from mmfuse.report.statistics import bootstrap_clips, holm, paired
from mmfuse.report.tables.accuracy import LEVEL, Group, gaps_of
from mmfuse.report.tables.table import Row, Sheet, Value


def versus_sheet(group: Group, folder: ResultsFolder, *, ours: str, theirs: str) -> Sheet:
    """Every number of shots of one data set: the difference over draws with its tests, and over clips draw by draw.

    Raises:
        MmfuseError: a pair that the results do not have, or damaged predictions.
    """
    for name in (ours, theirs):
        if name not in group.pairs:
            raise unknown("pair", name, group.pairs)
    comparison = group.comparison
    tests = {shots: paired(comparison.over(ours, (shots,)), comparison.over(theirs, (shots,))) for shots in group.shots}
    corrected = holm([test.p_t if test else None for test in tests.values()])
    draws = sorted({entry.cell.draw for entry in group.entries})
    rows = []
    for (shots, test), p in zip(tests.items(), corrected, strict=True):
        gaps = gaps_of([*group.of(ours, shots), *group.of(theirs, shots)])
        significant = None if p is None else p < LEVEL
        mean = test.difference if test else None
        difference = Value(mean, len(draws), gaps, signed=True, significant=significant, p=p)
        values = [difference, _p(test.p_t if test else None), _p(test.p_flip if test else None)]
        values += [_over_clips(group, folder, ours, theirs, shots, draw) for draw in draws]
        rows.append(Row(f"K={shots}", tuple(values)))
    return Sheet(
        key="versus",
        title=f"{group.title}: {ours} - {theirs}, points of top-1",
        corner="shots",
        columns=("over draws", "p (t)", "p (sign flips)", *(f"over clips, draw {draw}" for draw in draws)),
        rows=tuple(rows),
        notes=(
            "Over draws: mean paired difference on the same draws ± 95% Student-t interval; * holds after Holm's "
            "correction over the rows (paired t-test, 5%). p are uncorrected; with n draws no sign-flip p is below "
            f"2^(1-n), here {2 ** (1 - max(1, len(draws))):g}.",
            "Over clips: difference of two trained models with the 95% interval of a paired bootstrap over the test "
            "clips. It tells how much these test clips matter, and nothing of other draws of training clips.",
        ),
        context={"dataset": group.dataset, "split": str(group.split), "ours": ours, "theirs": theirs},
    )


def _p(value: float | None) -> Value:
    return Value(text="–" if value is None else f"{value:.3g}")


def _over_clips(group: Group, folder: ResultsFolder, ours: str, theirs: str, shots: Any, draw: int) -> Value:
    sides = [_right(_record(group, pair, shots, draw), folder) for pair in (ours, theirs)]
    if sides[0] is None or sides[1] is None:
        return Value(text="–")
    (our_clips, our_right), (their_clips, their_right) = sides[0], sides[1]
    if not np.array_equal(our_clips, their_clips):
        raise MmfuseError(f"{ours} and {theirs} were tested on different clips at K={shots}, draw {draw}")
    result = bootstrap_clips(our_right, their_right)
    return Value(text=f"{100 * result.difference:+.1f} [{100 * result.low:+.1f}, {100 * result.high:+.1f}]")


def _record(group: Group, pair: str, shots: Any, draw: int) -> Record | None:
    """The finished record of the lowest seed: a bootstrap over clips compares two models, not means of several."""
    done = [entry for entry in group.of(pair, shots) if entry.state == "done" and entry.cell.draw == draw]
    return min(done, key=lambda entry: entry.cell.seed).record if done else None


def _right(record: Record | None, folder: ResultsFolder) -> tuple[Any, Any] | None:
    """Clips and whether each was recognised."""
    if record is None:
        return None
    table = decode(folder.predictions_of(record))
    return table["clip"], table["label"] == table["predicted"]

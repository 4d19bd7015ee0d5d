"""By how much picking the best epoch on the test list would have raised each result."""

from __future__ import annotations

from collections.abc import Callable

from mmfuse.records.record import TestSelection
from mmfuse.records.status import Entry
from mmfuse.report.groups import Group, finished
from mmfuse.report.statistics import mean_of
from mmfuse.report.tables.accuracy import gaps_of
from mmfuse.report.tables.table import Row, Table, Value

COLUMNS: tuple[tuple[str, Callable[[TestSelection], float], str], ...] = (
    ("last epoch", lambda told: 100 * told.top1[-1], "{:.1f}"),
    ("best epoch", lambda told: 100 * max(told.top1), "{:.1f}"),
    ("raised by", lambda told: 100 * told.raised, "{:+.1f}"),
)
"""Name, what is averaged over the cells, and how it is written."""


def selection_table(group: Group) -> Table | None:
    """Pairs × shots; `None` where no cell was diagnosed."""
    records = finished(group.entries)
    diagnosed = [record for record in records if record.test_selection is not None]
    if not diagnosed:
        return None
    notes = [
        "A diagnosis, and no result: means over the repetitions of top-1 on the test list after the last epoch, as in "
        "every other table, and after the epoch that is best there, which must not be picked.",
    ]
    if lacking := len(records) - len(diagnosed):
        notes.append(
            f"{lacking} of {len(records)} finished cells were not diagnosed and are left out here; running the grid "
            "with --rerun all makes good for that, and changes no number."
        )
    return Table(
        key="test-selection",
        title=f"{group.title}: test selection, in % of top-1",
        corner="image+text",
        columns=tuple(f"K={shots} {name}" for shots in group.shots for name, _, _ in COLUMNS),
        rows=tuple(
            Row(
                pair,
                tuple(
                    _selection_value(group.of(pair, shots), read, written)
                    for shots in group.shots
                    for _, read, written in COLUMNS
                ),
            )
            for pair in group.pairs
        ),
        notes=tuple(notes),
        context={"dataset": group.dataset, "split": str(group.split), "metric": "top1"},
        axes=tuple({"shots": str(shots), "quantity": name} for shots in group.shots for name, _, _ in COLUMNS),
        caption=f"Diagnosis, and no result: what picking an epoch on the test list of {group.title} would be worth.",
    )


def _selection_value(entries: list[Entry], read: Callable[[TestSelection], float], written: str) -> Value:
    gaps = gaps_of(entries)
    values = [read(record.test_selection) for record in finished(entries) if record.test_selection is not None]
    if not values:
        return Value(None, len(entries), gaps, behind=tuple(entries)) if gaps else Value(text="not diagnosed")
    mean = mean_of(values)
    return Value(mean, len(entries), gaps, text=written.format(mean.mean), behind=tuple(entries))

"""What each pair costs: trained weights by tower and head, checkpoint, time, memory, speed."""

from __future__ import annotations

import math
from collections.abc import Callable

from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from mmfuse.report.groups import Group, finished
from mmfuse.report.statistics import mean_of
from mmfuse.report.tables.accuracy import gaps_of
from mmfuse.report.tables.table import Row, Table, Value

Read = Callable[[Record], float | None]


def _parameters(name: str) -> Read:
    return lambda record: getattr(record.parameters, name) if record.parameters else None


def _cost(name: str, scale: float = 1.0) -> Read:
    def read(record: Record) -> float | None:
        value = getattr(record.cost, name) if record.cost else None
        return None if value is None else value * scale

    return read


def _waiting(record: Record) -> float | None:
    """Per cent of the training in which the device had no data."""
    cost = record.cost
    if cost is None or not cost.train_seconds or cost.train_wait_seconds is None:
        return None
    return 100 * cost.train_wait_seconds / cost.train_seconds


def trade_off(accuracy: float, weights: int) -> float:
    """Performance-parameter trade-off (PPT) of V-PETL Bench (Xin et al., NeurIPS 2024): acc · exp(-log10(N / 10M + 1)).

    Args:
        accuracy: between 0 and 1.
        weights: N, trained weights of the methods; those of the head or the fusion are not counted.

    >>> trade_off(0.713, 0), round(trade_off(0.713, 10_000_000), 3)
    (0.713, 0.528)
    """
    return accuracy * math.exp(-math.log10(weights / 10e6 + 1))


def _trade_off(record: Record) -> float | None:
    if record.metrics is None or record.parameters is None:
        return None
    return trade_off(record.metrics.top1, record.parameters.image_method + record.parameters.text_method)


COLUMNS: tuple[tuple[str, Read, int], ...] = (
    ("image method", _parameters("image_method"), 0),
    ("text method", _parameters("text_method"), 0),
    ("fusion", _parameters("fusion"), 0),
    ("checkpoint MB", _cost("checkpoint_bytes", 1e-6), 2),
    ("PPT", _trade_off, 3),
    ("train s", _cost("train_seconds"), 1),
    ("waiting %", _waiting, 1),
    ("peak MB", _cost("peak_memory_bytes", 1e-6), 0),
    ("train clips/s", _cost("train_clips_per_second"), 1),
    ("test clips/s", _cost("test_clips_per_second"), 1),
)


def cost_table(group: Group) -> Table:
    """The cost of each pair at the largest number of shots that is planned: means over its repetitions."""
    shots = group.shots[-1]
    rows = []
    for pair in group.pairs:
        entries = group.of(pair, shots)
        rows.append(Row(pair, tuple(_cost_value(entries, read, decimals) for _, read, decimals in COLUMNS)))
    devices = sorted({record.provenance.device or "unknown" for record in finished(group.entries)})
    return Table(
        key="cost",
        title=f"{group.title}: cost at K={shots}",
        corner="image+text",
        columns=tuple(name for name, _, _ in COLUMNS),
        rows=tuple(rows),
        notes=(
            "Numbers of trained weights; PPT, wall seconds, memory and speed are means over the repetitions.",
            "PPT is the trade-off of V-PETL Bench, acc · exp(-log10(N / 10M + 1)): top-1 between 0 and 1, N the "
            "trained weights of both methods, without the fusion.",
            "Waiting: the part of the training in which the device had nothing to do, as its next batch was not there.",
            f"Measured on {', '.join(devices) or 'nothing yet'}; features of a frozen tower that are already kept "
            "cost nothing again, so times hold for this order of cells.",
        ),
        context={"dataset": group.dataset, "split": str(group.split), "shots": str(shots)},
        axes=tuple({"quantity": name} for name, _, _ in COLUMNS),
        caption=f"What each pair costs on {group.title}, at K={shots} training clips a class.",
    )


def _cost_value(entries: list[Entry], read: Read, decimals: int) -> Value:
    gaps = gaps_of(entries)
    values = [value for record in finished(entries) if (value := read(record)) is not None]
    if not values:
        return Value(None, len(entries), gaps, behind=tuple(entries)) if gaps else Value(text="–")
    mean = mean_of(values)
    return Value(mean, len(entries), gaps, text=f"{mean.mean:,.{decimals}f}", behind=tuple(entries))

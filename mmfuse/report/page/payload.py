"""What the page's script is given: the cells behind the numbers, and the classes of each place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmfuse.records.status import Entry
from mmfuse.report.groups import Group
from mmfuse.report.page.provenance import command_of, without_folders
from mmfuse.report.per_class import ClassGain, Evidence
from mmfuse.report.plots.points import COSTS, Plots

MOST_NUMBERS = 250_000
"""Numbers about classes that the page may hold; few pairs and shots that matter less are left out beyond that."""

CELL_COLUMNS = (
    "dataset",
    "split",
    "pair",
    "shots",
    "draw",
    "seed",
    "state",
    "top1",
    "top5",
    "mean_class",
    "weights",
    "seconds",
    "finished",
    "record",
    "command",
    "note",
)


def cells(entries: Sequence[Entry], plans: Mapping[str, str]) -> list[list[Any]]:
    """A line for each cell, in the order of `CELL_COLUMNS`.

    Args:
        entries: the cells.
        plans: the command that ran a cell's grid, by the cell's name, for those without a record.
    """
    return [_cell(entry, plans.get(entry.cell.name, "")) for entry in entries]


def _cell(entry: Entry, planned: str) -> list[Any]:
    cell, record = entry.cell, entry.record
    metrics = record.metrics if record else None
    percent = [_round(None if value is None else 100 * value) for value in _accuracies(metrics)]
    return [
        cell.dataset.name,
        cell.split,
        cell.pair.name,
        str(cell.shots),
        cell.draw,
        cell.seed,
        entry.state,
        *percent,
        COSTS["parameters"](record) if record else None,
        _round(record.cost.train_seconds if record and record.cost else None),
        record.provenance.finished if record else None,
        f"records/{record.stem}.json" if record else None,
        command_of(record.command if record and record.command else planned),
        without_folders("; ".join([*_trouble(entry), *(record.notes if record else ())])),
    ]


def _accuracies(metrics: Any) -> tuple[float | None, ...]:
    return (metrics.top1, metrics.top5, metrics.mean_class) if metrics else (None, None, None)


def _trouble(entry: Entry) -> list[str]:
    if entry.failure is not None:
        return [f"{entry.failure.kind}: {entry.failure.message}"]
    return [entry.reason] if entry.reason else []


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


class ClassPayload:
    """Hands out what the page may hold about classes, and remembers what it had no room for."""

    def __init__(self, most: int = MOST_NUMBERS) -> None:
        self._left = most
        self.left_out = 0

    def of(self, plots: Plots, evidence: Evidence) -> dict[str, Any]:
        """Classes, gains and confusions of one group: the largest K first, where there is no room for all."""
        group = plots.group
        places: dict[str, Any] = {}
        for at, shots in reversed(list(enumerate(group.shots))):
            for number, pair in enumerate(group.pairs):
                if (answers := evidence.answers.get((pair, shots))) is None:
                    continue
                if 3 * len(answers.pairs) > self._left:  # its gains need not be tested to see that it does not fit
                    self.left_out += 1
                    continue
                place = _place(group, evidence, pair, shots)
                size = len(place["mistakes"]) + 6 * len(place["gains"])
                if size <= self._left:
                    self._left -= size
                    places[f"{number},{at}"] = place
                else:
                    self.left_out += 1
        return {
            "classes": list(evidence.class_names),
            "clips": evidence.clips_of_class.tolist() if evidence.models else [],
            "pairs": group.pairs,
            "shots": [str(shots) for shots in group.shots],
            "baselines": [_index(group, group.baseline_of(pair)) for pair in group.pairs],
            "places": places,
        }


def _index(group: Group, row: str | None) -> int | None:
    return None if row is None else group.pairs.index(row)


def _place(group: Group, evidence: Evidence, pair: str, shots: Any) -> dict[str, Any]:
    answers = evidence.answers[pair, shots]
    baseline = group.baseline_of(pair)
    gains = evidence.gains(pair, baseline, shots) if baseline is not None and pair != baseline else []
    return {
        "models": sum(answers.models.values()),
        "mistakes": [number for (i, j), count in sorted(answers.pairs.items()) for number in (i, j, count)],
        "gains": [_gain(gain) for gain in gains],
        "confused": [
            [true, taken, count, round(100 * share, 1)] for true, taken, count, share in evidence.confused(pair, shots)
        ],
    }


def _gain(gain: ClassGain) -> list[float | int | None]:
    mean = gain.gain
    return [
        gain.label,
        round(mean.mean, 2),
        None if mean.half is None else round(mean.half, 2),
        mean.n,
        round(gain.ours, 2),
        round(gain.theirs, 2),
    ]

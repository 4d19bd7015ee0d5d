"""What the plots show, as numbers: the page and the figures draw the same points, and both are those of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmfuse.records.record import Record
from mmfuse.report.groups import finished
from mmfuse.report.statistics import Mean, mean_of
from mmfuse.report.tables.accuracy import Comparison


@dataclass(frozen=True)
class Series:
    """Accuracy of one pair against shots.

    Args:
        pair: its name.
        points: the place of each K among the group's shots, and the mean there; places without a number are left out.
    """

    pair: str
    points: tuple[tuple[int, Mean], ...]


@dataclass(frozen=True)
class Trade:
    """Accuracy of one pair at one K, and what it costs.

    Args:
        pair: its name.
        cost: mean over its finished cells.
        accuracy: in per cent.
        front: whether no other pair costs as little or less and is as accurate or more.
    """

    pair: str
    cost: float
    accuracy: Mean
    front: bool


def _trained(record: Record) -> float | None:
    """Weights that the two methods train; the head, which all pairs of a grid share, is told apart."""
    return record.parameters.image_method + record.parameters.text_method if record.parameters else None


def _seconds(record: Record) -> float | None:
    """Wall seconds of training times the devices that were busy."""
    if record.cost is None or record.cost.train_seconds is None:
        return None
    return record.cost.train_seconds * record.provenance.devices


COSTS: dict[str, Callable[[Record], float | None]] = {"parameters": _trained, "seconds": _seconds}


class Plots:
    """The numbers of one group's plots."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.group = comparison.group

    @cached_property
    def _means(self) -> dict[tuple[str, Any], Mean]:
        shots = self.group.shots
        return {
            (row.name, one): value.mean
            for row in self.comparison.table.rows
            for one, value in zip(shots, row.values, strict=False)
            if value.mean is not None
        }

    @cached_property
    def series(self) -> list[Series]:
        """A series for each pair that has a number."""
        found = []
        for pair in self.group.pairs:
            points = [
                (at, mean)
                for at, shots in enumerate(self.group.shots)
                if (mean := self._means.get((pair, shots))) is not None
            ]
            if points:
                found.append(Series(pair, tuple(points)))
        return found

    def trades(self, shots: Any, cost: str) -> list[Trade]:
        """Each pair's accuracy at K and its cost, cheapest first.

        Args:
            shots: K.
            cost: a key of `COSTS`.
        """
        points = []
        for pair in self.group.pairs:
            values = [
                value for record in finished(self.group.of(pair, shots)) if (value := COSTS[cost](record)) is not None
            ]
            mean = self._means.get((pair, shots))
            if values and mean is not None:
                points.append((pair, mean_of(values).mean, mean))
        best = on_front((cost, mean.mean) for _, cost, mean in points)
        made = [Trade(pair, cost, mean, (cost, mean.mean) in best) for pair, cost, mean in points]
        return sorted(made, key=lambda trade: (trade.cost, -trade.accuracy.mean))

    @cached_property
    def shots_with_numbers(self) -> list[Any]:
        """The K at which any pair has a number."""
        return [shots for shots in self.group.shots if any((pair, shots) in self._means for pair in self.group.pairs)]

    @cached_property
    def chance(self) -> float | None:
        """Accuracy of guessing in per cent, where records tell the number of classes."""
        classes = {len(record.class_names) for record in finished(self.group.entries) if record.class_names}
        return 100 / classes.pop() if len(classes) == 1 else None

    @cached_property
    def clock(self) -> str:
        """What the seconds are seconds of."""
        kinds = {(record.provenance.device or "unknown").split(" ")[0] for record in finished(self.group.entries)}
        if not kinds or "unknown" in kinds:
            return "device-seconds"
        if kinds == {"cpu"}:
            return "CPU-seconds"
        return "GPU-seconds" if "cpu" not in kinds else "seconds of mixed devices"

    def cost_title(self, cost: str) -> str:
        """What an axis of costs, a key of `COSTS`, shows."""
        return "weights trained by the methods" if cost == "parameters" else f"training, {self.clock} a cell"


def on_front(points: Iterable[tuple[float, float]]) -> set[tuple[float, float]]:
    """The Pareto front: points (cost, accuracy) that none beats in one without losing in the other.

    >>> sorted(on_front([(1, 50), (2, 60), (3, 55), (2, 40)]))
    [(1, 50), (2, 60)]
    """
    front: set[tuple[float, float]] = set()
    highest = float("-inf")
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if accuracy > highest:
            front.add((cost, accuracy))
            highest = accuracy
    return front

"""The answer that a data set gives: the best pair, the cheapest one that comes close, and what is still open."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mmfuse.report.gains import Gain, Question, gains_of, questions
from mmfuse.report.groups import finished
from mmfuse.report.plots.points import COSTS, Plots
from mmfuse.report.statistics import Mean
from mmfuse.report.tables.accuracy import Comparison, Span
from mmfuse.report.tables.table import Value

MARGIN = 0.5
"""Points up to which a pair is close to the best, where the grid states no margin; a grid's own default."""


@dataclass(frozen=True)
class Best:
    """Which pair is highest at some K, and which others may be as good.

    Args:
        span: the K that are averaged within each draw.
        pair: the pair with the highest mean among those with the same draws.
        value: its accuracy.
        ties: other pairs that are not shown to be below it.
        behind: pairs that are.
        second: the next pair that shares a draw, and the paired difference to it.
        tested: whether there are draws enough to test anything.
    """

    span: Span
    pair: str
    value: Value
    ties: tuple[str, ...]
    behind: tuple[str, ...]
    second: tuple[str, Mean] | None
    tested: bool


@dataclass(frozen=True)
class Cheaper:
    """A pair that trains fewer weights than the best and whose mean is within the margin of it.

    Args:
        pair: the cheapest such.
        behind: points that it is below the best, paired; without an interval where draws were added by what was seen.
        weights: that its methods train.
        share: of the weights of the best.
    """

    pair: str
    behind: Mean
    weights: float
    share: float


class Answer:
    """What one data set and split says.

    Args:
        plots: its numbers.
    """

    def __init__(self, plots: Plots) -> None:
        self.plots = plots
        self.group = plots.group
        self.comparison: Comparison = plots.comparison
        self.rule = plots.group.rule

    @property
    def margin(self) -> float:
        """Points up to which a pair counts as close to the best."""
        return MARGIN if self.rule is None else self.rule.margin

    @cached_property
    def gains(self) -> dict[str, Gain]:
        """The gain of each pair beside the baseline."""
        return {gain.pair: gain for gain in gains_of(self.comparison)}

    @cached_property
    def verdicts(self) -> Counter[str]:
        """How many gains have each verdict."""
        return Counter(gain.verdict for gain in self.gains.values() if gain.verdict)

    @cached_property
    def questions(self) -> list[Question]:
        """The gains that are open."""
        return questions(self.comparison)

    @cached_property
    def span(self) -> Span:
        """The K that the tables average; the largest one with a number where no pair has all of those yet."""
        averaged, known = self.comparison.averaged, self.plots.shots_with_numbers
        return averaged if self.values(averaged) or not known else (known[-1],)

    def values(self, span: Span) -> dict[str, Value]:
        """The values of a column of the table, by row, where there is a number."""
        column = self.comparison.table.columns.index(self.comparison.heading(span))
        return {
            row.name: row.values[column] for row in self.comparison.table.rows if row.values[column].mean is not None
        }

    @cached_property
    def best(self) -> Best | None:
        """The best pair over the K that are averaged; `None` where none can be called so."""
        return self.best_at(self.span)

    def best_at(self, span: Span) -> Best | None:
        """Which pair is highest, averaged over `span`; `None` where none can be called so."""
        values = self.values(span)
        best = self._highest(span, values)
        if best is None:
            return None
        may_be_best = self.comparison.may_be_best(span)
        others = sorted((pair for pair in values if pair != best), key=lambda pair: -_mean_of(values[pair]))
        leads = [(pair, self._difference(best, pair, span)) for pair in others]
        return Best(
            span,
            best,
            values[best],
            ties=tuple(pair for pair in others if pair in may_be_best),
            behind=tuple(pair for pair in others if pair not in may_be_best),
            second=next(((pair, lead) for pair, lead in leads if lead is not None), None),
            tested=any(self.comparison.p(best, pair, span) is not None for pair in others),
        )

    def _highest(self, span: Span, values: dict[str, Value]) -> str | None:
        """The highest pair among those with the same draws; where draws were added, the one with the largest gain.

        Gains are paired with a baseline that has all draws, so that those over many draws and few can be compared.
        """
        known = {pair: gain.mean.mean for pair, gain in self.gains.items() if gain.mean and pair in values}
        if self.rule is not None and known and span == self.comparison.averaged and self.group.baseline in values:
            pair = max(known, key=lambda pair: known[pair])
            return pair if known[pair] > 0 else self.group.baseline
        return self.comparison.best(span) or (next(iter(values)) if len(values) == 1 else None)

    def _difference(self, pair: str, other: str, span: Span) -> Mean | None:
        """The paired difference of two pairs, without an interval where draws were added by what was seen."""
        found = self.comparison.difference(pair, other, span)
        return found if found is None or self.rule is None else replace(found, half=None, half_clips=None)

    @cached_property
    def cheaper(self) -> Cheaper | None:
        """The cheapest pair within the margin of the best; `None` where no cheaper one comes that close."""
        best = self.best
        price = None if best is None else self._weights(best.pair)
        if best is None or not price:
            return None
        found = []
        for pair in self.values(best.span):
            weights, behind = self._weights(pair), self._difference(best.pair, pair, best.span)
            if weights is not None and weights < price and behind is not None and behind.mean <= self.margin:
                found.append(Cheaper(pair, behind, weights, weights / price))
        return min(found, key=lambda one: (one.weights, one.behind.mean), default=None)

    def _weights(self, pair: str) -> float | None:
        """Weights that the methods of a pair train."""
        entries = [entry for shots in self.group.shots for entry in self.group.of(pair, shots)]
        known = [value for record in finished(entries) if (value := COSTS["parameters"](record)) is not None]
        return float(np.mean(known)) if known else None


def _mean_of(value: Value) -> float:
    assert value.mean is not None
    return value.mean.mean

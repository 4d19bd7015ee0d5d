"""The forest plot of paired gains, as numbers: the page and the figures draw the same rows on the same scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mmfuse.report.answer import Answer
from mmfuse.report.gains import UNTESTED, Gain
from mmfuse.report.plots.svg import Scale, linear
from mmfuse.report.statistics import Mean

WIDEST = 2.5
"""An interval is shown up to so many times the largest gain: those of two draws are ten times wider than all others."""
MOST_LABELS = 5
NARROWEST = 2.0
"""Points that are shown on either side at least."""


@dataclass(frozen=True)
class Bar:
    """One row of a panel, as shares of the panel's width.

    Args:
        at: the gain.
        draws: the ends of the interval over draws; `None` without one.
        clips: the same over test clips, where it is the wider one.
        cut: whether an interval goes on beyond the low and the high end.
    """

    at: float
    draws: tuple[float, float] | None
    clips: tuple[float, float] | None
    cut: tuple[bool, bool]


@dataclass(frozen=True)
class Panel:
    """The gains of one data set and split.

    Args:
        title: data set and split.
        over: what gains are averaged over, such as `K=8, 16, all`.
        baseline: the pair that they are measured against.
        gains: by pair.
    """

    title: str
    over: str
    baseline: str
    gains: dict[str, Gain]


class Forest:
    """Panels with the same rows: all pairs, sorted by their mean gain over the data sets.

    Args:
        answers: one a data set; those without a gain get no panel.
    """

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.panels = [
            Panel(
                answer.group.title,
                f"K={', '.join(map(str, answer.comparison.averaged))}",
                str(answer.group.baseline),
                answer.gains,
            )
            for answer in answers
            if any(gain.mean is not None for gain in answer.gains.values())
        ]

    @cached_property
    def pairs(self) -> list[str]:
        """The rows from the highest mean gain to the lowest; those that lack a data set come last."""
        names = dict.fromkeys(pair for panel in self.panels for pair in panel.gains)

        def order(pair: str) -> tuple[int, float]:
            known = [mean.mean for panel in self.panels if (mean := self._mean(panel, pair)) is not None]
            return len(self.panels) - len(known), -sum(known) / max(1, len(known))

        return sorted(names, key=order)

    @staticmethod
    def _mean(panel: Panel, pair: str) -> Mean | None:
        return panel.gains[pair].mean if pair in panel.gains else None

    @property
    def _known_gains(self) -> list[Gain]:
        return [gain for panel in self.panels for gain in panel.gains.values()]

    @property
    def tested(self) -> bool:
        """Whether any gain has a verdict."""
        return any(gain.verdict not in ("", UNTESTED) for gain in self._known_gains)

    @property
    def judged(self) -> bool:
        """Whether any verdict is one of draws that were added, which no star tells."""
        return any(gain.verdict not in ("", UNTESTED) and not gain.value.verdict for gain in self._known_gains)

    @cached_property
    def scale(self) -> Scale:
        """The axis of all panels, in points."""
        means = [mean for panel in self.panels for pair in panel.gains if (mean := self._mean(panel, pair)) is not None]
        reach = WIDEST * max(NARROWEST, *(abs(mean.mean) for mean in means))
        halves = [(mean.mean, max(mean.half or 0.0, mean.half_clips or 0.0)) for mean in means]
        edges = [max(-reach, min(reach, mean + side * half)) for mean, half in halves for side in (-1, 1)]
        return linear([-NARROWEST / 2, NARROWEST / 2, *edges])

    @property
    def labels(self) -> list[float]:
        """The places of the axis that carry a number: zero, and a few on either side as far apart as one another."""
        ticks = self.scale.ticks
        zero, every = ticks.index(0.0), -(-len(ticks) // MOST_LABELS)
        return [tick for at, tick in enumerate(ticks) if (at - zero) % every == 0]

    def bar(self, mean: Mean) -> Bar:
        """Where a gain and its intervals lie."""
        wider = mean.half_clips is not None and mean.half_clips > (mean.half or 0.0)
        half, clips = mean.half, mean.half_clips if wider else None
        widest = max(half or 0.0, clips or 0.0)
        low, high = self.scale.low, self.scale.high
        return Bar(
            self._share(mean.mean),
            None if half is None else (self._share(mean.mean - half), self._share(mean.mean + half)),
            None if clips is None else (self._share(mean.mean - clips), self._share(mean.mean + clips)),
            (mean.mean - widest < low, mean.mean + widest > high),
        )

    def _share(self, value: float) -> float:
        return min(1.0, max(0.0, self.scale.share(value)))

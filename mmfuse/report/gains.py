"""What each pair gains over its baseline, what is known of it, and what is still open.

The report opens with these numbers, and the forest plots of page and figures show them. Where draws are listed, they
are those of the column of gains. Where draws were added until all is decided, a gain over several K is the mean of its
verdicts' gains, and its interval the mean of their intervals: these hold together, so their mean lies within it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmfuse.records.decisions import Decision
from mmfuse.records.until_decided import UntilDecided
from mmfuse.report.statistics import LEVEL, Mean, behrens_fisher_p
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.table import Value
from mmfuse.statistics.power import MOST_DRAWS

BETTER, WORSE, EQUIVALENT, OPEN, UNTESTED = "better", "worse", "equivalent", "open", "untested"
_MANY_DEGREES = 30
"""A spread that is known this well changes hardly anything, and the weights of the test are exact up to here."""


@dataclass(frozen=True)
class Gain:
    """What a pair gains, averaged over the K that the tables average.

    Args:
        pair: its row.
        value: the gain in points with its interval.
        verdict: better, worse, equivalent, open or untested; empty where there is no number.
    """

    pair: str
    value: Value
    verdict: str

    @property
    def mean(self) -> Mean | None:
        """The gain; `None` where it is not known."""
        return self.value.mean

    @property
    def lacking(self) -> str:
        """What is lacking of it, in short: `2/3`; the table tells more."""
        return self.value.gap().split(",")[0]


@dataclass(frozen=True)
class Question:
    """A gain of which it is not known whether it is one.

    Args:
        pair: its row.
        shots: K; `None` for the mean over several.
        gain: what was seen.
        further: draws beyond these that would decide it, if gain and spread stay as they are; `None` where no number
            of them would.
    """

    pair: str
    shots: Any
    gain: Mean
    further: int | None


def gains_of(comparison: Comparison) -> list[Gain]:
    """The gain of every pair beside the baseline, in the order of the rows; nothing without a baseline."""
    if comparison.gain_table is None:
        return []
    names = {row.name for row in comparison.gain_table.rows}
    rule = comparison.group.rule
    return [_gain(comparison, row.name, row.values[-1], rule) for row in comparison.table.rows if row.name in names]


def _gain(comparison: Comparison, pair: str, value: Value, rule: UntilDecided | None) -> Gain:
    if rule is not None and rule.reference == "baseline":
        decided = [one for one in comparison.group.decisions if one.pair == pair and one.shots in comparison.averaged]
        if len(decided) == len(comparison.averaged) and all(one.gain is not None for one in decided):
            return _of_verdicts(pair, value, decided)
    if value.mean is None:
        return Gain(pair, value, "")
    if rule is not None:  # the interval would be one for a number of draws that was fixed beforehand
        mean = replace(value.mean, half=None, half_clips=None)
        return Gain(pair, replace(value, mean=mean), UNTESTED)
    return Gain(pair, value, {"gain": BETTER, "loss": WORSE, "open": OPEN}.get(value.verdict, UNTESTED))


def _of_verdicts(pair: str, value: Value, decided: Sequence[Decision]) -> Gain:
    """The mean over several K of gains whose intervals hold together."""
    mean = sum(one.gain or 0.0 for one in decided) / len(decided)
    half = sum(one.half or 0.0 for one in decided) / len(decided)
    if all(one.verdict == EQUIVALENT for one in decided):
        verdict = EQUIVALENT
    else:
        verdict = OPEN if abs(mean) <= half else BETTER if mean > 0 else WORSE
    draws = min(one.draws for one in decided)
    return Gain(pair, replace(value, mean=Mean(mean, half, draws), significant=None, p=None), verdict)


def questions(comparison: Comparison) -> list[Question]:
    """The gains that are open, those that need the fewest further draws first."""
    if comparison.group.rule is not None:
        found = [
            Question(one.pair, one.shots, Mean(one.gain, one.half, one.draws), one.further)
            for one in comparison.group.decisions
            if one.verdict == OPEN and one.gain is not None
        ]
    else:
        found = _open_gains(comparison)
    return sorted(found, key=lambda question: math.inf if question.further is None else question.further)


def _open_gains(comparison: Comparison) -> list[Question]:
    """The gains over the averaged K that no test shows to hold, where draws are listed."""
    still = [gain for gain in gains_of(comparison) if gain.verdict == OPEN]
    span, pairs = comparison.averaged, comparison.group.pairs
    found, compared = [], comparison.differences(span)
    for gain in still:
        baseline = comparison.group.baseline_of(gain.pair)
        if gain.mean is None or baseline is None:
            continue
        place = pairs.index(gain.pair), pairs.index(baseline)
        total = draws_to_hold(
            gain.mean.mean,
            draws=gain.mean.n,
            error=float(compared.error[place]),
            error_clips=float(compared.error_clips[place]),
            comparisons=len(still),
        )
        shots = span[0] if len(span) == 1 else None
        found.append(Question(gain.pair, shots, gain.mean, None if total is None else total - gain.mean.n))
    return found


def draws_to_hold(gain: float, *, draws: int, error: float, error_clips: float, comparisons: int) -> int | None:
    """Draws in all with which a gain would be marked, if it and both spreads stay as they are.

    Args:
        gain: in points.
        draws: draws so far.
        error: its standard error over these draws.
        error_clips: its standard error over test clips, which further draws make no smaller.
        comparisons: tests of the family that are open (Bonferroni, which Holm's method begins with).

    Returns:
        `None` above `MOST_DRAWS`: mostly because the test list is too short for such a gain.

    >>> draws_to_hold(2.0, draws=3, error=0.6, error_clips=0.3, comparisons=5)
    6
    >>> draws_to_hold(2.0, draws=3, error=0.6, error_clips=1.2, comparisons=5) is None
    True
    """

    def holds(total: int) -> bool:
        degrees = min(total - 1, _MANY_DEGREES)
        p = behrens_fisher_p(np.array(gain), np.array(error * math.sqrt(draws / total)), np.array(error_clips),
                             degrees=degrees)  # fmt: skip
        return bool(p * comparisons < LEVEL)

    numbers = range(draws + 1, MOST_DRAWS + 1)
    at = bisect.bisect_left(numbers, True, key=holds)
    return numbers[at] if at < len(numbers) else None

"""What a number of draws can tell, before any is run: the smallest gain that it separates, the draws that a gain takes.

Powers are those of the interval of the last look in `mmfuse.statistics.sequential`. Earlier looks only add to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from scipy import special

from mmfuse.statistics.sequential import LEVEL, Array, prior_degrees

POWER = 0.8
"""Chance with which a gain is to be separated."""
MOST_DRAWS = 1000
"""More draws than these are not worth telling."""
TYPICAL_SPREAD = 3.0
"""Standard deviation in points of one draw's gain, as the grid `demo` shows it at K = 2 and 8."""
TYPICAL_SPREAD_AT_ALL = 1.5
"""The same of repeated trainings at K = all."""


def pooled_spread(columns: Iterable[Array]) -> float | None:
    """Standard deviation of one draw's gain, pooled over comparisons.

    Args:
        columns: (R, n) accuracies in per cent of rows on the same draws, the baseline first; nan where there is none.

    Returns:
        `None` where no comparison has two draws.
    """
    squares, degrees = 0.0, 0
    for accuracy in columns:
        for gains in accuracy[1:] - accuracy[:1]:
            seen = gains[~np.isnan(gains)]
            if len(seen) > 1:
                squares += float(np.square(seen - seen.mean()).sum())
                degrees += len(seen) - 1
    return math.sqrt(squares / degrees) if degrees else None


def degrees_of_freedom(rows: int, draws: int) -> float:
    """Degrees of freedom behind an interval of a column of so many rows, the baseline included."""
    return float(draws - 1 + prior_degrees(float(max(rows - 2, 0) * (draws - 1))))


def smallest_gain(
    *, draws: int, spread: float, rows: int, comparisons: int, share: float = 1.0, power: float = POWER
) -> float:
    """The gain in points that is separated from zero with a given chance.

    Args:
        draws: at the last look.
        spread: standard deviation of one draw's gain.
        rows: rows of a column, the baseline included.
        comparisons: of the whole table.
        share: of the error that is spent at the last look.
        power: the chance.

    >>> round(smallest_gain(draws=10, spread=3.0, rows=5, comparisons=12), 1)
    4.1
    """
    degrees = degrees_of_freedom(rows, draws)
    quantile = special.stdtrit(degrees, 1 - share * LEVEL / comparisons / 2)
    # The t statistic of a true gain is noncentral; its noncentrality is the gain in standard errors.
    noncentrality = special.nctdtrinc(degrees, 1 - power, quantile)
    return float(noncentrality * spread / math.sqrt(draws))


def draws_for(
    gain: float, *, spread: float, rows: int, comparisons: int, share: float = 1.0, power: float = POWER
) -> int | None:
    """Draws that it takes to separate a gain from zero with a given chance; `None` above `MOST_DRAWS`.

    Args:
        gain: in points, above 0.
        spread, rows, comparisons, share, power: as for `smallest_gain`, which this inverts.
    """

    def enough(draws: int) -> bool:
        return gain >= smallest_gain(
            draws=draws, spread=spread, rows=rows, comparisons=comparisons, share=share, power=power
        )

    return _smallest_that_holds(enough, 2)


def draws_to_decide(
    *, mean: float, spread: float, degrees: float, draws: int, margin: float, two_sided: float
) -> int | None:
    """Draws in all that would decide an open comparison, if its mean and spread stay as they are.

    Args:
        mean: the gain that was seen.
        spread: standard deviation of one draw's gain.
        degrees: degrees of freedom of the spread.
        draws: draws so far.
        margin: gains up to this are equivalent.
        two_sided: chance of error of the interval.

    Returns:
        `None` above `MOST_DRAWS`.
    """

    def decided(total: int) -> bool:
        free, error = degrees + total - draws, spread / math.sqrt(total)
        half, bound = (float(special.stdtrit(free, 1 - tail)) * error for tail in (two_sided / 2, two_sided))
        return abs(mean) > half or abs(mean) + bound < margin

    return _smallest_that_holds(decided, draws + 1)


def _smallest_that_holds(holds: Callable[[int], bool], low: int) -> int | None:
    """The first number from `low` to `MOST_DRAWS` at which a condition holds that stays true from there on."""
    high = MOST_DRAWS
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low

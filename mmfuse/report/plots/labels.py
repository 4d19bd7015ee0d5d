"""Places for labels, so that none touches another."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.optimize import isotonic_regression


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Places on a line that are at least `gap` apart, in the order of those that are wanted and as near as may be.

    The sum of squared shifts is the least: less `gap` for each place below it, places need only not fall, which is
    isotonic regression.

    Args:
        wanted: places in any order.
        gap: between neighbours.
        low, high: ends of the line, within which all lie if there is room for them.

    >>> spread([10.0, 11.0, 40.0], gap=6.0, low=0.0, high=50.0)
    [7.5, 13.5, 40.0]
    """
    if not wanted:
        return []
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    level = isotonic_regression([wanted[at] - rank * gap for rank, at in enumerate(order)]).x
    top = max(low, high - (len(wanted) - 1) * gap)
    places = [float(min(max(one, low), top)) + rank * gap for rank, one in enumerate(level)]
    return [place for _, place in sorted(zip(order, places, strict=True))]

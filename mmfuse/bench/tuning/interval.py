"""The interval of one accuracy over test clips that come from sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scipy.special import stdtrit

from mmfuse.bench.tuning.choice import standard_error


def accuracy_interval(right: Sequence[Any], groups: Sequence[str], *, level: float = 0.95) -> tuple[float, float]:
    """The interval of an accuracy: Wilson's (1927), with as many clips as the sources are worth.

    Clips of one source are alike. The effective number of clips is p (1 - p) / SE², with the standard error over
    sources (as surveys do; Korn and Graubard 1998), but at least the number of sources and at most that of clips; the
    quantile is Student's with as many degrees of freedom as there are sources less one.

    Args:
        right: whether each clip was recognised.
        groups: the source of each clip.
        level: of confidence.

    Returns:
        Lower and upper bound, between 0 and 1.

    >>> tuple(round(bound, 2) for bound in accuracy_interval([1, 1, 1, 0], ["a", "b", "c", "d"]))
    (0.16, 0.98)
    """
    clips, sources = len(right), len(set(groups))
    share = sum(map(bool, right)) / clips
    error = standard_error("".join("1" if one else "0" for one in right), groups)
    worth = float(sources) if not error else min(float(clips), max(float(sources), share * (1 - share) / error**2))
    quantile = float(stdtrit(max(1, sources - 1), 0.5 + level / 2))
    square = quantile**2 / worth
    centre = (share + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(share * (1 - share) / worth + quantile**2 / (4 * worth**2))
    return max(0.0, centre - half), min(1.0, centre + half)

"""Means, intervals and tests over few repetitions, paired wherever two methods have seen the same draws.

Draws are few (three is usual), so intervals are Student's: for n = 3 the normal interval is far too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

CONFIDENCE = 0.95
EXACT_UP_TO = 16
FLIPS = 20_000


@dataclass(frozen=True)
class Mean:
    """A mean over n repetitions with the half width of its interval, which one repetition alone cannot give."""

    mean: float
    half: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """A mean difference over the n repetitions that both sides share.

    Args:
        difference: mean and interval of the differences.
        p_t: two-sided p of the paired t-test; `None` for one repetition.
        unpaired: repetitions that only one side has.
        differences: (n,) one a repetition.
    """

    difference: Mean
    p_t: float | None
    unpaired: int
    differences: tuple[float, ...] = ()

    @property
    def p_flip(self) -> float | None:
        """Two-sided p of the sign-flip permutation test, which assumes nothing but symmetry.

        It cannot be smaller than 2^(1-n).
        """
        return flip_test(np.array(self.differences))


def mean_of(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Mean:
    """Mean and Student-t interval.

    >>> result = mean_of([1.0, 2.0, 3.0])
    >>> round(result.mean, 3), round(result.half, 3), result.n
    (2.0, 2.484, 3)

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("the mean of nothing")
    data = np.asarray(values, dtype=np.float64)
    if n == 1:
        return Mean(float(data[0]), None, 1)
    quantile = float(special.stdtrit(n - 1, 0.5 + confidence / 2))
    return Mean(float(data.mean()), quantile * float(data.std(ddof=1)) / math.sqrt(n), n)


def paired(ours: Mapping[Hashable, float], theirs: Mapping[Hashable, float]) -> Paired | None:
    """Differences `ours - theirs` over the repetitions that both have; `None` where they share none.

    Args:
        ours: value by repetition (a draw).
        theirs: the same for the other side.
    """
    shared = [key for key in ours if key in theirs]
    if not shared:
        return None
    differences = np.array([ours[key] - theirs[key] for key in shared])
    unpaired = len(set(ours) ^ set(theirs))
    values = differences.tolist()
    return Paired(mean_of(values), t_test(differences), unpaired, tuple(values))


def t_test(differences: NDArray[np.float64]) -> float | None:
    """Two-sided p of the one-sample t-test against zero; `None` for fewer than two values."""
    n = len(differences)
    if n < 2:
        return None
    spread = float(differences.std(ddof=1))
    centre = float(differences.mean())
    if spread == 0.0:
        return 1.0 if centre == 0.0 else 0.0
    return float(2 * special.stdtr(n - 1, -abs(centre) / (spread / math.sqrt(n))))


def flip_test(differences: NDArray[np.float64], *, flips: int = FLIPS, seed: int = 0) -> float | None:
    """Two-sided p of the sign-flip test: all sign patterns up to 16 values, a random sample of them beyond.

    The random sample counts the observed pattern too, so that the test stays valid and p is never zero.
    """
    n = len(differences)
    if n < 2:
        return None
    observed = abs(float(differences.sum()))
    if n <= EXACT_UP_TO:
        signs = _all_signs(n)
        return float(np.mean(np.abs(signs @ differences) >= observed - 1e-12))
    generator = np.random.default_rng(seed)
    signs = generator.choice((1.0, -1.0), size=(flips, n))
    hits = int(np.sum(np.abs(signs @ differences) >= observed - 1e-12))
    return (hits + 1) / (flips + 1)


@lru_cache
def _all_signs(n: int) -> NDArray[np.float64]:
    """Every pattern of n signs that begins with a plus, (2^(n-1), n): the others are their mirror images."""
    bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n)[None]
    return np.where((bits & 1)[:, ::-1], -1.0, 1.0)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected over a table by Holm's step-down method; `None` stays `None` and does not count.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    tested = sorted((value, at) for at, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, at) in enumerate(tested):
        highest = max(highest, min(1.0, value * (len(tested) - rank)))
        corrected[at] = highest
    return corrected


@dataclass(frozen=True)
class Bootstrap:
    """A difference with its percentile interval over test clips."""

    difference: float
    low: float
    high: float
    clips: int


def bootstrap_clips(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], *, resamples: int = 2000, seed: int = 0
) -> Bootstrap:
    """Difference in accuracy of two trained models on the same test clips, with a paired bootstrap over the clips.

    It says how much the choice of *test clips* matters for these two models; it says nothing of the draw of training
    clips, which the intervals of the tables are about. The two are not to be mixed.

    Args:
        ours: (N,) whether each clip was right.
        theirs: (N,) the same of the other model, in the same order.

    Raises:
        ValueError: the lists differ in length.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} clips cannot be paired")
    gains = ours.astype(np.float64) - theirs.astype(np.float64)
    generator = np.random.default_rng(seed)
    n = len(gains)
    # Only the numbers of gains and losses matter, so a resample is one multinomial draw and not n indices.
    won, lost = float((gains > 0).mean()), float((gains < 0).mean())
    counts = generator.multinomial(n, [won, lost, max(0.0, 1 - won - lost)], size=resamples)
    means = (counts[:, 0] - counts[:, 1]) / n
    low, high = np.quantile(means, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return Bootstrap(float(gains.mean()), float(low), float(high), n)

"""Several data sets taken together: the mean gain on them, ranks on them, and what may be said of others.

Two claims are kept apart. On *these* data sets a gain holds if it would be seen with other draws of the training clips
and other test clips. Draws and clips of one data set tell nothing of another data set. On *others* it holds if it is
large beside what it varies by from data set to data set; for that a data set counts once, however many draws it has.

- `combined`: the mean gain on these data sets. Its error over draws adds up those of the data sets, with the degrees of
  freedom of Welch and Satterthwaite (Welch, "The generalization of Student's problem when several different population
  variances are involved", Biometrika 34, 1947), rounded down; its error over test clips likewise. The test is that of
  `mmfuse.report.statistics`, and with one data set the same.
- `elsewhere`: Student's t over the gains of the data sets, one number each. It is the test of the mean in the mixed
  model gain = mean + data set + draw. Fewer than `FEWEST_DATASETS` are not tested.
- `rank_bounds`: where a rank may lie, by how many rows are shown to be above and below (Mogstad, Romano, Shaikh and
  Wilhelm, "Inference for ranks", Review of Economic Studies 91, 2024). All intervals of a table hold together, and hold
  too where rows are equal, which intervals of bootstrapped ranks do not.
- `friedman`: whether ranks differ at all over the data sets (Friedman 1937; Demšar, "Statistical comparisons of
  classifiers over multiple data sets", JMLR 7, 2006).

`benchmarks/statistics/over_datasets.py` simulates all of these with the functions of this module.

Shape legend: D data sets, R rows of a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mmfuse.report.statistics import (
    CONFIDENCE,
    FEWEST_DRAWS,
    LEVEL,
    Array,
    Differences,
    Mean,
    behrens_fisher_p,
    holm,
)

FEWEST_DATASETS = 4
"""With fewer data sets nothing is said of others."""


@dataclass(frozen=True)
class Combined:
    """The mean of a gain over data sets.

    Args:
        mean: with the intervals over draws and over test clips, on these data sets; n is the fewest draws of any.
        p: two-sided, over draws and test clips of these data sets; `None` where nothing is tested.
        elsewhere: two-sided, over data sets; `None` where they are too few.
    """

    mean: Mean
    p: float | None
    elsewhere: float | None


def averaged(parts: Sequence[Differences]) -> Differences:
    """Differences on several splits of one data set, averaged.

    Splits share clips, and how far their errors agree is not known. They are therefore averaged as if they agreed
    wholly, which no other dependence exceeds.

    Args:
        parts: one a split, of the same rows.
    """
    if len(parts) == 1:
        return parts[0]

    def mean(name: str) -> Array:
        return np.asarray(np.mean([getattr(part, name) for part in parts], axis=0))

    draws: NDArray[np.int64] = np.min([part.draws for part in parts], axis=0)
    error, error_clips = mean("error"), mean("error_clips")
    tested = ~np.isnan(mean("p"))
    p = np.full(tested.shape, np.nan)
    for n in np.unique(draws[tested]):
        at = tested & (draws == n)
        p[at] = behrens_fisher_p(mean("mean")[at], error[at], error_clips[at], degrees=int(n) - 1)
    return Differences(mean("mean"), draws, mean("half"), mean("half_clips"), p, error, error_clips)


def combined(gains: Sequence[Differences], places: Sequence[tuple[int, int]]) -> Combined | None:
    """The mean gain of a row over those data sets on which it has one.

    Args:
        gains: the differences on each data set.
        places: on each of them the numbers of the row and of the one that it is compared with.

    Returns:
        `None` where there is no gain on any.
    """
    found = [
        [float(values[place]) for values in (part.mean, part.draws, part.error, part.error_clips, part.half_clips)]
        + [float(part.p[place])]
        for part, place in zip(gains, places, strict=True)
        if part.draws[place] > 0
    ]
    if not found:
        return None
    mean, draws, error, error_clips, half_clips, p = np.array(found).T
    number = len(mean)
    degrees = _degrees(error, draws - 1)
    over_draws, over_clips = (math.sqrt(float(np.square(one).sum())) / number for one in (error, error_clips))
    half = None if degrees < 1 else float(special.stdtrit(degrees, 0.5 + CONFIDENCE / 2)) * over_draws
    clips = math.sqrt(float(np.square(half_clips).sum())) / number
    value = Mean(float(mean.mean()), half, int(draws.min()), None if math.isnan(clips) else clips)
    tested = bool(draws.min() >= FEWEST_DRAWS and not np.isnan(p).any())
    here = None
    if tested:
        at = (np.array(one) for one in (value.mean, over_draws, over_clips))
        here = float(behrens_fisher_p(*at, degrees=degrees))
    return Combined(value, here, elsewhere(mean, error=error) if tested else None)


def _degrees(error: Array, degrees: Array) -> int:
    """Degrees of freedom of a sum of independent errors, rounded down; 0 where one of them is not known."""
    if np.isnan(error).any() or (degrees < 1).any():
        return 0
    variance = np.square(error)
    if not variance.any():
        return int(degrees.min())
    return math.floor(float(variance.sum() ** 2 / (np.square(variance) / degrees).sum()) + 1e-9)


def elsewhere(gains: Array, *, error: Array) -> float | None:
    """Two-sided p of a mean gain over data sets, of which these are a sample.

    Args:
        gains: (D,) one a data set.
        error: (D,) their standard errors over draws. The gains cannot vary by less in truth than draws make them vary,
            which keeps data sets that agree by chance from making a gain certain.

    Returns:
        `None` for fewer than `FEWEST_DATASETS`.
    """
    number = len(gains)
    if number < FEWEST_DATASETS:
        return None
    variance = max(float(gains.var(ddof=1)), float(np.square(error).mean()))
    if variance == 0:
        return None
    size = abs(float(gains.mean())) / math.sqrt(variance / number)
    return float(2 * special.stdtr(number - 1, -size))


@dataclass(frozen=True)
class Ranks:
    """Ranks of the rows on one data set, 1 for the highest. All (R,); nan where a row has no number.

    Args:
        rank: 1, one more for each row that is above, and a half for each that is level; every two rows are compared on
            the draws that both have. Also nan where a row shares no draw with another one.
        low, high: the lowest and highest rank that is not excluded.
    """

    rank: Array
    low: Array
    high: Array


def rank_bounds(data_sets: Sequence[Differences]) -> list[Ranks]:
    """Ranks on each data set, with intervals that all hold together in 95% of tables.

    Args:
        data_sets: the differences on each.
    """
    pairs = [np.triu_indices(len(part.p), 1) for part in data_sets]
    corrected = iter(holm([float(p) for part, at in zip(data_sets, pairs, strict=True) for p in part.p[at]]))
    found = []
    for part, at in zip(data_sets, pairs, strict=True):
        apart = np.zeros(part.p.shape, dtype=bool)
        apart[at] = [p is not None and p < LEVEL for p in islice(corrected, len(at[0]))]
        apart |= apart.T
        known = np.diagonal(part.draws) > 0
        shared = part.draws > 0
        np.fill_diagonal(shared, False)
        above = (part.mean < 0) & shared  # of a row in each line: which are above it
        level = (part.mean == 0) & shared
        rank = 1 + above.sum(axis=1) + level.sum(axis=1) / 2
        low = 1 + (above & apart).sum(axis=1)
        high = int(known.sum()) - ((part.mean > 0) & shared & apart).sum(axis=1)
        met = known & (shared.sum(axis=1) == known.sum() - 1)
        found.append(Ranks(*(np.where(met, one, np.nan) for one in (rank, low, high))))
    return found


def friedman(ranks: Array) -> float | None:
    """p of Friedman's test that all rows are equal over the data sets.

    Args:
        ranks: (D, R) ranks of the rows on each data set, ties with their mean rank; no nan.

    Returns:
        `None` for fewer than three rows or `FEWEST_DATASETS` data sets, where its distribution is not known well.

    >>> round(friedman(np.array([[1.0, 2, 3], [1, 2, 3], [1, 3, 2], [2, 1, 3]])), 4)
    0.1054
    """
    data_sets, rows = ranks.shape
    if rows < 3 or data_sets < FEWEST_DATASETS:
        return None
    spread = np.square(ranks - (rows + 1) / 2).sum()
    if spread == 0:
        return 1.0
    size = (rows - 1) * np.square(ranks.sum(axis=0) - data_sets * (rows + 1) / 2).sum() / spread
    return float(special.chdtrc(rows - 1, size))

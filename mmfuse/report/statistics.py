"""Intervals and tests of few-shot results: few draws of the training clips, one list of test clips.

Two things make a measured accuracy uncertain, and both are crossed: every model is tested on the same clips. The
*draws* (of training clips and of everything random in training) are few, usually three to ten. The *test clips* are
many, but they come in sources, and clips of one source are no independent evidence. The same design is known from
reader studies in radiology, where readers take the place of draws and cases that of clips (Obuchowski and Rockette
1995; Gallas, Bandos, Samuelson and Wagner 2009).

A mark claims that a difference would be seen again with other draws *and* other test clips. Its test adds both errors:

- the error over draws is Student's: s / √n with n - 1 degrees of freedom;
- the error over test clips is taken from the clips that only one of both sides recognised, summed within each source.
  With the statistic restricted to the null hypothesis (sums about zero), it stays below the root of the number of
  sources, as a sign test over sources would (Efron, "Student's t-test under symmetry conditions", JASA 64, 1969);
- the sum of a Student and a normal error is the Behrens-Fisher distribution, whose test is conservative whatever the
  ratio of the two (Robinson, "Properties of Student's t and of the Behrens-Fisher solution to the two means problem",
  Annals of Statistics 4, 1976).

Since the second error is never zero where predictions differ, draws that happen to agree to the last clip cannot make a
difference certain. `benchmarks/statistics` simulates all of this with the functions of this module.

Shape legend: R rows of a table, n draws, S sources of test clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

CONFIDENCE = 0.95
LEVEL = 0.05
"""Chance of any false mark in a table."""
FEWEST_DRAWS = 3
"""With fewer draws nothing is tested: two differences tell almost nothing of their spread."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """A mean over n draws.

    Args:
        mean: the mean.
        half: half width of its 95% interval over draws; `None` for a single draw.
        n: draws.
        half_clips: half width of its 95% interval over test clips, by source; `None` without predictions.
    """

    mean: float
    half: float | None
    n: int
    half_clips: float | None = None


def mean_of(values: Sequence[float], *, grain: float = 0.0) -> Mean:
    """Mean with its Student-t interval.

    Args:
        values: one a draw.
        grain: a standard deviation that is added to theirs, since values that move in steps may agree by chance.

    >>> result = mean_of([1.0, 2.0, 3.0])
    >>> round(result.mean, 3), round(result.half, 3), result.n
    (2.0, 2.484, 3)

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("no values to average")
    data = np.asarray(values, dtype=np.float64)
    half = float(student_half_width(data, grain=grain))
    return Mean(float(data.mean()), None if math.isnan(half) else half, len(data))


def student_half_width(values: Array, *, grain: float = 0.0) -> Array:
    """Half widths of the 95% Student-t intervals of means over the last axis; nan for a single value.

    Args:
        values: (..., n).
        grain: as in `mean_of`.
    """
    n = values.shape[-1]
    if n < 2:
        return np.full(values.shape[:-1], np.nan)
    quantile = float(special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2))
    return np.asarray(quantile * np.sqrt((values.var(axis=-1, ddof=1) + grain**2) / n))


@dataclass(frozen=True)
class Column:
    """What stands behind one column of a table.

    Args:
        accuracy: (R, n) in per cent; nan where a row lacks a draw.
        recognised: (R, n, S) clips of each source that were recognised; nan where predictions are not available.
        clips: (S,) test clips of each source.
        heaviest: the largest weight of a single clip; 1 where all count alike, as they do in top-1 accuracy.
        averaged: numbers of shots that are averaged within each draw.
    """

    accuracy: Array
    recognised: Array
    clips: Array
    heaviest: float = 1.0
    averaged: int = 1

    @property
    def step(self) -> float:
        """Points of accuracy that a single clip is worth."""
        return 100 * self.heaviest / max(float(self.clips.sum()), 1.0)

    @property
    def grain(self) -> float:
        """Standard deviation in points that a clip adds which goes either way: draws that agree do not exclude it."""
        return self.step / 2 / math.sqrt(self.averaged)


def means(column: Column) -> list[Mean | None]:
    """The mean of each row with its intervals; `None` where it has no draw."""
    found: list[Mean | None] = []
    for accuracy, recognised in zip(column.accuracy, column.recognised, strict=True):
        present = ~np.isnan(accuracy)
        if not present.any():
            found.append(None)
            continue
        mean = mean_of(accuracy[present].tolist(), grain=column.grain)
        known = present & ~np.isnan(recognised).any(axis=-1)
        half = np.nan
        if known.any():
            sums = recognised[known].mean(axis=0)
            half = float(_clip_half_width(np.square(sums).sum(), sums @ column.clips, sums.sum(), column))
        found.append(Mean(mean.mean, mean.half, mean.n, None if math.isnan(half) else half))
    return found


@dataclass(frozen=True)
class Differences:
    """Every row minus every other row, over the draws that both have; nan where there is nothing to tell. All (R, R).

    Args:
        mean: mean differences in points.
        draws: draws that both rows have.
        half: half widths of the 95% intervals over draws.
        half_clips: the same over test clips, by source.
        p: two-sided, over draws and test clips together; nan where nothing is tested.
        error: standard errors over draws, with `draws` - 1 degrees of freedom.
        error_clips: standard errors over test clips as p counts them, restricted to no difference.
    """

    mean: Array
    draws: NDArray[np.int64]
    half: Array
    half_clips: Array
    p: Array
    error: Array
    error_clips: Array

    def between(self, row: int, other: int) -> Mean | None:
        """The difference of two rows; `None` where they share no draw."""
        n = int(self.draws[row, other])
        if n == 0:
            return None
        half, half_clips = (float(values[row, other]) for values in (self.half, self.half_clips))
        return Mean(
            float(self.mean[row, other]),
            None if math.isnan(half) else half,
            n,
            None if math.isnan(half_clips) else half_clips,
        )


def differences(column: Column) -> Differences:
    """Compare the rows of a column, two by two and paired by draw and by test clip.

    Rows that have the same draws are compared all at once.
    """
    rows = len(column.accuracy)
    mean, half, half_clips, p, error, error_clips = (np.full((rows, rows), np.nan) for _ in range(6))
    draws = np.zeros((rows, rows), dtype=np.int64)
    patterns = _rows_by_draws(column)
    for at, (ours, our_draws, our_known) in enumerate(patterns):
        for theirs, their_draws, their_known in patterns[at:]:
            shared = our_draws & their_draws
            if not shared.any():
                continue
            block, mirrored = np.ix_(ours, theirs), np.ix_(theirs, ours)
            found = _compare(column, ours, theirs, shared, our_known & their_known & shared)
            for target, values in zip((half, half_clips, p, error, error_clips), found[1:], strict=True):
                target[block], target[mirrored] = values, values.T
            mean[block], mean[mirrored] = found[0], -found[0].T
            draws[block] = draws[mirrored] = int(shared.sum())
    return Differences(mean, draws, half, half_clips, p, error, error_clips)


Pattern = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]


def _rows_by_draws(column: Column) -> list[Pattern]:
    """Rows with the same draws and the same draws of known predictions: their numbers and both masks, (n,)."""
    present = ~np.isnan(column.accuracy)
    known: NDArray[np.bool_] = np.asarray(~np.isnan(column.recognised).any(axis=-1))
    found: dict[bytes, list[int]] = {}
    for row in range(len(present)):
        found.setdefault(present[row].tobytes() + known[row].tobytes(), []).append(row)
    return [(np.array(members), present[members[0]], known[members[0]]) for members in found.values()]


def _compare(
    column: Column,
    ours: NDArray[np.int64],
    theirs: NDArray[np.int64],
    shared: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Means, half widths over draws and over clips, p, and both errors of A rows against B rows, (A, B) each."""
    n = int(shared.sum())
    values = column.accuracy[ours][:, None, shared] - column.accuracy[theirs][None, :, shared]
    mean = values.mean(axis=-1)
    grain = math.sqrt(2) * column.grain  # a clip each on both sides
    half = student_half_width(values, grain=grain)
    unknown = np.full(mean.shape, np.nan)
    error = unknown if n < 2 else np.sqrt((values.var(axis=-1, ddof=1) + grain**2) / n)
    if not known.any():
        return mean, half, unknown, unknown, error, unknown
    a = column.recognised[ours][:, known].mean(axis=1)
    b = column.recognised[theirs][:, known].mean(axis=1)
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None] - 2 * a @ b.T
    squares = np.maximum(squares, 0.0)
    crossed = (a @ column.clips)[:, None] - (b @ column.clips)[None]
    sums = a.sum(axis=1)[:, None] - b.sum(axis=1)[None]
    half_clips = _clip_half_width(squares, crossed, sums, column)
    error_clips = 100 * np.sqrt(squares + column.heaviest**2) / column.clips.sum()
    p = unknown if n < FEWEST_DRAWS else behrens_fisher_p(mean, error, error_clips, degrees=n - 1)
    return mean, half, half_clips, p, error, error_clips


def _clip_half_width(squares: Array, crossed: Array, sums: Array, column: Column) -> Array:
    """Half widths over test clips from sums over sources: Student's, with a source as the unit.

    One clip is added to what was seen, so that lists on which a pair makes no mistake are not taken for certain (as in
    Agresti and Min, "Simple improved confidence intervals for comparing matched proportions", Statistics in Medicine
    24, 2005).

    Args:
        squares: sums of squares of what each source's clips add up to.
        crossed: sums of these times the numbers of the sources' clips.
        sums: plain sums.
        column: the clips.
    """
    sources, total = len(column.clips), column.clips.sum()
    if sources < 2 or total == 0:
        return np.full(np.shape(squares), np.nan)
    mean = sums / total
    spread = squares - 2 * mean * crossed + np.square(mean) * np.square(column.clips).sum()
    variance = np.maximum(spread, 0.0) * sources / (sources - 1) + column.heaviest**2
    quantile = float(special.stdtrit(sources - 1, 0.5 + CONFIDENCE / 2))
    return np.asarray(quantile * 100 * np.sqrt(variance) / total)


def behrens_fisher_p(difference: Array, student: Array, normal: Array, *, degrees: int) -> Array:
    """Two-sided p of differences that carry a Student and a normal error.

    Args:
        difference: what was seen.
        student: standard errors that were estimated with `degrees` degrees of freedom.
        normal: standard errors of a normal part.
        degrees: degrees of freedom, at least 1.

    >>> float(behrens_fisher_p(np.array(4.303), np.array(1.0), np.array(0.0), degrees=2).round(4))
    0.05
    >>> float(behrens_fisher_p(np.array(1.96), np.array(0.0), np.array(1.0), degrees=2).round(4))
    0.05
    """
    scales, weights = _inverse_chi_square(degrees)
    student, normal = np.square(student)[..., None], np.square(normal)[..., None]
    error = np.sqrt(student * scales + normal)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.abs(difference)[..., None] / error
    # Without any error, a difference of zero is no evidence.
    return np.asarray((2 * special.ndtr(-np.nan_to_num(size, nan=0.0)) * weights).sum(axis=-1))


@lru_cache
def _inverse_chi_square(degrees: int) -> tuple[Array, Array]:
    """Values of d / chi-square(d) and their weights: the trapezoid rule over the logarithm, exact to seven digits."""
    logarithm = np.arange(-20.0, 3.01, 0.25)
    density = degrees / 2 * (logarithm - np.exp(logarithm))
    weights = np.exp(density - density.max())
    return np.exp(-logarithm), weights / weights.sum()


def holm(p: Iterable[float | None]) -> list[float | None]:
    """p-values corrected over a family by Holm's step-down method; `None` and nan come back as `None`, uncounted.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    given = list(p)
    tested = sorted((value, at) for at, value in enumerate(given) if value is not None and not math.isnan(value))
    corrected: list[float | None] = [None] * len(given)
    highest = 0.0
    for rank, (value, at) in enumerate(tested):
        highest = max(highest, min(1.0, value * (len(tested) - rank)))
        corrected[at] = highest
    return corrected


def may_be_best(table: Sequence[Differences]) -> list[NDArray[np.bool_]]:
    """For each column of a table, which rows are not shown to be below the best: a model confidence set.

    Starts with all rows. As long as two rows of a set differ, the lower one leaves it (Hansen, Lunde and Nason, "The
    model confidence set", Econometrica 79, 2011). A difference counts at `LEVEL` over all differences within the sets
    that are left, of all columns (Bonferroni over the range statistic, step-down as in Holm's method), so that no equal
    of a best row leaves any set of the table, but in 5% of tables. Rows are not compared with one that was picked for
    being highest.

    Args:
        table: the differences of each column.

    Returns:
        (R,) a column.
    """
    inside = [np.ones(len(column.p), dtype=bool) for column in table]
    while True:
        compared = [
            np.where(np.triu(np.outer(kept, kept), 1), column.p, np.nan)
            for kept, column in zip(inside, table, strict=True)
        ]
        tests = sum(int((~np.isnan(p)).sum()) for p in compared)
        if tests == 0:
            return inside
        smallest = [np.nanmin(p) if (~np.isnan(p)).any() else np.inf for p in compared]
        at = int(np.argmin(smallest))
        if smallest[at] * tests > LEVEL:
            return inside
        row, other = np.unravel_index(int(np.nanargmin(compared[at])), compared[at].shape)
        inside[at][row if table[at].mean[row, other] < 0 else other] = False

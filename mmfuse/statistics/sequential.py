"""Verdicts on paired gains that may be read while draws are still being added.

Draws come in few *looks* that are fixed beforehand, such as 3, 5, 7 and 10. At each look every comparison that is still
open gets an interval, and its verdict is read off it: **better** or **worse** where the interval leaves out zero,
**equivalent** where it lies within the margin, **open** otherwise. A comparison that is decided gets no further draws;
nor does one that the last look is not expected to decide (*futility*), which stays open.

All intervals of all looks, columns and pairs of a table hold together in 95% of tables:

- *Over looks* the error is spent in proportion to the draws, n / n_max (Lan and DeMets, "Discrete sequential boundaries
  for clinical trials", Biometrika 70, 1983; the linear member of Kim and DeMets' family, Biometrika 74, 1987). The
  looks' shares are added up (Bonferroni), so that no assumption on how looks depend on one another is needed, such as
  one on which comparisons went on.
- *Over the table* it is divided by the number of comparisons (Bonferroni). Intervals that hold together make every
  reading of them right: better, worse and equivalent. Equivalence is read off one-sided bounds of the same level, as in
  two one-sided tests (Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987).
- *Three draws* say little of a comparison's own spread. It is therefore averaged with that of the other comparisons of
  its column, as if they were worth `PRIOR_DEGREES` degrees of freedom, and less where the others are few (moderated
  t, Smyth, "Linear models and empirical Bayes methods", Stat. Appl. Genet. Mol. Biol. 3, 2004). Pairs may differ in
  spread: 6 degrees stand for spreads of which 95% lie within a factor of 2 of the typical one.
- *Accuracies move in steps* of one test clip. A variance of half a step on both sides is added, so that draws that
  agree by chance make nothing certain.

What is claimed holds over other draws of the training clips, and on this test list. `benchmarks/statistics` simulates
it with these functions, spreads that differ and spreads that are not normal included.

Shape legend: T tables (any leading axes), R rows, N draws at the last look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEVEL = 0.05
"""Chance of any false verdict in a table."""
FEWEST_DRAWS = 3
"""With fewer draws nothing is decided."""
MOST_LOOKS = 4
PRIOR_DEGREES = 6.0
"""Degrees of freedom that the spread of the other comparisons of a column is worth for the spread of one."""
FUTILE_BELOW = 0.3
"""Chance of being decided at the last look below which a comparison gets no further draws."""

OPEN, BETTER, WORSE, EQUIVALENT = range(4)
VERDICTS = ("open", "better", "worse", "equivalent")


@dataclass(frozen=True)
class Rule:
    """When draws are looked at, and what is decided.

    Args:
        looks: numbers of draws, ascending.
        margin: gains up to this, in points, count as equivalent.
        comparisons: of the whole table, planned ones included.
        level: chance of any false verdict in the table.
        futile_below: see `FUTILE_BELOW`; 0 lets every open comparison go on to the last look.
    """

    looks: tuple[int, ...]
    margin: float
    comparisons: int
    level: float = LEVEL
    futile_below: float = FUTILE_BELOW

    def two_sided(self, look: int) -> float:
        """Chance of error of one comparison at one look."""
        before = self.looks[look - 1] if look else 0
        return self.level * (self.looks[look] - before) / self.looks[-1] / self.comparisons


def looks_between(at_least: int, at_most: int) -> tuple[int, ...]:
    """At most four looks, evenly spread.

    >>> looks_between(3, 10)
    (3, 5, 7, 10)
    """
    spread = np.linspace(at_least, at_most, MOST_LOOKS)
    return tuple(sorted({int(look) for look in spread}))


@dataclass(frozen=True)
class Verdicts:
    """What is known of each row's gain over the reference. All (..., R); the reference's own row has no gain.

    Args:
        verdict: index into `VERDICTS`.
        draws: draws at the look that the other numbers are from; 0 before the first.
        mean: gains in points; nan before the first look.
        half: half widths of the intervals that the verdicts are read off.
        spread: standard deviations of a single draw's gain, as they were averaged over the column.
        degrees: degrees of freedom of the spread.
        wants: the number of draws to which the row is to be continued; equal to `draws` where it is not.
    """

    verdict: NDArray[np.int64]
    draws: NDArray[np.int64]
    mean: Array
    half: Array
    spread: Array
    degrees: Array
    wants: NDArray[np.int64]


def judge(
    accuracy: Array, rule: Rule, *, step: float, reference: int | None = 0, pending: Mask | None = None
) -> Verdicts:
    """Go through the looks of a column, as far as there are draws.

    The verdict is a function of the accuracies alone, not of the order in which they came. Draws beyond what the looks
    asked for are not used: a row that was decided at three draws keeps that verdict.

    Against the best (`reference=None`) each look compares every row with the one that is highest then. Any row may turn
    out to be that, so `rule.comparisons` has to count all pairs of rows. A row that is worse leaves; what is left when
    all others are worse, or within the margin of it, is the best, or equivalent. Until then equivalence is not told:
    the highest row may yet be overtaken.

    Args:
        accuracy: (..., R, N) in per cent, draws in the order of the grid; nan where there is none.
        rule: looks and levels.
        step: points that one test clip is worth.
        reference: the row that gains are measured against; `None` for the best of the column.
        pending: (..., R, N), which of the missing accuracies are still to come. A look waits for them. Others, such as
            failed ones, hold up their own row alone.
    """
    course = _Course(accuracy, rule, step=step, reference=reference, pending=pending)
    for look in range(len(rule.looks)):
        course.look(look)
    return course.verdicts()


class _Course:
    """The state of all comparisons between looks."""

    def __init__(
        self, accuracy: Array, rule: Rule, *, step: float, reference: int | None, pending: Mask | None
    ) -> None:
        self._accuracy, self._rule, self._reference = accuracy, rule, reference
        self._pending = np.zeros(accuracy.shape, dtype=bool) if pending is None else pending
        self._floor = step**2 / 2  # half a step on both sides
        shape = accuracy.shape[:-1]
        self._verdict, self._draws = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self._mean, self._half, self._spread, self._degrees = (np.full(shape, np.nan) for _ in range(4))
        self._going = np.ones(shape, dtype=bool)
        self._wants = np.full(shape, rule.looks[0])
        # What each row adds to the pooled spread of its column, as of the last look that it took part in.
        self._residuals, self._expected, self._free = (np.zeros(shape) for _ in range(3))
        self._own, self._own_degrees = np.zeros(shape), np.zeros(shape)

    def look(self, look: int) -> None:
        """Judge every comparison that goes on and has its draws."""
        n = self._rule.looks[look]
        if self._accuracy.shape[-1] < n:
            return
        values = self._accuracy[..., :n]
        waits = (self._pending[..., :n].any(axis=-1) & self._going).any(axis=-1, keepdims=True)
        there: Mask = np.asarray(~np.isnan(values).any(axis=-1) & self._going & ~waits)
        values = np.where(there[..., None], values, 0.0)
        against = self._references(values, there)
        there &= (there & against).any(axis=-1, keepdims=True)
        gains = values - (values * against[..., None]).sum(axis=-2, keepdims=True)
        own = gains.var(axis=-1, ddof=1)
        self._keep_residuals(values, there, against, own, n)
        self._update(look, there & ~against, there & against, gains.mean(axis=-1), *self._moderated(own, n))

    def _references(self, values: Array, there: Mask) -> Mask:
        """(..., R) which row of each column the others are compared with."""
        if self._reference is None:
            at = np.where(there, values.mean(axis=-1), -np.inf).argmax(axis=-1)
        else:
            at = np.full(there.shape[:-1], self._reference)
        return np.asarray(np.arange(there.shape[-1]) == at[..., None])

    def _keep_residuals(self, values: Array, there: Mask, against: Mask, own: Array, n: int) -> None:
        """Residuals of the two-way model, accuracy = row + draw, of the rows that take part."""
        rows = there.sum(axis=-1, keepdims=True)
        inside = there[..., None]
        centred = np.where(inside, values - values.mean(axis=-1, keepdims=True), 0.0)
        shared = centred.sum(axis=-2, keepdims=True) / np.maximum(rows, 1)[..., None]
        squares = np.square(np.where(inside, centred - shared, 0.0)).sum(axis=-1)
        apart = there & (rows > 1)
        self._residuals = np.where(apart, squares, self._residuals)
        self._expected = np.where(apart, (1 - 1 / np.maximum(rows, 1)) * (n - 1), self._expected)
        self._free = np.where(apart, (rows - 2) / np.maximum(rows - 1, 1) * (n - 1), self._free)
        compared = apart & ~against
        self._own = np.where(compared, own * (n - 1), self._own)
        self._own_degrees = np.where(compared, n - 1, self._own_degrees)

    def _moderated(self, own: Array, n: int) -> tuple[Array, Array]:
        """Variance of a single draw's gain for each row, with its degrees of freedom."""
        others = _without_own(self._residuals) / np.maximum(_without_own(self._expected), 1e-12)
        degrees = _without_own(self._free)
        # Where the reference is noisier than the rest, or the rest share what it has not, gains vary by more than rows.
        gains = _without_own(self._own) / np.maximum(_without_own(self._own_degrees), 1e-12)
        prior = np.maximum(2 * others, gains)
        worth = prior_degrees(degrees)
        total = worth + n - 1
        return (worth * prior + (n - 1) * own) / total + self._floor, total

    def _update(self, look: int, judged: Mask, against: Mask, mean: Array, variance: Array, degrees: Array) -> None:
        rule, n = self._rule, self._rule.looks[look]
        half, bound = _half_widths(variance, degrees, n, rule.two_sided(look))
        verdict = np.select(
            [np.abs(mean) + bound < rule.margin, mean > half, mean < -half], [EQUIVALENT, BETTER, WORSE], OPEN
        )
        if self._reference is None:
            verdict = self._settle_best(verdict, judged, against)
        self._set("verdict", judged, verdict)
        self._set("draws", judged | against, n)
        for name, value in (("mean", mean), ("half", half), ("spread", np.sqrt(variance)), ("degrees", degrees)):
            self._set(name, judged, value)
        going = judged & (verdict == OPEN)
        wants = n
        if look + 1 < len(rule.looks):
            chance = _chance_of_decision(rule, n, mean, variance, degrees)
            going &= chance >= rule.futile_below
            wants = rule.looks[look + 1]
        self._going = going | (against & going.any(axis=-1, keepdims=True))
        self._set("wants", judged | against, np.where(self._going, wants, n))

    def _settle_best(self, verdict: NDArray[np.int64], judged: Mask, against: Mask) -> NDArray[np.int64]:
        """Tell equivalence, and the best row, only where no row is left that may overtake it."""
        known = np.where(judged, verdict, self._verdict)
        left = (~against & (known == OPEN)).any(axis=-1, keepdims=True)
        equal = (judged & (verdict == EQUIVALENT)).any(axis=-1, keepdims=True)
        best = np.where(equal, EQUIVALENT, BETTER)
        compared = judged.any(axis=-1, keepdims=True)
        self._verdict = np.where(against & compared & ~left, best, self._verdict)
        return np.where(left & (verdict == EQUIVALENT), OPEN, verdict)

    def _set(self, name: str, where: Mask, value: Array | NDArray[np.int64] | int) -> None:
        setattr(self, f"_{name}", np.where(where, value, getattr(self, f"_{name}")))

    def verdicts(self) -> Verdicts:
        """What is known after all looks."""
        return Verdicts(self._verdict, self._draws, self._mean, self._half, self._spread, self._degrees, self._wants)


def prior_degrees(degrees: Array | float) -> Array:
    """Degrees of freedom that a spread pooled over others is worth, which is itself estimated with `degrees`."""
    return np.asarray(PRIOR_DEGREES * degrees / (PRIOR_DEGREES + degrees))


def _without_own(values: Array) -> Array:
    return np.asarray(values.sum(axis=-1, keepdims=True) - values)


def _half_widths(variance: Array, degrees: Array, n: float, two_sided: float) -> tuple[Array, Array]:
    """Half widths of intervals, and of the one-sided bounds of the same level that equivalence is read off."""
    error = np.sqrt(variance / n)
    return (
        np.asarray(special.stdtrit(degrees, 1 - two_sided / 2) * error),
        np.asarray(special.stdtrit(degrees, 1 - two_sided) * error),
    )


def _chance_of_decision(rule: Rule, n: int, mean: Array, variance: Array, degrees: Array) -> Array:
    """Chance that the last look decides, if the gain is as it was seen and draws vary as they did."""
    last = rule.looks[-1]
    half, bound = _half_widths(variance, degrees + last - n, last, rule.two_sided(len(rule.looks) - 1))
    error = np.sqrt(variance * (1 / n - 1 / last))
    apart = special.ndtr((mean - half) / error) + special.ndtr((-mean - half) / error)
    room = np.maximum(rule.margin - bound, 0.0)
    within = special.ndtr((room - mean) / error) - special.ndtr((-room - mean) / error)
    return np.asarray(apart + within)

"""Intervals and tests, against their definitions and scipy, and on results that fooled other tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from mmfuse.report.statistics import (
    LEVEL,
    Array,
    Column,
    behrens_fisher_p,
    differences,
    holm,
    may_be_best,
    mean_of,
    means,
)

NUMBERS = st.lists(st.floats(0, 100), min_size=2, max_size=10)


def column(right: Array, *, of_source: int = 10, averaged: int = 1) -> Column:
    """A column from clips recognised by row, draw and source."""
    clips = np.full(right.shape[-1], float(of_source))
    return Column(100 * right.sum(axis=-1) / clips.sum(), right, clips, averaged=averaged)


def chance(rows: int, draws: int, sources: int, *, seed: int = 0, share: float = 0.6) -> Array:
    return np.random.default_rng(seed).binomial(10, share, (rows, draws, sources)).astype(float)


@given(NUMBERS)
def test_interval_is_students(values: list[float]) -> None:
    found = mean_of(values)
    assert found.n == len(values)
    assert found.half is not None
    expected = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert (found.mean, found.half) == (pytest.approx(np.mean(values)), pytest.approx(expected, abs=1e-9))


def test_one_value_has_no_interval() -> None:
    assert (mean_of([3.0]).mean, mean_of([3.0]).half) == (3.0, None)
    with pytest.raises(ValueError, match="no values"):
        mean_of([])


def test_values_that_agree_in_steps_still_have_an_interval() -> None:
    found = means(column(np.full((1, 3, 24), 5.0)))[0]
    assert found is not None
    # The spread of a clip that goes either way: half a step of 100 / 240 points.
    assert found.half == pytest.approx(stats.t.ppf(0.975, 2) * (100 / 240 / 2) / 3**0.5)


@pytest.mark.parametrize("degrees", [2, 4, 9])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("size", [0.5, 3.0, 12.0])
def test_behrens_fisher_is_the_tail_of_a_student_plus_a_normal_error(degrees: int, ratio: float, size: float) -> None:
    found = float(behrens_fisher_p(np.array(size), np.array(1.0), np.array(ratio), degrees=degrees))
    if ratio == 0:
        assert found == pytest.approx(2 * stats.t.sf(size, degrees), rel=1e-4)
        return
    tail, _ = integrate.quad(lambda z: stats.norm.pdf(z) * stats.t.sf(size - ratio * z, degrees), -12, 12, limit=200)
    assert found == pytest.approx(2 * tail, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("draws", [3, 5, 10])
@pytest.mark.parametrize("level", [LEVEL, LEVEL / 14, LEVEL / 500])
def test_behrens_fisher_keeps_its_level_whatever_the_ratio(draws: int, level: float) -> None:
    """Not simulated: its size is integrated over what may be estimated, for a normal error that is known."""
    logarithm = np.linspace(-18, 2.5, 300)
    estimate = np.exp(logarithm)
    weights = stats.chi2.pdf((draws - 1) * estimate, draws - 1) * estimate
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        student, normal = np.sqrt((1 - share) * estimate), np.full(len(estimate), share**0.5)
        low, high = np.zeros(len(estimate)), np.full(len(estimate), 1e4)
        for _ in range(40):  # p falls with the size of a difference
            middle = (low + high) / 2
            above = behrens_fisher_p(middle, student, normal, degrees=draws - 1) > level
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        assert np.average(2 * stats.norm.sf(high), weights=weights) <= level * 1.01


def test_draws_that_agree_do_not_make_a_difference_certain() -> None:
    """Two clips more in each of three draws: the spread is zero, and says nothing."""
    right = np.full((2, 3, 24), 5.0)
    right[0, :, :2] += 1
    found = differences(column(right))
    assert found.mean[0, 1] == pytest.approx(200 / 240)
    assert found.p[0, 1] > 0.2
    assert found.half[0, 1] > 0


def test_no_test_below_three_draws_and_none_without_predictions() -> None:
    right = chance(2, 2, 24)
    right[0] += 3
    assert np.isnan(differences(column(right)).p).all()
    unknown = column(chance(2, 5, 24))
    nothing = Column(unknown.accuracy, np.full_like(unknown.recognised, np.nan), unknown.clips)
    found = differences(nothing)
    assert np.isnan(found.p).all()
    assert np.isnan(found.half_clips).all()
    assert np.isfinite(found.half).all()
    assert may_be_best([found])[0].all()


def test_a_clear_difference_is_found() -> None:
    right = chance(3, 5, 60)
    right[0] = np.minimum(right[0] + 2, 10)
    found = differences(column(right))
    assert found.p[0, 1] < 0.001
    assert found.p[1, 0] == found.p[0, 1]
    assert found.mean[1, 0] == -found.mean[0, 1]
    assert found.p[1, 2] > LEVEL
    assert may_be_best([found])[0].tolist() == [True, False, False]


def test_a_gain_that_comes_from_one_source_is_no_evidence() -> None:
    spread, single = np.full((2, 10, 24), 5.0), np.full((2, 10, 24), 5.0)
    spread[0] += 1  # a clip of each source
    single[0, :, 0] += 5
    assert differences(column(spread)).p[0, 1] < 0.001
    assert differences(column(single)).p[0, 1] > 0.3


def test_rows_are_compared_on_the_draws_and_predictions_that_both_have() -> None:
    right = chance(4, 6, 24)
    right[2, 4] = np.nan
    whole = column(right)
    known = right.copy()
    known[1, 0] = np.nan
    found = differences(Column(whole.accuracy, known, whole.clips))
    apart = differences(column(right[[0, 2]][:, [0, 1, 2, 3, 5]]))
    for name in ("mean", "half", "half_clips", "p"):
        assert getattr(found, name)[0, 2] == pytest.approx(getattr(apart, name)[0, 1])
    assert found.draws[0, 2] == 5
    paired = differences(column(right[:2, 1:]))  # clips from the draws with predictions, values from all
    assert found.half_clips[0, 1] == pytest.approx(paired.half_clips[0, 1])
    assert found.mean[0, 1] == pytest.approx((whole.accuracy[0] - whole.accuracy[1]).mean())
    disjoint = right.copy()
    disjoint[0, :3], disjoint[1, 3:] = np.nan, np.nan
    assert differences(column(disjoint)).between(0, 1) is None


def test_the_interval_over_clips_is_students_over_sources_of_equal_size() -> None:
    right = chance(2, 3, 40)
    gains = 100 * (right[0] - right[1]).mean(axis=0) / 10  # points of each source
    found = differences(column(right)).half_clips[0, 1]
    one_clip = (100 / 400) ** 2
    expected = stats.t.ppf(0.975, 39) * np.sqrt(stats.sem(gains) ** 2 + one_clip)
    assert found == pytest.approx(expected)


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_holm_is_the_smallest_level_at_which_a_test_is_rejected(values: list[float | None]) -> None:
    corrected = holm(values)
    assert [value is None for value in values] == [value is None for value in corrected]
    tested = sorted(value for value in values if value is not None)
    for value, found in zip(values, corrected, strict=True):
        if value is None:
            continue
        steps = [min(1.0, p * (len(tested) - rank)) for rank, p in enumerate(tested) if p <= value]
        assert found == pytest.approx(max(steps))


def test_the_set_that_may_be_best_is_closed_step_by_step() -> None:
    right = np.random.default_rng(4).binomial(10, [[[0.2]], [[0.5]], [[0.8]], [[0.8]]], (4, 8, 60)).astype(float)
    first = differences(column(right))
    equal = differences(column(chance(4, 8, 60)))
    inside = may_be_best([first, equal])
    assert inside[0].tolist() == [False, False, True, True]
    assert inside[1].all()


def test_mean_class_weights_do_not_make_a_clip_lighter_than_it_is() -> None:
    plain = column(np.full((2, 3, 24), 5.0))
    heavy = Column(plain.accuracy, plain.recognised, plain.clips, heaviest=4.0)
    assert heavy.grain == 4 * plain.grain
    assert differences(heavy).half_clips[0, 1] == pytest.approx(4 * differences(plain).half_clips[0, 1])

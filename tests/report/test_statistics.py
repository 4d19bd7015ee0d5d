"""Statistics against SciPy, and by simulation."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmfuse.report.statistics import bootstrap_clips, flip_test, holm, mean_of, paired, t_test

SAMPLES = st.lists(st.floats(-100, 100, allow_nan=False), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-6)


@given(SAMPLES)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_mean_and_t_test_are_scipys(values: list[float]) -> None:
    result = mean_of(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert result.half is not None
    assert (result.mean - result.half, result.mean + result.half) == pytest.approx((low, high))
    assert t_test(np.array(values)) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-12)


@given(st.lists(st.integers(-1000, 1000).map(lambda tenths: tenths / 10), min_size=2, max_size=9))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_sign_flips_are_scipys_permutation_test(values: list[float]) -> None:
    data = np.array(values)
    expected = stats.permutation_test(
        (data,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    ours = flip_test(data)
    assert ours is not None
    # SciPy doubles the smaller tail; ours counts both tails by size. The null is symmetric, so they agree.
    assert ours == pytest.approx(min(1.0, float(expected.pvalue)), abs=1e-9)


def test_many_flips_are_sampled_and_agree_with_the_normal_limit() -> None:
    data = np.random.default_rng(0).normal(0.4, 1, size=40)
    sampled = flip_test(data)
    assert sampled is not None
    assert sampled == pytest.approx(stats.ttest_1samp(data, 0).pvalue, abs=0.01)
    assert flip_test(np.full(40, 1.0)) == pytest.approx(1 / 20_001)


def test_one_repetition_tells_nothing_of_spread() -> None:
    assert mean_of([3.0]).half is None
    assert t_test(np.array([3.0])) is None
    with pytest.raises(ValueError, match="nothing"):
        mean_of([])


def test_equal_differences() -> None:
    assert t_test(np.zeros(3)) == 1.0
    assert t_test(np.ones(3)) == 0.0


def test_pairs_use_shared_draws_alone() -> None:
    result = paired({0: 5.0, 1: 7.0, 2: 9.0}, {1: 6.0, 2: 7.0, 3: 0.0})
    assert result is not None
    assert (result.difference.mean, result.difference.n, result.unpaired) == (1.5, 2, 2)
    assert paired({0: 1.0}, {1: 1.0}) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_holm_by_its_definition(values: list[float]) -> None:
    corrected = holm(values)
    m = len(values)
    order = np.argsort(values, kind="stable")
    for level in (0.01, 0.05, 0.2, 0.7):
        rejected: set[int] = set()
        for rank, at in enumerate(order):  # step down until the first that is not rejected
            if values[at] * (m - rank) > level + 1e-12:
                break
            rejected.add(int(at))
        assert {at for at, p in enumerate(corrected) if p is not None and p <= level + 1e-12} == rejected


def test_nominal_95_per_cent_cover_93_to_97() -> None:
    generator = np.random.default_rng(1)
    for n in (3, 5):
        samples = generator.normal(60.0, 4.0, size=(4000, n))
        results = [mean_of(row) for row in samples.tolist()]
        covered = np.mean([abs(r.mean - 60) <= (r.half or 0) for r in results])
        assert 0.93 <= covered <= 0.97


def test_paired_intervals_cover_and_the_test_keeps_its_level() -> None:
    generator = np.random.default_rng(2)
    draws = generator.normal(0, 5, size=(3000, 3))  # what a draw does to both methods alike
    ours = draws + 61.5 + generator.normal(0, 1, size=draws.shape)
    theirs = draws + 60.0 + generator.normal(0, 1, size=draws.shape)
    results = [
        paired(dict(enumerate(a)), dict(enumerate(b))) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)
    ]
    covered = np.mean([abs(r.difference.mean - 1.5) <= (r.difference.half or 0) for r in results if r])
    assert 0.93 <= covered <= 0.97
    null = [t_test(row) for row in (ours - theirs - 1.5)]
    assert 0.03 <= np.mean([p is not None and p < 0.05 for p in null]) <= 0.07


def test_bootstrap_over_clips_covers() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for trial in range(300):
        base = generator.random(400)
        ours, theirs = base + generator.normal(0, 0.2, 400) < 0.7, base + generator.normal(0, 0.2, 400) < 0.65
        result = bootstrap_clips(ours, theirs, resamples=400, seed=trial)
        hits += result.low <= _truth() <= result.high
    assert 0.90 <= hits / 300 <= 0.99


@cache
def _truth() -> float:
    """The expected difference of the simulation, by brute force."""
    generator = np.random.default_rng(99)
    base = generator.random(2_000_000)
    ours = base + generator.normal(0, 0.2, base.size) < 0.7
    theirs = base + generator.normal(0, 0.2, base.size) < 0.65
    return float(ours.mean() - theirs.mean())


def test_bootstrap_refuses_lists_that_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        bootstrap_clips(np.ones(3, bool), np.ones(4, bool))

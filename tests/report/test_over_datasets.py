"""Gains and ranks over several data sets, against other ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmfuse.report.over_datasets import averaged, combined, elsewhere, friedman, rank_bounds
from mmfuse.report.statistics import Array, Column, Differences, differences

CLIPS = np.full(200, 10.0)


def column(accuracy: Array) -> Column:
    """A column of 2,000 clips from 200 sources; a better row recognises what a worse one does, and more."""
    right = np.minimum(np.maximum(20 * accuracy[..., None] - 10 * np.arange(200), 0), 10)
    return Column(accuracy, right, CLIPS)


def compared(*rows: list[float]) -> Differences:
    return differences(column(np.array(rows)))


FIRST = compared([50, 52, 51, 50.5], [58, 61.5, 58, 60], [50.5, 51, 53, 49])
SECOND = compared([30, 34, 31, 30], [44, 43, 47, 42], [29, 30, 33, 36])


def test_one_data_set_gives_the_numbers_of_its_own_table() -> None:
    found = combined([FIRST], [(1, 0)])
    assert found is not None
    own = FIRST.between(1, 0)
    assert own is not None
    assert (found.mean.mean, found.mean.half, found.mean.half_clips) == pytest.approx(
        (own.mean, own.half, own.half_clips)
    )
    assert found.p == pytest.approx(FIRST.p[1, 0])
    assert found.elsewhere is None


def test_errors_of_data_sets_add_up_as_welch_has_it() -> None:
    found = combined([FIRST, SECOND], [(1, 0), (1, 0)])
    assert found is not None
    gains = [part.mean[1, 0] for part in (FIRST, SECOND)]
    variances = np.array([part.error[1, 0] ** 2 for part in (FIRST, SECOND)])
    degrees = np.floor(variances.sum() ** 2 / (variances**2 / 3).sum())
    assert 3 <= degrees < 6
    assert found.mean.mean == pytest.approx(np.mean(gains))
    assert found.mean.half == pytest.approx(stats.t.ppf(0.975, degrees) * np.sqrt(variances.sum()) / 2)
    assert found.p is not None
    assert found.p < min(FIRST.p[1, 0], SECOND.p[1, 0])


def test_two_draws_or_missing_predictions_on_one_data_set_leave_the_mean_untested() -> None:
    few = compared([50, 52], [58, 61.5], [50, 51])
    unseen = differences(Column(np.array([[50.0, 52, 51], [60, 61, 63]]), np.full((2, 3, 200), np.nan), CLIPS))
    for other in (few, unseen):
        found = combined([FIRST, other], [(1, 0), (1, 0)])
        assert found is not None
        assert found.p is None
        assert found.mean.half is not None


def test_splits_of_one_data_set_are_no_further_evidence() -> None:
    twice = averaged([FIRST, FIRST])
    np.testing.assert_allclose(twice.p, FIRST.p)
    np.testing.assert_allclose(twice.half, FIRST.half)


def test_other_data_sets_are_told_of_by_a_t_test_over_data_sets() -> None:
    gains = np.array([1.0, 2.5, 0.5, 2.0, 1.5])
    assert elsewhere(gains, error=np.zeros(5)) == pytest.approx(stats.ttest_1samp(gains, 0).pvalue)
    assert elsewhere(gains[:3], error=np.zeros(3)) is None
    same = elsewhere(np.full(4, 1.0), error=np.full(4, 2.0))
    assert same == pytest.approx(2 * stats.t.sf(1.0, 3))  # data sets that agree by chance are not certain
    assert elsewhere(np.zeros(4), error=np.zeros(4)) is None


def test_other_data_sets_are_told_of_as_by_a_mixed_model() -> None:
    """MixedLM of statsmodels 0.15, fitted to these draws with a random data set, gives the mean a t of 3.79256."""
    draws = np.array([[1.2, 2.0, 0.7], [3.1, 2.2, 2.8], [-0.4, 0.3, 0.9], [2.6, 1.1, 1.7], [0.8, 1.9, 1.5]])
    found = elsewhere(draws.mean(axis=1), error=draws.std(axis=1, ddof=1) / 3**0.5)
    assert found == pytest.approx(2 * stats.t.sf(3.79256, 4), rel=1e-4)


def test_friedman_is_that_of_scipy_also_with_ties() -> None:
    values = np.random.default_rng(0).integers(0, 6, size=(7, 5)).astype(float)
    ranks = np.array([stats.rankdata(-row) for row in values])
    assert friedman(ranks) == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert friedman(np.full((5, 4), 2.5)) == 1.0
    assert friedman(ranks[:3]) is None


def test_ranks_and_what_may_be_excluded() -> None:
    levels = [[a + d for d in (0, 0.5, -0.5, 0.5, 0)] for a in (20.0, 50, 50, 80)]
    [found] = rank_bounds([compared(*levels)])
    assert found.rank.tolist() == [4, 2.5, 2.5, 1]
    assert found.low.tolist() == [4, 2, 2, 1]
    assert found.high.tolist() == [4, 3, 3, 1]


def test_a_row_that_shares_no_draw_with_another_has_no_rank() -> None:
    lone = compared([50, 51, 52, np.nan], [40, 41, 42, np.nan], [np.nan, np.nan, np.nan, 60])
    [found] = rank_bounds([lone])
    assert np.isnan(found.rank).all()
    [found] = rank_bounds([compared([50, 51, 52], [40, 41, 42], [np.nan] * 3)])
    assert found.rank[:2].tolist() == [1, 2]
    assert np.isnan(found.rank[2])
    assert found.high.max(where=~np.isnan(found.high), initial=0) == 2

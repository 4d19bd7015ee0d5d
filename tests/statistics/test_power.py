"""What a number of draws can tell, before any is run."""

import math

import numpy as np
import pytest
from scipy import stats

from mmfuse.statistics.power import draws_for, draws_to_decide, pooled_spread, smallest_gain
from mmfuse.statistics.sequential import BETTER, Rule, judge


def test_the_smallest_gain_of_a_plain_t_test_is_that_of_the_textbook():
    # Two rows and one comparison are a one-sample t-test. In R: power.t.test(n=10, power=.8, type="one.sample").
    gain = smallest_gain(draws=10, spread=1.0, rows=2, comparisons=1)
    assert gain == pytest.approx(0.996, abs=0.002)


def test_the_smallest_gain_is_found_as_often_as_it_says():
    rows, draws, spread = 5, 10, 2.0
    gain = smallest_gain(draws=draws, spread=spread, rows=rows, comparisons=12)
    generator = np.random.default_rng(0)
    accuracy = 50 + spread / math.sqrt(2) * generator.standard_normal((2000, rows, draws))
    accuracy[:, 1:] += gain
    found = judge(accuracy, Rule((draws,), 0.0, 12), step=1e-6)
    assert (found.verdict[:, 1:] == BETTER).mean() == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("gain", [0.5, 1.0, 4.0])
def test_the_draws_for_a_gain_are_the_fewest_that_separate_it(gain):
    told = {"spread": 2.0, "rows": 5, "comparisons": 12}
    draws = draws_for(gain, **told)
    assert smallest_gain(draws=draws, **told) <= gain < smallest_gain(draws=draws - 1, **told)


def test_a_gain_that_is_too_small_takes_no_number_of_draws():
    assert draws_for(0.001, spread=3.0, rows=5, comparisons=12) is None


def test_an_open_comparison_is_decided_by_the_draws_that_are_told():
    told = {"mean": 1.0, "spread": 2.0, "degrees": 12.0, "margin": 0.5, "two_sided": 0.001}
    total = draws_to_decide(draws=10, **told)
    assert total is not None

    def half(draws: int) -> float:
        return float(stats.t.ppf(1 - 0.0005, 12 + draws - 10)) * 2.0 / math.sqrt(draws)

    assert half(total) < 1.0 <= half(total - 1)


def test_a_gain_of_nothing_is_decided_as_equivalent_if_there_is_a_margin():
    told = {"mean": 0.0, "spread": 1.0, "degrees": 12.0, "draws": 10, "two_sided": 0.001}
    assert draws_to_decide(margin=0.5, **told) is not None
    assert draws_to_decide(margin=0.0, **told) is None


def test_spread_is_pooled_over_comparisons_with_the_draws_that_they_have():
    first = np.array([[50.0, 60, 55], [51, 62, np.nan], [52, 60, 54]])
    gains = [np.array([1.0, 2]), np.array([2.0, 0, -1])]
    expected = sum(((one - one.mean()) ** 2).sum() for one in gains) / 3
    assert pooled_spread([first]) == pytest.approx(math.sqrt(expected))
    assert pooled_spread([np.array([[50.0], [51.0]])]) is None

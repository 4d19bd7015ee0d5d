"""Verdicts that may be read while draws are still being added."""

import numpy as np
import pytest

from mmfuse.statistics.sequential import BETTER, EQUIVALENT, OPEN, WORSE, Rule, judge, looks_between

LOOKS = (3, 5, 7, 10)
NAN = np.nan


def _column(gains: list[float], *, spread: float, draws: int = 10, seed: int = 0) -> np.ndarray:
    """A baseline and rows that gain so much, on shared draws, (R, draws)."""
    generator = np.random.default_rng(seed)
    truth = 50 + np.array([0.0, *gains])[:, None]
    return truth + 3 * generator.standard_normal((1, draws)) + spread * generator.standard_normal((len(truth), draws))


def _rule(comparisons: int, *, margin: float = 0.5, looks: tuple[int, ...] = LOOKS) -> Rule:
    return Rule(looks, margin, comparisons)


@pytest.mark.parametrize(
    ("at_least", "at_most", "looks"),
    [(3, 10, (3, 5, 7, 10)), (3, 3, (3,)), (3, 4, (3, 4)), (5, 7, (5, 6, 7)), (3, 20, (3, 8, 14, 20))],
)
def test_looks_begin_and_end_where_the_grid_says_and_are_at_most_four(at_least, at_most, looks):
    assert looks_between(at_least, at_most) == looks


def test_the_error_of_a_comparison_adds_up_to_its_share_of_the_table():
    rule = _rule(12)
    assert sum(rule.two_sided(look) for look in range(4)) == pytest.approx(0.05 / 12)


def test_large_gains_losses_and_none_are_told_apart_at_the_first_look():
    found = judge(_column([6, -6, 0.0], spread=0.05)[:, :3], _rule(3), step=0.01)
    assert found.verdict.tolist() == [OPEN, BETTER, WORSE, EQUIVALENT]
    assert found.draws[1:].tolist() == [3, 3, 3]
    assert found.wants.tolist() == [3, 3, 3, 3]


def test_a_verdict_is_what_its_interval_says():
    found = judge(_column([4, 1, 0, -3, 0.2], spread=0.4, seed=3), _rule(5), step=0.03)
    for at in range(1, 6):
        low, high = found.mean[at] - found.half[at], found.mean[at] + found.half[at]
        if found.verdict[at] == BETTER:
            assert low > 0
        elif found.verdict[at] == WORSE:
            assert high < 0
        elif found.verdict[at] == EQUIVALENT:
            assert abs(found.mean[at]) < 0.5
        else:
            assert low <= 0 <= high


def test_without_a_margin_nothing_is_equivalent():
    found = judge(_column([0, 0, 0], spread=1e-6), _rule(3, margin=0.0), step=1e-6)
    assert EQUIVALENT not in found.verdict


def test_draws_that_agree_to_the_last_clip_decide_nothing():
    step = 100 / 48
    accuracy = np.full((5, 3), 50.0)
    accuracy[1:] += step  # every pair is one clip better in every draw
    found = judge(accuracy, _rule(4), step=step)
    assert (found.verdict == OPEN).all()


def test_two_draws_decide_nothing_and_ask_for_a_third():
    accuracy = _column([20.0], spread=0.01)
    accuracy[:, 2:] = NAN
    found = judge(accuracy, _rule(1), step=0.01)
    assert found.verdict.tolist() == [OPEN, OPEN]
    assert found.draws.tolist() == [0, 0]
    assert found.wants.tolist() == [3, 3]


def test_only_open_comparisons_go_on_and_the_baseline_with_them():
    accuracy = _column([9, 2.2, 2.4], spread=0.7, seed=1)
    found = judge(accuracy[:, :3], _rule(3), step=0.03)
    assert found.verdict[1] == BETTER
    assert found.wants[1] == 3
    going = [at for at in (2, 3) if found.verdict[at] == OPEN]
    assert going
    assert found.wants[going].tolist() == [5] * len(going)
    assert found.wants[0] == 5


def test_what_the_last_look_will_not_decide_is_given_up_early_and_stays_open():
    found = judge(_column([0.3, 0.1], spread=4.0, seed=2), _rule(40), step=0.4)
    assert found.verdict[1:].tolist() == [OPEN, OPEN]
    assert found.wants.max() < 10


def test_a_verdict_does_not_change_when_other_draws_come_in():
    accuracy = _column([9, 2.2, 2.4, 0], spread=0.7, seed=1)
    first = judge(accuracy[:, :3], _rule(4), step=0.03)
    decided = first.verdict != OPEN
    assert decided.any()
    later = judge(accuracy, _rule(4), step=0.03)
    assert (later.verdict[decided] == first.verdict[decided]).all()
    assert (later.mean[decided] == first.mean[decided]).all()


def test_draws_that_no_look_asked_for_are_not_used():
    accuracy = _column([9, 2.2], spread=0.7, seed=1)
    asked = accuracy.copy()
    found = judge(asked, _rule(2), step=0.03)
    stopped = int(found.draws[1])
    assert stopped < 10
    asked[1, stopped:] += 100
    again = judge(asked, _rule(2), step=0.03)
    assert np.array_equal(again.verdict, found.verdict)
    assert np.array_equal(again.mean, found.mean, equal_nan=True)


def test_a_row_with_a_gap_waits_and_the_others_go_on():
    accuracy = _column([3, 3, 3], spread=0.8, seed=4)
    accuracy[2, 1] = NAN
    found = judge(accuracy, _rule(3), step=0.03)
    assert found.verdict[2] == OPEN
    assert found.draws[2] == 0
    assert found.wants[2] == 3
    assert found.draws[[1, 3]].min() >= 3


def test_no_row_is_judged_without_the_baseline():
    accuracy = _column([30.0], spread=0.01)
    accuracy[0, 1] = NAN
    assert judge(accuracy, _rule(1), step=0.01).draws.tolist() == [0, 0]


def test_tables_are_judged_one_by_one_as_all_at_once():
    stacked = np.stack([_column([4, 2, 0, 1], spread=0.8, seed=seed) for seed in range(20)])
    stacked[3, 2, 6:] = NAN
    together = judge(stacked, _rule(4), step=0.1)
    for at, accuracy in enumerate(stacked):
        alone = judge(accuracy, _rule(4), step=0.1)
        assert np.array_equal(alone.verdict, together.verdict[at])
        assert np.allclose(alone.half, together.half[at], equal_nan=True)
        assert np.array_equal(alone.wants, together.wants[at])


def test_rows_and_their_order_do_not_matter_to_a_verdict():
    accuracy = _column([4, 2, 0, 1], spread=0.8, seed=7)
    order = [0, 3, 1, 4, 2]
    found, turned = judge(accuracy, _rule(4), step=0.1), judge(accuracy[order], _rule(4), step=0.1)
    assert np.array_equal(found.verdict[order], turned.verdict)
    assert np.allclose(found.half[order], turned.half, equal_nan=True)


def test_a_single_comparison_is_students():
    accuracy = _column([1.0], spread=1.0)
    found = judge(accuracy, _rule(1, looks=(10,)), step=1e-9)
    gains = accuracy[1] - accuracy[0]
    # 2.262 is Student's quantile for nine degrees of freedom.
    assert found.degrees[1] == 9
    assert found.half[1] == pytest.approx(2.262157 * gains.std(ddof=1) / 10**0.5, rel=1e-6)


def test_the_baseline_may_stand_in_any_row():
    accuracy = _column([6, -6, 0.0], spread=0.1)
    first = judge(accuracy, _rule(3), step=0.01)
    moved = judge(accuracy[[1, 2, 0, 3]], _rule(3), step=0.01, reference=2)
    assert moved.verdict[[2, 0, 1, 3]].tolist() == first.verdict.tolist()


def test_for_the_best_all_that_are_worse_leave_and_one_is_left():
    found = judge(_column([6, -6, 3.0], spread=0.05), Rule(LOOKS, 0.5, 6), step=0.01, reference=None)
    assert found.verdict.tolist() == [WORSE, BETTER, WORSE, WORSE]


def test_for_the_best_equals_are_told_once_no_row_may_overtake_them():
    accuracy = _column([6, 6.0, 0.0], spread=0.05, seed=2)
    found = judge(accuracy, Rule(LOOKS, 0.5, 6), step=0.01, reference=None)
    assert found.verdict.tolist() == [WORSE, EQUIVALENT, EQUIVALENT, WORSE]
    noisy = np.concatenate([accuracy, accuracy[1:2] + np.array([8, -8, 6, -6, 7, -7, 2, -2, 1, -1.0])])
    found = judge(noisy, Rule(LOOKS, 0.5, 10), step=0.01, reference=None)
    assert found.verdict[[1, 2, 4]].tolist() == [OPEN, OPEN, OPEN]


def test_a_look_waits_for_cells_that_are_still_to_come():
    accuracy = _column([6, -6, 0.0], spread=0.05)
    pending = np.zeros(accuracy.shape, dtype=bool)
    accuracy[3, 1], pending[3, 1] = NAN, True
    waiting = judge(accuracy, _rule(3), step=0.01, pending=pending)
    assert (waiting.draws == 0).all()
    assert (waiting.wants == 3).all()
    pending[3, 1], pending[3, 4] = (
        False,
        True,
    )  # it failed, and holds up its row alone; what is not needed holds up none
    found = judge(accuracy, _rule(3), step=0.01, pending=pending)
    assert found.verdict.tolist() == [OPEN, BETTER, WORSE, OPEN]

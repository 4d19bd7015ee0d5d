"""The simulation of grids that run until they are decided, in small."""

import pytest

from benchmarks.statistics.sequential import Design, designs, line, pooled, run

GRIDS = 300
ERROR = 0.05 + 2.6 * (0.05 * 0.95 / GRIDS) ** 0.5
"""Five in a hundred, and what 300 grids may show beyond it in one run of a hundred."""


@pytest.mark.parametrize("rows", [5, 15])
@pytest.mark.parametrize(
    "told",
    [
        {},
        {"gain": 0.5, "clips": 3783, "own": (0.6, 0.4, 0.3)},
        {"loud_baseline": 3.0},
        {"loud_pair": 3.0},
        {"ratio": 3.0},
        {"heavy": True},
        {"clips": 48, "own": (0.0, 0.3, 0.5)},
        {"best": True},
        {"best": True, "gain": 4.0},
        {"best": True, "loud_pair": 3.0},
    ],
)
def test_at_most_five_in_a_hundred_tables_hold_a_false_verdict(rows, told):
    assert run(Design("", rows, **told), grids=GRIDS, seed=1).false <= ERROR


@pytest.mark.parametrize("rows", [5, 15])
def test_decided_comparisons_are_decided_alike_by_all_ten_draws_for_less(rows):
    outcomes = [run(Design("", rows, gain), grids=GRIDS, seed=2) for gain in (0.0, 0.5, 1.0, 2.0, 4.0)]
    alike, cells = pooled(outcomes)
    assert alike >= 0.95
    assert cells <= 0.45
    assert outcomes[-1].found is not None
    assert outcomes[-1].found > 0.4


def test_the_table_has_a_row_for_each_kind_of_grid():
    first = next(designs())
    text = line(run(first, grids=20))
    assert text.startswith("| 5 | as in demo | 0 |")
    assert text.count("|") == 10


def test_the_same_seed_gives_the_same_grids():
    assert run(Design("", 5, 2.0), grids=50) == run(Design("", 5, 2.0), grids=50)

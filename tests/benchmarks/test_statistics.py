"""The simulation of tables, in small: it runs, the same seed gives the same, and no kind of table misleads grossly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.statistics.__main__ import MARKS, page
from benchmarks.statistics.designs import GAINS, null
from benchmarks.statistics.generate import Design, over_clips, over_draws, simulate
from benchmarks.statistics.judge import Outcome, run

TABLES = 60
FALSE = 0.05 + 3 * math.sqrt(0.05 * 0.95 / TABLES)
"""A rate of 5% is above this in fewer than one of a thousand runs."""
SMALL = [design for design in null() if design.clips <= 240 and (design.rows == 5 or design.draws == 3)]


@pytest.mark.parametrize("design", SMALL, ids=lambda design: design.name)
def test_few_null_tables_hold_a_false_mark(design: Design) -> None:
    outcome = run(design, tables=TABLES, seed=7)
    for name in MARKS:
        assert (getattr(outcome, name).share or 0) <= FALSE
    if design.draws < 3:
        assert all(getattr(outcome, name).hits == 0 for name in MARKS)
    for covered in (outcome.over_draws.share, outcome.over_clips.share, outcome.gains_over_clips.share):
        assert covered is None or covered >= 0.85


def test_large_true_gains_are_found() -> None:
    outcome = run(replace(Design("gains", draws=10, clips=1530, of_source=5), gains=GAINS), tables=20, seed=1)
    assert (outcome.found.share or 0) > 0.3
    assert (outcome.left.share or 0) > 0.8
    assert (outcome.gain_column.share or 0) <= 0.2


def test_a_seed_gives_the_same_tables_and_another_one_others() -> None:
    design = Design("same")
    first, again, other = (simulate(design, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for one, two, three in zip(first.columns, again.columns, other.columns, strict=True):
        np.testing.assert_array_equal(one.recognised, two.recognised)
        assert not np.array_equal(one.accuracy, three.accuracy)


def test_the_truth_is_what_many_clips_and_many_draws_approach() -> None:
    design = Design("truth", rows=2, draws=4, clips=60_000, of_source=1)
    table = simulate(design, np.random.default_rng(3))
    np.testing.assert_allclose(table.columns[0].accuracy, over_clips(design, table.shifts[:, 0]), atol=1.0)
    many = Design("draws", rows=2, draws=4000, clips=40)
    table = simulate(many, np.random.default_rng(4))
    expected = [over_draws(many, table.persistent[row], column=1) for row in (0, 1)]
    np.testing.assert_allclose(table.columns[1].accuracy.mean(axis=1), expected, atol=1.0)


def test_the_page_tells_every_kind_of_table() -> None:
    outcome = run(Design("a kind of table"), tables=2, seed=0)
    text = page([outcome], [Outcome(Design("another"))], command="python benchmarks/statistics")
    assert "| a kind of table |" in text
    assert "| another | – |" in text

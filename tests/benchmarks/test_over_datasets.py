"""The simulation of first tables, in small: it runs, and what it finds is what the documentation says of many."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.over_datasets import Outcome, designs, null, page, real, run, varying

TABLES = 20
FALSE = 0.2
"""A rate of 5% is above this in fewer than one of a thousand runs of so many tables."""


def test_verdicts_and_ranks_are_rarely_false_where_nothing_differs() -> None:
    [kind] = [kind for kind in null() if kind.name == "3 data sets, one pair three times as noisy"]
    outcome = run(kind, tables=TABLES, seed=1)
    assert outcome.here.trials == TABLES
    assert (outcome.here.share or 0) <= FALSE
    assert (outcome.ranks.share or 0) <= FALSE
    assert outcome.elsewhere.trials == 0  # three data sets say nothing of others


def test_gains_that_vary_from_data_set_to_data_set_are_rarely_told_of_others() -> None:
    [kind] = [kind for kind in varying() if kind.name == "5 data sets, 5 pairs"]
    outcome = run(kind, tables=TABLES, seed=1)
    assert outcome.elsewhere.trials == outcome.friedman.trials == TABLES
    assert (outcome.elsewhere.share or 0) <= FALSE


def test_true_gains_are_found() -> None:
    [kind] = [kind for kind in real() if kind.name == "5 data sets, n = 10"]
    outcome = run(kind, tables=5, seed=1)
    assert (outcome.found.share or 0) > 0.5
    assert (outcome.found_elsewhere.share or 0) > 0.4


def test_gains_that_cancel_are_none_over_all_data_sets() -> None:
    [kind] = [kind for kind in null() if kind.name.startswith("2 data sets, gains of 7 points")]
    gains = kind.gains(np.random.default_rng(0))
    assert np.abs(gains[:, 1:]).min() > 0
    assert not gains.sum(axis=0).any()
    assert not designs(2, draws=3)[0].gains


def test_the_page_tells_every_kind() -> None:
    outcomes = [Outcome(kind) for kind in (null()[0], varying()[0], real()[0])]
    text = page(*([outcome] for outcome in outcomes), command="python", tables=TABLES)
    assert all(f"| {outcome.kind.name} | " in text for outcome in outcomes)

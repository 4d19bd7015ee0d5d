"""The simulation behind the margin of a search and the interval of a test, made small."""

from __future__ import annotations

import numpy as np

from benchmarks.recipes.selection import WORLDS, simulated
from mmfuse.bench.tuning.choice import choose
from mmfuse.bench.tuning.interval import accuracy_interval


def test_a_margin_makes_fewer_searches_worse_and_leaves_what_is_better() -> None:
    rng = np.random.default_rng(1)
    searches = [simulated(48, WORLDS["most are worse"], rng) for _ in range(80)]
    worse = {}
    for margin in (0.0, 1.0):
        taken = [choose(trials, sources, margin=margin) for trials, sources, _ in searches]
        gains = [gains[choice.chosen.number] for choice, (_, _, gains) in zip(taken, searches, strict=True) if choice]
        worse[margin] = float(np.mean(np.array(gains) < -0.02))
    assert worse[1.0] < 0.75 * worse[0.0]
    found = [simulated(200, (0.1, 0.0), rng) for _ in range(20)]
    assert all(not choose(trials, sources).keeps_default for trials, sources, _ in found)  # type: ignore[union-attr]


def test_the_interval_holds_the_true_accuracy_where_clips_of_a_source_are_alike() -> None:
    rng = np.random.default_rng(2)
    groups = [str(one) for one in np.repeat(np.arange(20), 4)]
    held = 0
    for _ in range(300):
        right = rng.random(80) < np.repeat(rng.beta(1.0, 1.0, 20), 4)
        low, high = accuracy_interval(right.tolist(), groups)
        held += low <= 0.5 <= high
    assert held / 300 > 0.92, "at 95%, with what 300 searches leave to chance"


def test_the_interval_stays_within_bounds_where_all_is_right() -> None:
    low, high = accuracy_interval([1] * 10, [str(one) for one in range(10)])
    assert 0.6 < low < 0.75
    assert high == 1.0

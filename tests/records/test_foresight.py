"""What a grid is told of its own power before it costs anything."""

from __future__ import annotations

import dataclasses

import pytest

from mmfuse.records.cell import Inputs
from mmfuse.records.folder import PlannedCell
from mmfuse.records.foresight import powers
from mmfuse.records.status import Entry
from mmfuse.records.until_decided import UntilDecided
from mmfuse.statistics.power import TYPICAL_SPREAD
from tests.bench.fakes import done
from tests.bench.harness import cell


def entries(*, draws: int, accuracies: dict[str, list[float]] | None = None) -> list[Entry]:
    found = []
    for pair in ("base", "one", "two"):
        for draw in range(draws):
            planned = PlannedCell(cell(pair, draw=draw), Inputs())
            if accuracies is None:
                found.append(Entry(planned, "missing"))
            else:
                record = done(planned.cell, inputs=Inputs(), top1=accuracies[pair][draw]).record
                found.append(Entry(planned, "done", record=record))
    return found


def test_without_records_a_typical_spread_is_assumed_and_said_to_be() -> None:
    [told] = powers(None, entries(draws=3))
    assert told.spread == TYPICAL_SPREAD
    assert not told.seen
    assert "assumed" in told.sentence()
    assert told.smallest is not None
    assert told.smallest > 10
    assert "hardly conclude" in told.sentence()


def test_the_spread_of_past_records_is_taken_where_there_are_any() -> None:
    seen = {"base": [0.50, 0.55, 0.60], "one": [0.51, 0.57, 0.61], "two": [0.50, 0.55, 0.60]}
    [told] = powers(None, entries(draws=3, accuracies=seen))
    assert told.seen
    # Gains of 1, 2 and 1 points have a variance of 1/3, those of the other pair none.
    assert told.spread == pytest.approx((1 / 3 / 2) ** 0.5)
    assert "as in these results" in told.sentence()


def test_one_or_two_draws_conclude_nothing() -> None:
    [told] = powers(None, entries(draws=2))
    assert told.smallest is None
    assert "2 draws cannot conclude" in told.sentence()


def test_more_draws_separate_smaller_gains_and_pooling_helps() -> None:
    rule = UntilDecided(until="decided", at_least=3, at_most=10)
    [few], [many] = powers(None, entries(draws=3)), powers(None, entries(draws=10))
    [added] = powers(rule, entries(draws=10))
    assert few.smallest is not None
    assert many.smallest is not None
    assert added.smallest is not None
    assert many.smallest < few.smallest / 2
    assert added.draws == 10
    assert added.for_one_point is not None
    assert added.for_one_point > 10


def test_a_gain_that_no_accuracy_can_have_is_not_told_as_one() -> None:
    told = dataclasses.replace(powers(None, entries(draws=3))[0], smallest=186.4)
    assert "3 draws separate no gain at all" in told.sentence()
    assert not told.concludes


def test_a_single_pair_has_nothing_to_tell() -> None:
    assert powers(None, entries(draws=3)[:3]) == []

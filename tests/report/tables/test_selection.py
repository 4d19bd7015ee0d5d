"""What picking an epoch on the test list would be worth: in its own table, and in no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mmfuse.records.folder import ResultsFolder
from mmfuse.records.record import TestSelection
from mmfuse.records.status import Entry
from mmfuse.report.groups import groups
from mmfuse.report.tables.build import tables
from mmfuse.report.tables.cost import trade_off
from mmfuse.report.tables.selection import selection_table
from tests.report.made import build, results

LAST = {0: 0.5, 1: 0.6, 2: 0.7}


def diagnosed(entry: Entry) -> Entry:
    """Best in the second of three epochs, by 2 points in draw 0 and 4 in draw 1; draw 2 ran without."""
    assert entry.record is not None
    draw, last = entry.cell.draw, LAST[entry.cell.draw]
    if draw == 2:
        return entry
    told = TestSelection(top1=(0.1, last + 0.02 * (draw + 1), last), seconds=1.0)
    return dataclasses.replace(entry, record=entry.record.model_copy(update={"test_selection": told}))


@pytest.fixture
def plain(tmp_path: Path) -> list[Entry]:
    cells = [build(pair, draw=draw) for pair in ("frozen+frozen", "lora+frozen") for draw in LAST]
    return results(tmp_path, cells, lambda cell: LAST[cell.draw])


def test_the_best_epoch_is_told_with_what_it_would_raise_and_what_was_not_diagnosed(
    plain: list[Entry], tmp_path: Path
) -> None:
    [group] = groups(
        [diagnosed(entry) if entry.cell.pair.frozen else entry for entry in plain], ResultsFolder(tmp_path)
    )
    table = selection_table(group)
    assert table is not None
    assert table.columns == ("K=2 last epoch", "K=2 best epoch", "K=2 raised by")
    assert [[value.text for value in row.values] for row in table.rows] == [
        ["55.0", "58.0", "+3.0"],
        ["not diagnosed"] * 3,
    ]
    assert "4 of 6 finished cells were not diagnosed" in table.notes[1]


def test_no_other_table_knows_of_it(plain: list[Entry], tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    before, after = tables(plain, folder), tables([diagnosed(entry) for entry in plain], folder)
    assert [table.key for table in after if table not in before] == ["test-selection"]
    assert len(after) == len(before) + 1


def test_the_trade_off_of_nothing_trained_is_the_accuracy_and_falls_with_every_weight() -> None:
    assert trade_off(0.713, 0) == 0.713  # frozen Video Swin-B on HMDB51, as V-PETL Bench prints it
    scores = [trade_off(0.7, weights) for weights in (0, 10**5, 10**6, 10**7, 10**8)]
    assert scores == sorted(scores, reverse=True)
    assert trade_off(0.7, 90_000_000) == pytest.approx(0.7 / 2.718281828)  # log10(9 + 1) is 1

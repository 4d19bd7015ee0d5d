"""The first table: all pairs over all data sets."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.status import read_entries
from mmfuse.records.until_decided import UntilDecided
from mmfuse.report.groups import groups
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.overall import Overall
from tests.report.made import build, results

LIFT = {"frozen+frozen": 0.0, "lora+frozen": 0.03, "dora+adapter": 0.08, "frozen+coop": -0.05}
DATASETS = {"ucf101": 0.6, "hmdb51": 0.4}


def top1(cell: Cell) -> float:
    noise = np.random.default_rng(zlib.crc32(cell.name.encode())).normal(0, 0.001)
    return DATASETS.get(cell.dataset.name, 0.5) + LIFT[cell.pair.name] + 0.02 * cell.draw + float(noise)


def grid(
    datasets: Sequence[str] = tuple(DATASETS), *, draws: int = 3, shots: Sequence[Any] = (8,), **settings: Any
) -> list[Cell]:
    places = itertools.product(datasets, LIFT, shots, range(draws))
    return [build(pair, dataset=name, shots=k, draw=draw, **settings) for name, pair, k, draw in places]


def overall(path: Path, cells: list[Cell], wanted: Callable[[Cell], float | str] = top1) -> Overall:
    found = groups(results(path, cells, wanted), ResultsFolder(path))
    return Overall([Comparison(group) for group in found])


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Overall:
    return overall(tmp_path_factory.mktemp("usual"), grid(shots=(8, 16)))


def test_rows_are_sorted_by_gain_and_hold_what_the_other_tables_hold(usual: Overall) -> None:
    assert [pair.name for pair in usual.pairs] == ["dora+adapter", "lora+frozen", "frozen+frozen", "frozen+coop"]
    assert [pair.verdict for pair in usual.pairs] == ["better", "better", "baseline", "worse"]
    for comparison, at in zip(usual.comparisons, range(2), strict=True):
        shown = {row.name: row.values[-2] for row in comparison.table.rows}  # the mean over K, before the gain
        for pair in usual.pairs:
            assert pair.accuracies[at].mean == shown[pair.name].mean
    best = usual.pairs[0]
    gains = [comparison.difference(best.name, "frozen+frozen", (8, 16)) for comparison in usual.comparisons]
    assert best.gain.mean is not None
    assert best.gain.mean.mean == pytest.approx(np.mean([gain.mean for gain in gains if gain]))
    assert best.rank.number() == "1.0 [1, 1]"
    assert best.gain.complete
    notes = " ".join(usual.table.notes)
    assert "means over K=8, 16, within each draw" in notes
    assert "Other data sets: 2 cannot tell of them; that takes 4." in notes
    assert usual.table.columns == ("ucf101", "hmdb51", "gain", "mean rank", "weights", "train s", "verdict")


def test_a_row_without_a_data_set_stands_last_and_says_so(tmp_path: Path) -> None:
    def some(cell: Cell) -> float | str:
        return "failed" if (cell.pair.name, cell.dataset.name) == ("dora+adapter", "hmdb51") else top1(cell)

    found = overall(tmp_path, grid(), some)
    last = found.pairs[-1]
    assert last.name == "dora+adapter"
    assert (last.gain.gap(), last.rank.gap()) == ("1/2 data sets, 3 failed", "1/2 data sets")
    assert not last.gain.complete
    assert found.table.rows[-1].values[-1].text == "better on 1/2 data sets"
    assert any(note.startswith("Rows that lack a data set stand last") for note in found.table.notes)


def test_two_splits_are_one_data_set(tmp_path: Path) -> None:
    found = overall(tmp_path, [cell for split in (1, 2) for cell in grid(("ucf101",), split=split)])
    assert found.table.columns[:2] == ("ucf101", "gain")
    assert "over splits 1, 2" in found.table.notes[0]
    best = found.pairs[0]
    splits = [comparison.difference(best.name, "frozen+frozen", (8,)) for comparison in found.comparisons]
    assert best.gain.mean is not None
    assert best.gain.mean.half == pytest.approx(np.mean([gain.half for gain in splits if gain and gain.half]))


def test_a_gain_on_many_data_sets_alike_is_told_of_others(tmp_path: Path) -> None:
    found = overall(tmp_path, grid(("a", "b", "c", "d")))
    table = {row.name: row.values[-1].text for row in found.table.rows}
    assert table["dora+adapter"] == "better †"
    notes = " ".join(found.table.notes)
    assert "† holds for other data sets too (t over 4 data sets" in notes
    assert "Friedman" in notes


@pytest.mark.parametrize(
    ("cells", "wanted", "verdicts"),
    [
        (grid(("tiny",), draws=2), top1, {"not tested", "baseline"}),
        (grid(("tiny",), draws=1), lambda cell: "failed", {"–", "baseline"}),
        ([build("lora+frozen", draw=draw) for draw in range(3)], top1, None),
        ([build("frozen+frozen", draw=draw) for draw in range(3)], top1, None),
        ([build(p, shots=k) for p, k in (("frozen+frozen", 2), ("lora+frozen", "all"))], top1, {"–", "baseline"}),
    ],
    ids=["two draws", "all failed", "no baseline", "baseline alone", "no K in common"],
)
def test_odd_folders_have_a_first_table(
    tmp_path: Path, cells: list[Cell], wanted: Callable[[Cell], float | str], verdicts: set[str] | None
) -> None:
    table = overall(tmp_path, cells, wanted).table
    assert table.columns.count("verdict") == (verdicts is not None)
    if verdicts is not None:
        assert {row.values[-1].text for row in table.rows} == verdicts
        assert any(note.startswith("Nothing is tested") for note in table.notes)


def test_verdicts_against_the_best_say_so(tmp_path: Path) -> None:
    cells = grid(("tiny",))
    results(tmp_path, cells, top1)
    rule = UntilDecided.model_validate({"until": "decided", "at_least": 3, "at_most": 3, "for": "best"})
    planned = [PlannedCell(cell, Inputs(dataset="c")) for cell in cells]
    ResultsFolder(tmp_path).write_manifest(Manifest("test", planned, until_decided=rule))
    [group] = groups(read_entries(ResultsFolder(tmp_path)), ResultsFolder(tmp_path))
    table = Overall([Comparison(group)]).table
    told = {row.name: row.values[-1].text for row in table.rows}
    assert told == {
        "dora+adapter": "best",
        "lora+frozen": "below the best",
        "frozen+frozen": "below the best",
        "frozen+coop": "below the best",
    }
    assert any("against the best of each column" in note for note in table.notes)

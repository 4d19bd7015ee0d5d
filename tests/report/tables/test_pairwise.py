"""Two pairs against each other, over draws and over test clips."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from mmfuse.records.folder import ResultsFolder
from mmfuse.report.groups import Group, groups
from mmfuse.report.tables.pairwise import pairwise_tables
from mmfuse.report.tables.table import Table
from tests.report.made import Top1, build, results

BASE = {"frozen+frozen": 0.6, "dora+adapter": 0.8, "lora+frozen": 0.6}
OURS, THEIRS = "dora+adapter", "frozen+frozen"


def accuracy(cell: Cell) -> float:
    return BASE[cell.pair.name] + (0.01, -0.015, 0.005)[cell.draw % 3] * (len(cell.pair.name) - 12)


def cells(
    draws: int = 3, *, pairs: Iterable[str] = (OURS, THEIRS), dataset: str = "tiny", seeds: int = 1
) -> list[Cell]:
    return [build(p, draw=d, seed=s, dataset=dataset) for p in pairs for d in range(draws) for s in range(seeds)]


def grouped(path: Path, asked: list[Cell], top1: Top1 = accuracy) -> list[Group]:
    return groups(results(path, asked, top1, clips=200), ResultsFolder(path))


def compare(found: list[Group]) -> Table:
    [table] = pairwise_tables(found, ours=OURS, theirs=THEIRS)
    return table


def test_over_draws_and_over_clips_are_told_apart(tmp_path: Path) -> None:
    table = compare(grouped(tmp_path, cells()))
    [row] = table.rows
    gains = [100 * (accuracy(build(OURS, draw=draw)) - accuracy(build(THEIRS, draw=draw))) for draw in range(3)]
    assert table.columns == ("over draws", "p", *(f"over test clips, draw {draw}" for draw in range(3)))
    assert row.values[0].mean is not None
    assert row.values[0].mean.mean == pytest.approx(np.mean(gains))
    clip = 0.5 / 2 * 2**0.5  # half a step of each side
    spread = np.sqrt((np.var(gains, ddof=1) + clip**2) / 3)
    assert row.values[0].mean.half == pytest.approx(stats.t.ppf(0.975, 2) * spread)
    assert row.values[1].text is not None
    assert 0.0 < float(row.values[1].text) < 0.05
    for gain, value in zip(gains, row.values[2:], strict=True):
        assert value.text is not None
        assert value.text.startswith(f"{gain:+.1f} [")
        low, high = map(float, value.text.split("[")[1].rstrip("]").split(","))
        assert low < round(gain, 1) < high
        assert 5 < high - low < 20


def test_unknown_pairs_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match=r"did you mean 'dora\+adapter'\?"):
        pairwise_tables(grouped(tmp_path, cells()), ours="dorra+adapter", theirs=THEIRS)


def test_a_pair_that_one_data_set_lacks_is_compared_on_the_others(tmp_path: Path) -> None:
    asked = [*cells(), *cells(pairs=(OURS, "lora+frozen"), dataset="hmdb51")]
    found = grouped(tmp_path, asked)
    table = compare(found)
    assert table.title.startswith("tiny")
    assert table.notes[-1] == "Without a table here: hmdb51, split 1, which lack one of the pairs."
    apart = grouped(tmp_path / "b", [*cells(pairs=[OURS]), *cells(pairs=[THEIRS], dataset="hmdb51")])
    with pytest.raises(MmfuseError, match=r"unknown pair on the data sets of 'dora\+adapter' 'frozen\+frozen'"):
        compare(apart)


def test_one_damaged_file_is_told_and_the_rest_is_compared(tmp_path: Path) -> None:
    found = grouped(tmp_path, cells())
    path = next(found[0].folder.records.glob("*dora+adapter*draw1*.csv.gz"))
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(bytes(content))
    table = compare(groups(found[0].entries, found[0].folder))
    [row] = table.rows
    assert row.values[0].mean is not None
    assert row.values[0].mean.n == 3
    assert [value.text == "–" for value in row.values[1:]] == [False, False, True, False]
    assert "The predictions of 1 cell cannot be used" in " ".join(table.notes)
    assert "draw1" in " ".join(table.notes)


def test_one_draw_with_many_seeds_has_no_interval_over_draws(tmp_path: Path) -> None:
    table = compare(grouped(tmp_path, cells(1, seeds=5)))
    [row] = table.rows
    assert row.values[0].number() == "+19.0"
    assert row.values[0].significant is None
    assert row.values[1].text == "–"
    assert "One draw of the training clips: no interval over draws and no test." in table.notes


def test_a_failed_seed_is_told(tmp_path: Path) -> None:
    def top1(cell: Cell) -> float | str:
        return "failed" if (cell.pair.name, cell.draw, cell.seed) == (OURS, 1, 1) else accuracy(cell)

    [row] = compare(grouped(tmp_path, cells(seeds=2), top1)).rows
    assert row.values[0].gap() == "1 failed"
    assert row.values[0].mean is not None
    assert row.values[0].mean.n == 3


def test_pairs_without_a_draw_in_common(tmp_path: Path) -> None:
    asked = [build(OURS, draw=draw) for draw in (0, 1, 2)] + [build(THEIRS, draw=draw) for draw in (3, 4, 5)]
    [row] = compare(grouped(tmp_path, asked)).rows
    assert [value.text for value in row.values] == ["no draw in common", *["–"] * 7]

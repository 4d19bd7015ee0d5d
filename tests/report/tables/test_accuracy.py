"""The main table: means, gains, marks, and how gaps are told."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from mmfuse.records.cell import Cell
from mmfuse.records.status import Entry
from mmfuse.report.tables.accuracy import Comparison, groups
from mmfuse.report.tables.formats import as_csv, as_latex, as_markdown, as_rich
from mmfuse.report.tables.table import Sheet, Value
from tests.report.made import build, results

PAIRS = ("frozen+frozen", "lora+frozen", "dora+adapter")
BASE = {"frozen+frozen": 0.50, "lora+frozen": 0.52, "dora+adapter": 0.60}
LIFT = {2: 0.0, 8: 0.1, "all": 0.2}
DRAWS = (0.00, 0.03, -0.02)


def accuracy(cell: Cell) -> float:
    own = 0.001 * ((7 * cell.draw + len(cell.pair.name)) % 5)
    return BASE[cell.pair.name] + LIFT[cell.shots] + DRAWS[cell.draw] + own


def grid(**settings: object) -> list[Cell]:
    places = itertools.product(PAIRS, (2, 8, "all"), range(3))
    return [build(pair, shots=shots, draw=draw, **settings) for pair, shots, draw in places]


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    return results(tmp_path, grid(), accuracy)


def sheet_of(entries: list[Entry]) -> Sheet:
    [group] = groups(entries)
    return Comparison(group).sheet()


def place(sheet: Sheet, row: str, column: str) -> Value:
    [found] = [one for one in sheet.rows if one.name == row]
    return found.values[sheet.columns.index(column)]


def values(pair: str, shots: object) -> list[float]:
    return [100 * accuracy(cell) for cell in grid() if cell.pair.name == pair and cell.shots == shots]


def test_places_hold_mean_and_interval_over_draws(entries: list[Entry]) -> None:
    sheet = sheet_of(entries)
    assert sheet.columns == ("K=2", "K=8", "K=all", "mean K8–all", "gain over frozen+frozen")
    assert [row.name for row in sheet.rows] == list(PAIRS)
    numbers = values("lora+frozen", 8)
    mean = place(sheet, "lora+frozen", "K=8").mean
    assert mean is not None
    low, high = stats.t.interval(0.95, 2, loc=np.mean(numbers), scale=stats.sem(numbers))
    assert (mean.mean, mean.half) == (pytest.approx(np.mean(numbers)), pytest.approx((high - low) / 2))


def test_the_mean_over_shots_is_taken_within_each_draw(entries: list[Entry]) -> None:
    mean = place(sheet_of(entries), "dora+adapter", "mean K8–all").mean
    assert mean is not None
    by_draw = np.mean([values("dora+adapter", 8), values("dora+adapter", "all")], axis=0)
    assert mean.mean == pytest.approx(by_draw.mean())
    assert mean.half == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(by_draw))


def test_the_gain_is_paired_and_so_narrower_than_the_intervals_of_its_sides(entries: list[Entry]) -> None:
    gain = place(sheet_of(entries), "dora+adapter", "gain over frozen+frozen")
    assert gain.mean is not None
    ours = np.mean([values("dora+adapter", 8), values("dora+adapter", "all")], axis=0)
    theirs = np.mean([values("frozen+frozen", 8), values("frozen+frozen", "all")], axis=0)
    assert gain.mean.mean == pytest.approx((ours - theirs).mean())
    assert gain.mean.half == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(ours - theirs))
    assert gain.p == pytest.approx(2 * stats.ttest_rel(ours, theirs).pvalue)  # the smaller of two, by Holm
    assert gain.significant
    assert gain.mean.half < 1 < (place(sheet_of(entries), "dora+adapter", "K=8").mean or gain.mean).half  # type: ignore[operator]


def test_gains_are_corrected_over_the_whole_table(entries: list[Entry]) -> None:
    [group] = groups(entries)
    sheet = Comparison(group).gain_sheet()
    assert sheet is not None
    assert [row.name for row in sheet.rows] == ["lora+frozen", "dora+adapter"]
    places = [(row.name, shots) for row in sheet.rows for shots in (2, 8, "all")]
    plain = [stats.ttest_rel(values(pair, shots), values("frozen+frozen", shots)).pvalue for pair, shots in places]
    order = np.argsort(plain)
    expected = np.maximum.accumulate([min(1.0, plain[at] * (6 - rank)) for rank, at in enumerate(order)])
    found = dict(zip(places, (value.p for row in sheet.rows for value in row.values), strict=True))
    assert [found[places[at]] for at in order] == pytest.approx(expected.tolist())
    assert "over the whole table" in sheet.notes[0]


def test_a_pair_that_is_not_planned_everywhere_has_no_gain_there(tmp_path: Path) -> None:
    cells = [build("frozen+frozen", shots=shots) for shots in (2, 8)] + [build("lora+frozen", shots=8)]
    entries = results(tmp_path, cells, lambda cell: "failed" if cell.pair.frozen and cell.shots == 2 else 0.5)
    [group] = groups(entries)
    sheet = Comparison(group).gain_sheet()
    assert sheet is not None
    assert [value.gap() for value in sheet.rows[0].values] == ["", ""]


def test_best_and_tie(tmp_path: Path) -> None:
    noise = {("lora+frozen", 0): 0.02, ("lora+frozen", 1): -0.03, ("lora+frozen", 2): 0.02}

    def close(cell: Cell) -> float:
        level = {"frozen+frozen": 0.4, "lora+frozen": 0.6, "dora+adapter": 0.6}[cell.pair.name]
        return level + noise.get((cell.pair.name, cell.draw), 0.0) + 0.0001 * cell.draw

    sheet = sheet_of(results(tmp_path, grid(), close))
    marks = {pair: (place(sheet, pair, "K=8").best, place(sheet, pair, "K=8").tie) for pair in PAIRS}
    assert marks == {"frozen+frozen": (False, False), "lora+frozen": (True, False), "dora+adapter": (False, True)}


def test_gaps_are_told_and_left_out(tmp_path: Path) -> None:
    def some(cell: Cell) -> float | str:
        if cell.pair.name == "lora+frozen" and cell.shots == 8:
            return {0: 0.7, 1: "failed", 2: "missing"}[cell.draw]
        if cell.pair.name == "dora+adapter" and cell.shots == 2:
            return "failed"
        return accuracy(cell)

    sheet = sheet_of(results(tmp_path, grid(), some))
    partial = place(sheet, "lora+frozen", "K=8")
    assert (partial.number(), partial.gap()) == ("70.0", "1/3, 1 failed, 1 missing")
    assert place(sheet, "lora+frozen", "mean K8–all").gap() == "1/3, 1 failed, 1 missing"
    assert place(sheet, "lora+frozen", "gain over frozen+frozen").gap() == "1/3, 1 failed, 1 missing"
    assert place(sheet, "dora+adapter", "K=2").gap() == "failed"
    assert any("stale numbers are left out" in note for note in sheet.notes)
    for text in (as_markdown(sheet), as_latex(sheet), _printed(sheet)):
        assert "1/3, 1 failed, 1 missing" in text


def _printed(sheet: Sheet) -> str:
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(as_rich(sheet))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_stale_numbers_are_marked_and_left_out(tmp_path: Path) -> None:
    results(tmp_path, grid(), accuracy)
    changed = [
        cell.model_copy(update={"train": cell.train.model_copy(update={"epochs": 99})}) if cell.draw == 2 else cell
        for cell in grid()
    ]
    sheet = sheet_of(results(tmp_path, changed, lambda cell: "missing" if cell.draw == 2 else accuracy(cell)))
    found = place(sheet, "lora+frozen", "K=8")
    assert found.gap() == "2/3, 1 stale"
    assert found.mean is not None
    assert found.mean.mean == pytest.approx(np.mean(values("lora+frozen", 8)[:2]))


def test_formats_hold_the_same_places_in_the_same_order(entries: list[Entry]) -> None:
    sheet = sheet_of(entries)
    rows = list(csv.DictReader(io.StringIO(as_csv([sheet]))))
    assert [(row["row"], row["column"]) for row in rows] == [(p, c) for p in PAIRS for c in sheet.columns]
    number = place(sheet, "dora+adapter", "K=8").number()
    assert f"**{number}**" in as_markdown(sheet)
    assert rf"$\mathbf{{{number.replace('±', chr(92) + 'pm')}}}$" in as_latex(sheet)
    assert number in _printed(sheet)
    mean = place(sheet, "dora+adapter", "K=8").mean
    assert mean is not None
    [line] = [row for row in rows if (row["row"], row["column"]) == ("dora+adapter", "K=8")]
    assert float(line["mean"]) == mean.mean


def test_seeds_of_one_draw_are_averaged_before_draws_are_compared(tmp_path: Path) -> None:
    cells = [build("frozen+frozen", draw=draw, seed=seed) for draw in (0, 1) for seed in (0, 1)]
    table = {(0, 0): 0.5, (0, 1): 0.6, (1, 0): 0.7, (1, 1): 0.8}
    sheet = sheet_of(results(tmp_path, cells, lambda cell: table[cell.draw, cell.seed]))
    mean = place(sheet, "frozen+frozen", "K=2").mean
    assert mean is not None
    assert (mean.mean, mean.n) == (pytest.approx(65.0), 2)
    assert mean.half == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem([55, 75]))


@pytest.mark.parametrize(
    "name", ["a|b", "<script>alert(1)</script>", r"\input{/etc/passwd}", "$x_1$ & 50%", "=1+1", "[red]x"]
)
def test_names_from_data_stay_text(tmp_path: Path, name: str) -> None:
    sheet = sheet_of(results(tmp_path, [build(name)], lambda cell: 0.5))
    markdown = as_markdown(sheet).splitlines()
    [row] = [line for line in markdown if "50.0" in line]
    assert row.replace("\\|", "").count("|") == len(sheet.columns) + 2
    assert "<script>" not in "".join(markdown)
    latex = as_latex(sheet)
    assert "\\input" not in latex
    assert "$x_1$ &" not in latex
    assert not any(line["row"].startswith("=") for line in csv.DictReader(io.StringIO(as_csv([sheet]))))
    assert name in _printed(sheet)


def test_draws_that_are_not_certified_and_published_lists_are_told(tmp_path: Path) -> None:
    def notes(name: str, *, certified: dict[object, bool | None], lists: dict[int, str] | None = None) -> str:
        """What is said below the table."""
        cells = grid(dataset={"name": "tiny", "train_lists": lists})
        entries = results(tmp_path / name, cells, accuracy)
        marked = []
        for entry in entries:
            assert entry.record is not None
            known = entry.record.provenance.model_copy(update={"certified": certified.get(entry.cell.shots)})
            marked.append(replace(entry, record=entry.record.model_copy(update={"provenance": known})))
        return "\n".join(sheet_of(marked).notes)

    assert "certified" not in notes("unknown", certified={})
    assert "certified" not in notes("all", certified={2: True, 8: True, "all": True})
    assert "Draws are not certified" in notes("none", certified={2: False, 8: False, "all": False})
    told = notes("listed", certified={2: False, 8: True, "all": True}, lists={2: "k2.txt"})
    assert "Draws at K=2 are not certified" in told
    assert "At K=2 and K=all every draw holds the same clips" in told

"""The main tables: means, intervals, gains, marks, and how gaps are told."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.status import read_entries
from mmfuse.report.groups import Group, groups
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.formats import as_csv, as_markdown, as_rich
from mmfuse.report.tables.latex import as_latex
from mmfuse.report.tables.table import Table, Value
from tests.report.made import Top1, build, group_of, results

PAIRS = ("frozen+frozen", "lora+frozen", "dora+adapter")
BASE = {"frozen+frozen": 0.50, "lora+frozen": 0.52, "dora+adapter": 0.60}
LIFT = {2: 0.0, 8: 0.1, "all": 0.2}
DRAWS = (0.00, 0.03, -0.02, 0.01, -0.01)


def accuracy(cell: Cell) -> float:
    own = 0.001 * ((7 * cell.draw + len(cell.pair.name)) % 5)
    return BASE[cell.pair.name] + LIFT[cell.shots] + DRAWS[cell.draw] + own


def grid(
    *, draws: int = 3, pairs: tuple[str, ...] = PAIRS, shots: tuple[Any, ...] = (2, 8, "all"), **settings: Any
) -> list[Cell]:
    return [build(p, shots=k, draw=d, **settings) for p, k, d in itertools.product(pairs, shots, range(draws))]


@pytest.fixture
def group(tmp_path: Path) -> Group:
    return group_of(tmp_path, grid(draws=5), accuracy)


def table_of(path: Path, cells: list[Cell], top1: Top1, **settings: int) -> Table:
    return Comparison(group_of(path, cells, top1, **settings)).table


def place(table: Table, row: str, column: str) -> Value:
    [found] = [one for one in table.rows if one.name == row]
    return found.values[table.columns.index(column)]


def values(pair: str, shots: object, *, draws: int = 5) -> list[float]:
    return [100 * accuracy(cell) for cell in grid(draws=draws) if cell.pair.name == pair and cell.shots == shots]


MEAN, GAIN = "mean of K=8, all", "gain over frozen+frozen, K=8, all"
STEP = 0.1 / 2
"""What a clip of a thousand adds to the spread of accuracies."""


def half_width(numbers: list[float], *, grain: float = STEP) -> float:
    spread = np.sqrt((np.var(numbers, ddof=1) + grain**2) / len(numbers))
    return float(stats.t.ppf(0.975, len(numbers) - 1) * spread)


def test_places_hold_mean_and_interval_over_draws(group: Group) -> None:
    table = Comparison(group).table
    assert table.columns == ("K=2", "K=8", "K=all", MEAN, GAIN)
    assert [row.name for row in table.rows] == list(PAIRS)
    numbers = values("lora+frozen", 8)
    mean = place(table, "lora+frozen", "K=8").mean
    assert mean is not None
    assert (mean.mean, mean.half) == (pytest.approx(np.mean(numbers)), pytest.approx(half_width(numbers)))


def test_the_mean_over_shots_is_taken_within_each_draw(group: Group) -> None:
    mean = place(Comparison(group).table, "dora+adapter", MEAN).mean
    assert mean is not None
    by_draw = np.mean([values("dora+adapter", 8), values("dora+adapter", "all")], axis=0)
    assert mean.mean == pytest.approx(by_draw.mean())
    assert mean.half == pytest.approx(half_width(by_draw, grain=STEP / 2**0.5))


@pytest.mark.parametrize(
    ("shots", "columns"),
    [
        ((2, 8), ("K=2", "K=8", "gain over frozen+frozen, K=8")),
        ((2, 4), ("K=2", "K=4", "mean of K=2, 4", "gain over frozen+frozen, K=2, 4")),
        ((5, 8, 16), ("K=5", "K=8", "K=16", "mean of K=5, 8, 16", "gain over frozen+frozen, K=5, 8, 16")),
    ],
)
def test_means_and_gains_name_their_shots(tmp_path: Path, shots: tuple[Any, ...], columns: tuple[str, ...]) -> None:
    table = table_of(tmp_path, grid(shots=shots), lambda cell: 0.5)
    assert table.columns == columns


def test_the_gain_is_paired_and_so_narrower_than_the_intervals_of_its_sides(group: Group) -> None:
    table = Comparison(group).table
    gain = place(table, "dora+adapter", GAIN)
    assert gain.mean is not None
    ours = np.mean([values("dora+adapter", 8), values("dora+adapter", "all")], axis=0)
    theirs = np.mean([values("frozen+frozen", 8), values("frozen+frozen", "all")], axis=0)
    assert gain.mean.mean == pytest.approx((ours - theirs).mean())
    assert gain.mean.half == pytest.approx(half_width(ours - theirs))  # a clip of each side, halved by two K
    assert gain.verdict == "gain"
    assert gain.mean.half < 1 < (place(table, "dora+adapter", "K=8").mean or gain.mean).half  # type: ignore[operator]


def test_gains_are_corrected_over_the_whole_table(group: Group) -> None:
    comparison = Comparison(group)
    table = comparison.gain_table
    assert table is not None
    assert [row.name for row in table.rows] == ["lora+frozen", "dora+adapter"]
    places = [(row.name, shots) for row in table.rows for shots in (2, 8, "all")]
    plain = [comparison.p(pair, "frozen+frozen", (shots,)) or 0.0 for pair, shots in places]
    assert all(0 < p < 1 for p in plain)
    order = np.argsort(plain)
    expected = np.maximum.accumulate([min(1.0, plain[at] * (6 - rank)) for rank, at in enumerate(order)])
    found = dict(zip(places, (value.p for row in table.rows for value in row.values), strict=True))
    assert [found[places[at]] for at in order] == pytest.approx(expected.tolist())
    assert "Holm over the table" in " ".join(table.notes)


def test_a_loss_that_holds_reads_as_a_loss(tmp_path: Path) -> None:
    table = table_of(tmp_path, grid(draws=5), lambda c: accuracy(c) - 0.4 * (c.pair.name == "dora+adapter"))
    value = place(table, "dora+adapter", GAIN)
    assert value.verdict == "loss"
    number = value.number()
    assert number.startswith("-30.")
    assert f"{number} \\* loss |" in as_markdown(table)
    assert f"{number} * loss" in _printed(table)
    assert rf"{number.replace('±', chr(92) + 'pm')}^{{*}}" in as_latex(table)
    rows = list(csv.DictReader(io.StringIO(as_csv([table]))))
    assert [r["verdict"] for r in rows if (r["row"], r["column"]) == ("dora+adapter", GAIN)] == ["loss"]
    assert "or below zero a loss" in " ".join(table.notes)


def test_draws_that_agree_to_the_clip_earn_no_mark(tmp_path: Path) -> None:
    """Two draws, and ten, in which all pairs are the same number of clips apart."""
    for draws in (2, 10):
        path = tmp_path / str(draws)
        top1 = {"frozen+frozen": 0.5, "lora+frozen": 0.505, "dora+adapter": 0.49}
        comparison = Comparison(group_of(path, grid(draws=draws), lambda c: top1[c.pair.name], clips=200))  # noqa: B023
        table = comparison.table
        gains = [place(table, row, GAIN) for row in PAIRS[1:]]
        assert [bool(gain.significant) for gain in gains] == [False, False]
        assert all(gain.mean is not None and gain.mean.half is not None and gain.mean.half > 0.1 for gain in gains)
        tied = [row for row in PAIRS if place(table, row, "K=8").tie]
        assert tied == (["frozen+frozen", "dora+adapter"] if draws == 10 else [])
        assert comparison.gain_table is not None
        notes, notes_of_gains = " ".join(table.notes), " ".join(comparison.gain_table.notes)
        assert "Bold: highest of the column." in notes
        assert "Bold" not in notes_of_gains, "no number of a table of gains is bold"
        for mark in ("= not shown", "* the difference holds"):
            assert (mark in notes) == (draws == 10)
        for text in (notes, notes_of_gains):
            assert ("Nothing is tested: that needs 3 draws of both rows." in text) == (draws == 2)
        if draws == 2:
            assert [gain.significant for gain in gains] == [None, None]


def test_the_interval_over_test_clips_is_shown_where_it_is_the_wider_one(group: Group) -> None:
    table = Comparison(group).table
    value = place(table, "dora+adapter", "K=all")
    assert value.mean is not None
    assert value.mean.half is not None
    wider = replace(value, mean=replace(value.mean, half=1.0, half_clips=4.26))
    narrower = replace(value, mean=replace(value.mean, half=1.0, half_clips=0.5))
    assert wider.number() == f"{value.mean.mean:.1f} ± 1.0 ± 4.3"
    assert narrower.number() == f"{value.mean.mean:.1f} ± 1.0"
    notes = " ".join(table.notes)
    assert "1000 test clips from 100 sources" in notes
    assert "over n = 5 draws of the training clips" in notes
    assert "is the 95% interval over test clips, by source:" in notes
    assert "At K=all every draw holds the same clips: there ± is over repeated trainings." in notes
    [line] = [
        r for r in csv.DictReader(io.StringIO(as_csv([table]))) if r["row"] == PAIRS[2] and r["column"] == "K=all"
    ]
    assert float(line["half_width_clips"]) == value.mean.half_clips


def test_a_pair_that_is_not_planned_everywhere_has_no_gain_there(tmp_path: Path) -> None:
    cells = [build("frozen+frozen", shots=shots) for shots in (2, 8)] + [build("lora+frozen", shots=8)]
    group = group_of(tmp_path, cells, lambda cell: "failed" if cell.pair.frozen and cell.shots == 2 else 0.5)
    table = Comparison(group).gain_table
    assert table is not None
    assert [value.gap() for value in table.rows[0].values] == ["", ""]


def test_best_and_those_that_may_be_as_good(tmp_path: Path) -> None:
    def close(cell: Cell) -> float:
        noise = {"lora+frozen": (0.02, -0.03, 0.02, 0.01, 0.0)}.get(cell.pair.name, (0.0,) * 5)[cell.draw]
        return {"frozen+frozen": 0.2, "lora+frozen": 0.6, "dora+adapter": 0.6}[cell.pair.name] + noise

    table = table_of(tmp_path, grid(draws=5), close)
    marks = {pair: (place(table, pair, "K=8").best, place(table, pair, "K=8").tie) for pair in PAIRS}
    assert marks == {"frozen+frozen": (False, False), "lora+frozen": (True, False), "dora+adapter": (False, True)}


def test_a_row_with_other_draws_is_not_bold(tmp_path: Path) -> None:
    """One draw of three, the easiest, is no better than all of them."""

    def some(cell: Cell) -> float | str:
        if cell.pair.name == "dora+adapter":
            return "missing" if cell.draw else 0.9
        return accuracy(cell)

    table = table_of(tmp_path, grid(), some)
    best = {row.name for row in table.rows if row.values[table.columns.index("K=2")].best}
    assert best == {"lora+frozen"}
    assert place(table, "dora+adapter", "K=2").tie
    assert "Rows with other draws than most are never bold" in " ".join(table.notes)


def test_grids_with_other_draws_are_not_compared(tmp_path: Path) -> None:
    cells = [build(pair, draw=draw + 3 * (pair == PAIRS[2])) for pair in (PAIRS[0], PAIRS[2]) for draw in range(3)]
    comparison = Comparison(group_of(tmp_path, cells, lambda cell: 0.9 if cell.draw > 2 else 0.5))
    assert not any(value.best for row in comparison.table.rows for value in row.values)
    assert place(comparison.table, PAIRS[2], "gain over frozen+frozen, K=2").text == "no draw in common"
    assert comparison.best((2,)) is None


def test_one_draw_with_many_seeds_has_no_interval_and_no_mark(tmp_path: Path) -> None:
    cells = [build(pair, seed=seed) for pair in PAIRS for seed in range(10)]
    table = table_of(tmp_path, cells, lambda c: BASE[c.pair.name] + 0.001 * c.seed)
    for row in table.rows:
        for value in row.values:
            assert value.mean is None or (value.mean.half is None and value.mean.n == 1)
            assert value.significant is None
            assert "±" not in value.number()
    assert "One draw of the training clips: no intervals and no tests." in table.notes[0]
    assert "means over 10 seeds, which say nothing of other draws" in table.notes[0]


def test_seeds_of_one_draw_are_averaged_before_draws_are_compared(tmp_path: Path) -> None:
    cells = [build("frozen+frozen", draw=draw, seed=seed) for draw in (0, 1) for seed in (0, 1)]
    top1 = {(0, 0): 0.5, (0, 1): 0.6, (1, 0): 0.7, (1, 1): 0.8}
    table = table_of(tmp_path, cells, lambda cell: top1[cell.draw, cell.seed])
    mean = place(table, "frozen+frozen", "K=2").mean
    assert mean is not None
    assert (mean.mean, mean.n) == (pytest.approx(65.0), 2)
    assert mean.half == pytest.approx(half_width([55, 75]))


def test_a_failed_seed_is_told(tmp_path: Path) -> None:
    cells = [build(pair, draw=draw, seed=seed) for pair in PAIRS for draw in range(3) for seed in (0, 1)]
    table = table_of(tmp_path, cells, lambda c: "failed" if (c.draw, c.seed) == (1, 1) else BASE[c.pair.name])
    value = place(table, "lora+frozen", "K=2")
    assert value.gap() == "1 failed"
    assert value.mean is not None
    assert value.mean.n == 3
    table = table_of(tmp_path / "b", cells, lambda c: "failed" if c.draw == 1 else BASE[c.pair.name])
    assert place(table, "lora+frozen", "K=2").gap() == "2/3, 2 failed"


def test_other_settings_under_one_name_get_a_row_each(tmp_path: Path) -> None:
    """Two grids in one folder: 1 and 12 epochs are no repetitions of each other."""
    cells = [
        build(pair, draw=draw, train={"epochs": epochs})
        for epochs in (1, 12)
        for pair in ("frozen+frozen", "lora+frozen")
        for draw in range(3)
    ]
    comparison = Comparison(group_of(tmp_path, cells, lambda c: 0.117 if c.train.epochs == 1 else 0.196))
    means = {row.name: row.values[0].mean for row in comparison.table.rows}
    assert {name: round(mean.mean, 1) for name, mean in means.items() if mean} == {
        "frozen+frozen (epochs 1)": 11.7,
        "lora+frozen (epochs 1)": 11.7,
        "frozen+frozen (epochs 12)": 19.6,
        "lora+frozen (epochs 12)": 19.6,
    }
    assert comparison.gain_table is not None
    gains = {row.name: row.values[0].number() for row in comparison.gain_table.rows}
    assert set(gains) == {"lora+frozen (epochs 1)", "lora+frozen (epochs 12)"}
    assert all(number.startswith("+0.0 ±") for number in gains.values())  # each over the frozen row of its epochs


def test_cells_from_other_machines_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    changed = []
    for entry in results(folder, grid(), accuracy):
        assert entry.record is not None
        device = "cpu" if entry.cell.draw else "cuda NVIDIA H100"
        known = entry.record.provenance.model_copy(
            update={"device": device, "versions": {"torch": f"2.{entry.cell.draw}"}, "precision": "32-true"}
        )
        changed.append(replace(entry, record=entry.record.model_copy(update={"provenance": known})))
    [group] = groups(changed, ResultsFolder(folder))
    notes = Comparison(group).table.notes
    assert "Cells were trained with different devices: cpu, cuda NVIDIA H100." in notes
    assert "Cells were trained with different versions of torch: 2.0, 2.1, 2.2." in notes
    assert not any("precisions" in note for note in notes)


def test_without_predictions_nothing_is_marked_and_that_is_told(tmp_path: Path) -> None:
    group = group_of(tmp_path, grid(draws=5), accuracy)
    for path in group.folder.records.glob("*dora+adapter*.csv.gz"):
        path.unlink()
    comparison = Comparison(group)
    assert [place(comparison.table, pair, GAIN).significant for pair in PAIRS[1:]] == [True, None]
    assert place(comparison.table, "dora+adapter", GAIN).mean is not None
    assert "The predictions of 15 cells cannot be used, so what rests on them is not tested: " in " ".join(
        comparison.table.notes
    )


def test_gaps_are_told_and_left_out(tmp_path: Path) -> None:
    def some(cell: Cell) -> float | str:
        if cell.pair.name == "lora+frozen" and cell.shots == 8:
            return {0: 0.7, 1: "failed", 2: "missing"}[cell.draw]
        if cell.pair.name == "dora+adapter" and cell.shots == 2:
            return "failed"
        return accuracy(cell)

    table = table_of(tmp_path, grid(), some)
    partial = place(table, "lora+frozen", "K=8")
    assert (partial.number(), partial.gap()) == ("70.0", "1/3, 1 failed, 1 missing")
    assert place(table, "lora+frozen", MEAN).gap() == "1/3, 1 failed, 1 missing"
    assert place(table, "lora+frozen", GAIN).gap() == "1/3, 1 failed, 1 missing"
    assert place(table, "dora+adapter", "K=2").gap() == "failed"
    assert any("stale numbers are left out" in note for note in table.notes)
    for text in (as_markdown(table), as_latex(table), _printed(table)):
        assert "1/3, 1 failed, 1 missing" in text


def _printed(table: Table) -> str:
    console = Console(width=250, file=io.StringIO(), force_terminal=False)
    console.print(as_rich(table))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_stale_numbers_are_marked_and_left_out(tmp_path: Path) -> None:
    """The videos were replaced before the last draw was planned anew."""
    group = group_of(tmp_path, grid(), accuracy)
    planned = [PlannedCell(cell, Inputs(dataset="d" if cell.draw == 2 else "c")) for cell in grid()]
    group.folder.write_manifest(Manifest("test", planned))
    [group] = groups(read_entries(group.folder), group.folder)
    found = place(Comparison(group).table, "lora+frozen", "K=8")
    assert found.gap() == "2/3, 1 stale"
    assert found.mean is not None
    assert found.mean.mean == pytest.approx(np.mean(values("lora+frozen", 8)[:2]))


def test_formats_hold_the_same_places_in_the_same_order(group: Group) -> None:
    table = Comparison(group).table
    rows = list(csv.DictReader(io.StringIO(as_csv([table]))))
    assert [(row["row"], row["column"]) for row in rows] == [(p, c) for p in PAIRS for c in table.columns]
    number = place(table, "dora+adapter", "K=8").number()
    assert f"**{number}**" in as_markdown(table)
    assert rf"$\mathbf{{{number.split(' ')[0]}}} \pm " in as_latex(table)
    assert number in _printed(table)
    mean = place(table, "dora+adapter", "K=8").mean
    assert mean is not None
    [line] = [row for row in rows if (row["row"], row["column"]) == ("dora+adapter", "K=8")]
    assert float(line["mean"]) == mean.mean


@pytest.mark.parametrize(
    "name", ["a|b", "<script>alert(1)</script>", r"\input{/etc/passwd}", "$x_1$ & 50%", "=1+1", "[red]x"]
)
def test_names_from_data_stay_text(tmp_path: Path, name: str) -> None:
    table = table_of(tmp_path, [build(name)], lambda cell: 0.5)
    markdown = as_markdown(table).splitlines()
    [row] = [line for line in markdown if "50.0" in line]
    assert row.replace("\\|", "").count("|") == len(table.columns) + 2
    assert "<script>" not in "".join(markdown)
    latex = as_latex(table)
    assert "\\input" not in latex
    assert "$x_1$ &" not in latex
    assert not any(line["row"].startswith("=") for line in csv.DictReader(io.StringIO(as_csv([table]))))
    assert name in _printed(table)


def test_draws_that_are_not_certified_and_published_lists_are_told(tmp_path: Path) -> None:
    def notes(name: str, *, certified: dict[object, bool | None], lists: dict[int, str] | None = None) -> str:
        """What is said below the table."""
        cells = grid(dataset={"name": "tiny", "train_lists": lists})
        marked = []
        for entry in results(tmp_path / name, cells, accuracy):
            assert entry.record is not None
            known = entry.record.provenance.model_copy(update={"certified": certified.get(entry.cell.shots)})
            marked.append(replace(entry, record=entry.record.model_copy(update={"provenance": known})))
        [group] = groups(marked, ResultsFolder(tmp_path / name))
        return "\n".join(Comparison(group).table.notes)

    assert "certified" not in notes("unknown", certified={})
    assert "certified" not in notes("all", certified={2: True, 8: True, "all": True})
    assert "Draws are not certified" in notes("none", certified={2: False, 8: False, "all": False})
    told = notes("listed", certified={2: False, 8: True, "all": True}, lists={2: "k2.txt"})
    assert "Draws at K=2 are not certified" in told
    assert "At K=2 and K=all every draw holds the same clips" in told

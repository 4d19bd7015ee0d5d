"""What is said in words is what the statistics say, and no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from mmfuse.records.cell import Cell
from mmfuse.report.page.summary import Summary
from mmfuse.report.plots.points import Plots
from mmfuse.report.tables.accuracy import Comparison
from tests.report.made import build, group_of

Top1 = Callable[[Cell], float | str]


def summary(
    path: Path, pairs: list[str], top1: Top1, *, shots: tuple[Any, ...] = (8, "all"), draws: int = 6, **settings: Any
) -> Summary:
    cells = [build(p, shots=k, draw=d, **settings) for p in pairs for k in shots for d in range(draws)]
    return Summary(Plots(Comparison(group_of(path, cells, top1))))


def told(found: Summary) -> str:
    said = " ".join([*(text for _, text in found.parts()), *found.paragraphs(), *found.cautions()])
    plain = unescape(re.sub(r"</?(b|small)\b[^>]*>", "", said))
    return plain.replace("\N{NON-BREAKING HYPHEN}", "-").replace("\N{NO-BREAK SPACE}", " ")


def level(levels: dict[str, float], wobble: dict[str, tuple[float, ...]] | None = None) -> Top1:
    """Accuracy by pair, moved a little by draw."""
    wobble = wobble or {}
    return lambda cell: levels[cell.pair.name] + wobble.get(cell.pair.name, (0, 0.01, -0.01))[cell.draw % 3]


THREE = ["frozen+frozen", "dora+adapter", "lora+frozen"]


def test_a_clear_winner_is_named_with_its_margin(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.4, "dora+adapter": 0.7, "lora+frozen": 0.5}
    wobble = {"dora+adapter": (0.0, 0.012, -0.008)}
    found = summary(tmp_path, THREE, level(levels, wobble))
    text = told(found)
    value = found.comparison.table.rows[1].values[2].number()
    assert f"On average over K = 8 and all, dora+adapter is highest with {value}% top-1" in text
    assert " points from the next, lora+frozen; lora+frozen and frozen+frozen are shown to be below the best." in text
    assert (
        "Over frozen+frozen, on average over K = 8 and all, these gains in points hold after Holm's correction" in text
    )
    assert "dora+adapter (+30.1 ± " in text
    assert "36 of 36 cells are done" in text
    assert "K = 8: dora+adapter 70.1 ± " in text
    assert ", above every other; K = all" in text
    assert "At K = all every draw holds the same clips, so there it is over repeated trainings." in text
    assert "other draws and other test clips, at 5% over a table" in text
    assert "nothing about which method is best on real video" in text


def test_what_cannot_be_separated_is_not_called_better(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.50, "dora+adapter": 0.51, "lora+frozen": 0.49}
    wobble = {"dora+adapter": (0.1, -0.1, 0.02), "lora+frozen": (-0.1, 0.1, 0.0)}
    text = told(summary(tmp_path, THREE, level(levels, wobble), dataset="hmdb51"))
    assert "dora+adapter is highest" in text
    assert "; no other pair is shown to be below the best." in text
    assert "No gain over frozen+frozen holds" in text
    assert "mostly out of sight here" in text
    assert "At no single K does a gain hold." in text
    assert re.search(r"K = 8: dora\+adapter 51\.7 ± [\d.]+, and frozen\+frozen and lora\+frozen may be as good", text)


def test_some_are_separated_and_some_are_not(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.4, "dora+adapter": 0.7, "lora+frozen": 0.69}
    wobble = {"frozen+frozen": (0.0, 0.012, -0.011), "lora+frozen": (0.05, -0.06, 0.01)}
    text = told(summary(tmp_path, THREE, level(levels, wobble), dataset="hmdb51"))
    assert "; frozen+frozen is shown to be below the best, but not lora+frozen." in text
    assert ", and lora+frozen may be as good" in text


def test_a_loss_that_holds_is_told(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.6, "dora+adapter": 0.4, "lora+frozen": 0.6}
    wobble = {"dora+adapter": (0.0, 0.011, -0.012), "lora+frozen": (0.03, -0.05, 0.0)}
    text = told(summary(tmp_path, THREE, level(levels, wobble)))
    assert "No gain over frozen+frozen holds" in text
    assert "; these losses hold: dora+adapter (-20.0" in text


def test_two_draws_are_not_tested(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.4, "dora+adapter": 0.7, "lora+frozen": 0.5}
    text = told(summary(tmp_path, THREE, level(levels), draws=2))
    assert "Nothing is tested with 2 draws: the order may be chance." in text
    assert "is that of dora+adapter, +30.0 ± 0.4 ± " in text
    assert " points, untested." in text
    assert "below the best" not in text


def test_draws_that_only_some_have_are_not_compared(tmp_path: Path) -> None:
    """The highest mean lacks the hard draws: where all were run, another one is above it."""

    def top1(cell: Cell) -> float | str:
        hard = cell.draw >= 2
        if cell.pair.name == "dora+adapter":
            return "missing" if hard else 0.70 + 0.01 * cell.draw
        return (0.3 if hard else 0.75) + 0.012 * cell.draw

    found = summary(tmp_path / "two", ["frozen+frozen", "dora+adapter"], top1, draws=4)
    assert found.answer.best is None
    assert "No two pairs have the same draws yet, so none can be called highest." in told(found)
    found = summary(tmp_path / "three", THREE, top1, draws=4)
    text = told(found)
    assert "dora+adapter is highest" not in text
    assert "On average over K = 8 and all, frozen+frozen is highest with 54.3" in text


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_draw_has_no_interval_and_says_so(tmp_path: Path, seeds: int) -> None:
    cells = [build(p, shots=8, seed=s) for p in THREE for s in range(seeds)]
    text = told(Summary(Plots(Comparison(group_of(tmp_path, cells, lambda cell: 0.5 + 0.01 * cell.seed)))))
    assert "There is one draw of the training clips, so no number here has an interval or a test." in text
    assert "±" not in text
    assert "1 draw:" in text


def test_failures_are_counted(tmp_path: Path) -> None:
    text = told(summary(tmp_path, THREE, lambda cell: "failed" if cell.pair.name == "lora+frozen" else 0.5))
    assert "24 of 36 cells are done. The rest is not in any number: 12 failed." in text


def test_names_are_escaped_and_words_are_not(tmp_path: Path) -> None:
    name = "<img src=x onerror=y>{best}"
    cells = [build("frozen+frozen", shots=8), build(name, shots=8, train={"epochs": 3})]
    group = group_of(tmp_path, cells, lambda cell: 0.4 if cell.pair.name == "frozen+frozen" else 0.6)
    found = Summary(Plots(Comparison(group)))
    html = " ".join([*(text for _, text in found.parts()), *found.paragraphs()])
    assert "<b>&lt;img src=x onerror=y&gt;{best}</b> is highest" in html
    assert "<img" not in html
    assert "&lt;b&gt;" not in html

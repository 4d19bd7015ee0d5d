"""What is said in words is what the statistics say, and no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from mmfuse.records.cell import Cell
from mmfuse.report.page.summary import Story
from mmfuse.report.plots.points import Plots
from mmfuse.report.tables.accuracy import groups
from tests.report.made import build, results

Top1 = Callable[[Cell], float | str]


def story(
    path: Path, pairs: list[str], top1: Top1, *, shots: tuple[Any, ...] = (8, "all"), draws: int = 3, **settings: Any
) -> Story:
    cells = [build(p, shots=k, draw=d, **settings) for p in pairs for k in shots for d in range(draws)]
    [group] = groups(results(path, cells, top1))
    return Story(Plots(group))


def told(found: Story) -> str:
    return unescape(re.sub(r"</?b>", "", " ".join(found.paragraphs()))).replace("\N{NON-BREAKING HYPHEN}", "-")


def level(levels: dict[str, float], wobble: dict[str, tuple[float, ...]] | None = None) -> Top1:
    """Accuracy by pair, moved a little by draw."""
    wobble = wobble or {}
    return lambda cell: levels[cell.pair.name] + wobble.get(cell.pair.name, (0, 0.01, -0.01))[cell.draw]


THREE = ["frozen+frozen", "dora+adapter", "lora+frozen"]


def test_a_clear_winner_is_named_with_its_margin(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.4, "dora+adapter": 0.7, "lora+frozen": 0.5}
    wobble = {"dora+adapter": (0.0, 0.012, -0.008)}
    text = told(story(tmp_path, THREE, level(levels, wobble)))
    assert "On average over K = 8 and all, dora+adapter is highest with 70.1 ± 2.5% top-1" in text
    assert "+20.1 ± 0.3 points from the next, lora+frozen; the test separates it from lora+frozen and frozen" in text
    assert (
        "Over frozen+frozen, on average over K = 8 and all, these gains in points hold after Holm's correction" in text
    )
    assert "dora+adapter (+30.1 ± 0.3, p < 0.001)" in text
    assert "18 of 18 cells are done" in text
    assert "At K = all every draw holds the same clips, so there it is over repeated trainings." in text
    assert "picked by the numbers that it is then tested on, which favours it" in text
    assert "nothing about which method is best on real video" in text


def test_what_cannot_be_separated_is_not_called_better(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.50, "dora+adapter": 0.51, "lora+frozen": 0.49}
    wobble = {"dora+adapter": (0.1, -0.1, 0.02), "lora+frozen": (-0.1, 0.1, 0.0)}
    text = told(story(tmp_path, THREE, level(levels, wobble), dataset="hmdb51"))
    assert "dora+adapter is highest" in text
    assert "the test separates it from no other pair" in text
    assert "No gain over frozen+frozen holds" in text
    assert "mostly out of sight here" in text
    assert "At no single K does a gain hold." in text
    assert "not separated from any of the 2 others" in text
    assert "best" not in text


def test_some_are_separated_and_some_are_not(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.4, "dora+adapter": 0.7, "lora+frozen": 0.69}
    wobble = {"frozen+frozen": (0.0, 0.012, -0.011), "lora+frozen": (0.05, -0.06, 0.01)}
    text = told(story(tmp_path, THREE, level(levels, wobble), dataset="hmdb51"))
    assert "the test separates it from frozen+frozen, but not from lora+frozen" in text
    assert "not separated from lora+frozen" in text


def test_a_loss_that_holds_is_told(tmp_path: Path) -> None:
    levels = {"frozen+frozen": 0.6, "dora+adapter": 0.4, "lora+frozen": 0.6}
    wobble = {"dora+adapter": (0.0, 0.011, -0.012), "lora+frozen": (0.03, -0.05, 0.0)}
    text = told(story(tmp_path, THREE, level(levels, wobble)))
    assert "No gain over frozen+frozen holds" in text
    assert "; these losses hold: dora+adapter (-20.0" in text


def test_draws_that_only_some_have_are_not_compared(tmp_path: Path) -> None:
    """The highest pair lacks the hard draws: where both were run, another one is above it."""

    def top1(cell: Cell) -> float | str:
        hard = cell.draw >= 2
        if cell.pair.name == "dora+adapter":
            return "missing" if hard else 0.70 + 0.01 * cell.draw
        return (0.3 if hard else 0.75) + 0.012 * cell.draw

    found = story(tmp_path, ["frozen+frozen", "dora+adapter"], top1, draws=4)
    text = told(found)
    assert "dora+adapter is highest with 70.5" in text
    assert "(2/4, 4 missing)" in text
    assert "points from the next, frozen+frozen (over the 2 repetitions that both have)" in text
    verdict = found.verdict(found.span)
    assert verdict is not None
    assert verdict.behind == ()
    assert "separates it from frozen+frozen" not in text


@pytest.mark.parametrize(
    ("draws", "seeds", "words"), [(1, 1, "no number here has an interval"), (1, 3, "initialisations of one draw")]
)
def test_one_draw_says_what_its_interval_is_over(tmp_path: Path, draws: int, seeds: int, words: str) -> None:
    cells = [build(p, shots=8, seed=s) for p in THREE for s in range(seeds)]
    [group] = groups(results(tmp_path, cells, lambda cell: 0.5 + 0.01 * cell.seed))
    text = told(Story(Plots(group)))
    assert words in text
    assert "over draws of" not in text
    assert f"{draws} draw:" in text


def test_failures_are_counted(tmp_path: Path) -> None:
    text = told(story(tmp_path, THREE, lambda cell: "failed" if cell.pair.name == "lora+frozen" else 0.5))
    assert "12 of 18 cells are done. The rest is not in any number: 6 failed." in text


def test_names_are_escaped_and_words_are_not(tmp_path: Path) -> None:
    name = "<img src=x onerror=y>{best}"
    cells = [build("frozen+frozen", shots=8), build(name, shots=8, train={"epochs": 3})]
    [group] = groups(results(tmp_path, cells, lambda cell: 0.4 if cell.pair.name == "frozen+frozen" else 0.6))
    found = Story(Plots(group))
    html = " ".join([found.headline(), *found.paragraphs()])
    assert "<b>&lt;img src=x onerror=y&gt;{best}</b> is highest" in html
    assert "<img" not in html
    assert "&lt;b&gt;" not in html

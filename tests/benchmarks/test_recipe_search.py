"""The recipes are what the search found: its results, its page and the table that training reads say the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.recipes import options
from benchmarks.recipes.search import Ledger
from mmfuse import FewShotVideoDataModule
from mmfuse.data.frames.video import read_frames
from mmfuse.methods.recipes import FUSION_RECIPE, RECIPES

FOLDER = Path(__file__).parents[2] / "benchmarks" / "recipes"


@pytest.fixture(scope="module")
def scripts() -> Any:
    """The module of a script by its name."""
    loaded: dict[str, ModuleType] = {}

    def load(name: str) -> ModuleType:
        if name not in loaded:
            spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            loaded[name] = importlib.util.module_from_spec(spec)
            sys.modules[name] = loaded[name]  # where its dataclasses, and the other script, look for it
            spec.loader.exec_module(loaded[name])
        return loaded[name]

    yield load
    for name in loaded:
        del sys.modules[name]


@pytest.fixture(scope="module")
def search(scripts: Any) -> ModuleType:
    scripts("second_set")
    return scripts("search")


@pytest.fixture(scope="module")
def found(search: ModuleType) -> Any:
    return search.Search(search.Ledger(FOLDER / "runs.csv", None))


def test_every_family_has_the_rate_that_was_best(search: ModuleType, found: Any) -> None:
    assert {family: search.best(found.last_rates(family)) for family in search.FAMILIES} == {
        family: recipe.lr for family, recipe in RECIPES.items() if family != "other"
    }
    assert RECIPES["other"] == RECIPES["low-rank"]


def test_weight_decay_and_warm_up_are_the_fusions(found: Any) -> None:
    fusion = found.fusion()
    assert FUSION_RECIPE.lr == fusion["fusion_lr"]
    shared = {(recipe.weight_decay, recipe.warmup) for recipe in (FUSION_RECIPE, *RECIPES.values())}
    assert shared == {(fusion["weight_decay"], fusion["warmup"])}


def test_every_family_was_searched_by_one_rule(search: ModuleType, found: Any) -> None:
    for family, pairs in search.FAMILIES.items():
        assert len(pairs) == 2
        scores = found.first_rates(family)
        assert set(search.LADDER[search.FIRST]) <= set(scores)
        best = search.best(scores)
        # The best of the first draw is no end of what was tried, unless the ladder ends there.
        assert best not in (min(scores), max(scores)) or best in (search.LADDER[0], search.LADDER[-1])
        assert len(found.last_rates(family)) == search.FINALISTS


def test_the_page_shows_the_tables_of_the_runs(search: ModuleType, found: Any) -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for table in search.tables(found).split("\n\n"):
        assert table in page


def test_the_page_shows_what_the_options_of_training_gave() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    ledger = Ledger(FOLDER / "options.csv", None, kind=options.Trial)
    for table in options.tables(ledger).split("\n\n"):
        assert table in page
        assert table.count("\n") > 1
    # Every option was given all draws of both sets.
    assert len(ledger.known) == len(options.FACTORS) * 2 + len(options.OPTIONS) * 2 * len(options.DRAWS)


def test_the_best_of_equals_is_the_smaller_and_nothing_while_a_number_is_missing(search: ModuleType) -> None:
    assert search.best({0.1: 0.5, 0.01: 0.5, 1.0: 0.4}) == 0.01
    assert search.best({0.1: 0.5, 0.01: None}) is None


def test_runs_are_kept_and_not_made_twice(search: ModuleType, tmp_path: Path) -> None:
    made = []

    class Bench:
        def top1(self, run: Any) -> float:
            made.append(run)
            return len(made) / 10

    run = search.Run("lora+frozen", "tiny", 0, method_lr=3e-4)
    ledger = search.Ledger(tmp_path / "runs.csv", Bench())
    assert ledger.top1(run) == ledger.top1(run) == 0.1
    again = search.Ledger(tmp_path / "runs.csv", Bench())
    assert again.top1(run) == 0.1
    assert again.top1(search.Run("lora+frozen", "tiny", 1, method_lr=3e-4)) == 0.2
    assert len(made) == 2
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 2


def test_validation_and_training_share_no_source_group_and_no_test_clip(
    search: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "make", sys.modules["second_set"].write_lists)  # no clip is looked at here
    bench = search.Bench(tmp_path)
    for dataset, held_groups in (("tiny", 4), ("motley", 3)):
        data: FewShotVideoDataModule = bench.data(dataset, 0, "8", False)
        train, held = data.train_clips, data.validation_clips
        assert set(train.groupby("label").size()) == {8}
        assert set(held.groupby("label")["group"].nunique()) == {held_groups}
        assert not set(train["group"]) & set(held["group"])
        assert not (set(train["clip"]) | set(held["clip"])) & set(data.test_clips["clip"])


def test_the_second_set_depends_on_names_alone_and_its_classes_differ(scripts: Any, tmp_path: Path) -> None:
    second = scripts("second_set")
    clips = {name: second.render("a clip", "a group", act) for name, act in second.ACTS.items()}
    for name, act in second.ACTS.items():
        assert np.array_equal(clips[name], second.render("a clip", "a group", act))
        assert clips[name].shape[1:] == (second.HEIGHT, second.WIDTH, 3)
    shown = {clip.tobytes() for clip in clips.values()}
    assert len(shown) == len(second.ACTS)
    second.encode(tmp_path / "clip.avi", clips["BarRises"], rate=25)
    seen = read_frames(tmp_path / "clip.avi", lambda count: range(count))
    assert len(seen) == len(clips["BarRises"])
    assert np.abs(seen.astype(int) - clips["BarRises"]).mean() < 12

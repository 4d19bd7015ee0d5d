"""Recipes: every method has one, each part of a model follows its own, and what is said outright goes before them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmfuse.errors import MmfuseError
from mmfuse.methods.recipes import FUSION_RECIPE, RECIPES, Recipe, recipe_of, recipes_of
from mmfuse.methods.registry import METHODS, MethodInfo

SPELT = {"peft": {"method": "peft", "type": "HRA"}}


def test_the_table_is_read_without_torch() -> None:
    script = "import sys; import mmfuse.methods.recipes; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_recipe_of_its_family(name: str) -> None:
    for tower in METHODS[name].towers:
        found = recipe_of(SPELT.get(name, name), tower)
        assert found == (None if name == "frozen" else RECIPES[METHODS[name].family])


def test_every_recipe_is_used_and_possible() -> None:
    assert set(RECIPES) == {info.family for info in METHODS.values()}
    for recipe in (*RECIPES.values(), FUSION_RECIPE):
        assert 0 < recipe.lr < 1
        assert 0 <= recipe.weight_decay < 1
        assert 0 <= recipe.warmup < 1


def test_arguments_of_a_method_do_not_change_its_recipe() -> None:
    assert recipe_of({"method": "lora", "rank": 32}, "image") == recipe_of("lora", "image") == RECIPES["low-rank"]


def test_a_family_of_another_package_takes_the_recipe_of_other(monkeypatch: pytest.MonkeyPatch) -> None:
    own = MethodInfo("own", ("image",), "a family of one's own", "", "", "somewhere:Else")
    monkeypatch.setitem(METHODS, "own", own)
    assert recipe_of("own", "image") == RECIPES["other"]


def test_a_frozen_side_has_no_recipe() -> None:
    assert set(recipes_of("frozen", "frozen")) == {"fusion"}
    assert set(recipes_of("lora", "frozen")) == {"image", "fusion"}
    assert set(recipes_of("frozen", "coop")) == {"text", "fusion"}


def test_what_is_said_outright_goes_before_the_recipes() -> None:
    said = recipes_of("full", "coop", method_lr=0.1, fusion_lr=0.2, weight_decay=0.0, warmup=0.3)
    assert said == {"image": Recipe(0.1, 0.0, 0.3), "text": Recipe(0.1, 0.0, 0.3), "fusion": Recipe(0.2, 0.0, 0.3)}
    # Zero is said, too.
    assert recipes_of("lora", "frozen", warmup=0.0)["image"].warmup == 0.0
    assert recipes_of("lora", "coop", method_lr=0.1)["fusion"] == FUSION_RECIPE
    assert recipes_of("lora", "coop", fusion_lr=0.1)["image"] == RECIPES["low-rank"]


def test_an_unknown_method_is_one_clear_line() -> None:
    with pytest.raises(MmfuseError, match="unknown image method 'lorra'; did you mean 'lora'"):
        recipes_of("lorra", "frozen")

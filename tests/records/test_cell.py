"""A cell's identity: everything that changes its numbers, and nothing else."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from pydantic import ValidationError

from mmfuse.methods import recipes
from mmfuse.methods.recipes import FUSION_RECIPE, RECIPES
from mmfuse.methods.registry import METHODS
from mmfuse.model import fusion
from mmfuse.records.cell import FUSIONS, Cell, Inputs, identity

BASE: dict[str, Any] = {
    "dataset": "tiny",
    "pair": {"name": "dora+adapter", "image": "dora", "text": "adapter"},
    "shots": 4,
}


def build(**changes: Any) -> Cell:
    return Cell.model_validate({**BASE, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "ucf101"},
        {"dataset": {"name": "tiny", "damaged": "keep"}},
        {"dataset": {"name": "tiny", "train_lists": {4: "k4.txt"}}},
        {"split": 2},
        {"shots": "all"},
        {"draw": 1},
        {"seed": 1},
        {"pair": {"name": "dora+adapter", "image": "lora", "text": "adapter"}},
        {"pair": {"name": "dora+adapter", "image": {"method": "dora", "rank": 4}, "text": "adapter"}},
        {"encoders": {"image": "facebook/dinov2-base"}},
        {"encoders": {"text": "openai/clip-vit-base-patch16"}},
        {"encoders": {"feature": "cls"}},
        {"clip": {"frames": 16}},
        {"clip": {"flip": True}},
        {"fusion": {"kind": "late"}},
        {"fusion": {"kind": "joint", "width": 128}},
        {"train": {"epochs": 7}},
        {"train": {"method_lr": 0.1}},
        {"train": {"fusion_lr": 0.1}},
        {"train": {"weight_decay": 0.5}},
        {"train": {"warmup": 0.5}},
        {"train": {"mixup": 0.8}},
        {"train": {"rand_augment": {}}},
        {"train": {"rand_augment": {"magnitude": 5}}},
        {"train": {"optimizer": "sgd"}},
        {"train": {"optimizer": "sgd", "momentum": 0.5}},
        {"train": {"ema": 0.999}},
        {"templates": ["a clip of {}"]},
        {"precision": "bf16-mixed"},
    ],
    ids=str,
)
def test_what_changes_the_numbers_changes_the_identity(change: dict[str, Any]) -> None:
    assert build(**change).config_hash != build().config_hash


@pytest.mark.parametrize("digest", list(Inputs.model_fields))
def test_inputs_are_part_of_the_identity(digest: str) -> None:
    assert identity("c", Inputs(**{digest: "a"})) != identity("c", Inputs(**{digest: "b"}))


def test_names_and_places_are_not() -> None:
    renamed = build(pair={"name": "my favourite", "image": "dora", "text": "adapter"})
    assert renamed.config_hash == build().config_hash
    here, there = (
        build(dataset={"name": "own", "root": root, "train": "a.csv", "test": "b.csv"}) for root in ("/here", "/there")
    )
    assert here.config_hash == there.config_hash
    assert (
        build(encoders={"image": "/one/tower"}).config_hash == build(encoders={"image": "/another/tower"}).config_hash
    )


def test_a_published_list_counts_for_its_own_shots_alone() -> None:
    listed = build(dataset={"name": "tiny", "train_lists": {"4": "/here/k4.txt", "all": "/here/all.txt"}})
    assert listed.train_list == "/here/k4.txt"
    assert listed.config_hash == build(dataset={"name": "tiny", "train_lists": {4: "/there/k4.txt"}}).config_hash
    assert build(dataset={"name": "tiny", "train_lists": {8: "k8.txt"}}).config_hash == build().config_hash
    assert Cell.model_validate_json(listed.model_dump_json()) == listed


def test_the_data_floor_gets_the_keys_that_it_knows() -> None:
    own = {"name": "own", "root": "/clips"}
    extra = {"damaged": "keep", "train_lists": {4: "k4.txt"}}
    assert build(dataset=own | extra).dataset.request() == own
    assert build(dataset={"name": "tiny"} | extra).dataset.request() == "tiny"


def test_writing_a_default_changes_nothing() -> None:
    assert build(dataset={"name": "tiny", "damaged": "error"}).config_hash == build().config_hash
    assert (
        build(train={"epochs": 20}, split=1, seed=0, fusion={"kind": "joint", "width": 256}).config_hash
        == build().config_hash
    )
    rank = METHODS["dora"].defaults["rank"]
    written = {"name": "dora+adapter", "image": {"method": "dora", "rank": rank}, "text": "adapter"}
    assert build(pair=written).config_hash == build().config_hash


@pytest.mark.parametrize("family", ["low-rank", "adapter", "fusion"])
@pytest.mark.parametrize("field", ["lr", "weight_decay", "warmup"])
def test_another_recipe_makes_old_records_stale(monkeypatch: pytest.MonkeyPatch, family: str, field: str) -> None:
    before = build().config_hash
    other = dataclasses.replace(FUSION_RECIPE if family == "fusion" else RECIPES[family], **{field: 0.123})
    if family == "fusion":
        monkeypatch.setattr(recipes, "FUSION_RECIPE", other)
    else:
        monkeypatch.setitem(recipes.RECIPES, family, other)
    assert build().config_hash != before
    frozen = {"name": "frozen+frozen", "image": "frozen", "text": "frozen"}
    unmoved = build(pair=frozen).config_hash
    monkeypatch.undo()
    assert (build(pair=frozen).config_hash == unmoved) is (family != "fusion")


def test_writing_a_recipe_out_changes_nothing() -> None:
    lora = {"name": "lora+frozen", "image": "lora", "text": "frozen"}
    written = {"method_lr": RECIPES["low-rank"].lr, "fusion_lr": FUSION_RECIPE.lr}
    assert build(pair=lora, train=written).config_hash == build(pair=lora).config_hash


def test_a_cell_tells_the_recipes_it_is_trained_by() -> None:
    found = build(train={"method_lr": 0.1, "warmup": 0.0}).recipes
    assert found["image"] == dataclasses.replace(RECIPES["low-rank"], lr=0.1, warmup=0.0)
    assert found["text"] == dataclasses.replace(RECIPES["adapter"], lr=0.1, warmup=0.0)
    assert found["fusion"] == dataclasses.replace(FUSION_RECIPE, warmup=0.0)


def test_unknown_inputs_are_not_compared() -> None:
    assert Inputs(dataset="a").agrees_with(Inputs(dataset="a", train_clips="d"))
    assert Inputs(dataset="a", train_clips="e").changes(Inputs(dataset="b", train_clips="d")) == [
        "dataset",
        "train_clips",
    ]


def test_draws_at_all_shots_still_repeat_the_training() -> None:
    seeds = {build(shots="all", draw=draw, seed=seed).training_seed for draw in range(5) for seed in range(5)}
    assert len(seeds) == 25
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "/etc/passwd", "x" * 80, "per cent %s", ".hidden", "a\\b"])
def test_no_name_leads_out_of_the_records_folder(name: str) -> None:
    cells = [build(pair={"name": name, "image": "lora", "text": "frozen"})]
    if "/" not in name and "\\" not in name:
        cells.append(build(dataset={"name": name, "root": "/r"}))
    for cell in cells:
        assert not {"/", "\\"} & set(cell.file_stem)
        assert not cell.file_stem.startswith(".")
        assert len(cell.file_stem) <= 150


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "/etc", "..", ".", "a\\b", "", "x" * 81, "a\x1b[31m", "a\nb", "a\x00", "\ud800"]
)
def test_a_data_set_is_called_what_can_be_a_folder_and_be_printed(name: str) -> None:
    with pytest.raises(ValidationError):
        build(dataset={"name": name, "root": "/r"})


@pytest.mark.parametrize("name", ["", "x" * 81, "a\x1b[31m", "a\nb", "a\u202eb"])
def test_a_pair_is_called_what_can_be_printed(name: str) -> None:
    with pytest.raises(ValidationError):
        build(pair={"name": name, "image": "lora", "text": "frozen"})


def test_the_table_of_fusions_is_what_the_fusions_take() -> None:
    assert set(FUSIONS) == set(fusion.FUSIONS)
    for kind, arguments in FUSIONS.items():
        taken: dict[str, Any] = {}
        for base in reversed(fusion.FUSIONS[kind].__mro__):
            if issubclass(base, fusion.Fusion) and "__init__" in vars(base):
                for name, parameter in inspect.signature(base.__init__).parameters.items():
                    if parameter.default is not parameter.empty:
                        taken[name] = parameter.default
        assert taken == arguments, kind

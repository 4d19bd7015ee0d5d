"""Identity survives growth: what is added with today's behaviour as its default makes no record stale."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest
from pydantic import create_model

from mmfuse.methods import recipes
from mmfuse.methods.registry import METHODS
from mmfuse.records import cell as cells
from mmfuse.records import protocol
from mmfuse.records.cell import FUSIONS, Cell, Clip, Dataset, Encoders, Pair, Train, flattened

PAIR = {"name": "dora+adapter", "image": "dora", "text": "adapter"}
PLAIN: dict[str, Any] = {"dataset": "tiny", "pair": PAIR, "shots": 4}
CHANGED: dict[str, Any] = {
    **PLAIN,
    "pair": {**PAIR, "image": {"method": "dora", "rank": 2}},
    "train": {"epochs": 3, "method_lr": 0.5},
    "fusion": {"kind": "joint", "width": 64},
    "encoders": {"feature": "cls"},
}


@pytest.mark.parametrize("settings", [PLAIN, CHANGED], ids=["defaults", "settings"])
@pytest.mark.parametrize("model", [Cell, Train, Clip, Encoders, Dataset, Pair])
def test_a_new_key_changes_no_identity_until_it_is_used(model: type, settings: dict[str, Any]) -> None:
    before = Cell.model_validate(settings).config_hash
    grown = create_model("Grown", __base__=model, novelty=(float, 0.5))
    if model is Cell:
        wider, place = grown, settings
    else:
        name = model.__name__.lower()
        default: Any = ... if Cell.model_fields[name].is_required() else grown()
        wider = create_model("Wider", __base__=Cell, **{name: (grown, default)})
        place = {**settings, name: settings.get(name, {})}
    assert wider.model_validate(place).config_hash == before
    used = {"novelty": 0.25}
    if model is not Cell:
        inner = place[name] if isinstance(place[name], dict) else {"name": place[name]}
        used = {name: {**inner, **used}}
    assert wider.model_validate({**place, **used}).config_hash != before


@pytest.mark.parametrize("settings", [PLAIN, CHANGED], ids=["defaults", "settings"])
def test_a_new_argument_of_a_method_or_a_fusion_changes_no_identity(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    before = Cell.model_validate(settings).config_hash
    wider = dataclasses.replace(METHODS["dora"], defaults={**METHODS["dora"].defaults, "novelty": True})
    monkeypatch.setitem(METHODS, "dora", wider)
    monkeypatch.setitem(FUSIONS, "joint", {**FUSIONS["joint"], "novelty": 3})
    assert Cell.model_validate(settings).config_hash == before
    image = {"method": "dora", "novelty": False}
    assert Cell.model_validate({**settings, "pair": {**PAIR, "image": image}}).config_hash != before
    assert Cell.model_validate({**settings, "fusion": {"novelty": 4}}).config_hash != before


def test_a_new_number_of_a_recipe_changes_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Cell.model_validate(PLAIN).config_hash
    wider = dataclasses.make_dataclass("Wider", [("momentum", float, 0.9)], bases=(recipes.Recipe,), frozen=True)
    monkeypatch.setattr(cells, "Recipe", wider)
    widened = {name: wider(**dataclasses.asdict(recipe)) for name, recipe in recipes.RECIPES.items()}
    monkeypatch.setattr(recipes, "RECIPES", widened)
    assert Cell.model_validate(PLAIN).config_hash == before
    monkeypatch.setitem(widened, "low-rank", dataclasses.replace(widened["low-rank"], momentum=0.5))
    assert Cell.model_validate(PLAIN).config_hash != before


def test_a_default_that_changes_makes_old_records_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Cell.model_validate(PLAIN).config_hash
    monkeypatch.setitem(FUSIONS, "joint", {**FUSIONS["joint"], "layers": 4})
    after = Cell.model_validate(PLAIN).config_hash
    assert after != before
    # Writing the old default out brings the old identity back: the same numbers come of it.
    assert Cell.model_validate({**PLAIN, "fusion": {"layers": 2}}).config_hash == before
    monkeypatch.undo()
    longer = create_model("Longer", __base__=Train, epochs=(int, 40))
    wider = create_model("Wider", __base__=Cell, train=(longer, longer()))
    assert wider.model_validate(PLAIN).config_hash != before
    assert wider.model_validate({**PLAIN, "train": {"epochs": 20}}).config_hash == before


def test_the_defaults_of_a_method_of_another_package_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def hashed(rank: int) -> str:
        theirs = dataclasses.replace(METHODS["lora"], name="theirs", defaults={"rank": rank})
        monkeypatch.setitem(METHODS, "theirs", theirs)
        return Cell.model_validate({**PLAIN, "pair": {**PAIR, "image": "theirs"}}).config_hash

    assert hashed(8) != hashed(16)


def test_raising_the_protocol_changes_every_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Cell.model_validate(PLAIN).config_hash
    monkeypatch.setattr(protocol, "PROTOCOL", protocol.PROTOCOL + 1)
    assert Cell.model_validate(PLAIN).config_hash != before


def test_every_setting_is_pinned() -> None:
    """A key that is not pinned would change identities in silence when its default changes later."""
    config = Cell.model_validate({**PLAIN, "train": {"method_lr": 0.5}}).config()
    of_others = ("dataset.name", "shots", "fusion.", "pair.", "train.recipes.")
    settings = {key for key in flattened(config) if not key.startswith(of_others)}
    assert settings == set(protocol.CELL), "pin a new key in mmfuse/records/protocol.py, at what was done before"
    for kind, arguments in FUSIONS.items():
        assert set(arguments) <= set(protocol.FUSIONS[kind]), f"pin the new arguments of fusion {kind!r}"
    importlib.import_module("mmfuse.methods")
    ours = {name: info for name, info in METHODS.items() if str(info.implementation).startswith("mmfuse.")}
    for name, info in ours.items():
        assert set(info.defaults) <= set(protocol.METHODS[name]), f"pin the new arguments of method {name!r}"
        assert name == "frozen" or name in protocol.RECIPES, f"pin the recipe of method {name!r}"

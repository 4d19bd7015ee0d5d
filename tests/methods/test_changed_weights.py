"""Nothing that a tower or a method has computed from weights outlives a change of them, whatever way they change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmfuse.encoders import ImageTower
from mmfuse.errors import MmfuseError
from mmfuse.methods import attach
from tests import towers
from tests.changes import WAYS, Way, to_another_dtype
from tests.methods.sweep import Adapted, adapt, build_tower, combinations, disturb, inputs, trained

ONE_OF_EACH = [case for case in combinations() if case.values[1] in ("dinov2", "clip-text")]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def rebuilt(adapted: Adapted, kind: str, name: str) -> ImageTower | Any:
    """A tower that has never computed anything, with the same weights."""
    ours, other = nn.ModuleList(adapted), nn.ModuleList(adapt(kind, name))
    other.to(next(ours.parameters()).dtype).load_state_dict(ours.state_dict())
    return other.eval()[0]


@each_way
@pytest.mark.parametrize(("name", "kind"), ONE_OF_EACH)
@torch.no_grad()
def test_a_tower_computes_with_the_weights_that_it_has(name: str, kind: str, way: Way) -> None:
    tower, method = adapt(kind, name)
    disturb(tower, method)
    batch = inputs(tower, method)
    before = tower(batch)
    with tower.disabled():
        tower(batch)
    way(nn.ModuleList([tower, method]))
    after = tower(batch)
    assert torch.equal(after, rebuilt((tower, method), kind, name)(batch))
    assert (way is to_another_dtype) is torch.allclose(after.float(), before, atol=1e-4)


@each_way
@pytest.mark.parametrize("kind", towers.IMAGE_KINDS)
@torch.no_grad()
def test_positions_follow_their_table(kind: str, way: Way) -> None:
    tower = build_tower(kind)
    frames = torch.randn(2, 3, 3, 48, 48, generator=torch.Generator().manual_seed(1))  # not the table's own size
    tower(frames)
    way(tower)
    frames = frames.to(tower.pretrained[0].dtype)
    assert torch.equal(tower(frames), rebuilt((tower, nn.Module()), kind, "frozen")(frames))  # type: ignore[arg-type]


@each_way
@pytest.mark.parametrize("name", ["frozen", "lora", "full", "ssf"])
def test_the_fingerprint_is_of_the_weights_that_the_tower_has(name: str, way: Way) -> None:
    tower, _ = adapt("dinov2", name)
    before = tower.weights_fingerprint()
    way(tower)
    assert tower.weights_fingerprint() != before
    same = towers.image_tower()
    for weight, other in zip(same.pretrained, tower.pretrained, strict=True):
        weight.data = other.detach().clone()
    assert tower.weights_fingerprint() == same.weights_fingerprint()


@pytest.mark.parametrize(("name", "kind"), ONE_OF_EACH)
@torch.no_grad()
def test_disabling_may_be_nested_and_broken_off(name: str, kind: str) -> None:
    tower, method = adapt(kind, name)
    disturb(tower, method)
    batch, frozen = inputs(tower, method), build_tower(kind)
    adapted, plain = tower(batch), frozen(batch)
    with tower.disabled():
        with tower.disabled():
            assert torch.equal(tower(batch), plain)
        assert torch.equal(tower(batch), plain), "the inner exit enabled the method again"
        with pytest.raises(KeyboardInterrupt), tower.disabled():
            raise KeyboardInterrupt
        assert torch.equal(tower(batch), plain)
        twin, _ = copy.deepcopy((tower, method))
    assert torch.equal(tower(batch), adapted)
    assert torch.equal(twin(batch), adapted), "nothing would ever enable the copy again"


def freeze(tower: nn.Module, method: nn.Module) -> None:
    for weight in trained(tower, method).values():
        weight.requires_grad_(False)


def unfreeze_one(tower: nn.Module, method: nn.Module) -> None:
    freeze(tower, method)
    next(iter([*method.parameters(), *tower.parameters()])).requires_grad_(True)


@pytest.mark.parametrize("change", [freeze, unfreeze_one, lambda tower, method: None], ids=["freeze", "one", "nothing"])
@pytest.mark.parametrize("when", ["before", "inside"])
@pytest.mark.parametrize(("name", "kind"), ONE_OF_EACH)
def test_disabling_does_not_touch_what_is_trained(name: str, kind: str, when: str, change: Callable[..., None]) -> None:
    tower, method = adapt(kind, name)

    def flags() -> list[bool]:
        return [weight.requires_grad for part in (tower, method) for weight in part.parameters()]

    if when == "before":
        change(tower, method)
    expected = flags()
    with tower.disabled():
        assert flags() == expected
        if when == "inside":
            change(tower, method)
            expected = flags()
    assert flags() == expected


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_the_mode_set_inside_disabled_lasts(name: str) -> None:
    tower, method = adapt("dinov2", name, dropout=0.5)
    disturb(tower, method)
    batch = inputs(tower)
    with tower.disabled():
        tower.train()
    assert not torch.equal(tower(batch), tower(batch)), "no drop-out"
    with tower.disabled():
        tower.eval()
    assert torch.equal(tower(batch), tower(batch))


@pytest.mark.parametrize("first", ["frozen", "lora"])
@pytest.mark.parametrize("second", ["frozen", "lora", "bitfit", "adapter"])
@torch.no_grad()
def test_a_shared_tower_never_changes_under_its_first_model(first: str, second: str) -> None:
    tower, batch = towers.image_tower(), towers.clips()
    method = attach(tower, first, generator=torch.Generator())
    disturb(tower, method)
    before: Tensor = tower(batch)
    if (first, second) == ("frozen", "frozen"):
        attach(tower, second, generator=torch.Generator())
    else:
        message = f"the image tower 'dinov2' carries the method '{first}' already; load it anew"
        with pytest.raises(MmfuseError, match=message):
            attach(tower, second, generator=torch.Generator())
    assert torch.equal(tower(batch), before)


def test_a_method_that_fails_half_way_leaves_no_tower_to_be_used() -> None:
    tower = towers.image_tower()
    with pytest.raises(MmfuseError, match="rank must be at least 1"):
        attach(tower, {"method": "lora", "rank": 0}, generator=torch.Generator())
    with pytest.raises(MmfuseError, match="would train the tower's own weights"):  # nothing was changed until now
        attach(tower, {"method": "peft", "type": "LORA", "bias": "all"}, generator=torch.Generator())
    with pytest.raises(MmfuseError, match="carries the method 'peft' already"):
        attach(tower, "frozen", generator=torch.Generator())

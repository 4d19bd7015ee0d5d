"""Merging a method into the weights changes no output, and nothing of it is ever in the tower itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from mmfuse.methods import METHODS
from mmfuse.methods.merging import Mergeable
from tests.changes import WAYS, Way
from tests.methods.sweep import Adapted, adapt, build_tower, combinations, disturb, inputs, trained

MERGEABLE = ["ssf", "ia3", "lora", "dora", "pissa", "olora", "vera", "loha", "lokr", "oft", "boft"]
CASES = [case for case in combinations() if case.values[0] in MERGEABLE]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def state(adapted: Adapted) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in nn.ModuleList(adapted).state_dict().items()}


def count_stand_ins(method: Any) -> list[int]:
    """Counts from now on how often a stand-in computes."""
    method.refresh()
    counts: list[int] = []
    for module in method._stand_ins.modules:
        module.register_forward_hook(lambda *_: counts.append(1))
    return counts


@pytest.mark.parametrize(("name", "kind"), CASES)
@torch.no_grad()
def test_merged_equals_unmerged(name: str, kind: str) -> None:
    tower, method = adapt(kind, name)
    disturb(tower, method)
    batch, before = inputs(tower), state((tower, method))
    adapted, frozen = tower(batch), build_tower(kind)(batch)
    method.merge()
    method.merge()  # once is enough
    counts = count_stand_ins(method)
    torch.testing.assert_close(tower(batch), adapted, **CLOSE)
    assert len(counts) == len(method._targets()), "not all of it was computed with merged weights"
    with tower.disabled():
        assert torch.equal(tower(batch), frozen)
        with tower.disabled():
            assert torch.equal(tower(batch), frozen)
        assert torch.equal(tower(batch), frozen)
    torch.testing.assert_close(tower(batch), adapted, **CLOSE)
    assert len(counts) == 2 * len(method._targets()), "disabling undid the merge for good"
    assert tower.weights_fingerprint() == build_tower(kind).weights_fingerprint()
    after = state((tower, method))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    method.unmerge()
    assert torch.equal(tower(batch), adapted)
    assert len(counts) == 2 * len(method._targets())


@pytest.mark.parametrize("name", MERGEABLE)
def test_a_merged_method_trains(name: str) -> None:
    """Whoever forgets to unmerge trains nonetheless: merged weights are for forward passes without gradients."""
    (tower, method), (plain, plain_method) = adapt("dinov2", name), adapt("dinov2", name)
    for each in ((tower, method), (plain, plain_method)):
        disturb(*each)
    method.merge()
    tower(inputs(tower)).square().sum().backward()
    plain(inputs(plain)).square().sum().backward()
    for ours, other in zip(
        nn.ModuleList([tower, method]).parameters(), nn.ModuleList([plain, plain_method]).parameters(), strict=True
    ):
        assert ours.requires_grad is other.requires_grad
        assert ours.grad is None if other.grad is None else torch.equal(ours.grad, other.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("part", ["tower", "both"])
@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if case.values[1] in ("dinov2", "clip-text")])
@torch.no_grad()
def test_merged_weights_are_made_anew_when_weights_change(name: str, kind: str, part: str, way: Way) -> None:
    tower, method = adapt(kind, name)
    disturb(tower, method)
    batch = inputs(tower)
    method.merge()
    tower(batch)
    way(nn.ModuleList([tower, method]) if part == "both" else tower)
    merged = tower(batch)
    method.unmerge()
    plain = tower(batch)
    assert merged.dtype == plain.dtype
    torch.testing.assert_close(merged, plain, **CLOSE)


@pytest.mark.parametrize("name", MERGEABLE)
@torch.no_grad()
def test_every_weight_is_watched(name: str) -> None:
    tower, method = adapt("dinov2", name)
    disturb(tower, method)
    batch = inputs(tower)
    method.merge()
    for weight in [*trained(tower, method).values(), *tower.pretrained]:
        tower(batch)
        weight.data.mul_(1.01).add_(0.01)
        merged = tower(batch)
        with torch.enable_grad():
            plain = tower(batch)
        torch.testing.assert_close(merged, plain, **CLOSE)


@pytest.mark.parametrize("name", ["lora", "ssf"])
@torch.no_grad()
def test_a_merge_that_is_broken_off_leaves_the_tower_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tower, method = adapt("dinov2", name)
    disturb(tower, method)
    batch = inputs(tower)
    adapted, stand_in, made = tower(batch), method._stand_in, []

    def interrupted(place: int) -> nn.Module:
        if made:
            raise KeyboardInterrupt
        made.append(place)
        return stand_in(place)

    with monkeypatch.context() as broken:
        broken.setattr(method, "_stand_in", interrupted)
        with pytest.raises(KeyboardInterrupt):
            method.merge()
    assert isinstance(method, Mergeable)
    assert not method.merged
    torch.testing.assert_close(tower(batch), adapted, **CLOSE)  # it is merged at the next pass
    assert method.merged
    method.unmerge()
    assert torch.equal(tower(batch), adapted)


@pytest.mark.parametrize("name", MERGEABLE)
@torch.no_grad()
def test_a_copy_of_a_merged_model_is_a_model_of_its_own(name: str) -> None:
    tower, method = adapt("dinov2", name)
    disturb(tower, method)
    method.merge()
    batch = inputs(tower)
    before = tower(batch)
    twin, twin_method = copy.deepcopy((tower, method))
    disturb(twin, twin_method, seed=2)
    changed = twin(batch)
    assert torch.equal(tower(batch), before)
    assert not torch.allclose(changed, before, atol=1e-4)
    twin_method.unmerge()
    torch.testing.assert_close(twin(batch), changed, **CLOSE)


@torch.no_grad()
def test_merging_is_exact_under_autocast_and_usable_after_inference_mode() -> None:
    tower, method = adapt("dinov2", "lora")
    disturb(tower, method)
    expected = tower(inputs(tower))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        method.merge()
        tower(inputs(tower))
    torch.testing.assert_close(tower(inputs(tower)), expected, **CLOSE)


@torch.no_grad()
def test_weights_in_half_precision_are_not_merged() -> None:
    tower, method = adapt("dinov2", "lora")
    disturb(tower, method)
    method.merge()
    assert isinstance(method, Mergeable)
    assert method.merged
    nn.ModuleList([tower, method]).half()
    method.refresh()
    assert not method.merged
    nn.ModuleList([tower, method]).float()
    method.refresh()
    assert method.merged


def test_the_list_of_mergeable_methods_is_complete() -> None:
    for name in METHODS:
        kind = "dinov2" if "image" in METHODS[name].towers else "clip-text"
        assert adapt(kind, name)[1].mergeable is (name in MERGEABLE), name

"""Folding a method into the weights changes no output, and taking it out leaves no trace."""

from __future__ import annotations

import pytest
import torch

from mmfuse.methods import METHODS
from tests.methods.sweep import adapt, build_tower, combinations, disturb, inputs

FOLDABLE = ["ssf", "ia3", "lora", "dora", "vera", "loha", "lokr", "oft", "boft"]
CASES = [case for case in combinations() if case.values[0] in FOLDABLE]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_merged_equals_unmerged(name: str, kind: str) -> None:
    tower, method = adapt(kind, name)
    disturb(tower, method)
    batch, fingerprint = inputs(tower), tower.weights_fingerprint()
    with torch.no_grad():
        adapted, frozen = tower(batch), build_tower(kind)(batch)
        method.merge()
        method.merge()  # once is enough
        assert tower.weights_fingerprint() != fingerprint, "nothing was folded in"
        torch.testing.assert_close(tower(batch), adapted, **CLOSE)
        with tower.disabled():
            assert torch.equal(tower(batch), frozen)
        torch.testing.assert_close(tower(batch), adapted, **CLOSE)
        assert tower.weights_fingerprint() != fingerprint, "disabling undid the merge for good"
        method.unmerge()
        assert tower.weights_fingerprint() == fingerprint
        assert torch.equal(tower(batch), adapted)


@pytest.mark.parametrize("name", FOLDABLE)
def test_a_method_that_was_unmerged_trains_again(name: str) -> None:
    tower, method = adapt("dinov2", name)
    disturb(tower, method)
    method.merge()
    method.unmerge()
    before = {key: weight.detach().clone() for key, weight in tower.named_parameters() if weight.requires_grad}
    tower(inputs(tower)).square().sum().backward()
    assert all(weight.grad is not None for weight in tower.parameters() if weight.requires_grad)
    assert before.keys() == {key for key, weight in tower.named_parameters() if weight.requires_grad}


def test_the_list_of_foldable_methods_is_complete() -> None:
    for name in METHODS:
        kind = "dinov2" if "image" in METHODS[name].towers else "clip-text"
        assert adapt(kind, name)[1].mergeable is (name in FOLDABLE), name

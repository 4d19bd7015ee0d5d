"""The laws that every method of the catalogue keeps, on every tower that it claims to support."""

from __future__ import annotations

import copy

import pytest
import torch

from mmfuse.methods import names
from tests import towers
from tests.methods.sweep import adapt, build_tower, combinations, disturb, inputs, trained

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SAME_START = {"frozen", "full", "bitfit", "ln", "ia3", "vera", "oft", "boft", "pissa", "olora"}
"""Methods whose trained weights start as no-ops or from pretrained ones; the seed of `vera` makes its frozen maps."""
ONE_OF_EACH = [case for case in combinations() if case.values[1] in ("dinov2", "clip-text")]


@pytest.mark.parametrize(("name", "kind"), combinations(starts_as_noop=True))
def test_a_method_that_starts_as_a_noop_leaves_the_output_alone(name: str, kind: str) -> None:
    tower, _ = adapt(kind, name)
    with torch.no_grad():
        torch.testing.assert_close(tower(inputs(tower)), build_tower(kind)(inputs(tower)), **CLOSE)


@pytest.mark.parametrize(("name", "kind"), combinations(starts_as_noop=False))
def test_a_method_that_does_not_start_as_a_noop_says_so_rightly(name: str, kind: str) -> None:
    tower, method = adapt(kind, name)
    with torch.no_grad():
        adapted, frozen = tower(inputs(tower, method)), build_tower(kind)(inputs(tower, method))
    assert not torch.allclose(adapted, frozen, atol=1e-4)


@pytest.mark.parametrize(("name", "kind"), combinations())
def test_training_moves_the_methods_weights_alone(name: str, kind: str) -> None:
    tower, method = adapt(kind, name)
    batch, before = inputs(tower, method), build_tower(kind)
    weights = trained(tower, method)
    if name == "frozen":
        assert not weights
        return
    disturb(tower, method)
    was = {key: weight.detach().clone() for key, weight in weights.items()}
    with torch.no_grad():
        first = tower(batch)
    tower.train()
    method.train()
    # Adam's step is as long for the smallest gradient: a key's bias hardly has one, as softmax cancels it.
    optimizer = torch.optim.Adam(weights.values(), lr=1e-2, eps=1e-20)
    tower(batch).square().sum().backward()
    still = [key for key, weight in weights.items() if weight.grad is None or not weight.grad.any()]
    assert not still, f"no gradient reaches {still}"
    optimizer.step()
    tower.eval()
    method.eval()
    assert all(not torch.equal(was[key], weight) for key, weight in weights.items())
    with torch.no_grad():
        assert not torch.allclose(tower(batch), first, atol=1e-5), "training changed nothing"
        with tower.disabled():
            assert torch.equal(tower(batch), before(batch)), "disabled is not the frozen tower"
        assert not torch.allclose(tower(batch), before(batch), atol=1e-4), "the method stayed off"
    assert tower.weights_fingerprint() == before.weights_fingerprint()
    assert {key for key, weight in trained(tower, method).items()} == set(weights), "another set of weights is trained"


@pytest.mark.parametrize(("name", "kind"), combinations())
def test_the_seed_decides_the_initial_weights(name: str, kind: str) -> None:
    torch.manual_seed(1)
    first = trained(*adapt(kind, name, seed=3))
    torch.manual_seed(2)
    again, other = trained(*adapt(kind, name, seed=3)), trained(*adapt(kind, name, seed=4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first.keys() == again.keys() == other.keys()
    same = all(torch.equal(first[key], other[key]) for key in first)
    assert same is (name in SAME_START), "another seed must start elsewhere, unless the start is fixed"


@pytest.mark.parametrize(("name", "kind"), [case for case in combinations() if "clip-text" in case.id])
def test_trimmed_prompts_equal_full_length_ones(name: str, kind: str) -> None:
    tower, method = adapt(kind, name)
    disturb(tower, method)
    short, full = inputs(tower, method, trim=True), inputs(tower, method, trim=False)
    assert short.ids.shape[1] < full.ids.shape[1] == tower.context_length - method.reserved_tokens
    with torch.no_grad():
        torch.testing.assert_close(tower(short), tower(full), **CLOSE)


@pytest.mark.parametrize(("name", "kind"), ONE_OF_EACH)
def test_a_copy_is_a_model_of_its_own(name: str, kind: str) -> None:
    tower, method = adapt(kind, name)
    disturb(tower, method)
    twin, twin_method = copy.deepcopy((tower, method))
    batch = inputs(tower, method)
    with torch.no_grad():
        before = tower(batch)
        assert torch.equal(twin(batch), before)
        if name == "frozen":
            return
        disturb(twin, twin_method, seed=2)
        assert torch.equal(tower(batch), before)
        assert not torch.allclose(twin(batch), before, atol=1e-4)
        with twin.disabled():
            assert torch.equal(tower(batch), before)


@pytest.mark.parametrize(
    ("name", "kind"), [case for case in combinations() if case.values[1] in ("dinov2", "clip-text")]
)
def test_mixed_precision_trains(name: str, kind: str) -> None:
    tower, method = adapt(kind, name)
    disturb(tower, method)
    batch = inputs(tower, method)
    with torch.no_grad():
        exact = tower(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = tower(batch)
        if name != "frozen":
            output.float().square().sum().backward()
    assert (output.float() - exact).abs().mean() < 0.05 * exact.abs().mean()
    assert all(torch.isfinite(weight.grad).all() for weight in trained(tower, method).values())


@pytest.mark.parametrize("name", names("image"))
def test_only_temporal_adapters_let_frames_see_each_other(name: str) -> None:
    tower, method = adapt("dinov2", name)
    disturb(tower, method)
    clips = towers.clips()
    with torch.no_grad():
        alone = torch.stack([tower(clips[:, frame : frame + 1])[:, 0] for frame in range(clips.shape[1])], dim=1)
        apart = torch.allclose(tower(clips), alone, atol=1e-5)
        one_by_one = torch.cat([tower(clip.unsqueeze(0)) for clip in clips])
        torch.testing.assert_close(tower(clips), one_by_one, **CLOSE)  # clips never see each other
    assert apart is (name not in {"st-adapter", "aim"})

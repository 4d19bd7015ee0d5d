"""Every optimisation of the model side equals the plain path."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmfuse import ActionRecognizer
from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.tower import Tower
from mmfuse.errors import MmfuseError
from mmfuse.methods import METHODS
from mmfuse.model.optimizations import DEFAULT_OPTIMIZATIONS, Optimizations
from tests import towers
from tests.methods.sweep import adapt, disturb, inputs

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
IMAGE_METHODS = [name for name in METHODS if "image" in METHODS[name].towers]


def test_switches_are_read_and_only_changed_ones_are_noted() -> None:
    optimizations = Optimizations.parse(["merge=off", "compile=on", "trim=on"])
    assert (optimizations.merge, optimizations.compile, optimizations.trim) == (False, True, True)
    assert optimizations.changed() == {"merge": False, "compile": True}
    assert DEFAULT_OPTIMIZATIONS.changed() == {}


def test_every_switch_stands_in_the_documentation() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "speed.md").read_text().split())
    [said] = re.findall(r"Each of these has a switch.*?: (.*?) are on, (.*?) off\.", text)
    for names, on in zip(said, (True, False), strict=True):
        assert re.findall(r"`(\w+)`", names) == [
            name for name, usual in asdict(DEFAULT_OPTIMIZATIONS).items() if usual is on
        ]


@pytest.mark.parametrize(
    ("switch", "message"),
    [("merg=off", "did you mean 'merge'"), ("merge=maybe", "merge is on or off"), ("merge", "merge is on or off")],
)
def test_a_wrong_switch_is_one_clear_error(switch: str, message: str) -> None:
    with pytest.raises(MmfuseError, match=message):
        Optimizations.parse([switch])


def gradients(tower: Tower, output: Tensor) -> dict[str, Tensor]:
    """Of the sum of squares, by name; the tower is left without any."""
    output.square().sum().backward()
    found = {name: p.grad.clone() for name, p in tower.named_parameters() if p.grad is not None}
    tower.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("kind", ["dinov2", "clip-text"])
def test_a_composed_weight_gives_the_output_and_the_gradients_of_the_path_beside_it(kind: str) -> None:
    tower, method = adapt(kind, "dora", rank=4, alpha=6)
    disturb(tower, method, by=0.3)
    tower.train()
    batch = inputs(tower)
    composed = tower(batch)
    composed_gradients = gradients(tower, composed)
    method.compose(False)
    plain = tower(batch)
    torch.testing.assert_close(composed, plain, **CLOSE)
    plain_gradients = gradients(tower, plain)
    assert composed_gradients.keys() == plain_gradients.keys()
    for name, expected in plain_gradients.items():
        torch.testing.assert_close(composed_gradients[name], expected, rtol=1e-3, atol=1e-4, msg=name)


def test_dropout_and_small_batches_are_left_to_the_path_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmfuse.methods.dora_linear import ComposedDoRA

    composed: list[int] = []
    own = ComposedDoRA.composed_weight
    monkeypatch.setattr(ComposedDoRA, "composed_weight", lambda tuner: composed.append(1) or own(tuner))
    tower, _ = adapt("dinov2", "dora", dropout=0.5)
    tower.train()(inputs(tower))
    assert not composed
    tower.eval()(inputs(tower))
    assert len(composed) == 2 * tower.depth
    composed.clear()
    tower.model.encoder.layer[0].attention.q_proj(torch.zeros(tower.width, tower.width))
    assert not composed, "as many tokens as the matrix has rows"


@pytest.mark.parametrize("name", IMAGE_METHODS)
def test_checkpointed_layers_give_the_same_gradients(name: str) -> None:
    tower, method = adapt("dinov2", name)
    disturb(tower, method)
    tower.train()
    batch = inputs(tower)
    if not any(parameter.requires_grad for parameter in tower.parameters()) and not list(method.parameters()):
        pytest.skip("nothing is trained")
    results = []
    for checkpointing in (False, True):
        tower.checkpointing = checkpointing
        torch.manual_seed(0)  # of drop-out
        output = tower(batch)
        output.square().sum().backward()
        weights = [*tower.parameters(), *method.parameters()]
        results.append((output.detach(), [p.grad.clone() for p in weights if p.grad is not None]))
        for parameter in weights:
            parameter.grad = None
    (plain, expected), (output, found) = results
    torch.testing.assert_close(output, plain, rtol=0, atol=0)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_checkpointing_keeps_fewer_activations() -> None:
    kept = []
    for checkpointing in (False, True):
        tower, _ = adapt("dinov2", "lora")
        tower.checkpointing = checkpointing
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            tower(inputs(tower))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 4


@pytest.mark.parametrize("kind", towers.IMAGE_KINDS)
@torch.no_grad()
def test_a_tower_that_is_run_in_two_parts_gives_the_same(kind: str) -> None:
    tower, method = adapt(kind, "lora", layers=[1])
    disturb(tower, method)
    assert isinstance(tower, ImageTower)
    assert tower.first_adapted_layer == 1
    clips = towers.clips()
    for layer in (0, 1, 2):
        assert torch.equal(tower.forward_from(tower.forward_to(clips, layer=layer), layer=layer), tower(clips)), layer


LATE = [{"method": info.name, "layers": [1]} for info in METHODS.values() if "layers" in info.defaults]


@pytest.mark.parametrize("spec", [*IMAGE_METHODS, *LATE], ids=str)
@torch.no_grad()
def test_what_enters_the_first_adapted_layer_is_frozen_whatever_is_trained(spec: str | dict[str, Any]) -> None:
    name, arguments = (spec, {}) if isinstance(spec, str) else (spec["method"], {"layers": spec["layers"]})
    tower, method = adapt("dinov2", name, **arguments)
    disturb(tower, method)
    layer, clips, frozen = tower.first_adapted_layer, towers.clips(), towers.image_tower("dinov2")
    assert layer == (1 if arguments else {"frozen": 2, "clip-adapter": 2}.get(name, 0))
    assert torch.equal(tower.forward_to(clips, layer=layer), frozen.forward_to(clips, layer=layer)) or layer == 0
    if layer < tower.depth:
        kept, changed = (each.forward_to(clips, layer=layer + 1) for each in (frozen, tower))
        assert kept.shape != changed.shape or not torch.allclose(kept, changed, atol=1e-4), "the layer is not adapted"


def test_weights_that_train_without_a_method_count_as_adapted() -> None:
    tower, _ = adapt("dinov2", "frozen")
    assert tower.first_adapted_layer == 2
    tower.layers[1].requires_grad_(True)
    assert tower.first_adapted_layer == 1
    tower.requires_grad_(True)
    assert tower.first_adapted_layer == 0


def recogniser(image_method: object, **settings: object) -> ActionRecognizer:
    return ActionRecognizer(
        towers.PHRASES[:4],
        image_encoder=towers.image_tower(),
        text_encoder=towers.text_tower(),
        image_method=image_method,  # type: ignore[arg-type]
        frames=4,
        fusion={"kind": "joint", "width": 16, "layers": 1, "heads": 2},
        **settings,  # type: ignore[arg-type]
    ).eval()


@pytest.mark.parametrize("feature", ["both", "cls", "patch", "grid"])
@pytest.mark.parametrize("image_method", ["frozen", {"method": "lora", "layers": [1]}, "clip-adapter"])
@torch.no_grad()
def test_what_was_kept_of_a_clip_gives_the_logits_of_the_clip(image_method: object, feature: str) -> None:
    model = recogniser(image_method, feature=feature)
    if model.trains_image:
        disturb(model.image_tower, model.image_method)
    video = towers.clips(frames=4)
    from_kept = model._logits({"features": model.frame_encoder.frozen_prefix(video)})
    torch.testing.assert_close(from_kept, model(video), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_trimmed_prompts_give_the_logits_of_full_ones() -> None:
    video = towers.clips(frames=4)
    trimmed, full = recogniser("frozen"), recogniser("frozen", optimizations=Optimizations(trim=False))
    lengths = [model.prompts.length for model in (trimmed, full)]
    assert lengths[0] < lengths[1] == full.text_tower.context_length
    torch.testing.assert_close(trimmed(video), full(video), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("image_method", ["frozen", "dora", "lora", "ia3"])
def test_an_input_that_is_cast_once_gives_the_same_logits(image_method: str) -> None:
    video, seen = towers.clips(frames=4), {}
    for on in (True, False):
        model = recogniser(image_method, optimizations=Optimizations(one_cast=on))
        if model.trains_image:
            disturb(model.image_tower, model.image_method)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(video)
        seen[on] = logits.detach(), gradients(model.image_tower, logits) if model.trains_image else {}
    (once, found), (each, expected) = seen[True], seen[False]
    assert torch.equal(once, each)
    # What comes back from query, key and value is added up in 16 bits in place of 32.
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 0.02 * gradient.norm() + 1e-6, name


def test_a_compiled_tower_gives_the_same_logits_and_gradients() -> None:
    video = towers.clips(frames=4)
    results = []
    for optimizations in (Optimizations(), Optimizations(compile=True)):
        model = recogniser("dora", optimizations=optimizations)
        disturb(model.image_tower, model.image_method)
        logits = model(video)
        results.append((logits.detach(), gradients(model.image_tower, logits)))
    (plain, expected), (compiled, found) = results
    torch.testing.assert_close(compiled, plain, **CLOSE)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_smaller_last_batch_compiles_nothing_anew_and_enters_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled up for both parts of the compiled tower alone: loss, gradients and probabilities are the plain path's."""
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(len(graph.graph.nodes))
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch.compiler.reset()
    models = [
        recogniser({"method": "lora", "layers": [1]}, optimizations=Optimizations(compile=on)) for on in (False, True)
    ]
    for model in models:
        disturb(model.image_tower, model.image_method)
        assert model.frame_encoder.first_trained_layer == 1
    counts = []
    for count in (3, 1):
        plain, found = (step_and_test(model, towers.clips(3, frames=4)[:count], compiled) for model in models)
        for name, expected in plain.items():
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5, msg=f"{count}: {name}")
        counts.append(len(compiled))
    torch.compiler.reset()
    assert counts[0] == counts[1] > 0


def step_and_test(model: ActionRecognizer, clips: Tensor, compiled: list[int]) -> dict[str, Tensor]:
    """Loss, gradients and probabilities of clips whose tokens are kept; each part of it compiles where one is to."""
    counts = [len(compiled)]
    with torch.no_grad():
        batch = {"features": model.frame_encoder.frozen_prefix(clips), "label": torch.arange(len(clips)) % 2}
    counts.append(len(compiled))
    loss = model.loss(batch)
    loss.backward()
    counts.append(len(compiled))
    if model.optimizations.compile and len(clips) == 3:
        assert counts[0] < counts[1] < counts[2], "the lower part, and the upper one"
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        return {**found, "loss": loss.detach(), "probabilities": model._probabilities(batch)}

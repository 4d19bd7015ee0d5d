"""Methods of peft that have no name of their own here, by peft's names."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner

from mmfuse.errors import MmfuseError
from mmfuse.methods import attach
from mmfuse.methods.any_peft import REFUSED
from mmfuse.model.description import DESCRIPTION, digest_of_arguments
from mmfuse.model.recognizer import ActionRecognizer
from tests.methods.sweep import build_tower, disturb, inputs, trained

# What peft's own defaults need at widths of 96 and 128.
FITTING: dict[str, dict[str, Any]] = {
    "C3A": {"block_size": 32},
    "ROAD": {"group_size": 32},
    "VBLORA": {"vector_length": 32, "num_vectors": 16},
}
KNOWN = [kind for kind in PEFT_TYPE_TO_TUNER_MAPPING if issubclass(PEFT_TYPE_TO_TUNER_MAPPING[kind], BaseTuner)]
NEEDS = {"ADAMSS": "sklearn"}
VARIED: list[dict[str, Any]] = [
    {"type": "hra", "r": 4, "targets": ["fc1"], "layers": [1]},
    {"type": "LORA", "r": 4, "use_rslora": True},
    {"type": "LORA", "r": 2, "modules_to_save": ["layernorm"]},
    {"type": "VERA", "r": 4, "target_modules": ["q_proj"]},
    {"type": "IA3", "targets": ["k", "fc2"]},
]


def pair_with(method: dict[str, Any]) -> ActionRecognizer:
    return ActionRecognizer(
        ["waving", "running"], image_method=method, text_method=method, frames=2, fusion={"kind": "joint", "width": 32}
    )


@pytest.fixture(scope="module")
def plain() -> ActionRecognizer:
    return pair_with({"method": "frozen"})


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.value)
def test_every_type_of_peft_works_on_both_towers_or_says_why_not(
    kind: PeftType, plain: ActionRecognizer, tmp_path: Path
) -> None:
    if kind.value in NEEDS and importlib.util.find_spec(NEEDS[kind.value]) is None:
        pytest.skip(f"peft's {kind.value} needs {NEEDS[kind.value]}")
    method = {"method": "peft", "type": kind.value, **FITTING.get(kind.value, {})}
    if kind.value in REFUSED:
        with pytest.raises(MmfuseError, match=f"peft's {kind.value} cannot adapt a tower: "):
            pair_with(method)
        return
    model = pair_with(method)
    disturb(model, torch.nn.Identity())
    clips = torch.randint(0, 256, (1, 2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model.eval()(clips).square().sum().backward()
    assert all(weight.grad is not None for part in model.trained_parameters().values() for weight in part.values())
    with torch.no_grad():
        for tower, bare, given in (
            (model.image_tower, plain.image_tower, clips),
            (model.text_tower, plain.text_tower, model.text_tower.tokenize(["waving"])),
        ):
            assert not torch.allclose(tower(given), bare(given), atol=1e-3)
            with tower.disabled():
                assert torch.equal(tower(given), bare(given))
    assert model.fingerprints() == plain.fingerprints()
    model.save_trained(tmp_path)
    described = json.loads((tmp_path / DESCRIPTION).read_text())
    # Whatever is made of the seed, or of the weights by another processor, is to come from the checkpoint.
    arguments = described["arguments"] | {"seed": 99}
    changed = {"arguments": arguments, "arguments_sha256": digest_of_arguments(arguments)}
    (tmp_path / DESCRIPTION).write_text(json.dumps(described | changed))
    with torch.no_grad():
        assert torch.equal(ActionRecognizer.from_checkpoint(tmp_path)(clips), model(clips))


@pytest.mark.parametrize("arguments", VARIED, ids=lambda arguments: "-".join(map(str, arguments.values())))
def test_a_type_of_peft_trains_and_can_be_switched_off(arguments: dict[str, Any]) -> None:
    tower, frozen = build_tower("dinov2"), build_tower("dinov2")
    method = attach(tower, {"method": "peft", **arguments}, generator=torch.Generator().manual_seed(0))
    disturb(tower, method)
    batch = inputs(tower)
    tower(batch).square().sum().backward()
    assert all(weight.grad is not None for weight in trained(tower, method).values())
    with torch.no_grad():
        assert not torch.allclose(tower(batch), frozen(batch), atol=1e-3)
        with tower.disabled():
            assert torch.equal(tower(batch), frozen(batch))
    assert tower.weights_fingerprint() == frozen.weights_fingerprint()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "missing 1 required keyword-only argument: 'type'"),
        ({"type": "HAR"}, "unknown type of peft that works on a tower's layers 'HAR'; did you mean 'HRA'?"),
        ({"type": "PROMPT_TUNING"}, "unknown type of peft that works on a tower's layers 'PROMPT_TUNING'"),
        ({"type": "HRA", "rr": 3}, "unknown argument of peft's HRA 'rr'; did you mean 'r'?"),
        ({"type": "HRA", "task_type": "FEATURE_EXTRACTION"}, "unknown argument of peft's HRA 'task_type'"),
        ({"type": "HRA", "r": 0}, "method 'peft' on the image tower: "),
        ({"type": "HRA", "targets": ["w"]}, "no linear map with role 'w'"),
        ({"type": "HRA", "target_modules": ["nothing"]}, "method 'peft' on the image tower: "),
        ({"type": "MISS", "r": 64}, "`r` (64) must be less than or equal to in_features (32)"),
        ({"type": "LORA", "bias": "all"}, "peft's LORA would train the tower's own weights under these arguments"),
        ({"type": "LORA", "init_lora_weights": "pissa"}, "peft's LORA changes the tower's own weights under these"),
        ({"type": "LORA", "inference_mode": True}, "peft's LORA trains nothing in the tower under these arguments"),
        ({"type": "POLY"}, "peft's POLY cannot adapt a tower: it chooses among adapters by the task"),
        ({"type": "adalora"}, "peft's ADALORA cannot adapt a tower: it must be told of every step of a training"),
    ],
)
def test_wrong_argument(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError) as caught:
        attach(build_tower("dinov2"), {"method": "peft", **arguments}, generator=torch.Generator())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

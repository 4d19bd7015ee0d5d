"""Methods of peft that have no name of their own here, by peft's names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmfuse.errors import MmfuseError
from mmfuse.methods import attach
from tests.methods.sweep import build_tower, disturb, inputs, trained

TYPES: list[dict[str, Any]] = [
    {"type": "HRA", "r": 4},
    {"type": "hra", "r": 4, "targets": ["fc1"], "layers": [1]},
    {"type": "LORA", "r": 4, "use_rslora": True},
    {"type": "RANDLORA", "r": 4},
    {"type": "FOURIERFT", "n_frequency": 20},
    {"type": "DELORA", "r": 4},
    {"type": "MISS", "r": 4},
    {"type": "VBLORA", "vector_length": 8, "num_vectors": 16},
    {"type": "LORA", "r": 2, "modules_to_save": ["layernorm"]},
    {"type": "VERA", "r": 4, "target_modules": ["q_proj"]},
]


@pytest.mark.parametrize("arguments", TYPES, ids=lambda arguments: "-".join(map(str, arguments.values())))
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
        ({"type": "POLY"}, "method 'peft' on the image tower: task_ids should not be None."),
        ({"type": "ADALORA"}, "method 'peft' on the image tower: AdaLoRA"),
    ],
)
def test_wrong_argument(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError) as caught:
        attach(build_tower("dinov2"), {"method": "peft", **arguments}, generator=torch.Generator())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

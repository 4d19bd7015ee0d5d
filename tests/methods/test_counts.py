"""Trainable weights at ViT-B and CLIP text size, against the formulas of the papers; built without memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from mmfuse.encoders.tower import ImageTower, TextTower
from mmfuse.methods import METHODS, attach
from tests import towers
from tests.methods.sweep import trained

WIDTH, LAYERS, HIDDEN, PATCH = 768, 12, 3072, 14
TEXT_WIDTH, TEXT_HIDDEN = 512, 2048
ADAPTER, TEXT_ADAPTER = 2 * WIDTH * 64 + 64 + WIDTH, 2 * TEXT_WIDTH * 64 + 64 + TEXT_WIDTH
ALL = ["q", "k", "v", "o", "fc1", "fc2"]
IMAGE: list[tuple[str | dict[str, Any], int]] = [
    ("frozen", 0),
    ("vpt-deep", 92_160),
    ({"method": "vpt-deep", "length": 50}, 12 * 50 * WIDTH),
    ("lora", 294_912),
    ({"method": "lora", "rank": 4}, 36_864 * 4),
    ({"method": "lora", "rank": 2, "targets": ALL}, 165_888 * 2),
    ("dora", 294_912 + 18_432),
    ("adaptformer", LAYERS * ADAPTER),
    ("adapter", LAYERS * ADAPTER),
    ("pfeiffer", LAYERS * ADAPTER),
]
TEXT: list[tuple[str | dict[str, Any], int]] = [
    ("frozen", 0),
    ("coop", 8_192),
    ({"method": "coop", "length": 4}, 4 * TEXT_WIDTH),
    ("lora", 2 * 2 * 8 * TEXT_WIDTH * LAYERS),
    ("dora", 2 * 2 * 8 * TEXT_WIDTH * LAYERS + 2 * TEXT_WIDTH * LAYERS),
    ("adapter", LAYERS * TEXT_ADAPTER),
    ("pfeiffer", LAYERS * TEXT_ADAPTER),
]


def vit_b() -> ImageTower:
    with torch.device("meta"):
        model = transformers.Dinov2Model(transformers.Dinov2Config(image_size=518, patch_size=PATCH))
    return ImageTower(model, name="ViT-B", mean=(0.5,) * 3, std=(0.5,) * 3)


def clip_text() -> TextTower:
    with torch.device("meta"):
        model = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(projection_dim=512))
    return TextTower(model, tokenizer=towers.text_tokenizer("clip-text"), name="CLIP-text")


def count(tower: ImageTower | TextTower, spec: str | dict[str, Any]) -> int:
    method = attach(tower, spec, generator=torch.Generator().manual_seed(0))
    return sum(weight.numel() for weight in trained(tower, method).values())


@pytest.mark.parametrize(("spec", "expected"), IMAGE, ids=str)
def test_weights_trained_at_vit_b(spec: str | dict[str, Any], expected: int) -> None:
    assert count(vit_b(), spec) == expected


@pytest.mark.parametrize(("spec", "expected"), TEXT, ids=str)
def test_weights_trained_at_clip_text_size(spec: str | dict[str, Any], expected: int) -> None:
    assert count(clip_text(), spec) == expected


def test_no_method_goes_uncounted() -> None:
    for tower, table in (("image", IMAGE), ("text", TEXT)):
        counted = {spec if isinstance(spec, str) else spec["method"] for spec, _ in table}
        assert counted == {info.name for info in METHODS.values() if tower in info.towers}

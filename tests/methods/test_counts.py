"""Trainable weights at ViT-B and CLIP text size, against the formulas of the papers; built without memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from mmfuse.bench.grid import load_grid
from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.text import TextTower
from mmfuse.methods import METHODS, attach
from tests import towers
from tests.methods.sweep import trained

WIDTH, LAYERS, HIDDEN, PATCH = 768, 12, 3072, 14
TEXT_WIDTH, TEXT_HIDDEN = 512, 2048
ADAPTER, TEXT_ADAPTER = 2 * WIDTH * 64 + 64 + WIDTH, 2 * TEXT_WIDTH * 64 + 64 + TEXT_WIDTH
ALL = ["q", "k", "v", "o", "fc1", "fc2"]
BLOCK = 32  # of OFT: a skew-symmetric matrix of side 32 has 32·31/2 free entries
IMAGE: list[tuple[str | dict[str, Any], int]] = [
    ("frozen", 0),
    ("full", 86_579_712),  # DINOv2-B without its mask token
    ("bitfit", 102_912),
    ("ln", 38_400),
    ("ssf", 205_824),
    ("ia3", 55_296),
    ("vpt-shallow", 10 * WIDTH),
    ({"method": "vpt-shallow", "length": 50}, 50 * WIDTH),
    ("vpt-deep", 92_160),
    ({"method": "vpt-deep", "length": 50}, 12 * 50 * WIDTH),
    ({"method": "vpt-deep", "depth": 9}, 9 * 10 * WIDTH),
    ("prefix", 12 * 2 * 10 * WIDTH),
    ("houlsby", 2 * LAYERS * ADAPTER),
    ("pfeiffer", LAYERS * ADAPTER),
    ({"method": "pfeiffer", "layers": [-2, -1]}, 2 * ADAPTER),
    ("adaptformer", LAYERS * ADAPTER),
    ("adapter", LAYERS * ADAPTER),
    ("clip-adapter", 2 * WIDTH * WIDTH // 4),
    ("st-adapter", LAYERS * (2 * WIDTH * 384 + 384 + WIDTH + 3 * 384 + 384)),
    ("aim", LAYERS * 3 * (2 * WIDTH * 192 + 192 + WIDTH)),
    ("lora", 294_912),
    ({"method": "lora", "rank": 4}, 36_864 * 4),
    ({"method": "lora", "rank": 2, "targets": ALL}, 165_888 * 2),
    ({"method": "lora", "layers": [0, 11]}, 294_912 // 6),
    ("dora", 294_912 + 18_432),
    ("pissa", 294_912),
    ("olora", 294_912),
    ("vera", 24_576),
    ("loha", 24 * 4 * WIDTH * 8),
    ("lokr", 24 * (24 * 24 + 2 * 32 * 8)),  # 768 = 24 · 32, the factors nearest to each other
    ("oft", 24 * WIDTH // BLOCK * (BLOCK * (BLOCK - 1) // 2)),
    ("boft", 24 * (WIDTH * 4 + WIDTH)),  # blocks of 4×4, and a factor for each output
    ({"method": "peft", "type": "HRA", "r": 8}, 24 * 8 * WIDTH),
]
TEXT: list[tuple[str | dict[str, Any], int]] = [
    ("frozen", 0),
    ("full", 63_428_096),
    ("bitfit", LAYERS * (4 * TEXT_WIDTH + TEXT_HIDDEN + TEXT_WIDTH + 2 * TEXT_WIDTH) + TEXT_WIDTH),
    ("ln", 25 * 2 * TEXT_WIDTH),
    ("ssf", 2 * LAYERS * (2 * TEXT_WIDTH + 4 * TEXT_WIDTH + TEXT_HIDDEN + TEXT_WIDTH) + 2 * TEXT_WIDTH),
    ("ia3", LAYERS * (2 * TEXT_WIDTH + TEXT_HIDDEN)),
    ("coop", 8_192),
    ({"method": "coop", "length": 4}, 4 * TEXT_WIDTH),
    ("deep-prompt", 61_440),
    ("prefix", 12 * 2 * 10 * TEXT_WIDTH),
    ("houlsby", 2 * LAYERS * TEXT_ADAPTER),
    ("pfeiffer", LAYERS * TEXT_ADAPTER),
    ("adaptformer", LAYERS * TEXT_ADAPTER),
    ("adapter", LAYERS * TEXT_ADAPTER),
    ("clip-adapter", 131_072),
    ("lora", 2 * 2 * 8 * TEXT_WIDTH * LAYERS),
    ("dora", 2 * 2 * 8 * TEXT_WIDTH * LAYERS + 2 * TEXT_WIDTH * LAYERS),
    ("pissa", 2 * 2 * 8 * TEXT_WIDTH * LAYERS),
    ("olora", 2 * 2 * 8 * TEXT_WIDTH * LAYERS),
    ("vera", 24 * (256 + TEXT_WIDTH)),
    ("loha", 24 * 4 * TEXT_WIDTH * 8),
    ("lokr", 24 * (16 * 16 + 2 * 32 * 8)),  # 512 = 16 · 32
    ("oft", 24 * TEXT_WIDTH // BLOCK * (BLOCK * (BLOCK - 1) // 2)),
    ("boft", 24 * (TEXT_WIDTH * 4 + TEXT_WIDTH)),
    ({"method": "peft", "type": "HRA", "r": 8}, 24 * 8 * TEXT_WIDTH),
]
ROUNDED = {"houlsby": "2.38M", "pfeiffer": "1.19M", "adaptformer": "1.19M", "st-adapter": "7.11M", "aim": "10.65M"}


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


@pytest.mark.parametrize(("name", "published"), ROUNDED.items())
def test_the_formulas_agree_with_the_published_sizes(name: str, published: str) -> None:
    formulas = {spec: weights for spec, weights in IMAGE if isinstance(spec, str)}
    assert f"{formulas[name] / 1e6:.2f}M" == published


WITH_VALUES = {"SHIRA", "WAVEFT", "VBLORA", "TINYLORA"}
"""Types of peft that cannot be built without values, so that they are built small: all their layers are alike."""


def of_layers(layers: int) -> ImageTower:
    config = transformers.Dinov2Config(image_size=28, patch_size=PATCH, num_hidden_layers=layers)
    return ImageTower(transformers.Dinov2Model(config), name="ViT-B", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_the_grid_of_peft_compares_equal_numbers_of_weights() -> None:
    pairs = [pair for _, pair in load_grid("peft").pairs() if not pair.frozen]
    assert len(pairs) == 28
    for pair in pairs:
        spec = dict(pair.image)
        if spec.get("type") in WITH_VALUES:
            one, two = count(of_layers(1), spec), count(of_layers(2), spec)
            trained_weights = one + (LAYERS - 1) * (two - one)
        else:
            trained_weights = count(vit_b(), spec)
        assert abs(trained_weights / 294_912 - 1) < 0.07, (pair.name, trained_weights)


def test_no_method_goes_uncounted() -> None:
    for tower, table in (("image", IMAGE), ("text", TEXT)):
        counted = {spec if isinstance(spec, str) else spec["method"] for spec, _ in table}
        assert counted == {info.name for info in METHODS.values() if tower in info.towers}

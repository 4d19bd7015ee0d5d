"""Image towers whose output `transformers` reads in ways of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mmfuse import ActionRecognizer
from mmfuse.encoders import load_image_tower
from mmfuse.errors import MmfuseError
from tests import towers

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def reference(model: Any, kind: str, frames: Tensor) -> tuple[Tensor, Tensor]:
    """What sums the frames up, (N, D), and their patches, (N, P, D), by the model's own forward."""
    if kind == "radio":
        output = model(frames)
        return output.summary.unflatten(1, (-1, towers.SMALL["hidden_size"])).mean(dim=1), output.features
    if kind == "siglip2-image":
        from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

        side = frames.shape[-1] // 8
        patches = torch.stack([torch.from_numpy(convert_image_to_patches(frame.numpy(), 8)) for frame in frames])
        shapes = torch.tensor([[side, side]] * len(frames))
        output = model(
            patches, pixel_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long), spatial_shapes=shapes
        )
        return output.pooler_output, output.last_hidden_state
    output = model(frames, **({"interpolate_pos_encoding": True} if kind == "metaclip2-image" else {}))
    tokens, summary = output.last_hidden_state, output.pooler_output
    if kind == "metaclip2-image":
        tokens = model.post_layernorm(tokens)  # the model norms its CLS token alone
    patches = tokens[:, -((frames.shape[-1] // 8) ** 2) :]
    return (patches.mean(dim=1) if summary is None else summary), patches


@pytest.mark.parametrize("size", [towers.SIZE, 48])
@pytest.mark.parametrize("kind", towers.MORE_IMAGE_KINDS)
def test_an_image_tower_equals_transformers(kind: str, size: int) -> None:
    tower = towers.image_tower(kind)
    frames = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = tower(frames.unsqueeze(1))[:, 0]
        if kind == "aimv2" and size != towers.SIZE:  # which has positions for one size alone
            assert found.shape == (2, 37, 32)
            return
        summary, patches = reference(tower.model, kind, frames)
    torch.testing.assert_close(found[:, 0], summary, **TOLERANCE)
    torch.testing.assert_close(found[:, 1:], patches, **TOLERANCE)


@pytest.mark.parametrize("kind", towers.MORE_IMAGE_KINDS)
def test_every_role_is_found(kind: str) -> None:
    tower = towers.image_tower(kind)
    for role in ("q", "k", "v", "o", "fc1", "fc2"):
        for path in tower.linear_paths(role):
            assert isinstance(tower.model.get_submodule(path), torch.nn.Linear)
    assert tower.native_size == towers.SIZE or kind == "radio"


@pytest.mark.parametrize("kind", ["radio", "siglip2-image"])
def test_pixels_and_sizes_are_those_of_the_model(kind: str, tmp_path: Any) -> None:
    """C-RADIO normalises within its model, so that nothing is done to pixels before but scaling them to 0…1."""
    folder = towers.save_in_hub_layout(towers.image_tower(kind), tmp_path)
    tower = load_image_tower(str(folder))
    white = torch.full((3, 1, 1), 255.0) * tower.pixel_scale + tower.pixel_shift
    torch.testing.assert_close(white, torch.ones(3, 1, 1))
    assert tower.native_size == towers.SIZE


def test_a_tower_without_a_summary_gives_its_patches_alone() -> None:
    build: Any = ActionRecognizer
    model = build(["a", "b"], image_encoder=towers.image_tower("aimv2-native"))
    assert model.frame_encoder.width == 32
    with pytest.raises(
        MmfuseError, match=r"'aimv2-native' has neither a CLS token nor a pooling head, .* set feature to"
    ):
        build(["a", "b"], image_encoder=towers.image_tower("aimv2-native"), feature="cls")

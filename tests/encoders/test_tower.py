"""Each tower walks its layers itself; what comes out must be what `transformers` gives."""

import pytest
import torch
from torch import Tensor

from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.text import Prompts
from mmfuse.errors import MmfuseError
from tests import towers

GATED = ("dinov2-swiglu", "dinov3-gated")  # whose MLP has two maps into its hidden units
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def pixels(size: int) -> Tensor:
    return torch.randn(2, 3, 3, size, size, generator=torch.Generator().manual_seed(1))


def reference(tower: ImageTower, frames: Tensor) -> Tensor:
    """CLS (or the pooled output) and patch tokens by the model's own forward."""
    model, kind = tower.model, tower.model.config.model_type
    flat = frames.flatten(0, 1)
    sizes = {"interpolate_pos_encoding": True} if kind in {"clip_vision_model", "siglip_vision_model", "vit"} else {}
    output = model(flat, **sizes)
    tokens = output.last_hidden_state
    if kind == "clip_vision_model":
        tokens = model.post_layernorm(tokens)  # the model norms its CLS token alone
        torch.testing.assert_close(tokens[:, 0], output.pooler_output, **TOLERANCE)
    if kind == "siglip_vision_model":
        tokens = torch.cat([output.pooler_output.unsqueeze(1), tokens], dim=1)
    patches = (frames.shape[-1] // tower.patch_size) ** 2
    return torch.cat([tokens[:, :1], tokens[:, -patches:]], dim=1).unflatten(0, frames.shape[:2])


@pytest.mark.parametrize("size", [towers.SIZE, 24, 48])
@pytest.mark.parametrize("kind", towers.IMAGE_KINDS)
def test_image_tower_equals_transformers(kind: str, size: int) -> None:
    tower, frames = towers.image_tower(kind), pixels(size)
    with torch.no_grad():
        torch.testing.assert_close(tower(frames), reference(tower, frames), **TOLERANCE)
        torch.testing.assert_close(tower(frames), reference(tower, frames), **TOLERANCE)  # kept positions


def test_bytes_are_normalised_with_the_towers_own_mean_and_std() -> None:
    tower, frames = towers.image_tower(), towers.clips()
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(tower(frames), tower((frames / 255 - mean) / std), **TOLERANCE)


def test_frames_are_encoded_one_by_one() -> None:
    tower, frames = towers.image_tower(), towers.clips()
    with torch.no_grad():
        alone = torch.stack([tower(frames[:, t : t + 1])[:, 0] for t in range(frames.shape[1])], dim=1)
        torch.testing.assert_close(tower(frames), alone, **TOLERANCE)


def test_a_frame_side_must_be_whole_patches() -> None:
    tower = towers.image_tower()
    tower.check_size(32)
    with pytest.raises(MmfuseError, match=r"frames of 30 pixels .* 8-pixel patches .* use 24 or 32"):
        tower.check_size(30)


@pytest.mark.parametrize("kind", ["clip-text", "siglip-text"])
@pytest.mark.parametrize("trim", [True, False])
def test_text_tower_equals_transformers(kind: str, trim: bool) -> None:
    tower = towers.text_tower(kind)
    full = tower.tokenize(towers.PHRASES, trim=False).ids
    with torch.no_grad():
        output = tower.model(full)
        expected = output.text_embeds if kind == "clip-text" else output.pooler_output
        torch.testing.assert_close(tower(tower.tokenize(towers.PHRASES, trim=trim)), expected, **TOLERANCE)


def test_only_a_causal_towers_prompts_are_trimmed() -> None:
    causal, other = towers.text_tower("clip-text"), towers.text_tower("siglip-text")
    assert causal.tokenize(towers.PHRASES).ids.shape[1] < causal.context_length
    assert other.tokenize(towers.PHRASES).ids.shape[1] == other.context_length


def test_a_prompt_must_fit() -> None:
    tower = towers.text_tower()
    with pytest.raises(MmfuseError, match=r"tokens; the text tower 'clip-text' reads 32$"):
        tower.tokenize(["short", "a very long prompt " * 20])
    with pytest.raises(MmfuseError, match="reads 32 less 30 for learned context"):
        tower.tokenize(["moving to the left"], reserved_tokens=30)


def test_an_unknown_role_names_the_known_ones() -> None:
    with pytest.raises(MmfuseError, match="no linear map with role 'qkv'; it has q, k, v, o, fc1, fc2"):
        towers.image_tower().linear_paths("qkv")


@pytest.mark.parametrize("kind", [*towers.IMAGE_KINDS, *towers.TEXT_KINDS])
def test_every_role_is_found_in_every_layer(kind: str) -> None:
    tower = towers.text_tower(kind) if kind in towers.TEXT_KINDS else towers.image_tower(kind)
    for role in ("q", "k", "v", "o", "fc1", "fc2"):
        paths = tower.linear_paths(role)
        assert len(set(paths)) == len(paths) == tower.depth * (2 if role == "fc1" and kind in GATED else 1)
        for path in paths:
            assert isinstance(tower.model.get_submodule(path), torch.nn.Linear)


def test_fingerprint_depends_on_the_weights_and_not_on_the_file_or_a_method() -> None:
    tower, same, other = towers.image_tower(), towers.image_tower(), towers.image_tower(seed=1)
    assert tower.weights_fingerprint() == same.weights_fingerprint() != other.weights_fingerprint()


def test_training_mode_leaves_frozen_parts_in_evaluation_mode() -> None:
    tower = towers.image_tower().train()
    assert tower.training
    assert not any(module.training for module in tower.model.modules())


def test_prompts_move_with_the_device() -> None:
    prompts = Prompts(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, dtype=torch.long)).to(torch.device("meta"))
    assert prompts.ids.is_meta
    assert prompts.last.is_meta


def test_a_causal_tower_is_the_same_by_a_mask_and_by_word() -> None:
    tower = towers.text_tower("clip-text")
    prompts = tower.tokenize(towers.PHRASES)
    assert tower.model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        by_word = tower(prompts)
        tower.model.set_attn_implementation("eager")  # which knows masks alone
        torch.testing.assert_close(by_word, tower(prompts), **TOLERANCE)

"""Methods against their papers' formulas, computed directly and slowly from the same weights."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.text import TextTower
from mmfuse.methods.base import Method
from mmfuse.methods.low_rank import quiet
from tests import towers
from tests.methods.sweep import adapt, disturb

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def adapted(kind: str, name: str, **arguments: object) -> tuple[ImageTower | TextTower, Method]:
    tower, method = adapt(kind, name, **arguments)
    disturb(tower, method, by=0.3)
    return tower, method


def normalised(frames: Tensor) -> Tensor:
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    return (frames.flatten(0, 1) / 255 - mean) / std


def attention(layer: torch.nn.Module, hidden: Tensor, prefix: Tensor | None = None) -> Tensor:
    """DINOv2's attention head by head; `prefix` is (2, p, D), keys and values in front of the others."""
    maps, heads = layer.attention, 4
    query, key, value = (getattr(maps, f"{role}_proj")(hidden) for role in "qkv")
    if prefix is not None:
        key, value = (
            torch.cat([p.expand(len(hidden), -1, -1), x], 1) for p, x in zip(prefix, (key, value), strict=True)
        )
    outputs = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        outputs.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v)
    return maps.o_proj(torch.cat(outputs, -1))


@torch.no_grad()
def test_dora() -> None:
    tower, _ = adapted("dinov2", "dora", rank=4, alpha=6)
    plain, clips = towers.image_model("dinov2"), towers.clips()
    for path in [*tower.linear_paths("q"), *tower.linear_paths("v")]:
        tuner = tower.model.get_submodule(path)
        down, up = tuner.lora_A["default"].weight, tuner.lora_B["default"].weight
        weight = plain.get_submodule(path).weight
        direction = weight + 6 / 4 * up @ down
        rows = direction.square().sum(dim=1).sqrt()
        magnitude = tuner.lora_magnitude_vector["default"].weight
        weight.copy_(magnitude.unsqueeze(1) * direction / rows.unsqueeze(1))
    expected = plain(normalised(clips)).last_hidden_state
    torch.testing.assert_close(tower(clips).flatten(0, 1), expected, **CLOSE)


@pytest.mark.parametrize(("name", "initial"), [("pissa", "pissa"), ("olora", "olora")])
@torch.no_grad()
def test_parts_of_weights_as_peft_itself_takes_them_out(name: str, initial: str) -> None:
    """peft changes the weight, W_res = W - s·BA, and trains BA; ours keeps W and subtracts what BA started as."""
    tower, method = adapt("dinov2", name, rank=3, alpha=6)
    plain = towers.image_model("dinov2")
    paths = [*tower.linear_paths("q"), *tower.linear_paths("v")]
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=paths, init_lora_weights=initial)
    with quiet():
        theirs = peft.get_peft_model(copy.deepcopy(plain), config)
    for path in paths:
        ours, other = tower.model.get_submodule(path), theirs.base_model.model.get_submodule(path)
        for part in ("lora_A", "lora_B"):
            torch.testing.assert_close(
                getattr(ours, part)["default"].weight, getattr(other, part)["default"].weight, **CLOSE
            )
    disturb(tower, method)
    for path in paths:
        ours, other = tower.model.get_submodule(path), theirs.base_model.model.get_submodule(path)
        for part in ("lora_A", "lora_B"):
            getattr(other, part)["default"].weight.copy_(getattr(ours, part)["default"].weight)
    expected = theirs(normalised(towers.clips())).last_hidden_state
    torch.testing.assert_close(tower(towers.clips()).flatten(0, 1), expected, **CLOSE)


@pytest.mark.parametrize("kind", ["dinov2", "dinov2-registers"])
@torch.no_grad()
def test_vpt_deep(kind: str) -> None:
    tower, method = adapted(kind, "vpt-deep", length=3)
    plain, clips = towers.image_model(kind), towers.clips()
    tokens = plain.embeddings(normalised(clips))
    for layer, prompts in zip(plain.encoder.layer, method.prompts, strict=True):
        shown = torch.cat([tokens[:, :1], prompts.expand(len(tokens), -1, -1), tokens[:, 1:]], dim=1)
        seen = layer(shown)
        tokens = torch.cat([seen[:, :1], seen[:, 1 + 3 :]], dim=1)
    output, registers = plain.layernorm(tokens), tower.special_tokens - 1
    expected = torch.cat([output[:, :1], output[:, 1 + registers :]], dim=1)
    torch.testing.assert_close(tower(clips).flatten(0, 1), expected, **CLOSE)


@torch.no_grad()
def test_adaptformer() -> None:
    tower, method = adapted("dinov2", "adaptformer", bottleneck=5, scale=0.7)
    plain, clips = towers.image_model("dinov2"), towers.clips()
    tokens = plain.embeddings(normalised(clips))
    for layer, adapter in zip(plain.encoder.layer, method.adapters, strict=True):
        tokens = tokens + layer.layer_scale1.lambda1 * attention(layer, layer.norm1(tokens))
        hidden = layer.norm2(tokens)
        mlp = layer.mlp.fc2(functional.gelu(layer.mlp.fc1(hidden)))
        beside = (hidden @ adapter.down.weight.T + adapter.down.bias).clamp(
            min=0
        ) @ adapter.up.weight.T + adapter.up.bias
        tokens = tokens + layer.layer_scale2.lambda1 * mlp + 0.7 * beside
    torch.testing.assert_close(tower(clips).flatten(0, 1), plain.layernorm(tokens), **CLOSE)


@torch.no_grad()
def test_coop() -> None:
    tower, method = adapted("clip-text", "coop", length=5)
    plain, words = towers.text_tower("clip-text").model, "playing the cello"
    start, *name, end = tower.tokenizer(words)["input_ids"]
    table = plain.text_model.embeddings
    prompt = torch.cat(
        [table.token_embedding.weight[[start]], method.context, table.token_embedding.weight[[*name, end]]]
    )
    tokens = (prompt + table.position_embedding.weight[: len(prompt)]).unsqueeze(0)
    future = torch.full((1, 1, len(prompt), len(prompt)), -torch.inf).triu(1)
    for layer in plain.text_model.encoder.layers:
        tokens = layer(tokens, attention_mask=future)
    expected = plain.text_model.final_layer_norm(tokens)[:, -1] @ plain.text_projection.weight.T
    prompts = tower.tokenize(["moving to the left", words], reserved_tokens=method.reserved_tokens)
    torch.testing.assert_close(tower(prompts)[1:], expected, **CLOSE)


@torch.no_grad()
def test_coop_starts_from_words() -> None:
    tower, method = adapt("clip-text", "coop", words="a video of a person")
    plain = towers.text_tower("clip-text")
    named = [f"a video of a person {phrase}" for phrase in towers.PHRASES]
    inserted = tower(
        tower.tokenize([f" {phrase}" for phrase in towers.PHRASES], reserved_tokens=method.reserved_tokens)
    )
    torch.testing.assert_close(inserted, plain(plain.tokenize(named)), **CLOSE)


@torch.no_grad()
def test_st_adapter() -> None:
    tower, method = adapted("dinov2", "st-adapter", bottleneck=6, kernel=3)
    plain, clips, side = towers.image_model("dinov2"), towers.clips(), towers.SIZE // 8
    batch, frames = clips.shape[:2]
    tokens = plain.embeddings(normalised(clips))
    for layer, adapter in zip(plain.encoder.layer, method.adapters, strict=True):
        hidden = adapter.down(tokens[:, 1:]).view(batch, frames, side, side, 6).permute(0, 4, 1, 2, 3)
        kernel = adapter.time_weight.T.reshape(6, 1, 3, 1, 1)
        mixed = functional.conv3d(hidden, kernel, adapter.time_bias, padding=(1, 0, 0), groups=6)
        added = adapter.up(mixed.permute(0, 2, 3, 4, 1).reshape(batch * frames, side * side, 6))
        tokens = layer(torch.cat([tokens[:, :1], tokens[:, 1:] + added], dim=1))
    torch.testing.assert_close(tower(clips).flatten(0, 1), plain.layernorm(tokens), **CLOSE)


@torch.no_grad()
def test_aim() -> None:
    tower, method = adapted("dinov2", "aim", ratio=0.5, scale=0.5)
    plain, clips = towers.image_model("dinov2"), towers.clips()
    frames = clips.shape[1]
    tokens = plain.embeddings(normalised(clips))

    def adapter(weights: torch.nn.Module, x: Tensor) -> Tensor:
        return functional.gelu(x @ weights.down.weight.T + weights.down.bias) @ weights.up.weight.T + weights.up.bias

    adapters = zip(method.temporal, method.spatial, method.joint, strict=True)
    for layer, (temporal, spatial, joint) in zip(plain.encoder.layer, adapters, strict=True):
        normed, over_time = layer.norm1(tokens), torch.empty_like(tokens)
        for clip in range(len(clips)):
            rows = slice(clip * frames, (clip + 1) * frames)
            for place in range(tokens.shape[1]):
                over_time[rows, place] = attention(layer, normed[rows, place].unsqueeze(0))[0]
        tokens = tokens + adapter(temporal, over_time)
        within = layer.layer_scale1.lambda1 * attention(layer, layer.norm1(tokens))
        tokens = tokens + within + adapter(spatial, within)
        hidden = layer.norm2(tokens)
        tokens = tokens + layer.layer_scale2.lambda1 * layer.mlp(hidden) + 0.5 * adapter(joint, hidden)
    torch.testing.assert_close(tower(clips).flatten(0, 1), plain.layernorm(tokens), **CLOSE)


@torch.no_grad()
def test_prefix() -> None:
    tower, method = adapted("dinov2", "prefix", length=3)
    plain, clips = towers.image_model("dinov2"), towers.clips()
    tokens = plain.embeddings(normalised(clips))
    for layer, prefix in zip(plain.encoder.layer, method.prompts, strict=True):
        tokens = tokens + layer.layer_scale1.lambda1 * attention(layer, layer.norm1(tokens), prefix)
        tokens = tokens + layer.layer_scale2.lambda1 * layer.mlp(layer.norm2(tokens))
    torch.testing.assert_close(tower(clips).flatten(0, 1), plain.layernorm(tokens), **CLOSE)


@torch.no_grad()
def test_a_prefix_is_seen_by_every_token_of_a_causal_tower() -> None:
    tower, method = adapted("clip-text", "prefix", length=3, layers=[0])
    start = tower.tokenize(["moving to the left"], reserved_tokens=0)
    alone = type(start)(
        start.ids[:, :1], torch.zeros(1, dtype=torch.long)
    )  # the first token sees itself and the prefix
    before = tower(alone)
    method.prompts[:, 1] += 1
    assert not torch.allclose(tower(alone), before, atol=1e-4)

"""The supported architectures, one record each: how each is embedded, walked and read out. No torch is imported here.

All are pre-norm transformers, so one set of parts fits them all:

    x = x + scale1(attention(norm1(x)))
    x = x + scale2(mlp(norm2(x)))

A record says everything in which one differs from another; the towers ask it and know no model types. Names of modules
also change between releases of `transformers` (DINOv2's query was `attention.attention.query` before it became
`attention.q_proj`). A record therefore lists alternatives, and `find_layout` looks which of them a model has.

Shapes: N frames or prompts, S tokens, D width of a token, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    from torch import Tensor, nn

Names = tuple[str, ...]
Rope = tuple["Tensor", "Tensor"]
"""Cosines and sines of rotary positions."""


@dataclass(frozen=True)
class Layout:
    """Names of the parts of one model.

    Args:
        layers: path of the list of layers in the model.
        final_norm: path of the norm after the last layer.
        parts: role of a part ("norm1", "attention", …) -> its path in a layer; absent parts are left out.
        roles: role of a linear map ("q", …, "fc2") -> its paths in a layer.
    """

    layers: str
    final_norm: str
    parts: Mapping[str, str]
    roles: Mapping[str, Names]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What image and text encoders have in common.

    Args:
        model_type: `model_type` of the model's own configuration.
        model_class: its class in `transformers`.
        checkpoints: model types of the config.json files from which it is read; a full CLIP holds both towers.
        options: further arguments of the class's `from_pretrained`.
        layers: path of the list of layers, in alternatives.
        final_norm: path of the norm after the layers.
        parts: role of a part of a layer -> its path in the layer. "scale1" and "scale2" may be absent.
        roles: role of a linear map -> alternatives of its paths in a layer. A gated MLP has two maps into its hidden
            units; "fc1" then stands for both, as each hidden unit has a row in each.
        readout: modules that make the output from what the final norm gives.
        unused: modules and weights of the model that the tower never reads.
    """

    model_type: str
    model_class: str
    checkpoints: Names
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: Names
    final_norm: str
    parts: Mapping[str, str]
    roles: Mapping[str, tuple[Names, ...]]
    readout: Names = ()
    unused: Names = ()


@dataclass(frozen=True, kw_only=True)
class ImageArchitecture(Architecture):
    """An encoder of single frames.

    Args:
        embed: the model and pixels (N, 3, H, W) to tokens (N, S, D), special tokens first.
        special_tokens: of a configuration: how many tokens stand before the patches (CLS, registers).
        attention_arguments: what a layer's attention takes beside its input, given the patches' rotary positions.
        rotary_positions: of the model and pixels of which only the size matters; None without rotary positions.
        pool: the model and its normed tokens to one vector (N, D), where there is no CLS token.
        lacks: what a model lacks that the tower needs, in words; None where it lacks nothing.
        mean, std: of the pixels that it was trained with, a channel, on the scale 0…1.
    """

    embed: Callable[[Any, Tensor], Tensor]
    special_tokens: Callable[[Any], int]
    attention_arguments: Callable[[Rope | None], dict[str, Any]]
    rotary_positions: Callable[[Any, Tensor], Rope] | None = None
    pool: Callable[[Any, Tensor], Tensor] | None = None
    lacks: Callable[[Any], str | None] | None = None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class TextArchitecture(Architecture):
    """An encoder of prompts.

    Args:
        embeddings: path of the module that holds the embeddings of tokens and of positions.
        causal: whether a token sees only those before it, so that padding behind the end changes nothing. The end token
            of a causal tower is pooled, the last place of another one.
        start_tokens: how many tokens the tokenizer puts before the words.
        projection: path of the module that makes the embedding of the pooled token.
        projection_width: key of the configuration that tells its width.
    """

    embeddings: str
    causal: bool
    start_tokens: int
    projection: str
    projection_width: str

    def attention_arguments(self, hidden: Tensor, *, fused: bool) -> dict[str, Any]:
        """What a layer's attention takes beside its input (N, S, D).

        Args:
            hidden: the input.
            fused: the attention is not written out ("eager"); the fastest kernels take no mask, but a word.
        """
        if not self.causal:
            return {"attention_mask": None}
        if fused:
            return {"attention_mask": None, "is_causal": True}
        size = hidden.shape[1]
        return {"attention_mask": hidden.new_full((1, 1, size, size), float("-inf")).triu(1)}  # added to the scores


def find_layout(model: nn.Module, architecture: Architecture) -> Layout:
    """Which of the names in a record a model has.

    Raises:
        MmfuseError: it lacks a part, as after a change in `transformers`.
    """
    kind = type(model).__name__
    layers = next((path for path in architecture.layers if submodule(model, path) is not None), None)
    stack: Any = None if layers is None else submodule(model, layers)
    if layers is None or len(stack) == 0 or submodule(model, architecture.final_norm) is None:
        raise MmfuseError(f"{kind} has no transformer layers, or no norm after them")
    lacking = [part for part, path in architecture.parts.items() if submodule(stack[0], path) is None]
    if lacking:
        raise MmfuseError(f"{kind}: its layers have no {lacking[0]}; this release of transformers is not supported")
    roles = {}
    for role, alternatives in architecture.roles.items():
        for paths in alternatives:
            if all(submodule(stack[0], path) is not None for path in paths):
                roles[role] = paths
                break
    return Layout(layers, architecture.final_norm, architecture.parts, roles)


def submodule(module: nn.Module, path: str) -> nn.Module | None:
    """The submodule at a dotted path, or None."""
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def architecture_of(model: Any, known: Mapping[str, Any]) -> Any:
    """The record of a model.

    Args:
        model: of `transformers`.
        known: `IMAGE` or `TEXT`.

    Raises:
        MmfuseError: it is of another architecture.
    """
    model_type = model.config.model_type
    if model_type not in known:
        raise MmfuseError(f"a {model_type!r} model is not supported here; supported: {', '.join(sorted(known))}")
    return known[model_type]


# -- what several architectures share ----------------------------------------------------------------------------------

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

DINO_PARTS = {
    "norm1": "norm1",
    "attention": "attention",
    "scale1": "layer_scale1",
    "norm2": "norm2",
    "mlp": "mlp",
    "scale2": "layer_scale2",
}
CLIP_PARTS = {"norm1": "layer_norm1", "attention": "self_attn", "norm2": "layer_norm2", "mlp": "mlp"}
CLIP_ROLES: dict[str, tuple[Names, ...]] = {
    "q": (("self_attn.q_proj",),),
    "k": (("self_attn.k_proj",),),
    "v": (("self_attn.v_proj",),),
    "o": (("self_attn.out_proj",),),
    "fc1": (("mlp.fc1",),),
    "fc2": (("mlp.fc2",),),
}
ATTENTION_ROLES: dict[str, tuple[Names, ...]] = {
    "q": (("attention.q_proj",), ("attention.attention.query",)),
    "k": (("attention.k_proj",), ("attention.attention.key",)),
    "v": (("attention.v_proj",), ("attention.attention.value",)),
    "o": (("attention.o_proj",), ("attention.output.dense",)),
}
DINO_ROLES: dict[str, tuple[Names, ...]] = {
    **ATTENTION_ROLES,
    "fc1": (("mlp.fc1",), ("mlp.gate_proj", "mlp.up_proj"), ("mlp.up_proj",), ("mlp.weights_in",)),
    "fc2": (("mlp.fc2",), ("mlp.down_proj",), ("mlp.weights_out",)),
}
VIT_ROLES: dict[str, tuple[Names, ...]] = {
    **ATTENTION_ROLES,
    "fc1": (("mlp.fc1",), ("intermediate.dense",)),
    "fc2": (("mlp.fc2",), ("output.dense",)),
}


def _embed(model: Any, pixels: Tensor) -> Tensor:
    return model.embeddings(pixels)


def _embed_any_size(model: Any, pixels: Tensor) -> Tensor:
    return model.embeddings(pixels, interpolate_pos_encoding=True)


def _embed_clip(model: Any, pixels: Tensor) -> Tensor:
    return model.pre_layrnorm(_embed_any_size(model, pixels))  # CLIP's own spelling


def _cls(config: Any) -> int:
    return 1


def _cls_and_registers(config: Any) -> int:
    return 1 + int(config.num_register_tokens or 0)


def _no_special_tokens(config: Any) -> int:
    return 0


def _nothing(rope: Rope | None) -> dict[str, Any]:
    return {}


def _no_mask(rope: Rope | None) -> dict[str, Any]:
    return {"attention_mask": None}


def _rotary(rope: Rope | None) -> dict[str, Any]:
    return {"position_embeddings": rope}


def _dinov3_positions(model: Any, pixels: Tensor) -> Rope:
    return model.rope_embeddings(pixels)


def _siglip_pool(model: Any, tokens: Tensor) -> Tensor:
    return model.head(tokens)


def _siglip_lacks(model: Any) -> str | None:
    return None if model.use_head else "neither a CLS token nor a pooling head, so no feature of a frame"


# -- the records -------------------------------------------------------------------------------------------------------

_DINOV2: dict[str, Any] = {
    "layers": ("encoder.layer",),
    "final_norm": "layernorm",
    "parts": DINO_PARTS,
    "roles": DINO_ROLES,
    "unused": ("mask_token",),
    "embed": _embed,
    "attention_arguments": _nothing,
    "mean": IMAGENET[0],
    "std": IMAGENET[1],
}
_IMAGE_RECORDS = (
    ImageArchitecture(
        model_type="dinov2",
        model_class="Dinov2Model",
        checkpoints=("dinov2",),
        special_tokens=_cls,
        **_DINOV2,
    ),
    ImageArchitecture(
        model_type="dinov2_with_registers",
        model_class="Dinov2WithRegistersModel",
        checkpoints=("dinov2_with_registers",),
        special_tokens=_cls_and_registers,
        **_DINOV2,
    ),
    ImageArchitecture(
        model_type="dinov3_vit",
        model_class="DINOv3ViTModel",
        checkpoints=("dinov3_vit",),
        layers=("model.layer", "layer"),
        final_norm="norm",
        parts=DINO_PARTS,
        roles=DINO_ROLES,
        unused=("mask_token",),
        embed=_embed,
        special_tokens=_cls_and_registers,
        attention_arguments=_rotary,
        rotary_positions=_dinov3_positions,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    ImageArchitecture(
        model_type="clip_vision_model",
        model_class="CLIPVisionModel",
        checkpoints=("clip", "clip_vision_model"),
        layers=("encoder.layers",),
        final_norm="post_layernorm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        embed=_embed_clip,
        special_tokens=_cls,
        attention_arguments=_no_mask,
        mean=CLIP[0],
        std=CLIP[1],
    ),
    ImageArchitecture(
        model_type="siglip_vision_model",
        model_class="SiglipVisionModel",
        checkpoints=("siglip", "siglip_vision_model"),
        layers=("encoder.layers",),
        final_norm="post_layernorm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("head",),
        embed=_embed_any_size,
        special_tokens=_no_special_tokens,
        attention_arguments=_nothing,
        pool=_siglip_pool,
        lacks=_siglip_lacks,
        mean=HALF[0],
        std=HALF[1],
    ),
    ImageArchitecture(
        model_type="vit",
        model_class="ViTModel",
        checkpoints=("vit",),
        # A pooler that is not read: without it, a checkpoint that lacks one gets no random weights in its place.
        options={"add_pooling_layer": False},
        layers=("layers", "encoder.layer"),
        final_norm="layernorm",
        parts={"norm1": "layernorm_before", "attention": "attention", "norm2": "layernorm_after", "mlp": "mlp"},
        roles=VIT_ROLES,
        unused=("pooler", "mask_token"),
        embed=_embed_any_size,
        special_tokens=_cls,
        attention_arguments=_nothing,
        mean=HALF[0],
        std=HALF[1],
    ),
)
_TEXT_RECORDS = (
    TextArchitecture(
        model_type="clip_text_model",
        model_class="CLIPTextModelWithProjection",
        checkpoints=("clip", "clip_text_model"),
        layers=("text_model.encoder.layers",),
        final_norm="text_model.final_layer_norm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("text_projection",),
        embeddings="text_model.embeddings",
        causal=True,
        start_tokens=1,
        projection="text_projection",
        projection_width="projection_dim",
    ),
    TextArchitecture(
        model_type="siglip_text_model",
        model_class="SiglipTextModel",
        checkpoints=("siglip", "siglip_text_model"),
        layers=("encoder.layers",),
        final_norm="final_layer_norm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("head",),
        embeddings="embeddings",
        causal=False,
        start_tokens=0,
        projection="head",
        projection_width="projection_size",
    ),
)
IMAGE = {record.model_type: record for record in _IMAGE_RECORDS}
TEXT = {record.model_type: record for record in _TEXT_RECORDS}
CHECKPOINTS: dict[str, dict[str, Architecture]] = {
    "image": {name: record for record in _IMAGE_RECORDS for name in record.checkpoints},
    "text": {name: record for record in _TEXT_RECORDS for name in record.checkpoints},
}
"""By kind of tower and `model_type` of a config.json, the record that reads it."""

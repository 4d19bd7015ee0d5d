"""The supported encoders of single frames, one record each. No torch is imported here.

Shapes: N frames, S tokens, D width of a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmfuse.encoders.architectures import (
    CLIP,
    CLIP_PARTS,
    CLIP_ROLES,
    DINO_PARTS,
    DINO_ROLES,
    HALF,
    IMAGENET,
    VIT_ROLES,
    ImageArchitecture,
    Places,
)

if TYPE_CHECKING:
    from torch import Tensor


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


def _nothing(places: Places, hidden: Tensor) -> dict[str, Any]:
    return {}


def _no_mask(places: Places, hidden: Tensor) -> dict[str, Any]:
    return {"attention_mask": None}


def _rotary(places: Places, hidden: Tensor) -> dict[str, Any]:
    return {"position_embeddings": places}


def _dinov3_positions(model: Any, pixels: Tensor) -> Places:
    return model.rope_embeddings(pixels)


def _siglip_pool(model: Any, tokens: Tensor) -> Tensor:
    return model.head(tokens)


def _siglip_lacks(model: Any) -> str | None:
    return None if model.use_head else "neither a CLS token nor a pooling head, so no feature of a frame"


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
RECORDS = (
    ImageArchitecture(
        model_type="dinov2",
        family="DINOv2",
        model_class="Dinov2Model",
        checkpoints=("dinov2",),
        special_tokens=_cls,
        **_DINOV2,
    ),
    ImageArchitecture(
        model_type="dinov2_with_registers",
        family="DINOv2 with registers",
        model_class="Dinov2WithRegistersModel",
        checkpoints=("dinov2_with_registers",),
        special_tokens=_cls_and_registers,
        **_DINOV2,
    ),
    ImageArchitecture(
        model_type="dinov3_vit",
        family="DINOv3",
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
        places=_dinov3_positions,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    ImageArchitecture(
        model_type="clip_vision_model",
        family="CLIP",
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
        family="SigLIP, SigLIP 2",
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
        family="ViT",
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

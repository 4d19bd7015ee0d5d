"""The supported encoders of single frames, one record each. No torch is imported here.

Shapes: N frames, S tokens, D width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    Known,
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


NONE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Pixels from 0 to 1 as they are: the model normalises them itself, or was trained so."""


def _radio_embed(model: Any, pixels: Tensor) -> Tensor:
    """As the model embeds frames, its positions stretched by a product, whose gradient has a fixed order."""
    import torch

    from mmfuse.encoders.positions import BILINEAR, stretched

    embeddings, (height, width) = model.embeddings, pixels.shape[-2:]
    patches = embeddings.patch_projection(embeddings._image_to_patches(model.input_conditioner(pixels)))
    rows, columns = height // embeddings.patch_size, width // embeddings.patch_size
    side = max(rows, columns)  # positions are stretched to a square, of which a corner is taken
    before, modes = (embeddings.max_rows, embeddings.max_cols), (BILINEAR, BILINEAR)
    table = stretched(embeddings.position_embedding, before, (side, side), modes).unflatten(1, (side, side))
    tokens = patches + table[:, :rows, :columns].flatten(1, 2).to(patches.dtype)
    return torch.cat([embeddings.cls_register_token.expand(len(tokens), -1, -1), tokens], dim=1)


def _radio_tokens(config: Any) -> int:
    return int(config.num_cls_tokens) + int(config.num_registers)


def _radio_pool(model: Any, tokens: Tensor) -> Tensor:
    """The mean of the summary tokens, one for each model that it was distilled from."""
    return tokens[:, model.summary_idxs].mean(dim=1)


def _siglip2_embed(model: Any, pixels: Tensor) -> Tensor:
    """Patches in the order of channels in which the processor cuts them, with positions for frames of one size."""
    from mmfuse.encoders.positions import SMOOTHED, stretched

    embeddings = model.embeddings
    patch, side = embeddings.patch_size, embeddings.position_embedding_size
    rows, columns = pixels.shape[-2] // patch, pixels.shape[-1] // patch
    cut = pixels.unflatten(2, (rows, patch)).unflatten(4, (columns, patch))  # (N, 3, rows, patch, columns, patch)
    tokens = embeddings.patch_embedding(cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2))
    table = embeddings.position_embedding.weight.unsqueeze(0)
    return tokens + stretched(table, (side, side), (rows, columns), (SMOOTHED, SMOOTHED))


def _siglip2_side(config: Mapping[str, Any]) -> int:
    return int(config.get("num_patches", 256) ** 0.5) * int(config.get("patch_size", 16))


def _aimv2_embed(model: Any, pixels: Tensor) -> Tensor:
    """Those of native resolution know any size; the positions of the others are stretched."""
    from mmfuse.encoders.positions import CUBIC, stretched

    embeddings = model.embeddings
    if model.config.is_native:
        return embeddings(pixels)
    patches = embeddings.patch_embed(pixels)  # (N, D, rows, columns)
    side = model.config.image_size // model.config.patch_size
    table = stretched(
        embeddings.position_embedding.weight.unsqueeze(0), (side, side), patches.shape[-2:], (CUBIC, CUBIC)
    )
    return embeddings.rms_norm(patches.flatten(2).transpose(1, 2)) + table


def _has_head(config: Mapping[str, Any]) -> bool:
    return bool(config.get("use_head", True))


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
        known=(Known("facebook/dinov2-base", patch=14, size=518, frames=1, licence="apache-2.0", gated=False),),
        model_class="Dinov2Model",
        checkpoints=("dinov2",),
        special_tokens=_cls,
        **_DINOV2,
    ),
    ImageArchitecture(
        model_type="dinov2_with_registers",
        family="DINOv2 with registers",
        known=(Known("facebook/dinov2-with-registers-base", patch=14, size=518, frames=1),),
        model_class="Dinov2WithRegistersModel",
        checkpoints=("dinov2_with_registers",),
        special_tokens=_cls_and_registers,
        **_DINOV2,
    ),
    ImageArchitecture(
        model_type="dinov3_vit",
        family="DINOv3",
        known=(
            Known(
                "facebook/dinov3-vitb16-pretrain-lvd1689m",
                patch=16,
                size=224,
                frames=1,
                licence="dinov3-license",
                gated=True,
            ),
        ),
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
        known=(Known("openai/clip-vit-base-patch16", patch=16, size=224, frames=1),),
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
        known=(Known("google/siglip2-base-patch16-224", patch=16, size=224, frames=1, licence="apache-2.0"),),
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
        known=(Known("google/vit-base-patch16-224-in21k", patch=16, size=224, frames=1),),
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
    ImageArchitecture(
        model_type="metaclip_2_vision_model",
        family="MetaCLIP 2",
        known=(Known("facebook/metaclip-2-worldwide-huge-quickgelu", patch=14, size=224, frames=1),),
        model_class="MetaClip2VisionModel",
        checkpoints=("metaclip_2", "metaclip_2_vision_model"),
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
        model_type="siglip2_vision_model",
        family="SigLIP 2 NaFlex",
        known=(Known("google/siglip2-base-patch16-naflex", patch=16, size=256, frames=1),),
        model_class="Siglip2VisionModel",
        checkpoints=("siglip2", "siglip2_vision_model"),
        layers=("encoder.layers",),
        final_norm="post_layernorm",
        parts=CLIP_PARTS,
        roles=CLIP_ROLES,
        readout=("head",),
        embed=_siglip2_embed,
        special_tokens=_no_special_tokens,
        attention_arguments=_no_mask,
        pool=_siglip_pool,
        side=_siglip2_side,
        lacks=_siglip_lacks,
        mean=HALF[0],
        std=HALF[1],
    ),
    ImageArchitecture(
        model_type="aimv2_vision_model",
        family="AIMv2",
        known=(Known("apple/aimv2-large-patch14-224-lit", patch=14, size=224, frames=1),),
        model_class="Aimv2VisionModel",
        checkpoints=("aimv2", "aimv2_vision_model"),
        layers=("encoder.layers",),
        final_norm="rms_norm",
        parts={"norm1": "rms_norm1", "attention": "attention", "norm2": "rms_norm2", "mlp": "ffn"},
        roles={
            "q": (("attention.q_proj",),),
            "k": (("attention.k_proj",),),
            "v": (("attention.v_proj",),),
            "o": (("attention.out_proj",),),
            "fc1": (("ffn.gate_proj", "ffn.up_proj"),),
            "fc2": (("ffn.down_proj",),),
        },
        readout=("head",),
        embed=_aimv2_embed,
        special_tokens=_no_special_tokens,
        attention_arguments=_no_mask,
        pool=_siglip_pool,
        summary=_has_head,
        mean=CLIP[0],
        std=CLIP[1],
    ),
    ImageArchitecture(
        model_type="tipsv2_vision_model",
        family="TIPS v2",
        known=(Known("google/tipsv2-b14", patch=14, size=448, frames=1),),
        model_class="Tipsv2VisionModel",
        checkpoints=("tipsv2", "tipsv2_vision_model"),
        layers=("encoder.layer",),
        final_norm="layernorm",
        parts=DINO_PARTS,
        roles=DINO_ROLES,
        unused=("mask_token",),
        embed=_embed,
        special_tokens=_cls_and_registers,
        attention_arguments=_nothing,
        mean=NONE[0],
        std=NONE[1],
    ),
    ImageArchitecture(
        model_type="radio",
        family="C-RADIO",
        known=(Known("nvidia/C-RADIOv4-H", patch=16, frames=1, licence="nvidia-open-model-license"),),
        model_class="RadioModel",
        checkpoints=("radio",),
        layers=("encoder.layer",),
        final_norm="",
        parts=DINO_PARTS,
        roles=DINO_ROLES,
        unused=("video_patch_projection",),
        embed=_radio_embed,
        special_tokens=_radio_tokens,
        attention_arguments=_nothing,
        pool=_radio_pool,
        mean=NONE[0],
        std=NONE[1],
    ),
)

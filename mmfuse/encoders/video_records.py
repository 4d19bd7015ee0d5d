"""The supported encoders of whole clips, one record each. No torch is imported here.

Shapes: B clips, T frames, T' steps, H, W pixels, S tokens, D width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmfuse.encoders.architectures import (
    ATTENTION_ROLES,
    HALF,
    IMAGENET,
    VIT_ROLES,
    ClipShape,
    Known,
    Names,
    Places,
    VideoArchitecture,
)

if TYPE_CHECKING:
    from torch import Tensor

VJEPA2_ROLES: dict[str, tuple[Names, ...]] = {
    "q": (("attention.query",),),
    "k": (("attention.key",),),
    "v": (("attention.value",),),
    "o": (("attention.proj",),),
    "fc1": (("mlp.fc1",),),
    "fc2": (("mlp.fc2",),),
}


def _side(value: Any) -> int:
    return int(value if isinstance(value, int) else min(value))


def _vjepa2_shape(config: Mapping[str, Any]) -> ClipShape:
    return ClipShape(
        frames=int(config.get("frames_per_clip", 64)),
        tubelet=int(config.get("tubelet_size", 2)),
        size=_side(config.get("crop_size", 256)),
        patch=_side(config.get("patch_size", 16)),
    )


def _videomae_shape(config: Mapping[str, Any]) -> ClipShape:
    return ClipShape(
        frames=int(config.get("num_frames", 16)),
        tubelet=int(config.get("tubelet_size", 2)),
        size=_side(config.get("image_size", 224)),
        patch=_side(config.get("patch_size", 16)),
    )


def _vivit_shape(config: Mapping[str, Any]) -> ClipShape:
    tubelet = config.get("tubelet_size", (2, 16, 16))
    frames, size = int(config.get("num_frames", 32)), _side(config.get("image_size", 224))
    return ClipShape(frames=frames, tubelet=int(tubelet[0]), size=size, patch=int(tubelet[1]))


def _vjepa2_embed(model: Any, pixels: Tensor) -> Tensor:
    return model.encoder.embeddings(pixels)


def _vjepa2_places(model: Any, pixels: Tensor) -> Places:
    """Numbers of the patches, (S,), as its attention counts them: on a square grid, step by step.

    The model takes the side of that grid from its configuration, whatever it is given, so that patches of frames of
    another size would be counted into wrong rows.
    """
    from mmfuse.encoders.positions import grid_numbers

    patch = _side(model.config.patch_size)
    steps, rows, columns = pixels.shape[1] // model.config.tubelet_size, *(side // patch for side in pixels.shape[-2:])
    side = max(rows, columns)
    for layer in model.encoder.layer:
        layer.attention.grid_size = side
    return grid_numbers(steps, rows, columns, side=side, device=pixels.device)


def _vjepa2_attention_arguments(places: Places, hidden: Tensor) -> dict[str, Any]:
    """Whatever a method puts before the patches gets number 0, at which nothing is rotated."""
    from torch.nn import functional

    return {"position_mask": functional.pad(places, (hidden.shape[1] - len(places), 0)).unsqueeze(0)}


def _videomae_embed(model: Any, pixels: Tensor) -> Tensor:
    from mmfuse.encoders.positions import resized

    embeddings = model.embeddings
    patches = embeddings.patch_embeddings.projection(pixels.transpose(1, 2))  # (B, D, T', rows, columns)
    table = embeddings.position_embeddings.to(patches)
    return patches.flatten(2).transpose(1, 2) + resized(table, _videomae_shape(model.config.to_dict()), patches)


def _vivit_embed(model: Any, pixels: Tensor) -> Tensor:
    """Positions of other sizes are the project's own: those of the model take time for a second side of the frame."""
    import torch

    from mmfuse.encoders.positions import resized

    embeddings = model.embeddings
    patches = embeddings.patch_embeddings.projection(pixels.transpose(1, 2))
    cls, table = embeddings.position_embeddings.split([1, embeddings.position_embeddings.shape[1] - 1], dim=1)
    tokens = patches.flatten(2).transpose(1, 2) + resized(table, _vivit_shape(model.config.to_dict()), patches)
    return torch.cat([(embeddings.cls_token + cls).expand(len(tokens), -1, -1), tokens], dim=1)


def _no_special_tokens(config: Any) -> int:
    return 0


def _cls(config: Any) -> int:
    return 1


def _nothing(places: Places, hidden: Tensor) -> dict[str, Any]:
    return {}


def _pools_before_its_norm(model: Any) -> bool:
    return bool(model.config.use_mean_pooling)


def _no_summary(config: Mapping[str, Any]) -> bool:
    return False


RECORDS = (
    VideoArchitecture(
        model_type="vjepa2",
        family="V-JEPA 2",
        known=(
            Known("facebook/vjepa2-vitl-fpc64-256", patch=16, size=256, frames=64),
            Known("facebook/vjepa2-vitg-fpc64-384", patch=16, size=384, frames=64, licence="apache-2.0"),
        ),
        model_class="VJEPA2Model",
        checkpoints=("vjepa2",),
        layers=("encoder.layer",),
        final_norm="encoder.layernorm",
        parts={"norm1": "norm1", "attention": "attention", "norm2": "norm2", "mlp": "mlp"},
        roles=VJEPA2_ROLES,
        discarded=("predictor",),
        embed=_vjepa2_embed,
        special_tokens=_no_special_tokens,
        attention_arguments=_vjepa2_attention_arguments,
        places=_vjepa2_places,
        summary=_no_summary,
        shape=_vjepa2_shape,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    VideoArchitecture(
        model_type="videomae",
        family="VideoMAE",
        known=(
            Known("MCG-NJU/videomae-large", patch=16, size=224, frames=16, licence="cc-by-nc-4.0"),
            Known("MCG-NJU/videomae-base-finetuned-kinetics", patch=16, size=224, frames=16, licence="cc-by-nc-4.0"),
        ),
        model_class="VideoMAEModel",
        checkpoints=("videomae",),
        layers=("encoder.layer",),
        final_norm="layernorm",
        # Fine-tuned ones norm the mean of all patches, behind the model, in place of each.
        without_final_norm=_pools_before_its_norm,
        parts={
            "norm1": "layernorm_before",
            "attention": "attention",
            "norm2": "layernorm_after",
            "mlp": ("intermediate", "output.dense"),
        },
        roles=VIT_ROLES,
        embed=_videomae_embed,
        special_tokens=_no_special_tokens,
        attention_arguments=_nothing,
        summary=_no_summary,
        shape=_videomae_shape,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    VideoArchitecture(
        model_type="vivit",
        family="ViViT",
        known=(Known("google/vivit-b-16x2-kinetics400", patch=16, size=224, frames=32),),
        model_class="VivitModel",
        checkpoints=("vivit",),
        options={"add_pooling_layer": False},
        layers=("layers", "encoder.layer"),
        final_norm="layernorm",
        parts={"norm1": "layernorm_before", "attention": "attention", "norm2": "layernorm_after", "mlp": "mlp"},
        roles={**ATTENTION_ROLES, "fc1": (("mlp.fc1",),), "fc2": (("mlp.fc2",),)},
        unused=("pooler",),
        embed=_vivit_embed,
        special_tokens=_cls,
        attention_arguments=_nothing,
        shape=_vivit_shape,
        mean=HALF[0],
        std=HALF[1],
    ),
)

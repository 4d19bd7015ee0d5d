"""Where each architecture keeps its layers, norms and linear maps.

All supported towers are pre-norm transformers, so one set of roles fits them all:

    x = x + scale1(attention(norm1(x)))
    x = x + scale2(mlp(norm2(x)))

Only the names differ, between architectures and between releases of `transformers` (DINOv2's query was
`attention.attention.query` before it became `attention.q_proj`). They are therefore found by looking at the model at
hand, not by a table of model types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    from torch import nn

IMAGE_MODELS = {
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "vit": "ViTModel",
}
TEXT_MODELS = {
    "clip": "CLIPTextModelWithProjection",
    "clip_text_model": "CLIPTextModelWithProjection",
    "siglip": "SiglipTextModel",
    "siglip_text_model": "SiglipTextModel",
}
CHECKPOINTS = {"image": IMAGE_MODELS, "text": TEXT_MODELS}
"""By kind of tower: the model types of checkpoints that are read, and the class that reads them."""
# A pooler that the tower does not read: without it, a checkpoint that lacks one gets no random weights in its place.
OPTIONS: dict[str, dict[str, Any]] = {"ViTModel": {"add_pooling_layer": False}}

LAYERS = ("encoder.layer", "encoder.layers", "model.layer", "text_model.encoder.layers", "layers", "layer")
FINAL_NORM = ("layernorm", "norm", "post_layernorm", "final_layer_norm", "text_model.final_layer_norm")
PARTS: dict[str, tuple[str, ...]] = {
    "norm1": ("norm1", "layer_norm1", "layernorm_before"),
    "attention": ("attention", "self_attn"),
    "scale1": ("layer_scale1",),
    "norm2": ("norm2", "layer_norm2", "layernorm_after"),
    "mlp": ("mlp",),
    "scale2": ("layer_scale2",),
}
OPTIONAL_PARTS = {"scale1", "scale2"}
# A gated MLP has two maps into the hidden units; `fc1` then stands for both, as each hidden unit has a row in each.
ROLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "q": (("attention.q_proj",), ("self_attn.q_proj",), ("attention.attention.query",)),
    "k": (("attention.k_proj",), ("self_attn.k_proj",), ("attention.attention.key",)),
    "v": (("attention.v_proj",), ("self_attn.v_proj",), ("attention.attention.value",)),
    "o": (("attention.o_proj",), ("self_attn.out_proj",), ("attention.output.dense",)),
    "fc1": (
        ("mlp.fc1",),
        ("mlp.gate_proj", "mlp.up_proj"),
        ("mlp.up_proj",),
        ("mlp.weights_in",),
        ("intermediate.dense",),
    ),
    "fc2": (("mlp.fc2",), ("mlp.down_proj",), ("mlp.weights_out",), ("output.dense",)),
}


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
    parts: dict[str, str]
    roles: dict[str, tuple[str, ...]]


def submodule(module: nn.Module, path: str) -> nn.Module | None:
    """The submodule at a dotted path, or None."""
    from torch import nn

    for name in path.split("."):
        child = getattr(module, name, None)
        if not isinstance(child, nn.Module):
            return None
        module = child
    return module


def find_layout(model: nn.Module) -> Layout:
    """Find where a pre-norm transformer of `transformers` keeps its parts.

    Raises:
        MmfuseError: the model is not built as the module's docstring says.
    """
    from torch import nn

    kind = type(model).__name__
    layers_path = _first(model, LAYERS, f"{kind}: no list of transformer layers found")
    layers = submodule(model, layers_path)
    if not isinstance(layers, nn.ModuleList) or len(layers) == 0:
        raise MmfuseError(f"{kind}: {layers_path} is not a list of transformer layers")
    layer = layers[0]
    parts = {}
    for part, candidates in PARTS.items():
        found = [path for path in candidates if submodule(layer, path) is not None]
        if found:
            parts[part] = found[0]
        elif part not in OPTIONAL_PARTS:
            raise MmfuseError(f"{kind}: its layers have no {part}; it is not a pre-norm vision or text transformer")
    roles = {}
    for role, alternatives in ROLES.items():
        for paths in alternatives:
            if all(isinstance(submodule(layer, path), nn.Linear) for path in paths):
                roles[role] = paths
                break
    return Layout(layers_path, _first(model, FINAL_NORM, f"{kind}: no norm after its layers"), parts, roles)


def _first(model: nn.Module, candidates: tuple[str, ...], otherwise: str) -> str:
    for path in candidates:
        if submodule(model, path) is not None:
            return path
    raise MmfuseError(otherwise)

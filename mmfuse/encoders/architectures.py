"""What a record of an architecture says: how a model is embedded, walked and read out. No torch is imported here.

All are transformers whose layers have one of two forms, so one set of parts fits them all:

    x = x + scale1(attention(norm1(x)))        norms before (pre-norm)
    x = x + scale2(mlp(norm2(x)))

    x = norm1(x + attention(x))                norms after (post-norm), as in BERT
    x = norm2(x + mlp(x))

A record says everything in which one differs from another; the towers ask it and know no model types. Names of modules
also change between releases of `transformers` (DINOv2's query was `attention.attention.query` before it became
`attention.q_proj`). A record therefore lists alternatives, and `find_layout` looks which of them a model has.

The records are in `image_records`, `video_records` and `text_records`; `supported` finds them by model type.

Shapes: B clips, T frames, N frames or prompts, S tokens, D width of a token, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    from torch import Tensor, nn

Names = tuple[str, ...]
Places = Any
"""What an architecture's attention needs to know of where the patches are: rotary positions, or their numbers."""


@dataclass(frozen=True)
class Layout:
    """Names of the parts of one model.

    Args:
        layers: path of the list of layers in the model.
        final_norm: path of the norm after the last layer; empty where there is none.
        parts: role of a part ("norm1", "attention", …) -> its path in a layer, or several that are run one after the
            other; absent parts are left out.
        roles: role of a linear map ("q", …, "fc2") -> its paths in a layer.
    """

    layers: str
    final_norm: str
    parts: Mapping[str, str | Names]
    roles: Mapping[str, Names]


@dataclass(frozen=True)
class Known:
    """A public checkpoint of an architecture, for `list encoders`.

    Args:
        name: hub id.
        patch, size: side of a patch and of the frames it was trained on, in pixels; `None` for a text encoder.
        frames: that it reads at once; `None` for encoders of single frames and of texts.
        licence: as its publisher names it; `None` where that is not known here.
        gated: whether the hub asks for a log-in and an agreement first; `None` where that is not known here.
    """

    name: str
    patch: int | None = None
    size: int | None = None
    frames: int | None = None
    licence: str | None = None
    gated: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What image and text encoders have in common.

    Args:
        model_type: `model_type` of the model's own configuration.
        family: what it is called in the literature.
        model_class: its class in `transformers`.
        checkpoints: model types of the config.json files from which it is read; a full CLIP holds both towers.
        options: further arguments of the class's `from_pretrained`.
        layers: path of the list of layers, in alternatives.
        final_norm: path of the norm after the layers; empty where there is none.
        without_final_norm: of a model: whether it has none for a good reason.
        post_norm: norms come after the residual sums, and not before attention and MLP.
        parts: role of a part of a layer -> its path in the layer, or several that are run one after the other.
            "scale1", "scale2" and "attention_output", which follows the attention, may be absent.
        roles: role of a linear map -> alternatives of its paths in a layer. A gated MLP has two maps into its hidden
            units; "fc1" then stands for both, as each hidden unit has a row in each.
        readout: modules that make the output from what the final norm gives.
        unused: modules and weights of the model that the tower never reads.
        discarded: modules that are taken out of the model when it is loaded, and need not be in a checkpoint.
        known: public checkpoints.
    """

    model_type: str
    family: str
    model_class: str
    checkpoints: Names
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: Names
    final_norm: str
    without_final_norm: Callable[[Any], bool] | None = None
    post_norm: bool = False
    parts: Mapping[str, str | Names]
    roles: Mapping[str, tuple[Names, ...]]
    readout: Names = ()
    unused: Names = ()
    discarded: Names = ()
    known: tuple[Known, ...] = ()


def _always(config: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class ImageArchitecture(Architecture):
    """An encoder of single frames.

    Args:
        embed: the model and pixels (N, 3, H, W) to tokens (N, S, D), special tokens first.
        special_tokens: of a configuration: how many tokens stand before the patches (CLS, registers).
        attention_arguments: what a layer's attention takes beside its input (N, S, D), given where the patches are.
        places: of the model and pixels of which only the size matters; None where the attention asks for no positions.
        pool: the model and its normed tokens to one vector (N, D), in the place of a CLS token.
        summary: of a configuration, as a mapping: whether there is such a vector, or a CLS token; without it the
            feature of a frame is the mean of its patches.
        side: of a configuration, as a mapping: side of the frames it was trained on, in pixels, where it is not its
            `image_size`.
        lacks: what a model lacks that the tower needs, in words; None where it lacks nothing.
        mean, std: of the pixels that it was trained with, a channel, on the scale 0…1.
    """

    embed: Callable[[Any, Tensor], Tensor]
    special_tokens: Callable[[Any], int]
    attention_arguments: Callable[[Places, Tensor], dict[str, Any]]
    places: Callable[[Any, Tensor], Places] | None = None
    pool: Callable[[Any, Tensor], Tensor] | None = None
    summary: Callable[[Mapping[str, Any]], bool] = _always
    side: Callable[[Mapping[str, Any]], int] | None = None
    lacks: Callable[[Any], str | None] | None = None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class ClipShape:
    """What a video encoder was trained on.

    Args:
        frames: T.
        tubelet: frames that one patch reaches over, which make one step of time.
        size: side of the frames, in pixels.
        patch: side of a patch, in pixels.
    """

    frames: int
    tubelet: int
    size: int
    patch: int


@dataclass(frozen=True, kw_only=True)
class VideoArchitecture(ImageArchitecture):
    """An encoder of whole clips: its patches are of space and time, and its attention goes over both.

    `embed` takes pixels (B, T, 3, H, W) and gives tokens (B, S, D): special ones, then the patches, step by step in
    time and row by row within a step.

    Args:
        shape: of a configuration, as a mapping: what it was trained on.
    """

    shape: Callable[[Mapping[str, Any]], ClipShape]


def _plain_words(embeddings: Any, words: Tensor) -> Tensor:
    """Words (C, S, D) with the positions of CLIP's kind of embeddings added."""
    return words + embeddings.position_embedding.weight[: words.shape[1]]


def _from_zero(config: Any) -> int:
    return 0


@dataclass(frozen=True, kw_only=True)
class TextArchitecture(Architecture):
    """An encoder of prompts.

    Args:
        embeddings: path of the module that holds the embeddings of tokens and of positions.
        words: name of the embeddings of tokens in it.
        embed: that module and words (C, S, D) to tokens (C, S, D).
        first_position: of a configuration: number of the position that the first token has.
        sees: what a token sees, and what is pooled. "before": those before it, so that padding behind the end changes
            nothing, and the end token is pooled. "all": padding too, which always fills the context, and whose last
            place is pooled. "text": all but padding; what is pooled, the checkpoint says (`mmfuse.encoders.pooling`).
        start_tokens: how many tokens the tokenizer puts before the words.
        lowercase: it was trained on texts in lower case, whatever its tokenizer does.
        bias: of a model and a length S: what is added to the scores of attention, (1, heads, S, S); None for nothing.
        projection: path of the module that makes the embedding of what is pooled; empty where there is none.
        projection_width: key of the configuration that tells its width.
        revision: raise it when texts are read in another way than before, so that records made before are not compared.
    """

    embeddings: str
    words: str = "token_embedding"
    embed: Callable[[Any, Tensor], Tensor] = _plain_words
    first_position: Callable[[Any], int] = _from_zero
    sees: Literal["before", "all", "text"]
    start_tokens: int
    lowercase: bool = False
    bias: Callable[[Any, int], Tensor] | None = None
    projection: str
    projection_width: str
    revision: int = 0


def find_layout(model: nn.Module, architecture: Architecture) -> Layout:
    """Which of the names in a record a model has.

    Raises:
        MmfuseError: it lacks a part, as after a change in `transformers`.
    """
    kind = type(model).__name__
    layers = next((path for path in architecture.layers if submodule(model, path) is not None), None)
    stack: Any = None if layers is None else submodule(model, layers)
    if layers is None or len(stack) == 0 or not _has_final_norm(model, architecture):
        raise MmfuseError(f"{kind} has no transformer layers, or no norm after them")
    lacking = [
        part
        for part, paths in architecture.parts.items()
        if any(submodule(stack[0], path) is None for path in as_names(paths))
    ]
    if lacking:
        raise MmfuseError(f"{kind}: its layers have no {lacking[0]}; this release of transformers is not supported")
    roles = {}
    for role, alternatives in architecture.roles.items():
        for paths in alternatives:
            if all(submodule(stack[0], path) is not None for path in paths):
                roles[role] = paths
                break
    final_norm = architecture.final_norm if submodule(model, architecture.final_norm) is not None else ""
    return Layout(layers, final_norm, architecture.parts, roles)


def _has_final_norm(model: nn.Module, architecture: Architecture) -> bool:
    """Whether the norm after the layers is where it should be; a record may say when a model has none."""
    if not architecture.final_norm:
        return True
    without = architecture.without_final_norm
    return submodule(model, architecture.final_norm) is not None or (without is not None and without(model))


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a layer norm; models bring classes of their own for those without mean."""
    names = {kind.__name__ for kind in type(module).__mro__}
    return "LayerNorm" in names or any(name.endswith("RMSNorm") for name in names)


def as_names(paths: str | Names) -> Names:
    """One path or several as a tuple."""
    return (paths,) if isinstance(paths, str) else paths


def submodule(module: nn.Module, path: str) -> nn.Module | None:
    """The submodule at a dotted path, or None; an empty path leads nowhere."""
    try:
        return module.get_submodule(path) if path else None
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

"""What a folder holds that is not a supported tower, and what can be done about it, in one line. No torch here.

Nothing in this module decides whether a tower is supported; it only explains a refusal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mmfuse.encoders.supported import CHECKPOINTS, supported_families

SUPPORTED = {
    "image": f"image towers are {supported_families('image')}, such as facebook/dinov2-base",
    "text": f"text towers are {supported_families('text')}, such as openai/clip-vit-base-patch16",
}


@dataclass(frozen=True)
class Unsupported:
    """A well-known encoder that is not supported.

    Args:
        title: what it is called in the literature.
        spelled: how names of its checkpoints contain it, in lower case.
        kind: "image", "text" or "video".
        why: in a few words.
        nearest: a checkpoint that is supported and like it.
    """

    title: str
    spelled: tuple[str, ...]
    kind: str
    why: str
    nearest: str


NO_CLASS = "transformers has no class of its own for it, and foreign code is never run"
UNSUPPORTED = (
    Unsupported("VideoMAE v2", ("videomaev2", "videomae-v2"), "video", NO_CLASS, "MCG-NJU/videomae-large"),
    Unsupported("InternVideo2", ("internvideo",), "video", NO_CLASS, "facebook/vjepa2-vitl-fpc64-256"),
    Unsupported("V-JEPA 2.1", ("vjepa2.1", "vjepa2_1"), "video", NO_CLASS, "facebook/vjepa2-vitl-fpc64-256"),
    Unsupported(
        "VideoPrism",
        ("videoprism",),
        "video",
        "its attention is over space and then over time, in two stacks of layers",
        "facebook/vjepa2-vitl-fpc64-256",
    ),
    Unsupported(
        "TimeSformer",
        ("timesformer",),
        "video",
        "its layers attend over time and space apart",
        "google/vivit-b-16x2-kinetics400",
    ),
    Unsupported("EVA-CLIP", ("eva-clip", "eva02", "eva_clip"), "image", NO_CLASS, "openai/clip-vit-base-patch16"),
    Unsupported("MobileCLIP2", ("mobileclip",), "image", NO_CLASS, "google/siglip2-base-patch16-224"),
    Unsupported("OpenVision", ("openvision",), "image", NO_CLASS, "openai/clip-vit-base-patch16"),
    Unsupported(
        "Perception Encoder",
        ("pe-core", "pe_core", "vit_pe_"),
        "image",
        "transformers reads it through timm, whose layers have one map for query, key and value",
        "google/siglip2-base-patch16-224",
    ),
)


def by_name(name: str) -> Unsupported | None:
    """The encoder that the name of a checkpoint tells of, where it is a well-known one that is not supported."""
    plain = name.lower()
    return next((one for one in UNSUPPORTED if any(spelling in plain for spelling in one.spelled)), None)


def nearest(name: str) -> str:
    """The name of a supported checkpoint that is like a well-known unsupported one, as the end of a line."""
    one = by_name(name)
    return "" if one is None else f"; {one.title} is not supported ({one.why}); the nearest that is: {one.nearest}"


PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".bin", ".tar")
# What a file says of the folder that it lies in, where there is no config.json.
KNOWN_FILES = {
    "recognizer.json": "is a recogniser that `mmfuse train` wrote, which `mmfuse predict` reads; "
    "its towers are named in recognizer.json",
    "adapter_config.json": "is an adapter of huggingface/peft; give the tower that it was trained on",
    "model_index.json": "is a diffusion pipeline; give the folder of one of its parts",
    "modules.json": "is a folder of sentence-transformers",
    "open_clip_config.json": "is an open_clip checkpoint; give the same model in the layout of transformers",
}
# Tasks for which `transformers` lists a model type, in the order in which they are asked, and what that makes of it.
TASKS = (
    (("VIDEO_CLASSIFICATION",), "a video encoder, which reads whole clips"),
    (("AUDIO_CLASSIFICATION", "SPEECH_SEQ_2_SEQ", "CTC"), "an audio model"),
    (("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM"), "a language model that reads images"),
    (("ZERO_SHOT_IMAGE_CLASSIFICATION",), "a pair of an image and a text encoder"),
    (("MASKED_LM", "TEXT_ENCODING"), "an encoder of words or sentences that was trained on text alone"),
    (("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM"), "a language model"),
    (("IMAGE_CLASSIFICATION", "BACKBONE", "IMAGE"), "an image encoder"),
)
VIDEO = ("video", "vjepa", "xclip")
"""In the model types of video encoders that `transformers` lists for no such task."""


def without_config(files: Collection[str]) -> str:
    """What a folder is that has no config.json.

    Args:
        files: names of its files, and of those in its folders as "folder/file".

    >>> without_config(["adapter_config.json", "adapter_model.safetensors"])
    'is an adapter of huggingface/peft; give the tower that it was trained on'
    """
    nested = sorted(str(PurePosixPath(file).parent) for file in files if PurePosixPath(file).name == "config.json")
    known = next((text for file, text in KNOWN_FILES.items() if file in files), None)
    if any(file.startswith("snapshots/") for file in files):
        known = "is a folder of the hub's cache; give the hub id of its tower"
    elif nested:
        known = f"{known or 'has no config.json'}; there is one in {nested[0]}: give the path of that folder"
    return known or f"has no config.json{_foreign_weights(files)}; give a folder that `save_pretrained` wrote"


def without_weights(files: Collection[str]) -> str:
    """What a folder is that has a config.json, but neither model.safetensors nor pytorch_model.bin.

    Args: as `without_config`.

    >>> without_weights(["config.json", "model.fp16.safetensors"])
    'has no weights called model.safetensors or pytorch_model.bin, only model.fp16.safetensors; give it that name'
    """
    lacking = "has no weights called model.safetensors or pytorch_model.bin"
    if other := sorted(file for file in files if file.endswith(".safetensors")):
        remedy = "give it that name" if len(other) == 1 else "fetch its index, model.safetensors.index.json"
        return f"{lacking}, only {_some(other)}; {remedy}"
    return f"{lacking}{_foreign_weights(files)}; fetch it again, or write it with `save_pretrained` of transformers"


def of_config(config: Mapping[str, Any], kind: str) -> str:
    """What a checkpoint is whose `model_type` is not one of those that are supported.

    Args:
        config: of config.json.
        kind: of the tower that was asked for, "image" or "text".

    >>> of_config({"architecture": "vit_small_patch14_dinov2", "num_classes": 0}, "text")[:46]
    "is a timm model ('vit_small_patch14_dinov2'), "
    """
    model_type, named = config.get("model_type"), config.get("architecture")
    if model_type == "timm_wrapper" or (model_type is None and isinstance(named, str)):
        own = " of the Perception Encoder" if str(named).startswith(("vit_pe_", "pe_")) else ""
        found = f"is a timm model{own} ({str(named)!r:.60}), and weights of timm are not supported"
    elif not isinstance(model_type, str):
        found = "has a config.json without a model_type"
    else:
        found = f"is a {model_type!r:.60} checkpoint, {_described(model_type, config)}"
    return f"{found}; {SUPPORTED[kind]}; docs/adding-a-tower.md says how an architecture is added"


def _described(model_type: str, config: Mapping[str, Any]) -> str:
    for kind, supported in CHECKPOINTS.items():
        if model_type in supported:
            return f"a supported {kind} tower, but of that kind alone"
    if any(word in model_type for word in VIDEO):
        return TASKS[0][1]
    # Imported here, since it imports torch: the price of an answer, not of a check that passes.
    from transformers.models.auto import modeling_auto

    for tasks, description in TASKS:
        if any(model_type in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES", ()) for task in tasks):
            return description
    if "auto_map" in config:
        return "whose code comes with it, and foreign code is never run"
    return "which is not supported"


def _foreign_weights(files: Collection[str]) -> str:
    """The weights in formats that are not read, as ", only …"."""
    pickles = sorted(file for file in files if file.endswith(PICKLES) and "/" not in file)
    if pickles:
        return f", only {_some(pickles)}: pickles are not read, as they can run code"
    other = sorted(file for file in files if file.endswith((".h5", ".msgpack", ".gguf", ".onnx", ".npz")))
    return f", only {_some(other)}, a format that is not read" if other else ""


def _some(files: list[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")

"""Loading a tower by name: embedded, a folder in hub layout, or a hub id."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers

from mmfuse.encoders.tower import ImageTower, TextTower
from mmfuse.errors import MmfuseError
from mmfuse.resources import assets_folder

EMBEDDED = {"tiny-dinov2": "image", "tiny-clip-text": "text"}
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
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Heads that no tower uses: a checkpoint may lack them.
UNUSED_HEADS = ("pooler.",)


def load_image_tower(name: str) -> ImageTower:
    """Load a frozen image tower.

    Args:
        name: an embedded tower ("tiny-dinov2"), a folder in hub layout, or a hub id ("facebook/dinov2-base").

    Raises:
        MmfuseError: it cannot be found, is not an image tower, or its weights are incomplete.
    """
    source = _resolve(name, "image")
    model = _load(source, name, IMAGE_MODELS, "image")
    mean, std = _pixel_statistics(source)
    return ImageTower(model, name=name, mean=mean, std=std)


def load_text_tower(name: str) -> TextTower:
    """Load a frozen text tower with its tokenizer.

    Args:
        name: an embedded tower ("tiny-clip-text"), a folder in hub layout, or a hub id
            ("openai/clip-vit-base-patch16").

    Raises:
        MmfuseError: it cannot be found, is not a text tower, or its weights are incomplete.
    """
    source = _resolve(name, "text")
    model = _load(source, name, TEXT_MODELS, "text")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise MmfuseError(f"text tower {name!r}: its tokenizer cannot be read: {_one_line(error)}") from error
    return TextTower(model, tokenizer=tokenizer, name=name)


def _resolve(name: str, kind: str) -> str:
    """Where the tower lies: a folder, or the hub id as it is."""
    if name in EMBEDDED:
        if EMBEDDED[name] != kind:
            raise MmfuseError(f"{name!r} is the embedded {EMBEDDED[name]} tower; a {kind} tower is wanted")
        return str(assets_folder() / name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise MmfuseError(f"{kind} tower {name!r}: the folder has no config.json; bring it in hub layout")
        return str(folder)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or os.sep not in name
    if looks_local:
        raise MmfuseError(
            f"{kind} tower {name!r} is neither an embedded tower ({', '.join(EMBEDDED)}), nor a folder that exists, "
            "nor a hub id of the form owner/name"
        )
    return name


def _load(source: str, name: str, models: dict[str, str], kind: str) -> Any:
    config = _read_config(source, name, kind)
    if config.model_type not in models:
        raise MmfuseError(
            f"{kind} tower {name!r} is a {config.model_type!r} checkpoint; known here: {', '.join(sorted(models))}"
        )
    architecture = getattr(transformers, models[config.model_type])
    try:
        model, report = architecture.from_pretrained(
            source, dtype=torch.float32, attn_implementation="sdpa", weights_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise MmfuseError(f"{kind} tower {name!r} cannot be loaded: {_one_line(error)}") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(UNUSED_HEADS))
    mismatched = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report["mismatched_keys"])
    for fault, keys in (("lacks", missing), ("has other shapes for", mismatched)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise MmfuseError(f"{kind} tower {name!r}: the checkpoint {fault} {', '.join(keys[:3])}{more}")
    return model


def _read_config(source: str, name: str, kind: str) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        if Path(source).is_dir():
            raise MmfuseError(f"{kind} tower {name!r}: config.json cannot be read: {_one_line(error)}") from error
        raise MmfuseError(
            f"{kind} tower {name!r} cannot be reached on the hub and is not in its cache; download its folder on "
            "another machine (`hf download`) and give the path of that folder instead"
        ) from error


def _pixel_statistics(source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std from the checkpoint's own preprocessor file; ImageNet's where it has none."""
    try:
        path = transformers.utils.cached_file(
            source, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
        )
    except OSError:
        path = None
    if path is None:
        return IMAGENET_MEAN, IMAGENET_STD
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    return tuple(settings.get("image_mean", IMAGENET_MEAN)), tuple(settings.get("image_std", IMAGENET_STD))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

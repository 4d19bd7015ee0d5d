"""What a checkpoint's own files say of the frames it was trained on, and how pixels are normalised. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfuse.encoders.architectures import IMAGENET, Architecture, ClipShape, ImageArchitecture, VideoArchitecture
from mmfuse.encoders.supported import CHECKPOINTS
from mmfuse.errors import MmfuseError, one_line
from mmfuse.utils.files import parse_json

FILES = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")

ROUNDING = 1e-6  # of 1/255, as files write it


@dataclass(frozen=True)
class Preprocessing:
    """How a checkpoint wants its frames.

    Args:
        size: side of the square in pixels; `None` where the files do not say.
        mean, std: of the pixels, a channel, on the scale 0..1.
        clip: what a video encoder was trained on; `None` for an encoder of single frames.
        patch: side of a patch in pixels; `None` where the files do not say.
        has_summary: whether a CLS token or a pooling head sums a frame up.
    """

    size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: ClipShape | None = None
    patch: int | None = None
    has_summary: bool = True


def read_preprocessing(folder: Path, name: str) -> Preprocessing:
    """Read a checkpoint's files, without its weights.

    The size is what the preprocessor crops to, else what it scales to, else the `image_size` of config.json; mean and
    std are the preprocessor's, else those that the architecture was trained with.

    Args:
        folder: in hub layout.
        name: what the tower is called in messages.

    Raises:
        MmfuseError: a file that cannot be read, or numbers by which no pixel can be normalised.
    """
    config = _read(folder / "config.json", name)
    settings: Mapping[str, Any] = {}
    for file in FILES:
        if (folder / file).is_file():
            content = _read(folder / file, name)
            settings = content.get("image_processor", content.get("video_processor", content))
            break
    if settings.get("do_flip_channel_order"):
        raise MmfuseError(f"image tower {name!r} reads blue before red, which is not supported")
    architecture = CHECKPOINTS["image"].get(str(config.get("model_type")))
    mean, std = _normalisation(settings, architecture)
    if not (len(mean) == len(std) == 3 and all(value > 0 for value in std)):
        raise MmfuseError(f"image tower {name!r}: pixels cannot be normalised with mean {mean} and std {std}")
    clip = architecture.shape(config) if isinstance(architecture, VideoArchitecture) else None
    own = _own_settings(config)
    return Preprocessing(
        size=_size(settings, own) or (None if clip is None else clip.size) or _own_side(architecture, own),
        mean=mean,
        std=std,
        clip=clip,
        patch=clip.patch if clip else _one_number(own.get("patch_size")),
        has_summary=not isinstance(architecture, ImageArchitecture) or architecture.summary(own),
    )


def _own_side(architecture: Architecture | None, own: Mapping[str, Any]) -> int | None:
    if not isinstance(architecture, ImageArchitecture) or architecture.side is None:
        return None
    return architecture.side(own)


def _own_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config.json says of the image tower, of which it may hold a text tower's beside."""
    nested = config.get("vision_config")
    return nested if isinstance(nested, dict) else config


def _one_number(value: Any) -> int | None:
    """A side in pixels, of one that is written as a number or as equal numbers."""
    sides = set(value) if isinstance(value, list | tuple) else {value}
    side = sides.pop() if len(sides) == 1 else None
    return side if isinstance(side, int) and not isinstance(side, bool) and side > 0 else None


def _normalisation(
    settings: Mapping[str, Any], architecture: Architecture | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of pixels on the scale 0…1, with whatever a preprocessor does to their scale before folded in.

    From a byte p it makes ((p · factor) - shift - mean) / std: factor is 1/255 by default, or 1 where it does not
    rescale; ViViT's takes 1/127.5, and shifts by 1.
    """
    usual = (architecture.mean, architecture.std) if isinstance(architecture, ImageArchitecture) else IMAGENET
    mean, std = settings.get("image_mean") or usual[0], settings.get("image_std") or usual[1]
    if settings.get("do_normalize") is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    factor = 255.0 * (settings.get("rescale_factor") or 1 / 255) if settings.get("do_rescale") is not False else 255.0
    shift = 1.0 if settings.get("offset") and settings.get("do_rescale") is not False else 0.0
    if abs(factor - 1) < ROUNDING and not shift:
        return tuple(map(float, mean)), tuple(map(float, std))
    return tuple((value + shift) / factor for value in mean), tuple(value / factor for value in std)


def _read(path: Path, name: str) -> Mapping[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no keys")
    except (OSError, ValueError) as error:
        raise MmfuseError(f"image tower {name!r}: {path.name} cannot be read: {one_line(error)}") from error
    return content


def _size(settings: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """The first of the places that tells the side of a square."""
    cropped = settings.get("crop_size") if settings.get("do_center_crop") is not False else None
    scaled = settings.get("size") if settings.get("do_resize") is not False else None
    for size in (cropped, scaled, config.get("image_size")):
        stated = size
        if isinstance(size, Mapping):
            stated = [size[key] for key in ("height", "width", "shortest_edge") if key in size]
        if (side := _one_number(stated)) is not None:
            return side
    return None


def refuse_frames(frames: int, *, tubelet: int, name: str) -> None:
    """Refuse a number of frames that is not a whole number of steps.

    Raises:
        MmfuseError: with the nearest numbers that are.
    """
    if frames < tubelet or frames % tubelet:
        below = max(frames // tubelet, 1) * tubelet
        raise MmfuseError(
            f"{frames} frames a clip cannot be cut into the steps of {tubelet} frames that {name!r} reads; "
            f"use {below} or {below + tubelet}"
        )


def refuse_size(size: int | None, *, patch: int | None, name: str) -> None:
    """Refuse a frame side that is not a whole number of patches; one that is not known is let pass.

    Raises:
        MmfuseError: with the nearest sides that are.
    """
    if size is None or patch is None:
        return
    if size < patch or size % patch:
        below = max(size // patch, 1) * patch
        raise MmfuseError(
            f"frames of {size} pixels cannot be cut into the {patch}-pixel patches of {name!r}; use {below} or "
            f"{below + patch}"
        )

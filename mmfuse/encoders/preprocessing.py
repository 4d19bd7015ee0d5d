"""What an image checkpoint's own files say of the pixels it was trained on: frame size, mean and std. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfuse.encoders.architectures import CHECKPOINTS, IMAGENET, ImageArchitecture
from mmfuse.errors import MmfuseError, one_line
from mmfuse.utils.files import parse_json

FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Preprocessing:
    """How a checkpoint wants its frames.

    Args:
        size: side of the square in pixels; `None` where the files do not say.
        mean, std: of the pixels, a channel, on the scale 0..1.
    """

    size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


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
            settings = content.get("image_processor", content)
            break
    usual = _usual_pixels(config.get("model_type"))
    mean, std = settings.get("image_mean") or usual[0], settings.get("image_std") or usual[1]
    if settings.get("do_normalize") is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if not (len(mean) == len(std) == 3 and all(value > 0 for value in std)):
        raise MmfuseError(f"image tower {name!r}: pixels cannot be normalised with mean {mean} and std {std}")
    return Preprocessing(_size(settings, config), tuple(map(float, mean)), tuple(map(float, std)))


def _usual_pixels(model_type: object) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std that an architecture was trained with, for checkpoints that do not say."""
    architecture = CHECKPOINTS["image"].get(str(model_type))
    return (architecture.mean, architecture.std) if isinstance(architecture, ImageArchitecture) else IMAGENET


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
    image = config.get("vision_config") if isinstance(config.get("vision_config"), dict) else config
    for size in (cropped, scaled, (image or {}).get("image_size")):
        stated = (
            [size[key] for key in ("height", "width", "shortest_edge") if key in size]
            if isinstance(size, Mapping)
            else size
        )
        sides = set(stated) if isinstance(stated, list | tuple) else {stated}
        if len(sides) == 1 and isinstance(side := sides.pop(), int) and side > 0:
            return side
    return None

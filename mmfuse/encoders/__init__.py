"""The two frozen towers: loading them, and where each architecture keeps its parts."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfuse.encoders.image import ImageTower
    from mmfuse.encoders.loading import load_image_tower, load_text_tower
    from mmfuse.encoders.text import TextTower
    from mmfuse.encoders.tower import Tower
    from mmfuse.encoders.video import VideoTower

__all__ = ["ImageTower", "TextTower", "Tower", "VideoTower", "load_image_tower", "load_text_tower"]


_PLACES = {
    "ImageTower": "image",
    "TextTower": "text",
    "Tower": "tower",
    "VideoTower": "video",
    "load_image_tower": "loading",
    "load_text_tower": "loading",
}


def __getattr__(name: str) -> object:
    # Preprocessing files and folders in hub layout are read by commands that must not wait for torch.
    if name in _PLACES:
        return getattr(importlib.import_module(f"mmfuse.encoders.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'mmfuse.encoders' has no attribute {name!r}")

"""The two frozen towers: loading them, and where each architecture keeps its parts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfuse.encoders.loading import load_image_tower, load_text_tower
    from mmfuse.encoders.tower import ImageTower, TextTower, Tower

__all__ = ["ImageTower", "TextTower", "Tower", "load_image_tower", "load_text_tower"]


def __getattr__(name: str) -> object:
    # Preprocessing files and folders in hub layout are read by commands that must not wait for torch.
    if name in {"load_image_tower", "load_text_tower"}:
        from mmfuse.encoders import loading

        return getattr(loading, name)
    if name in __all__:
        from mmfuse.encoders import tower

        return getattr(tower, name)
    raise AttributeError(f"module 'mmfuse.encoders' has no attribute {name!r}")

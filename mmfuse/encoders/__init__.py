"""The two frozen towers: loading them, and where each architecture keeps its parts."""

from mmfuse.encoders.loading import load_image_tower, load_text_tower
from mmfuse.encoders.tower import ImageTower, TextTower, Tower

__all__ = ["ImageTower", "TextTower", "Tower", "load_image_tower", "load_text_tower"]

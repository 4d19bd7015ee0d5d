"""Frames of test clips as small pictures inside the page, where the videos are at hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.frames.sampling import segment_centres
from mmfuse.data.frames.video import UnreadableVideo, read_frames
from mmfuse.data.tiny import make_clips
from mmfuse.errors import MmfuseError, one_line
from mmfuse.records.cell import Cell

FRAMES = 5
SHORT_SIDE = 96
LONGEST = 200
QUALITY = 72

Find = Callable[[Cell], Catalogue]
"""Finds the clips of a cell's data set; raises `MmfuseError` where its lists are not at hand."""


@dataclass(frozen=True)
class Strip:
    """The frames of a clip as data URIs in order, or why there are none."""

    frames: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    missing: str = ""


class Videos:
    """Decodes the clips of one data set and split.

    Args:
        cell: any cell of them.
        find: finds its clips.
    """

    def __init__(self, cell: Cell, find: Find) -> None:
        self.missing = ""
        self._paths: dict[str, Path] = {}
        try:
            self._paths = _paths(find(cell))
        except MmfuseError as error:
            self.missing = one_line(error)

    def strip(self, clip: str) -> Strip:
        """The frames of a clip at the centres of equal segments, as the models saw them."""
        path = self._paths.get(clip)
        if path is None:
            return Strip(missing=self.missing or "this clip is not in the lists that are at hand")
        try:
            frames = read_frames(path, lambda count: segment_centres(count, FRAMES), damaged="keep")
        except (UnreadableVideo, OSError) as error:
            return Strip(missing=one_line(error))
        pictures = [_small(frame) for frame in frames]
        return Strip(tuple(map(_data_uri, pictures)), *pictures[0].size)


def _paths(catalogue: Catalogue) -> dict[str, Path]:
    """Where each test clip lies."""
    make_clips(catalogue)
    base = catalogue.root or Path()
    table = catalogue.part("test")
    return {str(clip): base / path for clip, path in zip(table["clip"], table["path"], strict=True)}


def _small(frame: NDArray[np.uint8]) -> Image.Image:
    """A frame (H, W, 3) made small enough, its shape kept."""
    picture = Image.fromarray(frame)
    scale = min(1.0, SHORT_SIDE / min(picture.size), LONGEST / max(picture.size))
    size = [max(1, round(side * scale)) for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _data_uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()

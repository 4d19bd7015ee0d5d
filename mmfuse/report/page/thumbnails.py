"""Frames of test clips as small pictures inside the page, where the videos are available."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from mmfuse.errors import MmfuseError, one_line
from mmfuse.records.cell import Cell

SHORT_SIDE = 96
LONGEST = 200
QUALITY = 72

ReadFrames = Callable[[Cell, str], Sequence[NDArray[np.uint8]]]
"""Reads frames, (H, W, 3) each, of a test clip of a cell; raises `MmfuseError` where they are not available."""


@dataclass(frozen=True)
class Strip:
    """The frames of a clip as data URIs in order, or why there are none."""

    frames: tuple[Markup, ...] = ()
    width: int = 0
    height: int = 0
    missing: str = ""


def strip(read: ReadFrames, cell: Cell, clip: str) -> Strip:
    """A clip's frames as pictures, or why there are none.

    Args:
        read: reads the frames.
        cell: any cell that was tested on the clip.
        clip: its id.
    """
    try:
        pictures = [_small(frame) for frame in read(cell, clip)]
    except MmfuseError as error:
        return Strip(missing=one_line(error))
    return Strip(tuple(map(_data_uri, pictures)), *pictures[0].size)


def _small(frame: NDArray[np.uint8]) -> Image.Image:
    """A frame (H, W, 3) made small enough, its shape kept."""
    picture = Image.fromarray(frame)
    scale = min(1.0, SHORT_SIDE / min(picture.size), LONGEST / max(picture.size))
    size = [max(1, round(side * scale)) for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _data_uri(picture: Image.Image) -> Markup:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return Markup("data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode())

"""All eight orientations of a display matrix, as ffmpeg shows them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmfuse.data.frames.sampling import every_frame
from mmfuse.data.frames.video import read_frames
from tests.data.videos import encode, plain_decode

WIDTH, HEIGHT = 96, 64
ONE, UNIT = 1 << 16, 1 << 30


def transposed(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frames.swapaxes(1, 2)


# name: the four numbers a, b, c, d of the matrix, and what ffmpeg makes of the stored pictures (compared byte by byte
# when this table was written)
ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), lambda frames: frames),
    "hflip": ((-1, 0, 0, 1), lambda frames: frames[:, :, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda frames: frames[:, ::-1]),
    "half turn": ((-1, 0, 0, -1), lambda frames: frames[:, ::-1, ::-1]),
    "quarter turn right": ((0, 1, -1, 0), lambda frames: transposed(frames)[:, :, ::-1]),
    "quarter turn left": ((0, -1, 1, 0), lambda frames: transposed(frames)[:, ::-1]),
    "transpose": ((0, 1, 1, 0), transposed),
    "transverse": ((0, -1, -1, 0), lambda frames: transposed(frames)[:, ::-1, ::-1]),
}


def with_matrix(path: Path, numbers: tuple[int, int, int, int]) -> Path:
    """Write a matrix over that of the track's header (`tkhd`, version 0)."""
    a, b, c, d = (number * ONE for number in numbers)
    across = WIDTH if a < 0 else HEIGHT if c < 0 else 0
    down = HEIGHT if d < 0 else WIDTH if b < 0 else 0
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, across * ONE, down * ONE, UNIT)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_clips_are_shown_as_their_matrix_says(tmp_path: Path, name: str) -> None:
    numbers, expected = ORIENTATIONS[name]
    path = encode(tmp_path / "clip.mp4", codec="libx264", count=3, width=WIDTH, height=HEIGHT)
    stored = plain_decode(path)
    np.testing.assert_array_equal(read_frames(with_matrix(path, numbers), every_frame), expected(stored))


@pytest.mark.parametrize(("turn", "upright"), [((7, 1, -1, 7), "upright"), ((1, 7, -7, 1), "quarter turn right")])
def test_a_slanted_clip_is_shown_in_the_nearest_orientation(
    tmp_path: Path, turn: tuple[int, int, int, int], upright: str
) -> None:
    path = encode(tmp_path / "clip.mp4", codec="libx264", count=2, width=WIDTH, height=HEIGHT)
    expected = ORIENTATIONS[upright][1](plain_decode(path))
    np.testing.assert_array_equal(read_frames(with_matrix(path, turn), every_frame), expected)

"""How a picture must be turned and mirrored to be shown upright, by the display matrix that its file carries."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class Orientation(NamedTuple):
    """One of the eight orientations: first the picture is transposed, then mirrored along either axis."""

    transposed: bool = False
    mirrored_across: bool = False
    """Left and right are swapped."""
    mirrored_down: bool = False
    """Top and bottom are swapped."""

    def applied(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture (H, W, 3) as it is to be shown: (H, W, 3), or (W, H, 3) where it is transposed."""
        turned = image.swapaxes(0, 1) if self.transposed else image
        return turned[:: -1 if self.mirrored_down else 1, :: -1 if self.mirrored_across else 1]


def orientation_of(picture: VideoFrame) -> Orientation:
    """What the display matrix of a picture asks for; upright where it has none.

    The matrix (a b u; c d v; x y w) maps a place (p, q) of the stored picture to (a·p + c·q, b·p + d·q) (ISO/IEC
    14496-12, 6.2.2). Turns by other angles than whole quarters are rounded to the nearest of the eight orientations,
    since they would need pixels that the file does not have.
    """
    sides: Any = picture.side_data
    data = sides.get(Type.DISPLAYMATRIX)
    if data is None or len(bytes(data)) < 36:
        return Orientation()
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, mirrored_across=c < 0, mirrored_down=b < 0)
    return Orientation(False, mirrored_across=a < 0, mirrored_down=d < 0)

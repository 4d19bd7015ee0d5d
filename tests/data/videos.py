"""Small encoded videos whose frames carry their number in their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BITS = 8
_BLOCK = 8


def picture(number: int, *, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """A grey picture with a row of black and white blocks that spell `number`, and one bright corner (top left)."""
    image = np.full((height, width, 3), 110, dtype=np.uint8)
    image[: height // 4, : width // 4] = 180
    for bit in range(BITS):
        left = 8 + bit * _BLOCK
        image[height // 2 : height // 2 + _BLOCK, left : left + _BLOCK] = 235 * (number >> bit & 1)
    return image


def number_in(frame: NDArray[np.uint8]) -> int:
    """The number that `picture` wrote, read from a frame of the same size."""
    row = frame.shape[0] // 2 + _BLOCK // 2
    centres = [8 + bit * _BLOCK + _BLOCK // 2 for bit in range(BITS)]
    return sum(1 << bit for bit, x in enumerate(centres) if frame[row - 1 : row + 1, x - 1 : x + 1].mean() > 120)


def encode(
    path: Path,
    *,
    codec: str = "mpeg4",
    count: int = 40,
    width: int = 96,
    height: int = 64,
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    metadata: dict[str, str] | None = None,
    rotation: int | None = None,
    times: Iterable[int] | None = None,
    retime: Callable[[av.Packet, int], None] | None = None,
) -> Path:
    """Write pictures 0..count-1. The file's own place is in its metadata, so that no two files are copies.

    Args:
        times: presentation times of the pictures in 1/25 s, instead of 0, 1, 2, …
        retime: called with every packet and its number before it is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = list(times) if times is not None else list(range(count))
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": "/".join(path.parts[-4:])} | (metadata or {}))
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.thread_count = 1
        if rotation is not None:
            stream.set_display_rotation(rotation)
        written = 0
        for number in range(count + 1):
            frame = None
            if number < count:
                frame = av.VideoFrame.from_ndarray(picture(number, width=width, height=height), format="rgb24")
                frame.pts, frame.time_base = shown[number], Fraction(1, 25)
            for packet in stream.encode(frame):
                if retime is not None:
                    retime(packet, written)
                container.mux(packet)
                written += 1
    return path


def plain_decode(path: Path) -> NDArray[np.uint8]:
    """Every frame in order by the shortest PyAV loop there is: the reference for exactness."""
    with av.open(str(path), metadata_errors="ignore") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])

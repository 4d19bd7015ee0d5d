"""Opening video files: which stream is the video, and what the header says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.stream import Disposition

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    from av.container import InputContainer

MOST_PIXELS = 2**26
"""Pixels of the largest frame that is decoded, twice those of 8K: a decoder holds up to sixteen frames of this size."""


class UnreadableVideo(MmfuseError):
    """A video that cannot be decoded, or that is damaged where damage is not accepted. Names the file."""


@dataclass(frozen=True)
class VideoHeader:
    """What a file says of itself; `frames` may be wrong or 0."""

    frames: int
    width: int
    height: int
    codec: str
    container: str
    frames_per_second: float
    seconds: float


def probe(path: Path | str) -> VideoHeader:
    """What the header says, without decoding.

    Raises:
        UnreadableVideo: missing, empty or not a video.
    """
    with naming(path), opened(path) as container:
        return header_of(container, video_stream(container, path))


def header_of(container: InputContainer, stream: av.VideoStream) -> VideoHeader:
    """What the header of an open file says."""
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or Fraction(0)
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (container.duration or 0) / 1e6
    return VideoHeader(
        frames=stream.frames or round(seconds * float(rate)),
        width=context.width,
        height=context.height,
        codec=context.name,
        container=container.format.name.split(",")[0],
        frames_per_second=float(rate),
        seconds=seconds,
    )


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn whatever the libraries raise into one line that names the file."""
    try:
        yield
    except av.error.FFmpegError as fault:
        raise UnreadableVideo(
            f"{path}: cannot be decoded ({fault.strerror}); replace or re-download the file"
        ) from fault
    except OSError as fault:
        raise UnreadableVideo(f"{path}: cannot be read ({fault.strerror or fault})") from fault


@contextmanager
def opened(path: Path | str) -> Iterator[InputContainer]:
    """Open a file and close it again, or memory grows.

    Raises:
        UnreadableVideo: the file is empty.
    """
    if Path(path).stat().st_size == 0:
        raise UnreadableVideo(f"{path}: the file is empty; replace or re-download it")
    # Some files of HMDB51 carry metadata that is not UTF-8. A str path with a colon would be taken for a protocol.
    with av.open("file:" + str(path), metadata_errors="ignore") as container:
        yield container


def video_stream(container: InputContainer, path: Path | str) -> av.VideoStream:
    """The first video stream that is no attached picture, to be decoded by one thread.

    Cover art is a video stream of one picture, and may come first in the file. What is chosen is what ffmpeg calls
    `V:0`.

    Raises:
        UnreadableVideo: there is none, or its frames are too large.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        found = "only cover art" if container.streams.video else "no video stream"
        raise UnreadableVideo(f"{path}: holds {found}; replace the file or leave it out")
    context = streams[0].codec_context
    if context.width * context.height > MOST_PIXELS:
        raise UnreadableVideo(
            f"{path}: its frames of {context.width} x {context.height} pixels are larger than the {MOST_PIXELS:,} "
            "pixels that are decoded; scale the file down"
        )
    context.thread_count = 1
    # For streams that change their size on the way. MJPEG's decoder tells of no error unless it is to stop at one.
    context.options = {"max_pixels": str(MOST_PIXELS)} | ({"err_detect": "explode"} if context.name == "mjpeg" else {})
    return streams[0]


def damaged_video(path: Path | str, how: str) -> UnreadableVideo:
    """The error for a file whose damage is not accepted."""
    return UnreadableVideo(
        f"{path}: damaged ({how}); replace the file, or accept what can be read by --damaged keep (in a grid: "
        "damaged: keep)"
    )


def video_without_frames(path: Path | str) -> UnreadableVideo:
    """The error for a file that opens and shows nothing."""
    return UnreadableVideo(f"{path}: not a single frame can be decoded; replace or re-download the file")

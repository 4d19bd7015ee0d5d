"""Opening video files: what their headers say, and whether they are whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.index import IndexEntry


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
    """The first video stream, to be decoded by one thread.

    Raises:
        UnreadableVideo: there is none.
    """
    if not container.streams.video:
        raise UnreadableVideo(f"{path}: holds no video stream; replace the file or leave it out")
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    return stream


def damaged_video(path: Path | str, how: str) -> UnreadableVideo:
    """The error for a file whose damage is not accepted."""
    return UnreadableVideo(f"{path}: damaged ({how}); replace the file, or accept what can be read with damaged=keep")


def video_without_frames(path: Path | str) -> UnreadableVideo:
    """The error for a file that opens and shows nothing."""
    return UnreadableVideo(f"{path}: not a single frame can be decoded; replace or re-download the file")


def cut_short(
    path: Path,
    container: InputContainer,
    *,
    index: Iterable[IndexEntry] = (),
    packets: int | None = None,
    announced: int = 0,
) -> str:
    """Whether a file ends before its own table of contents says; empty when it does not.

    Args:
        path, container: the file.
        index: the stream's index, to be compared with the file's length where packets have not been read.
        packets: how many packets were read, where they have been.
        announced: how many frames the header announces.
    """
    length = path.stat().st_size
    if container.format.name == "avi":
        with path.open("rb") as file:
            head = file.read(8)
        # An AVI's first chunk gives its length; writers that were stopped leave 0 or all ones there.
        end = int.from_bytes(head[4:8], "little") + 8
        if head[:4] == b"RIFF" and 8 < end < 2**32 + 7 and end > length + 1:
            return f"cut off, {end - length:,} bytes are missing"
    if container.format.name.startswith("mov"):
        end = max((entry.pos + entry.size for entry in index), default=0)
        if end > length:
            return f"cut off, {end - length:,} bytes are missing"
        if packets is not None and packets < announced:
            return f"cut off, {packets} of {announced} frames are there"
    return ""

"""Reading the wanted frames of a video, exactly and at little cost.

*Frame i* is the i-th picture that decoding the whole file in order gives. Headers lie about the number of frames and
time stamps jump, so neither is believed on its own. Two ways of reading agree on that definition:

- by the timeline, for containers that store a presentation time a packet and codecs that give one picture a packet:
  the sorted times number the pictures, decoding starts at the keyframe before a wanted one, and pictures that nothing
  refers to are not decoded at all;
- in order, for everything else, and whenever the first way meets anything that it did not expect.

Only wanted pictures are converted to RGB, and libswscale scales them in the same step. One decoder thread: parallelism
comes from reading several clips at once.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mmfuse.data.sampling import Chooser, Indices
from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    import av
    from av.video.frame import VideoFrame

READER_VERSION = 1
"""Raised whenever the same file could give other pixels than before."""

Damaged = Literal["error", "keep"]

# Containers that store a presentation time with every packet, and codecs of which one packet is one picture.
_TIMED_CONTAINERS = frozenset({"mov", "mp4", "matroska", "webm"})
_TIMED_CODECS = frozenset({"h264", "hevc", "vp9", "av1", "mjpeg"})
# Pictures of these codecs that say "nothing refers to me" may be left out without changing any other. (HEVC says so for
# one temporal layer only.)
_SKIPPING_CODECS = frozenset({"h264"})
# Compressed packets of a clip up to this size are held in memory; larger files are read again from the disk.
_PACKETS_IN_MEMORY = 64 * 2**20
# Pictures held unconverted while the count is not known yet: at most this much.
_PICTURES_IN_MEMORY = 256 * 2**20


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


def decoder_version() -> str:
    """Whatever the pixels depend on: this reader and the libraries under it."""
    import av

    libraries = ("libavcodec", "libavformat", "libswscale")
    return "-".join([f"reader{READER_VERSION}", *(".".join(map(str, av.library_versions[name])) for name in libraries)])


def read_frames(
    path: Path | str,
    choose: Chooser,
    *,
    short_side: int | None = None,
    damaged: Damaged = "error",
) -> NDArray[np.uint8]:
    """Decode the frames that `choose` asks for.

    Args:
        path: the video file.
        choose: from the number of frames to the indices wanted. A pure function: it may be called for several numbers
            before the one that decoding really gives is known.
        short_side: scale so that the shorter side has this many pixels; None: as stored.
        damaged: what to do with truncated files and undecodable packets: "error", or "keep" the frames there are.

    Returns:
        RGB of shape (T, H, W, 3), upright where the file carries a rotation.

    Raises:
        UnreadableVideo: missing, empty, not a video, without any frame, or damaged (see `damaged`).
    """
    return read_counted(path, choose, short_side=short_side, damaged=damaged)[0]


def read_counted(
    path: Path | str,
    choose: Chooser,
    *,
    short_side: int | None = None,
    damaged: Damaged = "error",
) -> tuple[NDArray[np.uint8], int]:
    """Like `read_frames`, with the number of frames that `choose` was given beside the frames."""
    with _naming(path), _opened(path) as container:
        clip = _Clip(container, Path(path))
        if damaged == "error" and clip.damage:
            raise _damaged(path, clip.damage)
        pictures, wanted = _by_timeline(clip, choose) or _in_order(clip, choose)
        if damaged == "error" and clip.damage:
            raise _damaged(path, clip.damage)
        return _to_rgb(pictures, wanted.indices, short_side=short_side), wanted.count


def probe(path: Path | str) -> VideoHeader:
    """What the header says, without decoding.

    Raises:
        UnreadableVideo: missing, empty or not a video.
    """
    with _naming(path), _opened(path) as container:
        stream = _video_stream(container, path)
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


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) once the shorter side has `short_side` pixels, the shape kept.

    >>> scaled_size(240, 320, 224), scaled_size(640, 360, 224)
    ((224, 299), (398, 224))
    """
    if short_side is None:
        return height, width
    shorter = min(height, width)
    return max(1, round(height * short_side / shorter)), max(1, round(width * short_side / shorter))


# --- opening -----------------------------------------------------------------------------------------------------


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Turn whatever the libraries raise into one line that names the file."""
    import av

    try:
        yield
    except av.error.FFmpegError as fault:
        raise UnreadableVideo(
            f"{path}: cannot be decoded ({fault.strerror}); replace or re-download the file"
        ) from fault
    except OSError as fault:
        raise UnreadableVideo(f"{path}: cannot be read ({fault.strerror or fault})") from fault


@contextmanager
def _opened(path: Path | str) -> Iterator[av.container.InputContainer]:
    import av

    if Path(path).stat().st_size == 0:
        raise UnreadableVideo(f"{path}: the file is empty; replace or re-download it")
    # Some files of HMDB51 carry metadata that is not UTF-8. A str path with a colon would be taken for a protocol.
    with av.open("file:" + str(path), metadata_errors="ignore") as container:
        yield container


def _video_stream(container: av.container.InputContainer, path: Path | str) -> av.VideoStream:
    if not container.streams.video:
        raise UnreadableVideo(f"{path}: holds no video stream")
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    return stream


def _damaged(path: Path | str, how: str) -> UnreadableVideo:
    return UnreadableVideo(f"{path}: damaged ({how}); replace the file, or accept what can be read with damaged=keep")


# --- packets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mark:
    """What is kept of a packet when its bytes are not."""

    pts: int | None
    is_keyframe: bool
    is_discard: bool


class _Clip:
    """The packets of the first video stream, and what is known of them before anything is decoded."""

    def __init__(self, container: av.container.InputContainer, path: Path) -> None:
        self.container = container
        self.stream = _video_stream(container, path)
        self.damage = ""
        self._fed = False
        self.path = path
        self._held: list[av.Packet] | None = [] if path.stat().st_size <= _PACKETS_IN_MEMORY else None
        self.marks: list[_Mark] = []
        self._index()
        self.keyframes = sorted(
            (m.pts, number) for number, m in enumerate(self.marks) if m.is_keyframe and m.pts is not None
        )
        if not self.damage:
            self.damage = _cut_short(path, container.format.name, self.stream.frames, len(self.marks))

    def _index(self) -> None:
        for packet in self._demux(self.container, self.stream):
            self.marks.append(_Mark(packet.pts, packet.is_keyframe, packet.is_discard))
            if self._held is not None:
                self._held.append(packet)

    def _demux(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
        import av

        try:
            for packet in container.demux(stream):
                if packet.size:
                    if packet.is_corrupt:
                        self.damage = "the last packet is cut off"
                    yield packet
        except av.error.FFmpegError as fault:
            self.damage = f"the stream breaks off: {fault.strerror}"

    def packets_from(self, first: int) -> Iterator[tuple[int, av.Packet]]:
        """The packets in decoding order from number `first` on, which is a keyframe or 0."""
        if self._held is not None:
            yield from enumerate(self._held[first:], start=first)
            return
        # A fresh container each time: where a seek lands is then independent of what was read before.
        with _opened(self.path) as container:
            stream = container.streams.video[0]
            start = self.marks[first].pts
            if first and start is not None:
                container.seek(start, stream=stream)
            number = None if first else 0
            for packet in self._demux(container, stream):
                if number is None and packet.pts == start:
                    number = first
                if number is not None:
                    yield number, packet
                    number += 1

    def decoded(
        self, first: int, *, pts_wanted: frozenset[int] | None = None
    ) -> Iterator[tuple[int, list[VideoFrame]]]:
        """Feed the decoder from packet `first` on: (number of the packet fed, pictures that came out).

        Args:
            pts_wanted: leave out pictures of other times that nothing refers to, where the codec can tell.
        """
        context = self.stream.codec_context
        if self._fed:
            context.flush_buffers()
        self._fed = True
        context.skip_frame = "DEFAULT"
        if pts_wanted is not None and context.name not in _SKIPPING_CODECS:
            pts_wanted = None
        for number, packet in self.packets_from(first):
            context.skip_frame = "DEFAULT" if pts_wanted is None or packet.pts in pts_wanted else "NONREF"
            yield number, self._decode(packet)
        yield len(self.marks), self._decode(None)

    def _decode(self, packet: av.Packet | None) -> list[VideoFrame]:
        import av

        try:
            return self.stream.codec_context.decode(packet)
        except av.error.FFmpegError as fault:
            self.damage = self.damage or f"a packet cannot be decoded: {fault.strerror}"
            return []


def _cut_short(path: Path, container: str, announced: int, found: int) -> str:
    """Whether the file ends before its own table of contents says; empty when it does not."""
    if container == "avi":
        with path.open("rb") as file:
            head = file.read(8)
        # An AVI's first chunk gives its length; writers that were stopped leave 0 or all ones there.
        length = int.from_bytes(head[4:8], "little")
        missing = length + 8 - path.stat().st_size
        if head[:4] == b"RIFF" and 0 < length < 2**32 - 1 and missing > 1:
            return f"cut off, {missing:,} bytes are missing"
    if container.startswith("mov") and found < announced:
        return f"cut off, {found} of {announced} frames are there"
    return ""


# --- decoding ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """The frames that are asked for of a clip of `count` frames."""

    indices: Indices
    count: int

    @classmethod
    def of(cls, choose: Chooser, count: int) -> _Wanted:
        indices = np.asarray(choose(count), dtype=np.int64)
        if len(indices) == 0 or indices.min() < 0 or indices.max() >= count:
            raise ValueError(f"asked for frames {indices.tolist()} of a clip of {count}")
        return cls(indices, count)


_Pictures = dict[int, "VideoFrame"]


def _by_timeline(clip: _Clip, choose: Chooser) -> tuple[_Pictures, _Wanted] | None:
    """Read by presentation times; None as soon as they turn out not to number the pictures."""
    times = _timeline(clip)
    if not times:
        return None
    wanted = _Wanted.of(choose, len(times))
    targets = [times[index] for index in sorted(set(wanted.indices.tolist()))]
    found: dict[int, VideoFrame] = {}
    while len(found) < len(targets):
        start = _keyframe_before(clip, targets[len(found)])
        before = len(found)
        if start is None or not _read_run(clip, start, targets, frozenset(times), found) or len(found) == before:
            return None
    index_of = {time: index for index, time in enumerate(times)}
    return {index_of[time]: picture for time, picture in found.items()}, wanted


def _timeline(clip: _Clip) -> list[int]:
    """The presentation times in order, one a picture; empty where the packets' times cannot be relied on."""
    container = set(clip.container.format.name.split(","))
    if clip.damage or not container & _TIMED_CONTAINERS or clip.stream.codec_context.name not in _TIMED_CODECS:
        return []
    times = [mark.pts for mark in clip.marks]
    if None in times or len(set(times)) < len(times) or not _keyframes_in_order(clip.marks):
        return []
    return sorted(mark.pts for mark in clip.marks if mark.pts is not None and not mark.is_discard)


def _keyframes_in_order(marks: list[_Mark]) -> bool:
    """Whether everything that is stored before a keyframe is also shown before it, as every sound stream has it."""
    latest = -math.inf
    for mark in marks:
        if mark.pts is None or (mark.is_keyframe and mark.pts < latest):
            return False
        latest = max(latest, mark.pts)
    return True


def _keyframe_before(clip: _Clip, time: int) -> int | None:
    """The number of the last keyframe packet whose picture is shown at `time` or before."""
    place = bisect.bisect_right(clip.keyframes, (time, len(clip.marks)))
    return clip.keyframes[place - 1][1] if place else None


def _read_run(clip: _Clip, start: int, targets: list[int], times: frozenset[int], found: dict[int, VideoFrame]) -> bool:
    """Decode from keyframe `start` and collect targets, until a later keyframe is the shorter way to the next one.

    Returns:
        Whether the pictures came out as the timeline says.
    """
    last: int | None = None
    keyframe = start
    for number, pictures in clip.decoded(start, pts_wanted=frozenset(targets)):
        for picture in pictures:
            if picture.pts is None or picture.pts not in times or (last is not None and picture.pts <= last):
                return False
            last = picture.pts
            if last > targets[len(found)]:
                return False
            if last == targets[len(found)]:
                found[last] = picture
                if len(found) == len(targets):
                    return not clip.damage
                keyframe = _keyframe_before(clip, targets[len(found)]) or start
        if keyframe > number + 1:
            return not clip.damage
    return False


def _in_order(clip: _Clip, choose: Chooser) -> tuple[_Pictures, _Wanted]:
    """Read every picture, in order, and keep the wanted ones."""
    # One packet a picture is the rule; files whose last packet shows nothing are common. Both counts are prepared for,
    # so that a second pass is rare.
    packets = len(clip.marks)
    prepared = {count: _Wanted.of(choose, count) for count in (packets, packets - 1) if count > 0}
    bytes_a_picture = 2 * clip.stream.codec_context.width * clip.stream.codec_context.height
    if bytes_a_picture * sum(len(wanted.indices) for wanted in prepared.values()) > _PICTURES_IN_MEMORY:
        prepared.pop(packets - 1, None)
    for _ in range(2):
        kept = {index for wanted in prepared.values() for index in wanted.indices.tolist()}
        pictures: _Pictures = {}
        count = 0
        for _number, came_out in clip.decoded(0):
            for picture in came_out:
                if count in kept:
                    pictures[count] = picture
                count += 1
        if count == 0:
            break
        if count in prepared:
            return pictures, prepared[count]
        prepared = {count: _Wanted.of(choose, count)}
    raise UnreadableVideo(f"{clip.path}: not a single frame can be decoded; replace or re-download the file")


# --- pixels ------------------------------------------------------------------------------------------------------


def _to_rgb(pictures: _Pictures, indices: Indices, *, short_side: int | None) -> NDArray[np.uint8]:
    """Convert and scale: (T, H, W, 3), upright."""
    from av.video.reformatter import VideoReformatter

    first = pictures[int(indices[0])]
    turns = round(first.rotation / 90) % 4
    height, width = scaled_size(first.height, first.width, short_side)
    frames = np.empty((len(indices), *((width, height) if turns % 2 else (height, width)), 3), dtype=np.uint8)
    reformatter = VideoReformatter()
    done: dict[int, int] = {}
    for place, index in enumerate(indices.tolist()):
        if index in done:
            frames[place] = frames[done[index]]
            continue
        done[index] = place
        rgb = reformatter.reformat(
            pictures[index], width=width, height=height, format="rgb24", interpolation="BILINEAR", **_one_thread()
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(height, plane.line_size)[:, : width * 3]
        frames[place] = np.rot90(rows.reshape(height, width, 3), turns)
    return frames


@functools.cache
def _one_thread() -> dict[str, int]:
    """Starting a pool of scaling threads for every picture costs more than scaling; older PyAV has no pool."""
    from av.video.reformatter import VideoReformatter

    return {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}

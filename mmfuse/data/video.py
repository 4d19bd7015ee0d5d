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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mmfuse.data.containers import (
    UnreadableVideo,
    VideoHeader,
    cut_short,
    damaged_video,
    header_of,
    naming,
    opened,
    probe,
    video_stream,
    video_without_frames,
)
from mmfuse.data.sampling import Chooser, Indices

if TYPE_CHECKING:
    import av
    from av.video.frame import VideoFrame

__all__ = [
    "Damaged",
    "Examined",
    "UnreadableVideo",
    "VideoHeader",
    "decoder_version",
    "examine",
    "probe",
    "read_counted",
    "read_frames",
    "scaled_size",
]

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
    with naming(path), opened(path) as container:
        clip = _Clip(container, Path(path))
        if damaged == "error" and clip.damage:
            raise damaged_video(path, clip.damage)
        pictures, wanted = _by_timeline(clip, choose) or _in_order(clip, choose)
        if damaged == "error" and clip.damage:
            raise damaged_video(path, clip.damage)
        return _to_rgb(pictures, wanted.indices, short_side=short_side), wanted.count


@dataclass(frozen=True)
class Examined:
    """What is found wrong with a file, or that nothing is."""

    header: VideoHeader
    damage: str
    """Empty for a sound file."""
    decoded: int | None
    """The frames that decoding gave, where it was decoded."""


def examine(path: Path | str, *, decode: bool) -> Examined:
    """Look for damage: by the header and the file's length, or by decoding every frame.

    Raises:
        UnreadableVideo: missing, empty, not a video, or without any frame.
    """
    with naming(path), opened(path) as container:
        stream = video_stream(container, path)
        header = header_of(container, stream)
        damage = cut_short(Path(path), container, stream)
        if not decode:
            return Examined(header, damage, None)
        clip = _Clip(container, Path(path))
        frames = sum(len(pictures) for _, pictures in clip.decoded(0))
        if frames == 0:
            raise video_without_frames(path)
        return Examined(header, damage or clip.damage, frames)


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) once the shorter side has `short_side` pixels, the shape kept.

    >>> scaled_size(240, 320, 224), scaled_size(640, 360, 224)
    ((224, 299), (398, 224))
    """
    if short_side is None:
        return height, width
    shorter = min(height, width)
    return max(1, round(height * short_side / shorter)), max(1, round(width * short_side / shorter))


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
        self.stream = video_stream(container, path)
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
            self.damage = cut_short(path, container, self.stream)

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
        with opened(self.path) as container:
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


# --- decoding ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """The frames that are asked for of a clip of `count` frames."""

    indices: Indices
    count: int

    @classmethod
    def of(cls, choose: Chooser, count: int) -> _Wanted:
        indices = _indices(choose, count)
        if len(indices) == 0 or indices.min() < 0 or indices.max() >= count:
            raise ValueError(f"asked for frames {indices.tolist()} of a clip of {count}")
        return cls(indices, count)


def _indices(choose: Chooser, count: int) -> Indices:
    return np.asarray(choose(count), dtype=np.int64)


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
    # One packet a picture is the rule, and files whose last packet shows nothing are common. Both guesses are prepared
    # for, so that a second pass is rare.
    packets = len(clip.marks)
    guesses = {count: _indices(choose, count) for count in (packets, packets - 1) if count > 0}
    bytes_a_picture = 2 * clip.stream.codec_context.width * clip.stream.codec_context.height
    if bytes_a_picture * sum(map(len, guesses.values())) > _PICTURES_IN_MEMORY:
        guesses.pop(packets - 1, None)
    for _ in range(2):
        kept = {index for guess in guesses.values() for index in guess.tolist()}
        pictures: _Pictures = {}
        count = 0
        for _number, came_out in clip.decoded(0):
            for picture in came_out:
                if count in kept:
                    pictures[count] = picture
                count += 1
        if count == 0:
            break
        if count in guesses:
            return pictures, _Wanted.of(choose, count)
        guesses = {count: _indices(choose, count)}
    raise video_without_frames(clip.path)


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

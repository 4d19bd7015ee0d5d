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
import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mmfuse.data.frames.containers import (
    UnreadableVideo,
    VideoHeader,
    damaged_video,
    header_of,
    naming,
    opened,
    probe,
    video_stream,
    video_without_frames,
)
from mmfuse.data.frames.integrity import (
    NEVER_ZERO,
    ZERO_RUN,
    announced_seconds,
    broken_chain,
    incomplete,
    structural_damage,
)
from mmfuse.data.frames.orientation import Orientation, orientation_of
from mmfuse.data.frames.sampling import Chooser

if TYPE_CHECKING:
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

READER_VERSION = 3
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
# Formats that are scaled as they are and then converted: three times as fast as both in one step, and colours are
# treated as in clips that need no scaling.
_SCALED_FIRST = frozenset({"yuv420p", "yuvj420p"})


MOST_BYTES = 2**32
"""Bytes of RGB that one reading may give: 9,000 frames of 400 x 300 pixels."""


def decoder_version() -> str:
    """Whatever the pixels depend on: this reader and the libraries under it."""
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
        # What is left of a damaged file is numbered by what decoding all of it gives, whatever is wanted of it.
        found = _by_timeline(clip, choose, short_side) if damaged == "error" else None
        found = found or _in_order(clip, choose, short_side)
        if damaged == "error" and clip.damage:
            raise damaged_video(path, clip.damage)
        return found.frames, found.count


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
        if not decode:
            return Examined(header, structural_damage(Path(path), container, _index_end(stream)), None)
        clip = _Clip(container, Path(path))
        frames = sum(len(pictures) for _, pictures in clip.decoded(0))
        if frames == 0:
            raise video_without_frames(path)
        return Examined(header, clip.damage, frames)


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) once the shorter side has `short_side` pixels, the shape kept.

    The longer side is made even: libswscale takes twice as long for odd widths.

    >>> scaled_size(240, 320, 224), scaled_size(640, 360, 224), scaled_size(240, 321, 240)
    ((224, 298), (398, 224), (240, 321))
    """
    shorter, longer = sorted((height, width))
    if short_side is None or shorter == short_side:
        return height, width
    other = max(short_side, 2 * round(longer * short_side / shorter / 2))
    return (short_side, other) if height <= width else (other, short_side)


# --- packets -----------------------------------------------------------------------------------------------------


class _Mark(NamedTuple):
    """What is kept of a packet when its bytes are not."""

    pts: int | None
    is_keyframe: bool
    is_discard: bool


class _Clip:
    """The packets of the video stream, and what is known of them before anything is decoded.

    `damage` is the first thing that was found wrong with the file; empty as long as nothing is.
    """

    def __init__(self, container: av.container.InputContainer, path: Path) -> None:
        self.container = container
        self.stream = video_stream(container, path)
        self.damage = structural_damage(path, container, _index_end(self.stream))
        context = self.stream.codec_context
        self.size = (context.height, context.width)
        """(height, width) of the first picture, as far as the header knows."""
        self._announced = announced_seconds(path, container)
        self._ends = 0.0
        self._fed = False
        self._keyframe_shown = False
        self.path = path
        self._held: list[av.Packet] | None = [] if path.stat().st_size <= _PACKETS_IN_MEMORY else None
        self.marks: list[_Mark] = []
        positions = self._index()
        self.keyframes = sorted(
            (m.pts, number) for number, m in enumerate(self.marks) if m.is_keyframe and m.pts is not None
        )
        if not self.damage:
            self.damage = incomplete(
                positions=positions,
                index=[entry.pos for entry in self.stream.index_entries if entry.size],
                ends=self._ends,
                seconds=self._announced,
            ) or broken_chain(path, container)

    def _index(self) -> list[int]:
        """Read every packet once; return where they lie in the file, in bytes."""
        codec, positions = self.stream.codec_context.name, []
        in_pieces = self.container.format.name == "mpegts"
        decoded_at: list[int | None] = []
        suspects: list[int] = []
        for packet in self._demux(self.container, self.stream):
            if packet.is_corrupt:
                suspects.append(len(self.marks))
            decoded_at.append(packet.dts)
            self.marks.append(_Mark(packet.pts, packet.is_keyframe, packet.is_discard))
            positions.append(packet.pos or 0)
            if codec in NEVER_ZERO:
                content = bytes(packet)
                # Broadcast streams are filled up to a constant rate with zeros between their pictures.
                if ZERO_RUN in (content.rstrip(b"\0") if in_pieces else content):
                    self._note(f"packet {len(self.marks)} is overwritten by zeros")
            if self._held is not None:
                self._held.append(packet)
        for number in suspects:
            # Recordings that were joined end to end seem to lack something where the next one begins, or just before.
            if not _goes_back(decoded_at[number : number + 3]):
                self._note(f"packet {number + 1} is broken")
        return positions

    def _note(self, damage: str) -> None:
        self.damage = self.damage or damage

    def _demux(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
        # Where only the duration tells what is missing, sound and subtitles count too: they may be longer.
        streams = (stream,) if self._announced is None else tuple(container.streams)
        try:
            for packet in container.demux(*streams):
                if packet.size and self._announced is not None and packet.pts is not None:
                    self._ends = max(self._ends, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.size and packet.stream.index == stream.index:
                    yield packet
        except av.error.FFmpegError as fault:
            self._note(f"the stream breaks off: {fault.strerror}")

    def packets_from(self, first: int) -> Iterator[tuple[int, av.Packet]]:
        """The packets in decoding order from number `first` on, which is a keyframe or 0."""
        if self._held is not None:
            yield from enumerate(self._held[first:], start=first)
            return
        # A fresh container each time: where a seek lands is then independent of what was read before.
        with opened(self.path) as container:
            stream = video_stream(container, self.path)
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
        if pts_wanted is None or context.name not in _SKIPPING_CODECS:
            for number, packet in self.packets_from(first):
                yield number, self._decode(packet)
        else:
            for number, packet in self.packets_from(first):
                context.skip_frame = "DEFAULT" if packet.pts in pts_wanted else "NONREF"
                yield number, self._decode(packet)
        yield len(self.marks), self._decode(None)

    def _decode(self, packet: av.Packet | None) -> list[VideoFrame]:
        try:
            pictures = self.stream.codec_context.decode(packet)
        except av.error.FFmpegError as fault:
            self._note(f"a packet cannot be decoded: {fault.strerror}")
            return []
        for picture in pictures:
            # A recording may begin between two keyframes: what comes before the first one is no damage.
            self._keyframe_shown = self._keyframe_shown or picture.key_frame
            if picture.is_corrupt and self._keyframe_shown:
                self._note("a frame is corrupt")
        return pictures


def _goes_back(times: list[int | None]) -> bool:
    return any(
        time is not None and following is not None and following < time for time, following in itertools.pairwise(times)
    )


def _index_end(stream: av.VideoStream) -> int:
    """The byte after the last packet in a stream's index."""
    return max((entry.pos + entry.size for entry in stream.index_entries), default=0)


# --- decoding ----------------------------------------------------------------------------------------------------


def _by_timeline(clip: _Clip, choose: Chooser, short_side: int | None) -> _Canvas | None:
    """Read by presentation times; None as soon as they turn out not to number the pictures."""
    times = _timeline(clip)
    if not times:
        return None
    canvas = _Canvas(clip.path, choose, len(times), short_side).checked()
    run = _Run(times, [times[index] for index in sorted(canvas.places)])
    while run.wanted:
        start, left = _keyframe_before(clip, run.wanted[0]), len(run.wanted)
        if start is None or not run.read(clip, start, canvas) or len(run.wanted) == left:
            clip.damage = ""  # a decoder that starts within a sound stream may complain: reading in order tells
            return None
    return canvas


def _timeline(clip: _Clip) -> list[int]:
    """The presentation times in order, one a picture; empty where the packets' times cannot be relied on."""
    container = set(clip.container.format.name.split(","))
    if (
        clip.damage
        or not clip.marks
        or not container & _TIMED_CONTAINERS
        or clip.stream.codec_context.name not in _TIMED_CODECS
    ):
        return []
    times = [mark.pts for mark in clip.marks]
    if None in times or len(set(times)) < len(times) or not _keyframes_in_order(clip.marks):
        return []
    # A stream that was cut out of another may begin with packets that refer to what is gone: they give no picture.
    first = clip.marks[0]
    if not first.is_keyframe or first.pts is None or any(time is not None and time < first.pts for time in times):
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


class _Run:
    """Collects the pictures of some presentation times, from one keyframe after the other."""

    def __init__(self, times: list[int], wanted: list[int]) -> None:
        self._index_of = {time: index for index, time in enumerate(times)}
        self.wanted = deque(wanted)
        """Times that are still to be found, in order."""

    def read(self, clip: _Clip, start: int, canvas: _Canvas) -> bool:
        """Decode from keyframe `start` on, until a later keyframe is the shorter way to the next wanted picture.

        Returns:
            Whether the pictures came out as the timeline says.
        """
        last = -math.inf
        keyframe: int | None = start
        for number, pictures in clip.decoded(start, pts_wanted=frozenset(self.wanted)):
            for picture in pictures:
                if picture.pts not in self._index_of or not last < picture.pts <= self.wanted[0]:
                    return False
                if (picture.height, picture.width) != clip.size:  # the first picture settles the size: read in order
                    return False
                last = picture.pts
                if last == self.wanted[0]:
                    canvas.put(self._index_of[self.wanted.popleft()], picture)
                    if not self.wanted:
                        return not clip.damage
                    keyframe = _keyframe_before(clip, self.wanted[0])
            if keyframe is not None and keyframe > number + 1:
                return not clip.damage
        return False


def _in_order(clip: _Clip, choose: Chooser, short_side: int | None) -> _Canvas:
    """Read every picture, in order, and keep the wanted ones."""
    expected = max(1, len(clip.marks))
    for _ in range(2):
        canvas = _Canvas(clip.path, choose, expected, short_side)
        # One packet a picture is the rule, and files whose last packet shows nothing are common: what would be wanted
        # of those is set aside, so that a second pass is rare.
        one_less = _Canvas(clip.path, choose, expected - 1, short_side) if expected > 1 else canvas
        aside: _Pictures = {}
        count = 0
        for _number, pictures in clip.decoded(0):
            for picture in pictures:
                if count == 0:
                    canvas.settle(picture)
                    one_less.settle(picture)
                if count in canvas.places:
                    canvas.put(count, picture)
                elif count in one_less.places:
                    aside[count] = picture
                count += 1
        if count == expected:
            return canvas.checked()
        if count == expected - 1 > 0:
            return one_less.filled(canvas, aside).checked()
        if count == 0:
            break
        expected = count
    raise video_without_frames(clip.path)


# --- pixels ------------------------------------------------------------------------------------------------------

_Pictures = dict[int, "VideoFrame"]


class _Canvas:
    """The wanted frames of a clip of `count` frames, put in their places as they are decoded.

    A picture is converted at once: one that is kept for later takes a buffer away from the decoder, which must then
    find new memory for the next one.
    """

    def __init__(self, path: Path, choose: Chooser, count: int, short_side: int | None) -> None:
        self._path = path
        self.count = count
        self.places: dict[int, list[int]] = {}
        """frame number -> places in `frames`"""
        self._short_side = short_side
        # Each keeps tables for one pair of sizes and formats.
        self._scaler, self._converter = VideoReformatter(), VideoReformatter()
        self._size = (0, 0)
        self._orientation = Orientation()
        self._indices = np.asarray(choose(count), dtype=np.int64)
        for place, index in enumerate(self._indices.tolist()):
            self.places.setdefault(index, []).append(place)
        self.frames: NDArray[np.uint8] = np.empty((0, 0, 0, 3), dtype=np.uint8)
        """(T, H, W, 3), once the first picture is there."""

    def checked(self) -> _Canvas:
        """Itself, where the clip has every frame that is asked for.

        Raises:
            ValueError: the chooser asked for a frame that the clip does not have, or for none.
        """
        if not self.places or min(self.places) < 0 or max(self.places) >= self.count:
            raise ValueError(f"asked for frames {self._indices.tolist()} of a clip of {self.count}")
        return self

    def put(self, index: int, picture: VideoFrame) -> None:
        """Convert frame number `index`, scaled and upright, into its places."""
        self.settle(picture)
        height, width = self._size
        if (picture.height, picture.width) != self._size and picture.format.name in _SCALED_FIRST:
            picture = self._scaler.reformat(
                picture, width=width, height=height, interpolation="BILINEAR", **_one_thread()
            )
        rgb = self._converter.reformat(
            picture, width=width, height=height, format="rgb24", interpolation="BILINEAR", **_one_thread()
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(height, plane.line_size)
        upright = self._orientation.applied(rows[:, : width * 3].reshape(height, width, 3))
        if not self.frames.size:
            self._allocate(upright.shape)
        for place in self.places[index]:
            self.frames[place] = upright

    def filled(self, other: _Canvas, aside: _Pictures) -> _Canvas:
        """Itself, with frames that another canvas has already and others that were set aside."""
        for index, places in self.places.items():
            if index in aside:
                self.put(index, aside[index])
            elif index in other.places:
                if not self.frames.size:
                    self._allocate(other.frames.shape[1:])
                    self._size, self._orientation = other._size, other._orientation
                self.frames[places] = other.frames[other.places[index][0]]
        return self

    def settle(self, picture: VideoFrame) -> None:
        """Take size and orientation from a clip's first picture, should the stream change its size on the way."""
        if self._size == (0, 0):
            self._orientation = orientation_of(picture)
            self._size = scaled_size(picture.height, picture.width, self._short_side)

    def _allocate(self, shape: tuple[int, ...]) -> None:
        needed = len(self._indices) * math.prod(shape)
        if needed > MOST_BYTES:
            raise UnreadableVideo(
                f"{self._path}: {len(self._indices)} frames of {shape[1]} x {shape[0]} pixels take "
                f"{needed / 1e9:.1f} GB, more than is read of a clip at once ({MOST_BYTES / 1e9:.1f} GB); "
                "ask for fewer frames or a smaller size"
            )
        self.frames = np.empty((len(self._indices), *shape), dtype=np.uint8)


@functools.cache
def _one_thread() -> dict[str, Any]:
    """Starting a pool of scaling threads for every picture costs more than scaling; older PyAV has no pool."""
    return {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}

"""Damage of every kind in every container: what checks call damaged, reading refuses, and the other way round."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmfuse.data.catalogue.check import look_into
from mmfuse.data.frames.integrity import MatroskaHead, matroska_head
from mmfuse.data.frames.sampling import every_frame
from mmfuse.data.frames.video import UnreadableVideo, read_frames
from tests.data.videos import encode, number_in, picture

COUNT = 50
KINDS = {
    "mp4": ("clip.mp4", "libx264", {}),
    "fragmented mp4": ("fragments.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov", "g": "10"}),
    "mp4 for the web": ("web.mp4", "libx264", {"movflags": "faststart"}),
    "mkv": ("clip.mkv", "libx264", {}),
    "mkv with MPEG-4": ("old.mkv", "mpeg4", {}),
    "webm with VP8": ("clip.webm", "libvpx", {}),
    "webm with VP9": ("new.webm", "libvpx-vp9", {}),
    "avi": ("clip.avi", "mpeg4", {}),
    "avi with H.264": ("h264.avi", "libx264", {}),
    "ts": ("clip.ts", "libx264", {}),
    "mpg": ("clip.mpg", "mpeg2video", {}),
    "flv": ("clip.flv", "libx264", {}),
    "wmv": ("clip.wmv", "wmv2", {}),
}


def textured(path: Path, codec: str, options: dict[str, str]) -> Path:
    """A clip whose pictures have enough texture for its packets to weigh some kilobytes, as real ones do."""
    muxer = {key: value for key, value in options.items() if key == "movflags"}
    texture = np.random.default_rng(0).integers(0, 60, (80, 640, 3), dtype=np.uint8)
    with av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(
            codec, rate=25, options={key: v for key, v in options.items() if key not in muxer}
        )
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 400_000
        stream.codec_context.thread_count = 1
        for number in range(COUNT):
            image = picture(number, width=320, height=240)
            image[160:] += texture[:, number * 5 : number * 5 + 320]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def sound_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        kind: textured(folder / name, codec, options).read_bytes() for kind, (name, codec, options) in KINDS.items()
    }


def cut(content: bytes) -> bytes:
    return content[: int(len(content) * 0.6) + 1]


def noise(content: bytes) -> bytes:
    middle = len(content) // 2
    spoilt = np.random.default_rng(1).integers(0, 256, 2000, dtype=np.uint8).tobytes()
    return content[:middle] + spoilt + content[middle + len(spoilt) :]


def zeros(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(4000) + content[middle + 4000 :]


# What leaves no trace: the packets of WMV are of one length, and its demuxer goes on with the next one in silence.
UNSEEN = {("wmv", noise), ("wmv", zeros)}


def refused(path: Path) -> bool:
    try:
        read_frames(path, every_frame)
    except UnreadableVideo:
        return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_file_is_sound_to_checks_and_to_reading(
    tmp_path: Path, sound_clips: dict[str, bytes], kind: str
) -> None:
    path = tmp_path / KINDS[kind][0]
    path.write_bytes(sound_clips[kind])
    assert [number_in(frame) for frame in read_frames(path, every_frame)] == list(range(COUNT))
    assert {look_into(str(path), decode=decode).state for decode in (False, True)} == {"good"}


@pytest.mark.parametrize("harm", [cut, noise, zeros], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_checks_and_reading_agree_on_damage(
    tmp_path: Path, sound_clips: dict[str, bytes], kind: str, harm: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / KINDS[kind][0]
    path.write_bytes(harm(sound_clips[kind]))
    found = look_into(str(path), decode=True)
    assert refused(path) == (found.state != "good")
    assert (found.state != "good") == ((kind, harm) not in UNSEEN)
    if look_into(str(path), decode=False).state != "good":
        assert found.state != "good", "a look at the header alone must not find more than decoding does"


@pytest.mark.parametrize(
    "kind", ["mkv", "webm with VP8", "webm with VP9", "avi", "fragmented mp4", "mp4 for the web", "wmv"]
)
def test_a_cut_file_is_found_without_decoding(tmp_path: Path, sound_clips: dict[str, bytes], kind: str) -> None:
    path = tmp_path / KINDS[kind][0]
    path.write_bytes(cut(sound_clips[kind]))
    found = look_into(str(path), decode=False)
    assert (found.state, "bytes are missing" in found.why) == ("truncated", True)


@pytest.mark.parametrize(("units", "frames"), [(1000, 25), (500, 13), (100, 3)])
def test_an_edit_list_that_ends_early_is_no_damage(tmp_path: Path, units: int, frames: int) -> None:
    """A phone's trim leaves the samples in the file and shows a part of them (the numbers are ffmpeg's own)."""
    path = encode(tmp_path / "trimmed.mp4", codec="libx264", count=50, options={"g": "12", "bf": "2"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    content[at : at + 4] = struct.pack(">I", units)
    path.write_bytes(content)
    assert [number_in(frame) for frame in read_frames(path, every_frame)] == list(range(frames))
    assert [number_in(frame) for frame in read_frames(path, lambda count: np.array([count - 1, 0]))] == [frames - 1, 0]
    assert {look_into(str(path), decode=decode).state for decode in (False, True)} == {"good"}


def test_a_live_recording_says_neither_length_nor_duration(tmp_path: Path) -> None:
    """A browser's recorder cannot go back to write them: nothing can be missing of what was never announced."""
    path = tmp_path / "live.webm"
    with path.open("wb") as file, av.open(Unseekable(file), "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with path.open("rb") as file:
        assert matroska_head(file) == MatroskaHead(end=None, seconds=None)
    assert len(read_frames(path, every_frame)) == 30
    assert {look_into(str(path), decode=decode).state for decode in (False, True)} == {"good"}


class Unseekable:
    """A file as a pipe is one."""

    def __init__(self, file) -> None:
        self.write = file.write


@pytest.mark.parametrize(
    "content", [b"", b"\x1a", b"\x1a\x45\xdf\xa3", b"\x00" * 64, b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x10"]
)
def test_the_head_of_something_else_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "head"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert matroska_head(file) == MatroskaHead(None, None)


def test_damage_is_accepted_where_that_is_said(tmp_path: Path, sound_clips: dict[str, bytes]) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(cut(sound_clips["mkv"]))
    kept = read_frames(path, every_frame, damaged="keep")
    assert 0 < len(kept) < COUNT


def test_a_recording_that_begins_between_keyframes_is_sound(tmp_path: Path) -> None:
    """As a transport stream does that was tuned into: what comes before the first keyframe is left out."""
    path = textured(tmp_path / "whole.ts", "libx264", {"g": "20"})
    content = path.read_bytes()
    late = tmp_path / "late.ts"
    late.write_bytes(content[: 188 * 3] + content[188 * (len(content) // 188 // 8) :])
    with av.open(str(late)) as container:
        shown = [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert shown[0] > 0, "the recording must begin late"
    assert [number_in(frame) for frame in read_frames(late, every_frame)] == shown
    assert look_into(str(late), decode=True).state == "good"


@pytest.mark.parametrize(("pictures", "sound"), [(25, 2.0), (50, 1.0)])
def test_sound_that_is_longer_or_shorter_than_the_pictures_is_no_damage(
    tmp_path: Path, pictures: int, sound: float
) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=8000)
        audio.layout = "mono"
        for number in range(pictures):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        silence = np.zeros((1, int(8000 * sound)), dtype=np.int16)
        heard = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
        heard.sample_rate, heard.pts, heard.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(audio.encode(heard))
        container.mux(audio.encode(None))
    assert len(read_frames(path, every_frame)) == pictures
    assert {look_into(str(path), decode=decode).state for decode in (False, True)} == {"good"}

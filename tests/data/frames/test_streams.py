"""Which of a file's streams is the video: what ffmpeg calls `V:0`, never cover art."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mmfuse.data.catalogue.check import look_into
from mmfuse.data.frames.containers import MOST_PIXELS
from mmfuse.data.frames.sampling import every_frame
from mmfuse.data.frames.video import UnreadableVideo, probe, read_frames
from tests.data.videos import encode, number_in, picture


def png() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (96, 64), (250, 10, 10)).save(held, "PNG")
    return held.getvalue()


def atom(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content


def cover_atom() -> bytes:
    """`udta` with an iTunes cover, as taggers write it."""
    data = atom(b"data", struct.pack(">II", 14, 0) + png())  # 14: PNG
    handler = atom(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    return atom(b"udta", atom(b"meta", bytes(4) + handler + atom(b"ilst", atom(b"covr", data))))


def with_cover_first(path: Path) -> Path:
    """Put the cover before the first track. The index (`moov`) is the last box, so that no offset changes."""
    content = path.read_bytes()
    moov = content.index(b"moov") - 4
    trak = content.index(b"trak", moov) - 4
    udta = content.find(b"udta", trak)
    body = content[moov + 8 : udta - 4] if udta > 0 else content[moov + 8 :]
    place = trak - moov - 8
    path.write_bytes(content[:moov] + atom(b"moov", body[:place] + cover_atom() + body[place:]))
    return path


def song(path: Path, codec: str) -> Path:
    """A second of sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=44100)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        resampled = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=44100)
        for part in resampled.resample(frame):
            for packet in stream.encode(part):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def with_id3_cover(path: Path) -> Path:
    picture_frame = b"\x00image/png\x00\x03\x00" + png()
    frame = b"APIC" + struct.pack(">I", len(picture_frame)) + b"\x00\x00" + picture_frame
    size = len(frame)
    spread = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\x00\x00" + spread + frame + path.read_bytes())
    return path


def test_cover_art_that_comes_first_is_not_the_video(tmp_path: Path) -> None:
    path = with_cover_first(encode(tmp_path / "clip.mp4", codec="libx264", count=20))
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "png", "the fault is not there to be met"
    assert [number_in(frame) for frame in read_frames(path, every_frame)] == list(range(20))
    assert probe(path).codec == "h264"
    assert look_into(str(path), decode=True).frames == look_into(str(path), decode=False).frames == 20


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("kind", ["m4a", "mp3"])
def test_a_song_with_a_cover_is_no_video(tmp_path: Path, kind: str, decode: bool) -> None:
    if kind == "mp3":
        path = with_id3_cover(song(tmp_path / "song.mp3", "libmp3lame"))
    else:
        path = with_cover_first(song(tmp_path / "song.m4a", "aac"))
    with pytest.raises(UnreadableVideo, match="holds only cover art"):
        read_frames(path, every_frame)
    found = look_into(str(path), decode=decode)
    assert (found.state, "only cover art" in found.why) == ("unreadable", True)


def test_of_two_video_streams_the_first_is_read(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(10):
            for stream, shown in zip(streams, (number, 200 + number), strict=True):
                frame = av.VideoFrame.from_ndarray(picture(shown), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    assert [number_in(frame) for frame in read_frames(path, every_frame)] == list(range(10))


@pytest.mark.parametrize("decode", [False, True])
def test_frames_too_large_to_decode_are_refused_by_the_header(tmp_path: Path, decode: bool) -> None:
    """A GIF says in its first bytes how large its canvas is, and its pictures may cover little of it."""
    path = encode(tmp_path / "huge.gif", codec="gif", count=2, pixels="rgb8")
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 16384, 8704)
    path.write_bytes(content)
    assert MOST_PIXELS < 16384 * 8704
    with pytest.raises(UnreadableVideo, match="16384 x 8704 pixels are larger"):
        read_frames(path, every_frame)
    assert "16384 x 8704" in look_into(str(path), decode=decode).why

"""Sound files that are out of the ordinary, and damage that decoders pass over: right frames, or a refusal.

What is expected was compared with `ffmpeg -map 0:V:0` when these tests were written; the numbers painted in the
pictures say it without ffmpeg.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmfuse.data.catalogue.check import look_into
from mmfuse.data.frames import video
from mmfuse.data.frames.sampling import every_frame, segment_centres
from mmfuse.data.frames.video import UnreadableVideo, read_counted, read_frames
from tests.data.videos import encode, number_in, picture

OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0:bframes=3:b-pyramid=normal"}
OPEN_GROUPS_HEVC = {"x265-params": "log-level=none:pools=none:open-gop=1:keyint=10:min-keyint=10:scenecut=0:bframes=3"}


def numbers(path: Path, **how) -> list[int]:
    return [number_in(frame) for frame in read_frames(path, every_frame, **how)]


def states(path: Path) -> set[str]:
    return {look_into(str(path), decode=decode).state for decode in (False, True)}


def without_the_first(source: Path, target: Path, packets: int) -> Path:
    """What copying a part of a stream without encoding it leaves."""
    with av.open(str(source)) as original, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(original.streams.video[0])
        for number, packet in enumerate(packet for packet in original.demux(video=0) if packet.dts is not None):
            if number >= packets:
                packet.stream = stream
                copy.mux(packet)
    return target


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("beyond", [0, 3], ids=["at a keyframe", "between keyframes"])
@pytest.mark.parametrize(("codec", "options"), [("libx264", OPEN_GROUPS), ("libx265", OPEN_GROUPS_HEVC)])
def test_packets_that_refer_to_what_was_cut_off_are_not_counted(
    tmp_path: Path, codec: str, options: dict[str, str], beyond: int, suffix: str
) -> None:
    """Such a stream holds more packets than pictures, and only decoding tells how many."""
    whole = encode(tmp_path / "whole.mp4", codec=codec, count=50, options=options)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.dts is not None]
    keyframes = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    # A keyframe after which pictures are stored that are shown before it.
    opened = next(n for n in keyframes[1:] if min(packet.pts for packet in packets[n:]) < packets[n].pts)
    path = without_the_first(whole, tmp_path / f"part.{suffix}", opened + beyond)
    with av.open(str(path)) as container:
        shown = [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert 0 < len(shown) < 50 - opened
    assert numbers(path) == shown
    for wanted in (1, 3, 8):
        chosen = segment_centres(len(shown), wanted)
        frames, count = read_counted(path, lambda count, wanted=wanted: segment_centres(count, wanted))
        assert (count, [number_in(frame) for frame in frames]) == (len(shown), [shown[place] for place in chosen])
    assert states(path) == {"good"}


@pytest.mark.parametrize("suffix", ["ts", "avi", "mkv"])
def test_files_that_were_joined_end_to_end_are_sound(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"one.{suffix}", codec="mpeg4" if suffix == "avi" else "libx264", options={"g": "12"})
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(path.read_bytes() * 2)
    assert numbers(joined) == list(range(40)) * 2
    assert states(joined) == {"good"}


def test_a_stream_that_changes_its_size_is_read_at_its_first(tmp_path: Path) -> None:
    """Whichever frames are wanted, and whether sizes are known from memory or from seeking."""
    small = encode(tmp_path / "small.ts", codec="libx264", options={"g": "10"})
    large = encode(tmp_path / "large.ts", codec="libx264", width=192, height=128, options={"g": "10"})
    path = tmp_path / "joined.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    frames = read_frames(path, every_frame)
    assert frames.shape == (80, 64, 96, 3)
    np.testing.assert_array_equal(read_frames(path, lambda _: [70, 3]), frames[[70, 3]])
    np.testing.assert_array_equal(read_frames(path, lambda _: [70]), frames[[70]])


def test_subtitles_may_last_longer_than_the_pictures(tmp_path: Path) -> None:
    texts, path = tmp_path / "texts.srt", tmp_path / "clip.mkv"
    texts.write_text("1\n00:00:00,000 --> 00:00:09,000\nwell done\n\n")
    pictures = encode(tmp_path / "clip.mp4", codec="libx264")
    with av.open(str(pictures)) as shown, av.open(str(texts)) as told, av.open(str(path), "w") as container:
        sources = [(shown, shown.streams.video[0]), (told, told.streams.subtitles[0])]
        copies = [container.add_stream_from_template(stream) for _, stream in sources]
        for (source, stream), copy in zip(sources, copies, strict=True):
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    container.mux(packet)
    with av.open(str(path)) as container:
        assert (container.duration or 0) > 8_000_000, "the texts must be the longer part"
    assert numbers(path) == list(range(40))
    assert states(path) == {"good"}


@pytest.mark.parametrize(
    ("codec", "pixels", "options"),
    [
        ("libx264", "yuv420p10le", {}),
        ("libx264", "yuvj420p", {}),
        ("libx264", "gray", {}),
        ("libx264", "yuv420p", {"flags": "+ilme+ildct"}),
        ("ffv1", "bgr0", {}),
        ("libvpx-vp9", "yuva420p", {}),
    ],
)
def test_pictures_of_every_kind_keep_their_places(
    tmp_path: Path, codec: str, pixels: str, options: dict[str, str]
) -> None:
    path = encode(tmp_path / "clip.mkv", codec=codec, pixels=pixels, options=options | {"g": "8"})
    assert numbers(path) == list(range(40))
    assert number_in(read_frames(path, lambda _: [33])[0]) == 33
    assert states(path) == {"good"}


def test_a_start_before_zero_or_long_after_it_moves_no_frame(tmp_path: Path) -> None:
    for start in (-30, 90_000):
        path = encode(
            tmp_path / f"{start}.mkv", codec="libx264", options={"g": "8"}, times=[start + n for n in range(40)]
        )
        assert numbers(path) == list(range(40))
        assert number_in(read_frames(path, lambda _: [17])[0]) == 17


# --- damage --------------------------------------------------------------------------------------------------------


def textured(path: Path, codec: str, pixels: str = "yuv420p") -> Path:
    """Pictures of some kilobytes each."""
    texture = np.random.default_rng(0).integers(0, 60, (80, 640, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "12"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, pixels, 600_000
        stream.codec_context.thread_count = 1
        for number in range(60):
            image = picture(number, width=320, height=240)
            image[160:] += texture[:, number * 5 : number * 5 + 320]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def refused(path: Path) -> bool:
    try:
        read_frames(path, every_frame)
    except UnreadableVideo:
        return True
    return False


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_blocks_lost_within_a_webm_are_missed(tmp_path: Path, codec: str) -> None:
    """A block's head is spoilt: the library goes on with the next cluster, and the end of the clip is there."""
    path = textured(tmp_path / "clip.webm", codec)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[places[20] - 40 : places[20] + 24] = bytes(64)
    path.write_bytes(content)
    assert 0 < len(read_frames(path, every_frame, damaged="keep")) < 60
    assert "structure breaks off" in look_into(str(path), decode=True).why
    assert refused(path)


def test_spoilt_pictures_of_mjpeg_are_found(tmp_path: Path) -> None:
    path = textured(tmp_path / "clip.avi", "mjpeg", "yuvj420p")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    assert states(path) == {"good"}
    middle = packets[30][0] + packets[30][1] // 2
    content[middle : middle + 400] = np.random.default_rng(1).integers(0, 256, 400, dtype=np.uint8).tobytes()
    path.write_bytes(content)
    assert look_into(str(path), decode=True).state == "truncated"
    assert refused(path)


@pytest.mark.parametrize("lost", [20, 39])
def test_only_the_last_packet_of_an_avi_may_be_listed_and_not_there(tmp_path: Path, lost: int) -> None:
    path = encode(tmp_path / "clip.avi")
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[places[lost] - 8 : places[lost] - 4] = b"JUNK"
    path.write_bytes(content)
    expected = "good" if lost == 39 else "truncated"
    assert look_into(str(path), decode=True).state == expected
    assert refused(path) == (expected != "good")


def test_what_is_left_of_a_damaged_file_is_numbered_alike_whatever_is_wanted(tmp_path: Path) -> None:
    path = textured(tmp_path / "clip.mp4", "libx264")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        spoilt = next(packet for packet in packets[12:] if packet.is_keyframe)
    content = bytearray(path.read_bytes())
    content[spoilt.pos : spoilt.pos + spoilt.size] = b"\xff" * spoilt.size
    path.write_bytes(content)
    kept = read_frames(path, every_frame, damaged="keep")
    for wanted in (1, 2, 5):
        frames, count = read_counted(path, lambda n, wanted=wanted: segment_centres(n, wanted), damaged="keep")
        assert count == len(kept)
        np.testing.assert_array_equal(frames, kept[segment_centres(len(kept), wanted)])


def test_frames_that_would_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "clip.mp4", codec="libx264")
    monkeypatch.setattr(video, "MOST_BYTES", 32 * 48 * 3 * 40)
    assert len(read_frames(path, every_frame, short_side=32)) == 40
    with pytest.raises(UnreadableVideo, match=r"clip\.mp4: 40 frames of 96 x 64 pixels take 0\.0 GB"):
        read_frames(path, every_frame)

"""Frame i is frame i, whatever the container says."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfuse.data.frames import video
from mmfuse.data.frames.sampling import every_frame, segment_centres
from mmfuse.data.frames.video import UnreadableVideo, probe, read_counted, read_frames, scaled_size
from tests.data.videos import encode, number_in, plain_decode

KINDS = {
    "mpeg4 avi": {"name": "a.avi", "codec": "mpeg4"},
    "mpeg4 avi with B-frames": {"name": "a.avi", "codec": "mpeg4", "options": {"bf": "2"}},
    "h264 mp4": {"name": "a.mp4", "codec": "libx264", "options": {"g": "12", "bf": "3"}},
    "h264 mp4, open groups of pictures": {
        "name": "a.mp4",
        "codec": "libx264",
        "options": {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0:bframes=3:b-pyramid=normal"},
    },
    "h264 avi with B-frames, no presentation times": {"name": "a.avi", "codec": "libx264", "options": {"bf": "2"}},
    "h264 mkv": {"name": "a.mkv", "codec": "libx264", "options": {"g": "9"}},
    "hevc mp4": {
        "name": "a.mp4",
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:keyint=10:pools=none"},
    },
    "vp9 webm": {
        "name": "a.webm",
        "codec": "libvpx-vp9",
        "options": {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "16"},
    },
    "mjpeg avi": {"name": "a.avi", "codec": "mjpeg", "pixels": "yuvj420p"},
    "mpeg4 mp4": {"name": "a.mp4", "codec": "mpeg4", "options": {"g": "10", "bf": "1"}},
    "h264, odd size": {"name": "a.mp4", "codec": "libx264", "width": 97, "height": 65, "pixels": "yuv444p"},
    "mpeg4, odd size": {"name": "a.avi", "codec": "mpeg4", "width": 97, "height": 65},
    "one frame": {"name": "a.avi", "codec": "mpeg4", "count": 1},
    "one frame, h264": {"name": "a.mp4", "codec": "libx264", "count": 1},
    "two frames, h264": {"name": "a.mp4", "codec": "libx264", "count": 2},
    "variable frame rate": {
        "name": "a.mp4",
        "codec": "libx264",
        "options": {"g": "8"},
        "times": [n * n // 7 + n for n in range(40)],
    },
    "a hole of a minute in the time stamps": {
        "name": "a.mkv",
        "codec": "libx264",
        "options": {"g": "8"},
        "times": [n + 1500 * (n >= 20) for n in range(40)],
    },
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    made = {}
    for place, (kind, how) in enumerate(KINDS.items()):
        how = dict(how)
        made[kind] = encode(folder / str(place) / str(how.pop("name")), **how)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_where_its_number_says(clips: dict[str, Path], kind: str) -> None:
    frames, count = read_counted(clips[kind], every_frame)
    assert count == KINDS[kind].get("count", 40)
    assert [number_in(frame) for frame in frames] == list(range(count))


@pytest.mark.parametrize("kind", KINDS)
def test_any_choice_equals_reading_it_all(clips: dict[str, Path], kind: str) -> None:
    reference = plain_decode(clips[kind])
    generator = np.random.default_rng(3)
    for wanted in (1, 2, 5):
        for _ in range(4):
            chosen = generator.integers(0, len(reference), wanted)
            np.testing.assert_array_equal(read_frames(clips[kind], lambda count: chosen), reference[chosen])  # noqa: B023


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_seeking_in_any_order_and_with_repeats(clips: dict[str, Path], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    path, count = clips[kind], KINDS[kind].get("count", 40)
    chosen = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    assert [number_in(frame) for frame in read_frames(path, lambda _: chosen)] == chosen


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_frame_can_be_asked_for_by_number(clips: dict[str, Path], kind: str) -> None:
    last = KINDS[kind].get("count", 40) - 1
    assert number_in(read_frames(clips[kind], lambda _: [last])[0]) == last


def test_long_clips_are_sought_not_read_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "long.mp4", codec="libx264", count=250, options={"g": "10"})
    fed: list[int] = []
    original = video._Clip.decoded

    def counting(self, first, **how):
        for number, pictures in original(self, first, **how):
            fed.append(number)
            yield number, pictures

    monkeypatch.setattr(video._Clip, "decoded", counting)
    frames = read_frames(path, lambda count: segment_centres(count, 4))
    assert [number_in(frame) for frame in frames] == [31, 93, 156, 218]
    assert len(fed) < 80


def test_files_too_large_for_memory_are_sought_on_disk(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_PACKETS_IN_MEMORY", 0)
    for kind, path in clips.items():
        count = KINDS[kind].get("count", 40)
        chosen = segment_centres(count, 5)
        assert [number_in(frame) for frame in read_frames(path, lambda _: chosen)] == chosen.tolist(), kind  # noqa: B023


def test_times_that_go_back_do_not_renumber_the_frames(tmp_path: Path) -> None:
    # Two halves spliced the wrong way round: the second half carries earlier times than the first.
    def swapped(packet, number: int) -> None:
        packet.pts = packet.pts + 20 * packet.duration if number < 20 else packet.pts - 20 * packet.duration

    path = encode(tmp_path / "a.mkv", codec="libx264", options={"g": "5", "bf": "0"}, retime=swapped)
    reference = plain_decode(path)
    for wanted in range(0, 40, 3):
        np.testing.assert_array_equal(read_frames(path, lambda _: [wanted])[0], reference[wanted])  # noqa: B023


@pytest.mark.parametrize("announced", [0, 3, 39, 41, 400])
def test_a_header_that_lies_about_the_count(tmp_path: Path, announced: int) -> None:
    path = encode(tmp_path / "a.avi")
    content = bytearray(path.read_bytes())
    content[48:52] = announced.to_bytes(4, "little")  # avih: total frames
    stream = content.index(b"strh") + 8
    content[stream + 32 : stream + 36] = announced.to_bytes(4, "little")  # strh: length
    path.write_bytes(content)
    frames, count = read_counted(path, lambda count: segment_centres(count, 4))
    assert count == 40
    assert [number_in(frame) for frame in frames] == [5, 15, 25, 35]


def test_a_last_packet_that_shows_nothing(tmp_path: Path) -> None:
    """As on HMDB51: one frame fewer than packets; the frames are spread over those there are."""
    path = encode(tmp_path / "a.avi", count=21)
    content = path.read_bytes()
    place = content.rindex(b"00dc", 0, content.rindex(b"idx1"))
    size = int.from_bytes(content[place + 4 : place + 8], "little")
    # A picture header that says "not coded": start code, P-type, time, and a clear vop_coded bit.
    path.write_bytes(content[: place + 8] + b"\x00\x00\x01\xb6\x50" + bytes(size - 5) + content[place + 8 + size :])
    count = len(plain_decode(path))
    frames, seen = read_counted(path, lambda count: segment_centres(count, 5), damaged="keep")
    assert seen == count
    assert [number_in(frame) for frame in frames] == segment_centres(count, 5).tolist()


def test_metadata_that_is_not_utf8(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", metadata={"title": "TITLETITLE"})
    path.write_bytes(path.read_bytes().replace(b"TITLETITLE", b"\xff\xfe\xe9\xff\xfe\xe9\xff\xfe\xe9\xff"))
    assert number_in(read_frames(path, lambda _: [17])[0]) == 17


@pytest.mark.parametrize(("rotation", "corner"), [(90, "bottom left"), (-90, "top right"), (180, "bottom right")])
def test_rotated_clips_come_upright(tmp_path: Path, rotation: int, corner: str) -> None:
    """The bright corner is stored top left; the display matrix turns counter-clockwise."""
    path = encode(tmp_path / "a.mp4", codec="libx264", rotation=rotation)
    frame = read_frames(path, lambda _: [3], short_side=32)[0]
    assert frame.shape[:2] == ((48, 32) if rotation in (90, -90) else (32, 48))
    corners = {
        "top left": frame[:4, :4],
        "top right": frame[:4, -4:],
        "bottom left": frame[-4:, :4],
        "bottom right": frame[-4:, -4:],
    }
    assert max(corners, key=lambda name: corners[name].mean()) == corner


@given(height=st.integers(16, 900), width=st.integers(16, 900), side=st.integers(8, 300))
def test_scaling_gives_the_short_side_and_keeps_the_shape(height: int, width: int, side: int) -> None:
    new_height, new_width = scaled_size(height, width, side)
    assert min(new_height, new_width) == side
    assert abs(new_height / new_width - height / width) < 0.6 * (1 / new_width + height / width / new_width + 1 / side)


@pytest.mark.parametrize("kind", ["mpeg4 avi", "h264, odd size", "mjpeg avi"])
def test_scaled_frames_look_like_the_originals(clips: dict[str, Path], kind: str) -> None:
    """Averaged over blocks of 8 by 8, a frame at half its size is what it was."""
    whole, half = (read_frames(clips[kind], lambda _: [21], short_side=side)[0] for side in (64, 32))
    assert (whole.shape, half.shape) == ((64, 96, 3), (32, 48, 3))
    blocks = whole.reshape(8, 8, 12, 8, 3).mean((1, 3)) - half.reshape(8, 4, 12, 4, 3).mean((1, 3))
    assert np.abs(blocks).mean() < 3  # scaling spreads hard edges over a pixel


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    if suffix == "avi":
        whole = encode(tmp_path / "whole.avi").read_bytes()
        start, end = whole.index(b"movi"), whole.rindex(b"idx1")
    else:
        _remux(encode(tmp_path / "a.mp4", codec="libx264", options={"g": "1"}), tmp_path / "index_first.mp4")
        whole = (tmp_path / "index_first.mp4").read_bytes()
        start, end = whole.index(b"mdat"), len(whole)
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: start + int((end - start) * share)])
    with pytest.raises(UnreadableVideo, match=r"cut\.(avi|mp4): damaged"):
        read_frames(path, every_frame)
    frames = read_frames(path, every_frame, damaged="keep")
    assert 1 <= len(frames) < 40
    # The last packet is cut in its middle, and what comes of it may be a picture again; all before it are whole.
    assert [number_in(frame) for frame in frames[:-1]] == list(range(len(frames) - 1))


def _remux(source: Path, target: Path) -> None:
    import av

    with av.open(str(source)) as original, av.open(str(target), "w", options={"movflags": "faststart"}) as copy:
        stream = copy.add_stream_from_template(original.streams.video[0])
        for packet in original.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)


def test_undecodable_files_are_named(tmp_path: Path) -> None:
    empty, text, sound = tmp_path / "empty.avi", tmp_path / "text.mp4", tmp_path / "missing.avi"
    empty.touch()
    text.write_text("not a video at all\n" * 50)
    for path, why in ((empty, "the file is empty"), (text, "cannot be decoded"), (sound, "cannot be read")):
        with pytest.raises(UnreadableVideo, match=why) as caught:
            read_frames(path, every_frame)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(UnreadableVideo, match=why):
            probe(path)


def test_a_header_is_read_without_decoding(clips: dict[str, Path]) -> None:
    header = probe(clips["h264 mp4"])
    assert (header.frames, header.width, header.height) == (40, 96, 64)
    assert (header.codec, header.container, header.frames_per_second) == ("h264", "mov", 25.0)
    assert probe(clips["h264 mkv"]).frames == pytest.approx(40, abs=1)


def test_odd_names_are_opened(tmp_path: Path) -> None:
    for name in ("#5 & [x] (y);~@+!.avi", "-dash.avi", "http:colon.avi", "100%d.avi", "ünï cödé.avi"):
        path = encode(tmp_path / name, count=3)
        assert len(read_frames(path, every_frame)) == 3


def test_memory_stays_flat_over_many_opens(clips: dict[str, Path]) -> None:
    def opens(times: int) -> int:
        for _ in range(times):
            read_frames(clips["h264 mp4"], lambda count: segment_centres(count, 4))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = opens(150)
    assert opens(600) - before < 4 * 1024  # kilobytes: less than 7 KB an open


def test_a_chooser_that_asks_for_what_is_not_there(clips: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"asked for frames \[40\] of a clip of 40"):
        read_frames(clips["h264 mp4"], lambda _: [40])

"""The store gives what decoding gives, never anything half-written, and is filled only as far as it must be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmfuse.data.cache import clip_store, fill
from mmfuse.data.cache.clip_store import ClipStore, StoreFormat, StoreReader, WantedClip
from mmfuse.data.cache.fill import ensure, plan_fill
from mmfuse.data.frames import sources
from mmfuse.data.frames.sampling import candidate_frames, every_frame, segment_centres, segment_places
from mmfuse.data.frames.sources import DecodedFrames
from mmfuse.data.frames.video import read_frames
from mmfuse.errors import MmfuseError
from tests.data.videos import encode

SAMPLING = StoreFormat(frames=4, short_side=48)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    lengths = (1, 5, 30, 50)
    return [
        encode(folder / f"{count}.mp4", codec="libx264", count=count, width=96 + 8 * count, options={"g": "8"})
        for count in lengths
    ]


def wants(videos: list[Path], candidates: int | None = 3) -> list[WantedClip]:
    return [WantedClip(path.stem, str(path), candidates) for path in videos]


def reader_of(store: ClipStore, wanted: list[WantedClip]) -> StoreReader:
    return store.reader(wanted, otherwise=DecodedFrames(short_side=48))


def centres(count: int) -> np.ndarray:
    return segment_centres(count, 4)


def store_in(folder: Path, sampling: StoreFormat = SAMPLING) -> ClipStore:
    return ClipStore(folder, dataset="mine", sampling=sampling)


@pytest.mark.parametrize("candidates", [None, 1, 3, 5])
def test_the_store_gives_what_decoding_gives(videos: list[Path], tmp_path: Path, candidates: int | None) -> None:
    store, wanted = store_in(tmp_path), wants(videos, candidates)
    assert ensure(store, wanted, workers=1) == {}
    reader = reader_of(store, wanted)
    generator = np.random.default_rng(0)
    for path in videos:
        choosers = [centres]
        if candidates != 1:
            choosers += [
                lambda count, places=places: segment_places(count, places, candidates=candidates)
                for places in generator.random((5, 4))
            ]
        for choose in choosers:
            frames, chosen = reader.pick(str(path), choose)
            np.testing.assert_array_equal(frames[chosen], read_frames(path, choose, short_side=48))


def test_frames_that_are_not_held_are_refused(videos: list[Path], tmp_path: Path) -> None:
    store, wanted = store_in(tmp_path), wants(videos, 1)
    ensure(store, wanted, workers=1)
    with pytest.raises(LookupError, match=r"frames \[29\] are wanted, \[3, 11, 18, 26\] are held"):
        reader_of(store, wanted).pick(str(videos[2]), lambda _: np.array([29]))


def test_only_the_frames_that_can_be_looked_at_are_kept(videos: list[Path], tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for candidates, kept in ((None, 50), (3, 12), (1, 4)):
        [want] = wants(videos[3:], candidates)
        store.add(want)
        size = store.file_of(want.clip, candidates).stat().st_size
        frame = 48 * round((96 + 8 * 50) * 48 / 64) * 3
        assert 0 <= size - kept * frame < 1024
        assert 0 <= store.bytes_needed(want) - kept * frame <= 1024
        assert len(candidate_frames(50, 4, candidates)) == kept


def test_filling_again_decodes_nothing(videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, wanted = store_in(tmp_path), wants(videos)
    told: list[Any] = []
    ensure(store, wanted + wanted, workers=1, announce=told.append, report=lambda *done: told.append(done))
    assert told[1:] == [(n, 4) for n in (1, 2, 3, 4)]
    assert (len(told[0].todo), told[0].present) == (4, 0)
    monkeypatch.setattr(sources, "read_counted", lambda *_, **__: pytest.fail("decoded again"))
    assert ensure(store, wanted, workers=1, announce=told.append) == {}
    assert len(told) == 5, "nothing to announce"


def test_several_processes_fill_it_alike(videos: list[Path], tmp_path: Path) -> None:
    one, two = store_in(tmp_path / "one"), store_in(tmp_path / "two")
    ensure(one, wants(videos), workers=1)
    ensure(two, wants(videos), workers=2)
    names = sorted(path.relative_to(one.folder) for path in one.folder.rglob("*.safetensors"))
    assert len(names) == 4
    assert all((one.folder / name).read_bytes() == (two.folder / name).read_bytes() for name in names)


def test_a_changed_video_is_decoded_again_and_a_touched_one_is_not(videos: list[Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(videos[1], tmp_path / "clip.mp4"))
    store, want = store_in(tmp_path / "store"), WantedClip("clip", str(path), 3)
    store.add(want)
    os.utime(path, (1, 1))
    assert store.holds(want), "the same content at another time"
    shutil.copy(videos[2], path)
    assert not store.holds(want)
    assert [todo.clip for todo in plan_fill(store, [want]).todo] == ["clip"]
    ensure(store, [want], workers=1)
    frames, chosen = reader_of(store, [want]).pick(str(path), centres)
    np.testing.assert_array_equal(frames[chosen], read_frames(path, centres, short_side=48))
    path.unlink()
    assert store.holds(want), "what is gone cannot have changed"


def test_another_sampling_size_decoder_or_setting_is_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [
        StoreFormat(frames=8, short_side=48),
        StoreFormat(frames=4, short_side=56),
        StoreFormat(frames=4, short_side=48, damaged="keep"),
    ]
    folders = {store_in(tmp_path, sampling).folder for sampling in [SAMPLING, *changed]}
    monkeypatch.setattr(clip_store, "decoder_version", lambda: "another")
    folders.add(store_in(tmp_path).folder)
    assert len(folders) == 5


def damage(file: Path, how: str) -> None:
    """Spoil a clip's file; a flip changes one bit of the frames, of their numbers or of what is told of the video."""
    whole = bytearray(file.read_bytes())
    place = {
        "flip in frames": len(whole) // 2,
        "flip in last frame": -100,
        "flip in numbers": 0,
        "flip in head": whole.index(b"count") + 9,
        "flip in shape": whole.index(b'"shape":[') + 9,
    }
    if how == "flip in numbers":
        length = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8 : 8 + length])
        place[how] = 8 + length + header["numbers"]["data_offsets"][0]
    if how in place:
        whole[place[how]] ^= 1
        file.write_bytes(whole)
        return
    changed = {
        "cut": whole[:-1],
        "empty": b"",
        "garbage": b"\0" * len(whole),
        "longer": whole + b"\0",
        "huge head": b"\xff" * 8 + whole[8:],
    }
    file.write_bytes(changed[how])


CUTS = ["cut", "empty", "garbage", "longer", "huge head"]
FLIPS = ["flip in frames", "flip in last frame", "flip in numbers", "flip in head", "flip in shape"]


def test_a_video_replaced_with_its_size_and_time_kept_is_decoded_again(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", codec="libx264", count=30)
    other = encode(tmp_path / "another.mp4", codec="libx264", count=20)
    longer = max(file.stat().st_size for file in (path, other)) + 8
    for file in (path, other):  # both are made equally long by a box of padding at their end
        padding = longer - file.stat().st_size
        file.write_bytes(file.read_bytes() + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8))
        os.utime(file, ns=(10**18, 10**18))
    store, want = store_in(tmp_path / "store"), WantedClip("clip", str(path), None)
    ensure(store, [want], workers=1)
    before = store.read(want)
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (longer, 10**18)
    assert not store.holds(want)
    ensure(store, [want], workers=1)
    found = store.read(want)
    assert before is not None
    assert found is not None
    assert (before.count, found.count) == (30, 20)
    np.testing.assert_array_equal(found.frames, read_frames(path, every_frame, short_side=48))


def test_a_video_that_changes_while_it_is_read_is_not_kept(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(videos[2], tmp_path / "clip.mp4"))
    store, want = store_in(tmp_path / "store"), WantedClip("clip", str(path), 1)
    hold = DecodedFrames.hold

    def replaced(self: DecodedFrames, *given: Any, **how: Any) -> Any:
        held = hold(self, *given, **how)
        shutil.copy(videos[3], path)
        return held

    monkeypatch.setattr(DecodedFrames, "hold", replaced)
    assert "has changed while it was read" in ensure(store, [want], workers=1)["clip"]
    assert not store.holds(want)


@pytest.mark.parametrize("how", [*CUTS, *FLIPS])
def test_what_is_damaged_is_never_shown_and_heals_when_it_is_read(
    videos: list[Path], tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, [want] = store_in(tmp_path), wants(videos[2:3])
    store.add(want)
    file = store.file_of(want.clip, want.candidates)
    whole = file.read_bytes()
    damage(file, how)
    assert not (store.holds(want) and how in CUTS)  # what is flipped shows when it is read
    frames, chosen = reader_of(store, [want]).pick(want.path, centres)
    np.testing.assert_array_equal(frames[chosen], read_frames(want.path, centres, short_side=48))
    assert file.read_bytes() == whole
    monkeypatch.setattr(sources, "read_counted", lambda *_, **__: pytest.fail("decoded again"))
    reader_of(store, [want]).pick(want.path, centres)


@pytest.mark.parametrize("how", ["cut", "flip in frames"])
def test_damage_is_named_where_the_video_is_gone(videos: list[Path], tmp_path: Path, how: str) -> None:
    path = Path(shutil.copy(videos[2], tmp_path / "clip.mp4"))
    store, want = store_in(tmp_path / "store"), WantedClip("clip", str(path), 3)
    store.add(want)
    path.unlink()
    reader_of(store, [want]).pick(want.path, centres)
    damage(store.file_of(want.clip, 3), how)
    with pytest.raises(
        MmfuseError, match=r"no sound copy of clip .*safetensors is gone or damaged.*put the video back"
    ):
        reader_of(store, [want]).pick(want.path, centres)


def test_what_a_process_has_checked_it_does_not_check_again(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = store_in(tmp_path), wants(videos)
    checked: list[int] = []
    crc = clip_store.zlib.crc32

    def counting(data: Any, start: int = 0) -> int:
        checked.append(len(data))
        return crc(data, start)

    ensure(store, wanted, workers=1)
    monkeypatch.setattr(clip_store.zlib, "crc32", counting)
    for _ in range(3):
        reader = reader_of(store, wanted)
        for path in videos:
            reader.pick(str(path), centres)
    assert len(checked) == 3 * len(videos)  # what is told, frames and numbers


def test_reading_fills_a_store_as_far_as_the_disk_has_room(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = store_in(tmp_path), wants(videos)
    usage, rooms = shutil.disk_usage(tmp_path), iter([2**40, 2**40, 2**20, 2**20])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(rooms)))
    reader = reader_of(store, wanted)
    for _ in range(2):  # the second time nobody asks for room again
        for path in videos:
            frames, chosen = reader.pick(str(path), centres)
            np.testing.assert_array_equal(frames[chosen], read_frames(path, centres, short_side=48))
    assert [store.holds(want) for want in wanted] == [True, True, False, False]


def test_a_store_that_cannot_be_written_costs_time_alone(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(clip_store, "write_atomically", full)
    store, wanted = store_in(tmp_path), wants(videos)
    frames, chosen = reader_of(store, wanted).pick(wanted[0].path, centres)
    np.testing.assert_array_equal(frames[chosen], read_frames(videos[0], centres, short_side=48))


def test_too_small_a_disk_is_refused_before_anything_is_decoded(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = store_in(tmp_path), wants(videos)
    need = plan_fill(store, wanted).bytes_needed
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=need + fill._SPARE - 1))
    monkeypatch.setattr(sources, "read_counted", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(MmfuseError, match=r"the clip store needs \d+\.\d MB below .* are free; make room"):
        ensure(store, wanted, workers=1)


def test_a_disk_that_runs_full_keeps_what_is_whole(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = store_in(tmp_path), wants(videos)
    write, written = clip_store.write_atomically, []

    def until_full(path: Path, content: bytes, **how: bool) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(path, content, **how)

    monkeypatch.setattr(clip_store, "write_atomically", until_full)
    with pytest.raises(MmfuseError, match="the disk is full; what was decoded is kept"):
        ensure(store, wanted, workers=1)
    monkeypatch.undo()
    assert len(plan_fill(store, wanted).todo) == 2
    assert ensure(store, wanted, workers=1) == {}


def test_unreadable_videos_are_told_and_the_others_kept(videos: list[Path], tmp_path: Path) -> None:
    broken, cut = tmp_path / "broken.mp4", tmp_path / "cut.avi"
    broken.write_bytes(b"no video at all")
    cut.write_bytes(encode(tmp_path / "whole.avi").read_bytes()[:-1500])
    store = store_in(tmp_path / "store")
    failures = ensure(store, wants([broken, cut, videos[0]]), workers=2)
    assert set(failures) == {"broken", "cut"}
    assert "broken.mp4: cannot be decoded" in failures["broken"]
    assert "cut.avi: damaged" in failures["cut"]
    assert store.holds(wants(videos)[0])


def test_an_unwritable_folder_is_named(videos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file stands where the folder should be")
    with pytest.raises(MmfuseError, match=r"store/mine/.*cannot be written"):
        ensure(store_in(tmp_path / "store"), wants(videos), workers=1)


def test_leftovers_of_killed_processes_are_removed(videos: list[Path], tmp_path: Path) -> None:
    store, wanted = store_in(tmp_path), wants(videos)
    fresh = store.file_of("1", 3).parent / ".fresh.tmp"
    old = store.file_of("1", 3).parent / ".old.tmp"
    for path in (fresh, old):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    ensure(store, wanted, workers=1)
    assert fresh.exists(), "another process may be writing it"
    assert not old.exists()


FILLING = """
import sys
from pathlib import Path
from mmfuse.data.cache.clip_store import ClipStore, StoreFormat, StoreReader, WantedClip
from mmfuse.data.frames.sources import DecodedFrames
from mmfuse.data.cache.fill import ensure
video, folder = sys.argv[1:]
store = ClipStore(Path(folder), dataset="mine", sampling=StoreFormat(frames=4, short_side=48))
print("begun", flush=True)
ensure(store, [WantedClip(str(n), video, 3) for n in range(200)], workers=2)
"""


@pytest.mark.parametrize("after", [0.05, 0.3, 0.6])
def test_killed_at_any_moment_it_goes_on_from_there(videos: list[Path], tmp_path: Path, after: float) -> None:
    command = [sys.executable, "-c", FILLING, str(videos[3]), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after)
        os.kill(process.pid, signal.SIGKILL)
    wanted = [WantedClip(str(n), str(videos[3]), 3) for n in range(200)]
    store = store_in(tmp_path)
    expected = read_frames(videos[3], centres, short_side=48)
    before = sum(store.holds(want) for want in wanted)
    for want in wanted:
        if store.file_of(want.clip, 3).exists():
            frames, chosen = reader_of(store, [want]).pick(want.path, centres)
            np.testing.assert_array_equal(frames[chosen], expected)
    _wait_for_end_of_group(process.pid)
    after_all = sum(store.holds(want) for want in wanted)
    assert before <= after_all <= 200
    done: list[tuple[int, int]] = []
    assert ensure(store, wanted, workers=1, report=lambda *now: done.append(now)) == {}
    assert len(done) == 200 - after_all
    assert all(store.holds(want) for want in wanted)


def _wait_for_end_of_group(group: int) -> None:
    """The decoding processes end by themselves when the one that started them was killed."""
    for _ in range(1000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("decoding processes outlived the one that started them")

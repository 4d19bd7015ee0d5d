"""One walker: nothing that could be a clip is left out in silence."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mmfuse.data.catalogue import walk as walking
from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.catalogue.locate import find_videos
from mmfuse.data.catalogue.walk import walk
from mmfuse.inference.predict import find_videos as named_videos
from tests.data.videos import encode

KINDS = [
    ("clip.3gp", "mpeg4", "yuv420p"),
    ("clip.3g2", "mpeg4", "yuv420p"),
    ("clip.ts", "mpeg2video", "yuv420p"),
    ("clip.MTS", "libx264", "yuv420p"),
    ("clip.vob", "mpeg2video", "yuv420p"),
    ("clip.asf", "mpeg4", "yuv420p"),
    ("clip.f4v", "libx264", "yuv420p"),
    ("clip.gif", "gif", "rgb8"),
    ("clip.M2TS", "libx264", "yuv420p"),
    ("clip.dat", None, ""),
    ("clip", None, ""),
]


@pytest.mark.parametrize(("name", "codec", "pixels"), KINDS)
def test_every_kind_of_video_is_a_clip(tmp_path: Path, name: str, codec: str | None, pixels: str) -> None:
    """What a file shows decides, where its suffix does not."""
    path = tmp_path / name
    if codec is None:
        encode(tmp_path / "x.mp4", count=5).rename(path)
    else:
        encode(path, codec=codec, pixels=pixels, count=5)
    assert walk(tmp_path).videos == [path]
    assert walk(tmp_path).passed_over == {}


def test_what_is_no_video_is_named_unless_nobody_would_miss_it(tmp_path: Path) -> None:
    encode(tmp_path / "still.gif", codec="gif", pixels="rgb8", count=1)
    (tmp_path / "noise.ts").write_bytes(b"\xff\x00noise")
    (tmp_path / "nothing.ts").touch()
    (tmp_path / ".hidden.mp4").write_bytes(b"x")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "itself.mp4").symlink_to(tmp_path / "itself.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    harmless = "._clip.mp4 .DS_Store Thumbs.db notes.txt poster.JPG sound.wav list.csv widget.ts LICENSE"
    for name in harmless.split():
        (tmp_path / name).write_text("Größe")
    found = walk(tmp_path)
    assert found.videos == []
    assert {path.name: reason for path, reason in found.passed_over.items()} == {
        "still.gif": "no video that can be opened",
        "noise.ts": "no video that can be opened",
        "nothing.ts": "no video that can be opened",
        ".hidden.mp4": walking.HIDDEN,
        "gone.mp4": "a link that leads nowhere",
        "itself.mp4": "a link that leads nowhere",
        "pipe.mp4": "not a file",
    }


def test_a_socket_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.mp4")
        assert walk(tmp_path).passed_over == {tmp_path / "s.mp4": "not a file"}


def test_a_damaged_video_is_still_a_clip(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.AVI").write_bytes(b"noise")
    assert [path.name for path in walk(tmp_path).videos] == ["empty.mp4", "noise.AVI"]


def test_folders_are_entered_once_and_by_their_own_name(tmp_path: Path) -> None:
    (tmp_path / "z" / "deep").mkdir(parents=True)
    (tmp_path / "z" / "deep" / "clip.mp4").touch()
    (tmp_path / "z" / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "b").symlink_to(tmp_path / "b")
    assert walk(tmp_path).videos == [tmp_path / "z" / "deep" / "clip.mp4"]
    assert walk(tmp_path / "a").videos == [tmp_path / "a" / "deep" / "clip.mp4"]


def test_linked_folders_are_followed_by_all(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    for part in ("train", "test"):
        for label in ("a", "b"):
            encode(elsewhere / part / label / "clip.mp4", count=3)
            (root / part / label).mkdir(parents=True)
            (root / part / label / "linked").symlink_to(elsewhere / part / label)
    expected = [f"{part}/{label}/linked/clip.mp4" for part in ("test", "train") for label in ("a", "b")]
    catalogue = load_catalogue({"name": "mine", "root": str(root)})
    assert sorted(catalogue.table["clip"]) == expected
    assert [str(path.relative_to(root)) for path in named_videos([root])] == expected
    assert find_videos(catalogue.table, root).missing == []


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "clip.mp4").touch()
    scan = os.scandir

    def refusing(place: Path):
        if Path(place) == closed:
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refusing)
    assert walk(tmp_path).unreadable == {closed: "Permission denied"}
    assert walk(tmp_path).videos == [tmp_path / "clip.mp4"]
    assert named_videos([tmp_path])[closed] == f"{closed}: the folder cannot be read (Permission denied)"

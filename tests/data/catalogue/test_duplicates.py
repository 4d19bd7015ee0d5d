"""No video stands in both lists, under two labels or twice, however it is written."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from mmfuse.data.catalogue import duplicates
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.errors import MmfuseError, MmfuseWarning

TRAIN = [("a.mp4", "wave"), ("b.mp4", "jump"), ("é.mp4", "jump")]


def load(root: Path, test: list[tuple[str, str]], train: list[tuple[str, str]] = TRAIN) -> Catalogue:
    """A catalogue of files of which each holds its own name."""
    for name, _ in (*TRAIN, ("c.mp4", "wave"), ("d.mp4", "jump")):
        if not (root / name).exists():
            (root / name).write_text(name)
    for part, rows in (("train", train), ("test", test)):
        lines = ["path,label", *(f'"{path}",{label}' for path, label in rows)]
        (root / f"{part}.csv").write_text("\n".join(lines))
    return load_catalogue({"name": "mine", "root": str(root), "train": "train.csv", "test": "test.csv"})


GOOD = [("c.mp4", "wave"), ("d.mp4", "jump")]


def test_different_files_are_different(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).warnings == ()


def _symlink(root: Path) -> str:
    (root / "link.mp4").symlink_to("a.mp4")
    return "link.mp4"


def _linked_folder(root: Path) -> str:
    (root / "same").symlink_to(root)
    return "same/a.mp4"


def _hard_link(root: Path) -> str:
    os.link(root / "a.mp4", root / "hard.mp4")
    return "hard.mp4"


def _copy(root: Path) -> str:
    shutil.copy(root / "a.mp4", root / "copy.avi")
    return "copy.avi"


WAYS = {
    "itself": lambda root: "a.mp4",
    "a dot": lambda root: "./a.mp4",
    "up and down": lambda root: f"../{root.name}/a.mp4",
    "absolute": lambda root: str(root / "a.mp4"),
    "an address": lambda root: (root / "a.mp4").as_uri(),
    "backslashes": lambda root: f"..\\{root.name}\\a.mp4",
    "doubled slash": lambda root: f".//{'a.mp4'}",
    "symbolic link": _symlink,
    "linked folder": _linked_folder,
    "hard link": _hard_link,
    "copy": _copy,
    "case": lambda root: "A.MP4",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_training_clip_cannot_be_a_test_clip(tmp_path: Path, way: str) -> None:
    load(tmp_path, GOOD)
    other = WAYS[way](tmp_path)
    with pytest.raises(MmfuseError, match=r"test.csv:4: .* the training list too.*take it out of one") as caught:
        load(tmp_path, [*GOOD, (other, "wave")])
    assert "train.csv:2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_one_clip_has_one_label(tmp_path: Path, way: str) -> None:
    load(tmp_path, GOOD)
    other = WAYS[way](tmp_path)
    with pytest.raises(MmfuseError, match=r"train.csv:5: .*'wave' and 'jump': a clip has one class"):
        load(tmp_path, GOOD, [*TRAIN, (other, "jump")])


@pytest.mark.parametrize("way", [way for way in WAYS if way != "copy"])
def test_one_clip_stands_in_a_list_once(tmp_path: Path, way: str) -> None:
    load(tmp_path, GOOD)
    other = WAYS[way](tmp_path)
    with pytest.raises(MmfuseError, match=r"train.csv:5: .*(is listed twice|take one of the two out)"):
        load(tmp_path, GOOD, [*TRAIN, (other, "wave")])


def test_unicode_has_two_ways_to_write_an_accent(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    with pytest.raises(MmfuseError, match=r"another spelling of .*the training list too"):
        load(tmp_path, [*GOOD, (unicodedata.normalize("NFD", "é.mp4"), "jump")])


def test_names_that_differ_in_case_may_be_two_files(tmp_path: Path) -> None:
    (tmp_path / "C.mp4").write_text("another one")
    if (tmp_path / "c.mp4").exists():
        pytest.skip("this file system knows no case")
    assert load(tmp_path, [*GOOD, ("C.mp4", "wave")]).warnings == ()


def test_copies_under_one_label_are_counted(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    for number in range(2):
        shutil.copy(tmp_path / "a.mp4", tmp_path / f"copy{number}.mp4")
    [warning] = load(tmp_path, GOOD, [*TRAIN, ("copy0.mp4", "wave"), ("copy1.mp4", "wave")]).warnings
    assert warning.startswith("2 clips are copies of another one in the same list")


def test_only_files_of_one_size_and_beginning_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int | None]] = []
    digest = duplicates._digest.__wrapped__

    def counting(path: str, size: int, changed: int, most: int | None) -> str | None:
        read.append((Path(path).name, most))
        return digest(path, size, changed, most)

    monkeypatch.setattr(duplicates, "_digest", counting)
    beginning = bytes(duplicates._HEAD)
    for name, content in (("a.mp4", beginning + b"1"), ("c.mp4", beginning + b"2"), ("b.mp4", b"x" * len(beginning))):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "d.mp4").write_bytes(b"y" * len(beginning))
    load(tmp_path, GOOD)
    whole = sorted(name for name, most in read if most is None)
    assert whole == ["a.mp4", "c.mp4"], "they begin alike"
    assert sorted(name for name, most in read if most) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"], "é.mp4 has its own size"


def test_empty_files_are_no_copies(tmp_path: Path) -> None:
    for name, _ in (*TRAIN, *GOOD):
        (tmp_path / name).touch()
    assert load(tmp_path, GOOD).warnings == ()


def test_links_in_folders_are_found_as_well(tmp_path: Path) -> None:
    for path in ("train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "test/b/4.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    load_catalogue({"name": "mine", "root": str(tmp_path)})
    (tmp_path / "test" / "b" / "more").symlink_to(tmp_path / "train" / "b")
    with pytest.raises(MmfuseError, match=r"more/2.mp4 is the same file as train/b/2.mp4 .*in the training list too"):
        load_catalogue({"name": "mine", "root": str(tmp_path)})


def test_sources_on_both_sides_are_counted(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label,group\na,x,g1\nb,y,g1\nc,x,g2\nd,y,g3\n")
    (tmp_path / "test.csv").write_text("path,label,group\ne,x,g1\nf,y,g4\ng,y,g3\nh,y,\n")
    mine = {"name": "mine", "root": str(tmp_path), "train": "train.csv", "test": "test.csv"}
    [warning] = load_catalogue(mine).warnings
    assert warning.startswith("2 sources have clips in both lists, such as 'g1' (3 training and 2 test clips)")
    with pytest.warns(MmfuseWarning, match="mine: 2 sources have clips in both lists"):
        FewShotVideoDataModule(mine, shots=1)

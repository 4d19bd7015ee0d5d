"""Clips of one's own: every wrong row is named with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.errors import MmfuseError

GOOD = "path,label,group\na1.mp4,wave,g1\na2.mp4,wave,g2\nb1.mp4,JumpRope,g3\n"
TEST = "path,label\nc1.mp4,wave\nc2.mp4,JumpRope\n"


def lists(folder: Path, train: str = GOOD, test: str = TEST) -> dict[str, str]:
    (folder / "train.csv").write_text(train)
    (folder / "test.csv").write_text(test)
    return {"name": "mine", "root": str(folder), "train": "train.csv", "test": "test.csv"}


def test_two_lists_make_a_catalogue(tmp_path: Path) -> None:
    catalogue = load_catalogue(lists(tmp_path))
    assert catalogue.class_names == ("JumpRope", "wave")
    assert catalogue.phrases == ("jump rope", "wave")
    train, test = catalogue.part("train"), catalogue.part("test")
    assert train["label"].tolist() == [1, 1, 0]
    assert train["group"].tolist() == ["g1", "g2", "g3"]
    assert train["path"].tolist() == [str(tmp_path / name) for name in ("a1.mp4", "a2.mp4", "b1.mp4")]
    assert test["group"].tolist() == ["c1.mp4", "c2.mp4"], "without a group a clip is its own source"


def test_spreadsheet_habits_are_understood(tmp_path: Path) -> None:
    expected = load_catalogue(lists(tmp_path)).fingerprint
    habits = "\ufeff" + GOOD.replace("\n", "\r\n").replace(",", ", ")
    assert load_catalogue(lists(tmp_path, train=habits)).fingerprint == expected


def test_classes_may_be_ordered_and_worded(tmp_path: Path) -> None:
    mine = lists(tmp_path)
    ordered = load_catalogue(mine | {"classes": ["wave", "JumpRope"]})
    assert ordered.class_names == ("wave", "JumpRope")
    worded = load_catalogue(mine | {"classes": {"wave": "waving a hand", "JumpRope": "skipping"}})
    assert worded.phrases == ("waving a hand", "skipping")
    numbers = GOOD.replace("wave", "10").replace("JumpRope", "9"), TEST.replace("wave", "10").replace("JumpRope", "9")
    assert load_catalogue(lists(tmp_path, *numbers)).class_names == ("9", "10")


def test_absolute_paths_need_no_root(tmp_path: Path) -> None:
    mine = lists(tmp_path, GOOD.replace("a1", f"{tmp_path}/a1"))
    mine |= {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    del mine["root"]
    assert load_catalogue(mine).part("train")["path"][0] == f"{tmp_path}/a1.mp4"


def test_folders_make_a_catalogue(tmp_path: Path) -> None:
    for path in (
        "train/wave/x [1].mp4",
        "train/jump/y.avi",
        "test/wave/z.MP4",
        "test/jump/deep/w.mkv",
        "train/jump/note.txt",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    catalogue = load_catalogue({"name": "mine", "root": str(tmp_path)})
    assert catalogue.class_names == ("jump", "wave")
    assert sorted(catalogue.table["clip"]) == [
        "test/jump/deep/w.mkv",
        "test/wave/z.MP4",
        "train/jump/y.avi",
        "train/wave/x [1].mp4",
    ]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("file,label\na.mp4,x\n", TEST, r"train.csv: the first line must name the columns path,label\[,group\]"),
        ("", TEST, r"train.csv: the first line must name the columns"),
        ("path,label\n", TEST, r"train.csv: the list holds no clips"),
        ("path,label,grp\na.mp4,x,g\n", TEST, r"train.csv: unknown column 'grp'; did you mean 'group'"),
        ("path,label\na.mp4\n", TEST, r"train.csv:2: another number of fields"),
        ("path,label\na.mp4,x,1\n", TEST, r"train.csv:2: another number of fields"),
        ("path,label\n,x\n", TEST, r"train.csv:2: the path is empty"),
        ("path,label\na.mp4,\n", TEST, r"train.csv:2: the label is empty"),
        (GOOD + "a1.mp4,wave,g1\n", TEST, r"train.csv:5: a1.mp4 is listed twice \(.*train.csv:2\)"),
        (GOOD, TEST + "a1.mp4,wave\n", r"test.csv:4: a1.mp4 is in the training list too"),
        (GOOD, TEST + "c3.mp4,waev\n", r"test.csv:4: unknown class 'waev'; did you mean 'wave'"),
        ("path,label\na.mp4,wave\n", "path,label\nb.mp4,wave\n", "one class alone"),
        (GOOD.replace("JumpRope", "Wave"), TEST.replace("JumpRope", "Wave"), "two classes share the words 'wave'"),
        ('path,label\n"a.mp4,x\n', TEST, r"train.csv: the list cannot be read"),
    ],
)
def test_wrong_lists(tmp_path: Path, train: str, test: str, message: str) -> None:
    with pytest.raises(MmfuseError, match=message) as caught:
        load_catalogue(lists(tmp_path, train, test))
    assert "\n" not in str(caught.value)


def test_wrong_requests(tmp_path: Path) -> None:
    mine = lists(tmp_path)
    for wrong, message in (
        (mine | {"tests": "x.csv"}, "unknown key of a data set 'tests'; did you mean 'test'"),
        ({"name": "mine", "train": "train.csv"}, "give both lists"),
        ({"name": "mine", "train": "a.csv", "test": "b.csv"}, r"a.csv: the list cannot be read \(No such file"),
        ({"root": str(tmp_path)}, "needs a name"),
        ({"name": "mine", "root": str(tmp_path)}, "expected the folders train/<class> and test/<class>; train is not"),
        (mine | {"classes": ["wave"]}, "unknown class 'JumpRope'"),
        (mine | {"classes": ["wave", "wave"]}, "the class 'wave' is listed twice"),
        (mine | {"classes": [["wave"]]}, "a class is a name or"),
    ):
        with pytest.raises(MmfuseError, match=message):
            load_catalogue(wrong)
    (tmp_path / "train").mkdir()
    with pytest.raises(MmfuseError, match="no videos in train/<class>/"):
        load_catalogue({"name": "mine", "root": str(tmp_path)})

"""Clips of one's own: every wrong row is named with its file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.errors import MmfuseError, MmfuseWarning

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
        ({"name": "mine", "root": str(tmp_path / "none")}, "there is no folder .*none; name the folder of your clips"),
        (mine | {"classes": ["wave"]}, "unknown class 'JumpRope'"),
        (mine | {"classes": ["wave", "wave"]}, "the class 'wave' is listed twice"),
        (mine | {"classes": [["wave"]]}, "a class is a name or"),
    ):
        with pytest.raises(MmfuseError, match=message):
            load_catalogue(wrong)
    (tmp_path / "mine" / "train").mkdir(parents=True)
    with pytest.raises(MmfuseError, match="no videos in train/<class>/"):
        load_catalogue({"name": "mine", "root": str(tmp_path / "mine")})
    (tmp_path / "mine" / "train").rename(tmp_path / "mine" / "test")
    with pytest.raises(MmfuseError, match="expected the folders train/<class> and test/<class>; train is not"):
        load_catalogue({"name": "mine", "root": str(tmp_path / "mine")})


# --- names of classes --------------------------------------------------------------------------------------------

NUMBERED = GOOD.replace("wave", "0").replace("JumpRope", "1"), TEST.replace("wave", "0").replace("JumpRope", "1")


def test_numbers_are_no_names_for_prompts(tmp_path: Path) -> None:
    mine = lists(tmp_path, *NUMBERED)
    [warning] = load_catalogue(mine).warnings
    assert "prompts speak of 'a person 0'" in warning
    assert "classes.csv" in warning
    with pytest.warns(MmfuseWarning, match="the 2 classes are numbers"):
        FewShotVideoDataModule(mine, shots=1)
    assert load_catalogue(mine | {"classes": {0: "waving", "1": "skipping"}}).warnings == ()


def test_a_file_names_the_classes(tmp_path: Path) -> None:
    mine = lists(tmp_path, *NUMBERED)
    (tmp_path / "classes.csv").write_text("name,phrase\n1,skipping\n0, waving a hand\n")
    catalogue = load_catalogue(mine)
    assert (catalogue.class_names, catalogue.phrases, catalogue.warnings) == (
        ("1", "0"),
        ("skipping", "waving a hand"),
        (),
    )
    (tmp_path / "classes.csv").write_text("name\nwave\nJumpRope\n")
    assert load_catalogue(lists(tmp_path)).phrases == ("wave", "jump rope")
    (tmp_path / "classes.csv").write_text("label,text\n")
    with pytest.raises(MmfuseError, match=r"classes.csv: the first line must name the columns name\[,phrase\]"):
        load_catalogue(mine)
    (tmp_path / "classes.csv").write_text("name,phrase\n")
    with pytest.raises(MmfuseError, match=r"classes.csv: no classes are listed"):
        load_catalogue(mine)


def test_numbered_folders_are_named_by_the_file(tmp_path: Path) -> None:
    for number, path in enumerate(("train/0/a.mp4", "train/1/b.mp4", "test/0/c.mp4", "test/1/d.mp4")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(str(number))
    mine = {"name": "mine", "root": str(tmp_path)}
    assert "the 2 classes are numbers" in load_catalogue(mine).warnings[0]
    (tmp_path / "classes.csv").write_text("name,phrase\n0,waving\n1,skipping\n")
    named = load_catalogue(mine)
    assert (named.phrases, named.warnings) == (("waving", "skipping"), ())


def test_arrays_and_series_name_classes_too(tmp_path: Path) -> None:
    mine = lists(tmp_path)
    for given in (np.array(["wave", "JumpRope"]), pd.Series(["wave", "JumpRope"], index=[7, 8])):
        assert load_catalogue(mine | {"classes": given}).class_names == ("wave", "JumpRope")


@pytest.mark.parametrize("wrong", [[True, False], [None, "wave"], [1.5, "wave"], ["", "wave"], "wave"])
def test_what_yaml_makes_of_unquoted_words(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(MmfuseError, match=r"data set 'mine': (a class is a name|classes are listed).*quotes"):
        load_catalogue(lists(tmp_path) | {"classes": wrong})


def test_a_class_that_is_tested_must_be_trained(tmp_path: Path) -> None:
    mine = lists(tmp_path, test=TEST + "c3.mp4,run\n")
    with pytest.raises(MmfuseError, match=r"test.csv:4: unknown class 'run'"):
        load_catalogue(mine)
    with pytest.raises(MmfuseError, match=r"test.csv:4: the class 'run' has test clips but no training clip"):
        load_catalogue(mine | {"classes": ["wave", "JumpRope", "run"]})
    unused = load_catalogue(lists(tmp_path) | {"classes": ["wave", "JumpRope", "run"]})
    assert unused.card.dead_classes == ("run",)


# --- paths and other people's lists ------------------------------------------------------------------------------


def test_a_tilde_may_begin_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "own.mp4").touch()
    rows = ("~a.mp4", "~nobody-of-that-name/b.mp4", "~/c.mp4", "~/own.mp4")
    mine = lists(tmp_path, "path,label\n" + "".join(f"{path},wave\n" for path in rows) + "z,JumpRope\n")
    paths = load_catalogue(mine).part("train")["path"].tolist()
    assert paths[:4] == [
        str(tmp_path / "~a.mp4"),
        str(tmp_path / "~nobody-of-that-name" / "b.mp4"),
        str(tmp_path / "home" / "c.mp4"),
        str(tmp_path / "~" / "own.mp4"),
    ]


@pytest.mark.parametrize(
    ("train", "cause"),
    [
        ("Archery/v_Archery_g01_c01 120 2\n", r"a list of raw frames \(path frames label\).*classes.csv"),
        ("clips/a b.mp4 2\n", "a list of `path label`.*classes.csv"),
        ("a.mp4,wave\nb.mp4,jump\n", "the columns are not named"),
        ("path;label\na.mp4;wave\n", "commas between the fields"),
        ("path\tlabel\na.mp4\twave\n", "commas between the fields"),
        ("path,label,label\na,x,y\n", "names a column twice"),
    ],
)
def test_lists_of_other_kinds_are_named(tmp_path: Path, train: str, cause: str) -> None:
    with pytest.raises(MmfuseError, match=rf"train.csv: .*{cause}"):
        load_catalogue(lists(tmp_path, train))


# --- folders -----------------------------------------------------------------------------------------------------


def test_no_class_vanishes(tmp_path: Path) -> None:
    """As a folder of `.ts` files did once, and as clips beside the folders do where only folders are looked at."""
    for number, path in enumerate(("train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "test/b/4.mp4")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(str(number))
    mine = {"name": "mine", "root": str(tmp_path)}
    assert load_catalogue(mine).warnings == ()
    (tmp_path / "train" / "loose.mp4").write_text("loose")
    (tmp_path / "train" / "a" / "noise.ts").write_bytes(b"\0no video")
    [warning] = load_catalogue(mine).warnings
    assert "2 were passed over" in warning
    assert "loose.mp4" in warning
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "c" / "noise.ts").write_bytes(b"\0no video")
    with pytest.raises(MmfuseError, match=r"train/c: the class has no videos.*3 were passed over"):
        load_catalogue(mine)
    (tmp_path / "train" / "c" / "noise.ts").unlink()
    with pytest.raises(MmfuseError, match=r"train/c: the class has no videos"):
        load_catalogue(mine)

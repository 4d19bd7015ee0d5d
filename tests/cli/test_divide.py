"""`mmfuse data divide`, from a folder of clips to a data set that every command takes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmfuse.bench.grid import LoadedGrid, load_grid
from mmfuse.bench.yaml_source import YamlSource
from mmfuse.cli import main
from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.data.tiny import dataset
from mmfuse.errors import MmfuseError

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmfuse", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two classes of three people, two clips each, in a folder with a blank and other letters in its names."""
    root = tmp_path / "my clips"
    for named, label in (("Grow", "jump rope"), ("MoveLeft", "été")):
        for group, who in enumerate(("ann", "bob", "cy"), start=1):
            for number in (1, 2):
                target = root / label / f"{who}_{number:02d}.mp4"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(dataset.generate() / named / f"{named}_g{group:02d}_c{number:02d}.mp4", target)
    return root


def test_a_folder_becomes_a_data_set_for_every_command(
    call: Call, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["data", "check", "my clips"], ["data", "split", "my clips", "--shots", "1"]):
        code, out, err = call(*words)
        assert (code, out) == (2, "")
        assert "12 clips in 2 folders by class (jump rope, été), not divided into training and test yet" in err
        assert f"mmfuse data divide '{clips}'" in err
    code, out, _ = call("data", "divide", "my clips", "--test", "0.3", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["classes"]["été"] == {"train": 4, "test": 2, "sources": 3}
    assert any("3 sources of 12 clips by a number behind a name" in note for note in told["notes"])
    how = json.loads((clips / "division.json").read_text())
    assert how["classes"]["jump rope"] == {"train": 4, "test": 2}
    assert call("data", "check", "my clips")[0] == 0
    assert call("data", "split", "my clips", "--shots", "2")[1].count("\n") == 5
    # The same folder in a grid and in Python, by its name or its path.
    Path("grid.yaml").write_text("name: g\ndatasets: [my clips]\nshots: [1]\npairs: [frozen+frozen]\n")
    Path("grids").mkdir()
    Path("grids/deep.yaml").write_text(f"name: g\ndatasets: ['{clips}']\nshots: [1]\npairs: [frozen+frozen]\n")
    [one], [other] = load_grid("grid.yaml").cells(), load_grid("grids/deep.yaml").cells()
    assert one.dataset == other.dataset
    assert one.dataset.request() == {
        "name": "my clips",
        "root": str(clips),
        "train": "train.csv",
        "test": "test.csv",
    }
    keys = "{name: g, datasets: [{name: my clips, root: my clips}], shots: [1], pairs: [frozen+frozen]}"
    assert LoadedGrid(YamlSource(Path("g.yaml"), keys)).cells()[0].dataset == one.dataset
    same = load_catalogue(one.dataset.request())
    assert load_catalogue(str(clips)).fingerprint == same.fingerprint
    assert FewShotVideoDataModule("my clips", shots=1).class_names == list(same.class_names)


def test_a_list_is_divided_beside_or_elsewhere_and_never_written_over(call: Call, clips: Path, tmp_path: Path) -> None:
    rows = [f'{path.relative_to(clips)},"{path.parent.name}"' for path in sorted(clips.rglob("*.mp4"))]
    (clips / "all.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    (clips / "classes.csv").write_text("name,phrase\nété,summer\njump rope,skipping\n")
    words = ["data", "divide", clips / "all.csv", "--out", tmp_path / "lists", "--test", "0.3", "--no-frames"]
    assert call(*words)[0] == 0
    first = (tmp_path / "lists" / "test.csv").read_text()
    assert "../my clips/été/" in first
    assert load_catalogue(str(tmp_path / "lists")).phrases == ("summer", "skipping")
    code, _, err = call(*words)
    assert code == 2
    assert "train.csv is there already; name another folder by --out, or write over it by --force" in err
    assert call(*words, "--force")[0] == 0
    assert (tmp_path / "lists" / "test.csv").read_text() == first
    assert call(*words, "--force", "--seed", "5")[0] == 0
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == [
        "classes.csv",
        "division.json",
        "test.csv",
        "train.csv",
    ]


def test_leaks_of_lists_made_by_hand_are_named(call: Call, clips: Path) -> None:
    for part, kept in (("train", "[ab]*"), ("test", "cy*")):
        for path in sorted(clips.glob(f"*/{kept}")):
            (clips / "by hand" / part / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, clips / "by hand" / part / path.parent.name / path.name)
    words = ["data", "check", clips / "by hand", "--leaks", "--json"]
    assert json.loads(call(*words)[1])["warnings"] == []
    leak = clips / "by hand" / "test" / "été" / "new.mp4"
    leak.write_bytes((clips / "jump rope" / "ann_01.mp4").read_bytes() + bytes(8))  # no copy byte for byte
    both, labels = json.loads(call(*words)[1])["warnings"]
    assert "1 pair of training and test clips with the same frames, such as" in both
    assert "test/été/new.mp4" in both
    assert labels.startswith("1 pair of clips with the same frames have two labels, such as ")


def _one_clip(root: Path) -> None:
    for path in list((root / "été").iterdir())[1:]:
        path.unlink()


def _linked(root: Path) -> None:
    (root / "été" / "x.mp4").symlink_to(root / "jump rope" / "ann_01.mp4")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "one class": (lambda root: shutil.rmtree(root / "été"), "one class alone ('jump rope')"),
    "one clip": (_one_clip, "the class 'été' has one clip, which cannot be in training and in test"),
    "an empty folder": (lambda root: (root / "none").mkdir(), "none: the class has no videos"),
    "no folders": (lambda root: [shutil.rmtree(place) for place in root.iterdir()], "expected a folder for each class"),
    "no video": (lambda root: (root / "été" / "x.mp4").write_text("x"), "x.mp4: cannot be decoded"),
    "case": (lambda root: shutil.copy(root / "été/ann_01.mp4", root / "été/Ann_01.mp4"), "differ in case, blanks"),
    "classes": (lambda root: shutil.copytree(root / "été", root / "Été "), "the classes 'Été ' and 'été' differ in"),
    "forms": (
        lambda root: os.rename(root / "jump rope", root / "e\u0301te\u0301"),
        "differ in case, blanks or the form",
    ),
    "a link": (_linked, "is the same file as jump rope/ann_01.mp4"),
    "a blank": (lambda root: os.rename(root / "été/ann_01.mp4", root / "été/ann_01 "), "neither begins nor ends with"),
    "divided": (lambda root: [(root / part).mkdir() for part in ("train", "test")], "is divided already"),
    "a copy": (
        lambda root: [shutil.copy(root / "été/ann_01.mp4", path) for path in (root / "été").glob("[!a]*")],
        "groups that cannot be parted: all 6 clips of 'jump rope' (and of 1 more class) are of one source",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_clips_that_cannot_be_divided_are_refused_and_nothing_is_written(call: Call, clips: Path, wrong: str) -> None:
    change, message = WRONG[wrong]
    change(clips)
    before = sorted(clips.rglob("*"))
    code, out, err = call("data", "divide", clips)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert sorted(clips.rglob("*")) == before


def test_names_that_are_no_folder_are_named_as_before(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    for text, message in (
        ("ucf11", "unknown data set 'ucf11'"),
        ("./nowhere", "there is no folder"),
        ("lists.csv", "lists.csv is one list, and a data set needs two"),
    ):
        (tmp_path / "lists.csv").touch()
        grid.write_text(f"name: g\ndatasets: [{text}]\nshots: [1]\npairs: [frozen+frozen]\n")
        with pytest.raises(MmfuseError, match=message):
            load_catalogue(load_grid(str(grid)).cells()[0].dataset.request())

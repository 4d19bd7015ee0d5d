"""Others' published lists are run as they are, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.few_shot import draw_clips
from mmfuse.data.published_lists import read_list
from mmfuse.errors import MmfuseError
from tests.data.official import ANNOTATIONS, needs_official_lists

TINY = load_catalogue("tiny")
FIRST = TINY.part("train").iloc[0]
TESTED = TINY.part("test").iloc[0]


@pytest.mark.parametrize(
    "style",
    ["{path} {label}", "{clip}.mp4 {label}", "some/where/{clip}.avi {label}", "{clip} {label}\r", "{class}/{clip}"],
)
def test_all_styles_name_the_same_clips(tmp_path: Path, style: str) -> None:
    rows = draw_clips(TINY, shots=2, draw=3)
    path = tmp_path / "list.txt"
    path.write_text("\n".join(style.format(**row) for row in rows.to_dict("records")) + "\n\n")
    assert read_list(TINY, path)["clip"].tolist() == rows["clip"].tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{FIRST['clip']}.mp4", "list.txt:2: expected 'clip label'"),
        (f"{FIRST['clip']}.mp4 {FIRST['class']}", "list.txt:2: expected 'clip label'"),
        ("nothing.mp4 0", "list.txt:2: nothing.mp4 is not a clip of Tiny Actions split 1"),
        (
            f"{FIRST['clip']}.mp4 1",
            "label 1 is MoveLeft, but MoveRight_g01_c01 shows MoveRight: some labels.* are wrong",
        ),
        (f"{FIRST['clip']}.mp4 99", "label 99 is none of the 12 classes, but MoveRight_g01_c01 shows MoveRight"),
        (f"{TESTED['clip']}.mp4 0", "is in the test part of split 1; training on it would leak"),
        ("MoveRight_g02_c01.mp4 0", r"list.txt:2: MoveRight_g02_c01.mp4 is named already \(.*list.txt:1\)"),
    ],
)
def test_wrong_lines(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"MoveRight_g02_c01.mp4 0\n{line}\n")
    with pytest.raises(MmfuseError, match=message):
        read_list(TINY, path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("MoveLeft/MoveRight_g01_c01", "list.txt:2: MoveRight_g01_c01 is listed in MoveLeft, but shows MoveRight"),
        ("MoveRight_g01_c01", "list.txt:2: expected 'class/clip' as in the list's first line"),
        ("MoveRight/MoveRight_g01_c01 0", "list.txt:2: MoveRight/MoveRight_g01_c01 0 is not a clip"),
        (f"{TESTED['class']}/{TESTED['clip']}", "is in the test part"),
        ("moveright/MoveRight_g02_c01.mp4", r"list.txt:2: .* is named already"),
    ],
)
def test_wrong_lines_of_a_list_without_labels(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"MoveRight/MoveRight_g02_c01\n{line}\n")
    with pytest.raises(MmfuseError, match=message):
        read_list(TINY, path)


def test_clips_of_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    """Files of one's own are often numbered within their class."""
    lists = {}
    for part in ("train", "test"):
        for place in ("walk/1.mp4", "run/1.mp4"):
            (tmp_path / part / place).parent.mkdir(parents=True)
            (tmp_path / part / place).touch()
    catalogue = load_catalogue({"name": "mine", "root": str(tmp_path)})
    for name, content in {"good": "train/walk/1.mp4 1\ntrain/run/1.mp4 0\n", "bad": "1.mp4 0\n"}.items():
        lists[name] = tmp_path / f"{name}.txt"
        lists[name].write_text(content)
    assert read_list(catalogue, lists["good"])["class"].tolist() == ["walk", "run"]
    with pytest.raises(MmfuseError, match=r"bad.txt:1: 4 clips are called 1.mp4; write the folder"):
        read_list(catalogue, lists["bad"])


OF_OTHER_KINDS = {
    "raw frames": ("{clip} 24 {label}", "list.txt:1: this is a list of raw frames"),
    "from 1": ("{clip} {from_1}", "label 1 is MoveLeft, but .* shows MoveRight: the list counts its labels from 1"),
    "another order": ("{clip} {reversed}", "the list numbers the classes in another order"),
    "base to novel": (
        "{clip} {among_even}",
        "holds 6 of the 12 classes and numbers these by .*base-to-novel",
    ),
}


@pytest.mark.parametrize("kind", OF_OTHER_KINDS)
def test_lists_of_other_kinds_are_named(tmp_path: Path, kind: str) -> None:
    style, message = OF_OTHER_KINDS[kind]
    rows = draw_clips(TINY, shots=2, draw=0)
    if kind == "base to novel":
        rows = rows[rows["label"] % 2 == 0]
    rows = rows.assign(from_1=rows["label"] + 1, reversed=11 - rows["label"], among_even=rows["label"] // 2)
    path = tmp_path / "list.txt"
    path.write_text("\n".join(style.format(**row) for row in rows.to_dict("records")))
    with pytest.raises(MmfuseError, match=message):
        read_list(TINY, path)


def test_empty_and_missing_lists(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(MmfuseError, match="the list names no clips"):
        read_list(TINY, tmp_path / "list.txt")
    with pytest.raises(MmfuseError, match="the list cannot be read"):
        read_list(TINY, tmp_path / "none.txt")


@needs_official_lists
def test_a_list_numbered_by_plain_sorting_is_refused(tmp_path: Path) -> None:
    catalogue = load_catalogue("ucf101", annotations=ANNOTATIONS)
    by_sorting = sorted(catalogue.class_names)
    rows = draw_clips(catalogue, shots=1, draw=0)
    path = tmp_path / "list.txt"
    path.write_text(
        "\n".join(f"{row.clip}.avi {by_sorting.index(catalogue.class_names[row.label])}" for row in rows.itertuples())
    )
    with pytest.raises(
        MmfuseError, match=r"list.txt:35: label 35 is HammerThrow, but v_Hammering_g\d\d_c\d\d shows Hammering"
    ):
        read_list(catalogue, path)

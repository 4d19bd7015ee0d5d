"""One table a data set, from the official files alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from mmfuse.data.catalogue.cards import card_names, in_words, load_card, parse_card
from mmfuse.data.catalogue.load import COLUMNS, load_catalogue
from mmfuse.data.catalogue.walk import walk
from mmfuse.errors import MmfuseError
from tests.data.official import ANNOTATIONS, SPLITS, lay_out, needs_official_lists


@needs_official_lists
@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_official_counts_labels_and_parts(name: str, split: int) -> None:
    catalogue = load_catalogue(name, split=split, annotations=ANNOTATIONS)
    table = catalogue.table
    assert tuple(table.columns) == COLUMNS
    assert table["part"].value_counts().to_dict() == dict(catalogue.card.splits[split])
    assert table["clip"].is_unique
    assert table["phrase"].tolist() == [catalogue.phrases[label] for label in table["label"]]
    assert all(catalogue.class_names[label] == name for label, name in zip(table["label"], table["class"], strict=True))
    sides = table.groupby(["class", "group"])["part"].nunique()
    assert sides.max() == 1, "clips of one source stand in train and in test"


@needs_official_lists
def test_ucf101_labels_follow_the_official_order() -> None:
    catalogue = load_catalogue("ucf101", annotations=ANNOTATIONS)
    for number, name in (
        (1, "ApplyEyeMakeup"),
        (35, "Hammering"),
        (36, "HammerThrow"),
        (47, "JumpingJack"),
        (48, "JumpRope"),
    ):
        assert catalogue.class_names[number - 1] == name
    lines = (ANNOTATIONS / "ucfTrainTestlist" / "trainlist01.txt").read_text().split("\n")
    label_of = dict(zip(catalogue.table["path"], catalogue.table["label"], strict=True))
    assert all(label_of[path] == int(label) - 1 for path, label in (line.split() for line in lines if line))


@needs_official_lists
def test_ucf101_groups_follow_the_split_rule() -> None:
    for split, tested in ((1, range(1, 8)), (2, range(8, 15)), (3, range(15, 22))):
        table = load_catalogue("ucf101", split=split, annotations=ANNOTATIONS).table
        number = table["group"].str.extract(r"_g(\d\d)$")[0].astype(int)
        assert set(number[table["part"] == "test"]) == set(tested)


@needs_official_lists
def test_line_ends_and_case_do_not_matter(tmp_path: Path) -> None:
    expected = load_catalogue("ucf101", annotations=ANNOTATIONS)
    for source in (ANNOTATIONS / "ucfTrainTestlist").iterdir():
        text = source.read_text().replace("\n", "\r\n").replace("HandstandPushups/", "HandStandPushups/")
        (tmp_path / source.name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_catalogue("ucf101", annotations=tmp_path).fingerprint == expected.fingerprint


@needs_official_lists
def test_hmdb51_classes_with_a_shared_beginning_are_kept_apart() -> None:
    table = load_catalogue("hmdb51", annotations=ANNOTATIONS).table
    for name in ("kick", "kick_ball", "sword", "sword_exercise", "climb", "climb_stairs"):
        rows = table[table["class"] == name]
        assert (rows["part"].value_counts().to_dict()) == {"train": 70, "test": 30}
        assert rows["clip"].str.contains(f"_{name}_").all()
    assert (table["group"] != table["clip"]).all(), "every name tells its source"


@needs_official_lists
def test_diving48_keeps_the_label_of_its_dead_class() -> None:
    catalogue = load_catalogue("diving48", annotations=ANNOTATIONS)
    assert len(catalogue.class_names) == 48
    assert set(range(48)) - set(catalogue.table["label"]) == {30}
    assert catalogue.card.dead_classes == (catalogue.class_names[30],)
    sources = catalogue.table.groupby("part")["group"].unique()
    assert (len(sources["train"]), len(sources["test"])) == (58, 26)
    assert not set(sources["train"]) & set(sources["test"])
    assert (
        catalogue.phrases[0] == "diving backward with one and a half somersaults and half a twist in the free position"
    )


@needs_official_lists
@pytest.mark.parametrize("name", ["Diving48_V2_train.json", "Diving48_train.json"])
def test_the_first_version_of_diving48_is_refused(tmp_path: Path, name: str) -> None:
    entries = [{"vid_name": f"a_{n:05d}", "label": 0, "start_frame": 0, "end_frame": 9} for n in range(15_943)]
    (tmp_path / name).write_text(json.dumps(entries))
    with pytest.raises(MmfuseError, match=rf"{name}: this is version 1 of Diving48, whose labels are wrong"):
        load_catalogue("diving48", annotations=tmp_path)


@needs_official_lists
def test_a_list_that_lost_lines_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(ANNOTATIONS / "ucfTrainTestlist", tmp_path / "lists", copy_function=shutil.copy)
    path = folder / "testlist01.txt"
    path.chmod(0o644)
    path.write_text("\n".join(path.read_text().split("\n")[3:]))
    with pytest.raises(MmfuseError, match="test list of UCF101 split 1 holds 3,780 clips, the official one 3,783"):
        load_catalogue("ucf101", annotations=tmp_path)


@needs_official_lists
@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "classInd.txt",
            "35 Hammering\n36 HammerThrow",
            "35 HammerThrow\n36 Hammering",
            "'HammerThrow' stands where 'Hammering'",
        ),
        (
            "trainlist01.txt",
            "_c01.avi 1\n",
            "_c01.avi 2\n",
            r"trainlist01.txt:1: label 2 is not that of ApplyEyeMakeup",
        ),
        ("testlist01.txt", "ApplyEyeMakeup/", "ApplyEyes/", r"testlist01.txt:1: not a clip of UCF101"),
        ("trainlist01.txt", "_c01.avi 1\n", "_c01 120 0\n", r"trainlist01.txt:1: this is a list of raw frames"),
        ("trainlist01.txt", "_c01.avi 1\n", "_c01.avi 0\n", r"trainlist01.txt:1: label 0 \(this list counts from 0"),
        ("classInd.txt", "1 ApplyEyeMakeup", "1 Apply Eye Makeup", "'Apply Eye Makeup' stands where 'ApplyEyeMakeup'"),
    ],
)
def test_edited_lists_are_refused(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    for source in (ANNOTATIONS / "ucfTrainTestlist").iterdir():
        text = source.read_text()
        (tmp_path / source.name).write_text(text.replace(old, new, 1) if source.name == file else text)
    with pytest.raises(MmfuseError, match=message):
        load_catalogue("ucf101", annotations=tmp_path)


@needs_official_lists
def test_lists_that_circulate_write_a_class_otherwise(tmp_path: Path) -> None:
    """Some copies of classInd.txt have `37 HandStandPushups`."""
    for source in (ANNOTATIONS / "ucfTrainTestlist").iterdir():
        text = source.read_text()
        (tmp_path / source.name).write_text(text.replace("HandstandPushups", "HandStandPushups"))
    written_otherwise = load_catalogue("ucf101", annotations=tmp_path)
    assert "HandstandPushups" in written_otherwise.class_names
    assert written_otherwise.fingerprint == load_catalogue("ucf101", annotations=ANNOTATIONS).fingerprint


def test_lists_that_are_not_there(tmp_path: Path) -> None:
    for name in ("ucf101", "hmdb51", "diving48"):
        with pytest.raises(
            MmfuseError, match=rf"official list .* was not found .*{re.escape(str(tmp_path))}.*mmfuse data get {name}"
        ):
            load_catalogue(name, annotations=tmp_path)
    with pytest.raises(MmfuseError, match="HMDB51 has no split 4; it has 1, 2, 3"):
        load_catalogue("hmdb51", split=4, annotations=tmp_path)
    with pytest.raises(MmfuseError, match="unknown data set 'ucf_101'; did you mean 'ucf101'"):
        load_catalogue("ucf_101", annotations=tmp_path)


@needs_official_lists
def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "Diving48_V2_train.json").write_text('[{"vid_name": ')
    with pytest.raises(MmfuseError, match=r"Diving48_V2_train.json: not readable as JSON"):
        load_catalogue("diving48", annotations=tmp_path)


# --- where the videos are ----------------------------------------------------------------------------------------


@needs_official_lists
@pytest.mark.parametrize(
    "layout", ["published", "named from here", "flat", "renamed folder, other container", "below the data root"]
)
def test_videos_are_found_in_any_layout(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = load_catalogue("hmdb51", annotations=ANNOTATIONS)
    video = tmp_path / "video.bin"
    video.touch()
    root = tmp_path / "root"
    as_published = layout in ("published", "named from here")
    if as_published:
        lay_out(catalogue, root, video)
    if layout == "named from here":
        monkeypatch.chdir(tmp_path)
    for path in () if as_published else catalogue.table["path"]:
        folder, name = path.split("/")
        target = {
            "flat": root / name,
            "renamed folder, other container": root / "videos" / folder.upper() / name.replace(".avi", ".mp4"),
            "below the data root": root / "HMDB-51" / folder / name,
        }[layout]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(video)
    given = Path("root") if layout == "named from here" else root
    found = load_catalogue("hmdb51", root=given, annotations=ANNOTATIONS).table
    assert all(Path(path).is_absolute() and Path(path).exists() for path in found["path"])
    assert all(Path(path).stem == clip for path, clip in zip(found["path"], found["clip"], strict=True))


def test_links_that_lead_in_circles_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "clip.mp4").touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "._clip.mp4").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "clip.mp4").touch()
    assert walk(tmp_path).videos == [tmp_path / "a" / "b" / "clip.mp4"]


@needs_official_lists
def test_the_case_of_handstand_pushups(tmp_path: Path) -> None:
    catalogue = load_catalogue("ucf101", annotations=ANNOTATIONS)
    video = tmp_path / "video.bin"
    video.touch()
    rows = catalogue.table[catalogue.table["class"] == "HandstandPushups"]
    for place, path in enumerate(rows["path"]):
        name = path.split("/")[1] if place % 2 else path.split("/")[1].replace("HandStand", "Handstand")
        target = tmp_path / "UCF-101" / ("HandstandPushups" if place % 3 else "HandStandPushups") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(video)
    found = load_catalogue("ucf101", root=tmp_path, annotations=ANNOTATIONS).table
    assert found.loc[found["class"] == "HandstandPushups", "path"].map(lambda path: Path(path).exists()).all()


# --- cards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", card_names())
def test_every_card_is_complete(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert len(card.class_names) == len(set(card.class_names)) == len(set(card.phrases))
    assert all(phrase == phrase.strip() and phrase for phrase in card.phrases)
    assert all("{}" in template for template in card.templates)
    assert set(card.dead_classes) <= set(card.class_names)
    assert card.candidates is None or card.candidates % 2 == 1, "the centre of a segment must be a candidate"
    assert card.scale_for(card.usual_size) >= card.usual_size
    assert card.sources
    assert card.licence
    assert card.layout


def test_a_card_with_a_wrong_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match="unknown key 'tempaltes'; did you mean 'templates'"):
        parse_card({"name": "x", "title": "X", "classes": ["a", "b"], "tempaltes": []}, tmp_path / "x.yaml")
    with pytest.raises(MmfuseError, match="the key 'classes' is missing"):
        parse_card({"name": "x", "title": "X"}, tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [("YoYo", "yo yo"), ("TaiChi", "tai chi"), ("brush_hair", "brush hair"), ("CPRtraining2", "cp rtraining2")],
)
def test_class_names_become_words(name: str, words: str) -> None:
    assert in_words(name) == words

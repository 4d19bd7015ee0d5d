"""Published protocols: the right list at each K and draw, and no other file in its place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mmfuse.data.catalogue.cards import load_card
from mmfuse.data.protocols import ListFile, Protocol, find_list, load_protocol, parse_protocol, protocol_names
from mmfuse.errors import MmfuseError

CONTENT = "v_A_g01_c01.avi 0\nv_B_g01_c01.avi 1\n"


def listed(file: str, content: str = CONTENT) -> ListFile:
    return ListFile(file=file, sha256=hashlib.sha256(content.encode()).hexdigest(), clips=2)


@pytest.fixture
def protocol() -> Protocol:
    return load_protocol("vifi")


@pytest.mark.parametrize("name", protocol_names())
def test_every_shipped_list_holds_as_many_clips_as_its_setting_needs(name: str) -> None:
    found = load_protocol(name)
    for dataset, by_shots in found.few_shot.items():
        classes = load_card(dataset).class_count
        for shots, lists in by_shots.items():
            assert {file.clips for file in lists} == {shots * classes}
    for setting in found.base_to_novel.values():
        assert {file.clips % setting.shots for file in setting.train} == {0}
        assert len(setting.train) == 3
    files = {file for dataset in (*found.few_shot, *found.base_to_novel) for file in found.files(dataset)}
    assert len({file.sha256 for file in files}) == len(files)


def test_protocols_ship_no_clip_names() -> None:
    from mmfuse.utils.resources import cards_folder

    for path in (cards_folder() / "protocols").glob("*.yaml"):
        assert ".avi" not in path.read_text(encoding="utf-8")
        assert ".webm" not in path.read_text(encoding="utf-8")


def test_a_list_is_known_by_data_set_shots_and_draw() -> None:
    ju = load_protocol("ju")
    files = [ju.training_list("ucf101", shots=5, draw=number).file for number in range(10)]
    assert len(set(files)) == 10
    assert files[3].endswith("UCF-101/train/split_3.list")


@pytest.mark.parametrize(
    ("dataset", "shots", "draw", "said"),
    [
        ("diving48", 2, 0, "no few-shot lists of 'diving48'; it has hmdb51, ucf101, ssv2"),
        ("hmdb51", 5, 0, "no list of hmdb51 at K = 5; it has K = 2, 4, 8, 16"),
        ("hmdb51", "all", 0, "at K = all"),
        ("hmdb51", 2, 1, "draw 0 only of hmdb51 at K = 2; not draw 1"),
    ],
)
def test_what_a_protocol_lacks_is_said(protocol: Protocol, dataset: str, shots: object, draw: int, said: str) -> None:
    with pytest.raises(MmfuseError, match=said):
        protocol.training_list(dataset, shots=shots, draw=draw)


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(MmfuseError, match="did you mean 'vifi'"):
        load_protocol("vify")


def test_of_namesakes_the_content_decides(tmp_path: Path, protocol: Protocol) -> None:
    for folder, content in (("a_splits", "other\n"), ("b_splits", CONTENT.replace("\n", "\r\n"))):
        (tmp_path / "lists" / folder).mkdir(parents=True)
        (tmp_path / "lists" / folder / "train.txt").write_bytes(content.encode())
    found = find_list(listed("x/c_splits/train.txt"), [tmp_path], protocol=protocol)
    assert found == tmp_path / "lists" / "b_splits" / "train.txt"


def test_a_changed_list_is_refused_and_named(tmp_path: Path, protocol: Protocol) -> None:
    place = tmp_path / "splits" / "train.txt"
    place.parent.mkdir()
    place.write_text(CONTENT.replace("0\n", "1\n"), encoding="utf-8")
    with pytest.raises(MmfuseError, match=r"train\.txt is not the list that ViFi-CLIP published"):
        find_list(listed("splits/train.txt"), [tmp_path], protocol=protocol)


def test_a_missing_list_says_where_it_is_published(tmp_path: Path, protocol: Protocol) -> None:
    with pytest.raises(MmfuseError, match=r"fetch splits/train\.txt of github\.com/muzairkhattak/ViFi-CLIP"):
        find_list(listed("splits/train.txt"), [tmp_path / "nowhere"], protocol=protocol)


@pytest.mark.parametrize("change", [{"nmae": "x"}, {"few_shot": {"hmdb51": {2: [{"file": "a", "sha256": "0"}]}}}])
def test_a_broken_table_is_refused(change: dict) -> None:
    content = load_protocol("vifi").model_dump() | change
    with pytest.raises(MmfuseError, match=r"here\.yaml"):
        parse_protocol(content, Path("here.yaml"))

"""What is found out of a cell's inputs before it runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mmfuse.bench.digests import frame_size, known_inputs
from mmfuse.records.cell import Cell, identity
from mmfuse.utils import content
from mmfuse.utils.files import sha256_of_file


def cell(dataset: object, tower: str, **clip: int) -> Cell:
    return Cell.model_validate(
        {
            "dataset": dataset,
            "pair": {"name": "frozen+frozen", "image": "frozen", "text": "frozen"},
            "shots": 2,
            "encoders": {"image": tower},
            "clip": clip,
        }
    )


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    return {"name": "own", "root": str(tmp_path)}


def tower(folder: Path, size: int) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2", "image_size": 518}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"crop_size": size}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return str(folder)


def test_frames_have_the_size_that_the_cell_says_else_the_card_else_the_tower(
    own: dict[str, str], tmp_path: Path
) -> None:
    checkpoint = tower(tmp_path / "tower", 336)
    assert frame_size(cell(own, checkpoint, size=112)) == 112
    assert frame_size(cell("tiny", checkpoint, size=112)) == 112
    assert frame_size(cell("tiny", checkpoint)) == 64
    assert frame_size(cell(own, checkpoint)) == 336
    assert frame_size(cell("ucf101", checkpoint)) == 336
    assert frame_size(cell(own, "tiny-dinov2")) == 64


def test_the_size_of_a_tower_that_is_not_here_is_not_known(
    own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert frame_size(cell(own, "facebook/dinov2-base")) is None
    assert frame_size(cell(own, str(tmp_path / "nowhere"))) is None


def test_another_native_size_is_another_input(own: dict[str, str], tmp_path: Path) -> None:
    asked = [cell(own, tower(tmp_path / f"tower{size}", size)) for size in (224, 336)]
    assert asked[0].config_hash == asked[1].config_hash
    first, second = (identity(one.config_hash, known_inputs(one)) for one in asked)
    assert first != second


def _replace(path: Path, content: bytes) -> None:
    """Put other content under the same name, with the size and the modification time of the old one."""
    status = path.stat()
    assert len(content) == status.st_size
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Two classes of one clip a part, as CSV lists and as folders."""
    for part in ("train", "test"):
        lines = ["path,label"]
        for name in ("run", "jump"):
            clip = tmp_path / part / name / f"{name}.mp4"
            clip.parent.mkdir(parents=True)
            clip.write_bytes(f"{part} {name} clip".encode())
            lines.append(f"{clip.relative_to(tmp_path)},{name}")
        (tmp_path / f"{part}.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("lists", [{}, {"train": "train.csv", "test": "test.csv"}], ids=["folders", "lists"])
def test_a_video_replaced_under_its_name_is_another_input(listed: Path, lists: dict[str, str]) -> None:
    if not lists:
        for part in ("train", "test"):
            (listed / f"{part}.csv").unlink()
    asked = cell({"name": "own", "root": str(listed), **lists}, "tiny-dinov2")
    before = known_inputs(asked)
    assert before.videos is not None
    assert known_inputs(asked) == before
    video = listed / "test" / "run" / "run.mp4"
    _replace(video, video.read_bytes()[::-1])
    assert before.changes(known_inputs(asked)) == ["videos"]
    video.unlink()
    if lists:  # one that is listed and not there
        assert known_inputs(asked).videos is None
    else:
        video.parent.rmdir()
        assert before.changes(known_inputs(asked)) == ["dataset", "videos"]


@pytest.mark.usefixtures("cache")
def test_lists_that_are_found_in_the_folder_are_inputs(listed: Path) -> None:
    """A folder with lists is read by them, whatever folders lie beside: so it is they that must not change."""
    bare = cell({"name": "own", "root": str(listed)}, "tiny-dinov2")
    named = cell({"name": "own", "root": str(listed), "train": "train.csv", "test": "test.csv"}, "tiny-dinov2")
    before = known_inputs(bare)
    assert before == known_inputs(named)
    lines = (listed / "train.csv").read_text().splitlines()
    (listed / "train.csv").write_text("\n".join([lines[0], lines[2], lines[1]]))
    assert before.changes(known_inputs(bare)) == ["dataset"]
    assert known_inputs(bare) == known_inputs(named)


@pytest.mark.usefixtures("cache")
def test_a_copy_of_the_data_on_another_machine_is_the_same_input(listed: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    for part in ("train", "test"):
        shutil.copytree(listed / part, there / part)
        shutil.copy(listed / f"{part}.csv", there)
    here, copied = (cell({"name": "own", "root": str(root)}, "tiny-dinov2") for root in (listed, there))
    assert known_inputs(here) == known_inputs(copied)


@pytest.mark.usefixtures("cache")
def test_a_replaced_list_and_a_replaced_tower_are_other_inputs(listed: Path, tmp_path: Path) -> None:
    checkpoint = tower(tmp_path / "tower", 336)
    own_lists = {"name": "own", "root": str(listed), "train": "train.csv", "test": "test.csv"}
    asked = cell(own_lists, checkpoint)
    before = known_inputs(asked)
    _replace(listed / "train.csv", (listed / "train.csv").read_bytes().replace(b",jump", b",junp"))
    assert "dataset" in before.changes(known_inputs(asked))
    before = known_inputs(asked)
    _replace(tmp_path / "tower" / "model.safetensors", b"WEIGHTS")
    assert before.changes(known_inputs(asked)) == ["image_tower"]
    tower(tmp_path / "tower", 224)
    assert frame_size(asked) == 224


@pytest.mark.usefixtures("cache")
def test_videos_are_read_once_and_again_when_they_changed(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(content, "_SETTLED_AFTER", -1.0)
    monkeypatch.setattr(content, "sha256_of_file", lambda path: read.append(path) or sha256_of_file(path))
    videos = sorted(listed.rglob("*.mp4"))
    first = content.digests_of(videos)
    assert content.digests_of(videos) == first
    assert sorted(read) == videos
    _replace(videos[0], videos[0].read_bytes()[::-1])
    again = content.digests_of(videos)
    assert again[0] != first[0]
    assert again[1:] == first[1:]
    assert len(read) == len(videos) + 1


def test_words_for_classes_are_a_part_of_the_data_set(own: dict[str, str], tmp_path: Path) -> None:
    """Prompts are made of them, and the order of the labels."""

    def digest() -> str | None:
        return known_inputs(cell(own, "tiny-dinov2")).dataset

    for path in ("train/0/a.mp4", "train/1/b.mp4", "test/0/c.mp4", "test/1/d.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    found = [digest()]
    for words in ("name,phrase\n0,waving\n1,running\n", "name,phrase\n0,waving\n1,walking\n"):
        (tmp_path / "classes.csv").write_text(words)
        found.append(digest())
    assert None not in found
    assert len(set(found)) == 3

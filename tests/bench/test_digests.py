"""What is found out of a cell's inputs before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmfuse.bench.digests import frame_size, known_inputs
from mmfuse.records.cell import Cell, identity


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

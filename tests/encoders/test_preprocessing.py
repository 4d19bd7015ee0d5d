"""What a checkpoint's own files say of its frames."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmfuse.encoders.architectures import CLIP, HALF, IMAGENET
from mmfuse.encoders.preprocessing import read_preprocessing
from mmfuse.errors import MmfuseError


def written(folder: Path, config: Any, preprocessor: Any = None, file: str = "preprocessor_config.json") -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor is not None:
        (folder / file).write_text(json.dumps(preprocessor))
    return folder


def test_no_torch_is_needed() -> None:
    script = "import sys; import mmfuse.encoders.preprocessing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("preprocessor", "size"),
    [
        ({"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}}, 224),
        ({"crop_size": 224, "size": 256, "do_center_crop": True}, 224),
        ({"crop_size": 224, "size": {"shortest_edge": 256}, "do_center_crop": False}, 256),
        ({"size": {"height": 384, "width": 384}}, 384),
        ({"size": 384}, 384),
        ({"size": {"height": 256, "width": 128}}, 518),
        ({"size": 384, "do_resize": False}, 518),
        ({"image_mean": [0.5, 0.5, 0.5]}, 518),
        (None, 518),
    ],
)
def test_the_size_is_what_frames_are_cropped_to_else_scaled_to_else_the_configurations(
    preprocessor: Any, size: int, tmp_path: Path
) -> None:
    folder = written(tmp_path, {"model_type": "dinov2", "image_size": 518}, preprocessor)
    assert read_preprocessing(folder, "tower").size == size


def test_both_names_of_the_file_are_read(tmp_path: Path) -> None:
    content = {"image_processor": {"size": 96, "image_mean": [0.1, 0.2, 0.3]}}
    found = read_preprocessing(written(tmp_path, {}, content, "processor_config.json"), "tower")
    assert (found.size, found.mean) == (96, (0.1, 0.2, 0.3))


def test_a_full_checkpoint_has_its_size_under_the_image_tower(tmp_path: Path) -> None:
    config = {"model_type": "siglip", "vision_config": {"image_size": 256}}
    assert read_preprocessing(written(tmp_path, config), "tower").size == 256


def test_a_checkpoint_that_says_nothing_has_no_size_and_the_pixels_of_its_architecture(tmp_path: Path) -> None:
    for kind, usual in (("clip_vision_model", CLIP), ("siglip", HALF), ("dinov2", IMAGENET), ("new", IMAGENET)):
        found = read_preprocessing(written(tmp_path, {"model_type": kind}), "tower")
        assert (found.size, found.mean, found.std) == (None, *usual)


@pytest.mark.parametrize("content", ["{", "[]", '"text"'])
def test_a_broken_file_is_one_line(content: str, tmp_path: Path) -> None:
    folder = written(tmp_path, {})
    (folder / "preprocessor_config.json").write_text(content)
    with pytest.raises(MmfuseError, match=r"'tower': preprocessor_config\.json cannot be read") as raised:
        read_preprocessing(folder, "tower")
    assert "\n" not in str(raised.value)


def test_pixels_cannot_be_divided_by_nothing(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match="cannot be normalised"):
        read_preprocessing(written(tmp_path, {}, {"image_std": [0.0, 1.0, 1.0]}), "tower")

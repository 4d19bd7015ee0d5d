"""What the recogniser refuses, each time in one line: names, templates, towers and clips that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmfuse.errors import MmfuseError
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers


def build(class_names: Any = ("waving", "jumping"), **changes: Any) -> ActionRecognizer:
    settings = {
        "image_encoder": towers.image_tower(),
        "text_encoder": towers.text_tower(),
        "frames": 4,
        "fusion": "mean",
    }
    return ActionRecognizer(class_names, **{**settings, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": "waving"}, r"class_names must be a list of texts, none of them empty; got 'waving'"),
        ({"class_names": ["waving", ""]}, "class_names must be a list of texts, none of them empty"),
        ({"class_names": [1, 2]}, "class_names must be a list of texts"),
        ({"class_names": ["waving", "waving"]}, "the class name 'waving' is given twice"),
        ({"class_names": []}, "at least two classes are needed"),
        ({"templates": "a {}."}, r"templates must be a list of texts, none of them empty; got 'a {}\.'"),
        ({"templates": []}, "at least one template is needed"),
        ({"templates": ["a video"]}, "a template has one {} for the class name, and no other braces; got 'a video'"),
        ({"templates": ["{} {}"]}, "a template has one {} for the class name"),
        ({"templates": ["{name} {}"]}, "a template has one {} for the class name"),
        ({"templates": ["{"]}, "a template has one {} for the class name"),
        ({"image_encoder": None}, "None is no image tower, nor the name of one"),
        ({"image_encoder": Path("here")}, r"PosixPath\('here'\) is no image tower, nor the name of one"),
        ({"text_encoder": 3}, "3 is no text tower, nor the name of one"),
        ({"image_method": None}, "a method is a name or keys such as {method: lora, rank: 32}; got None"),
    ],
)
def test_refused_when_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError, match=message) as caught:
        build(**changes)
    assert "\n" not in str(caught.value)


def test_towers_cannot_be_swapped() -> None:
    with pytest.raises(MmfuseError, match="is no image tower, nor the name of one"):
        build(image_encoder=towers.text_tower(), text_encoder=towers.image_tower())


def test_a_tower_carries_one_method() -> None:
    tower = towers.image_tower()
    build(image_encoder=tower, image_method="lora")
    for method in ("frozen", "lora", "adapter"):
        with pytest.raises(MmfuseError, match="carries the method 'lora' already; load it anew, or take a copy"):
            build(image_encoder=tower, image_method=method)


def test_a_frozen_tower_may_be_shared_by_frozen_models_alone() -> None:
    tower, frames = towers.image_tower(), towers.clips()
    baseline = build(image_encoder=tower).eval()
    build(image_encoder=tower)
    with torch.no_grad():
        logits = baseline(frames)
        with pytest.raises(MmfuseError, match="carries the method 'frozen' already; load it anew, or take a copy"):
            build(image_encoder=tower, image_method="lora")
        assert torch.equal(baseline(frames), logits)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 3, 32, 32), "clips of 3 frames given to a recogniser that was built for 4"),
        ((1, 4, 3, 30, 32), "frames of 30 pixels cannot be cut into the 8-pixel patches of 'dinov2'; use 24 or 32"),
        ((1, 4, 3, 4, 4), "frames of 4 pixels cannot be cut into"),
        ((1, 4, 1, 32, 32), r"clips are pixels of shape \(B, T, 3, H, W\); got \(1, 4, 1, 32, 32\)"),
        ((4, 4, 32, 32), r"clips are pixels of shape \(B, T, 3, H, W\)"),
    ],
)
def test_clips_must_fit(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(MmfuseError, match=message):
        build()(torch.zeros(shape, dtype=torch.uint8))

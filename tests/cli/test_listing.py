"""What `list methods` tells of training."""

from __future__ import annotations

import json

import pytest

from mmfuse.cli.listing import show_list
from mmfuse.encoders.architectures import VideoArchitecture
from mmfuse.encoders.hub import check_available
from mmfuse.encoders.supported import IMAGE, TEXT
from mmfuse.errors import MmfuseError
from mmfuse.methods.recipes import RECIPES
from mmfuse.methods.registry import METHODS


def test_methods_are_listed_with_the_learning_rate_of_their_family(capsys: pytest.CaptureFixture[str]) -> None:
    show_list("methods", json=True)
    rates = {row["method"]: row["learning rate"] for row in json.loads(capsys.readouterr().out)}
    assert rates.pop("frozen") is None
    assert rates == {name: RECIPES[info.family].lr for name, info in METHODS.items() if name != "frozen"}


def test_what_trains_nothing_has_a_dash_for_a_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")  # narrower ones get a block for each method, without what it lacks
    show_list("methods", json=False)
    [frozen] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("frozen")]
    assert "–" in frozen
    assert "None" not in frozen


def test_encoders_are_listed_with_what_is_known_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    show_list("encoders", json=True)
    rows = json.loads(capsys.readouterr().out)
    listed = {(row["family"], row["tower"]) for row in rows if row["family"]}
    for record in (*IMAGE.values(), *TEXT.values()):
        kind = "video" if isinstance(record, VideoArchitecture) else "image" if record.model_type in IMAGE else "text"
        assert (record.family, kind) in listed
    [gated] = [row for row in rows if row["gated"]]
    assert (gated["encoder"], gated["patch"], gated["licence"]) == (
        "facebook/dinov3-vitb16-pretrain-lvd1689m",
        16,
        "dinov3-license",
    )
    [videomae] = [row for row in rows if row["encoder"] == "MCG-NJU/videomae-large"]
    assert (videomae["size"], videomae["frames"], videomae["licence"]) == (224, 16, "cc-by-nc-4.0")
    supported = {row["encoder"] for row in rows if row["family"]}
    refused = {row["encoder"]: row["note"] for row in rows if row["note"] and row["note"].startswith("not supported")}
    assert {"VideoMAE v2", "InternVideo2", "EVA-CLIP", "MobileCLIP2", "OpenVision", "V-JEPA 2.1"} <= set(refused)
    assert all(note.rsplit(": ", 1)[1] in supported for note in refused.values())


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("OpenGVLab/VideoMAEv2-Base", "VideoMAE v2"),
        ("OpenGVLab/InternVideo2-Stage2_1B-224p-f4", "InternVideo2"),
        ("QuanSun/EVA-CLIP", "EVA-CLIP"),
        ("apple/MobileCLIP2-S4", "MobileCLIP2"),
        ("UCSC-VLAA/openvision-vit-base-patch16-224", "OpenVision"),
        ("timm/vit_pe_core_base_patch16_224.fb", "Perception Encoder"),
    ],
)
def test_a_known_encoder_that_is_not_supported_names_the_nearest_that_is(name: str, title: str) -> None:
    """Before the hub is asked."""
    with pytest.raises(MmfuseError, match=rf": {title} is not supported \(.*\); the nearest that is: \S+/\S+$"):
        check_available(name, "image")

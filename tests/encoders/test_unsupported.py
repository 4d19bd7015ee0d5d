"""Folders that are no towers here: one line says what they are and what can be done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmfuse.encoders import load_image_tower, load_text_tower
from mmfuse.encoders.hub import check_available
from mmfuse.errors import MmfuseError

VIDEO = "a video encoder, which reads whole clips"
PAIR = "a pair of an image and a text encoder"
CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "videoprism"}, f"is a 'videoprism' checkpoint, {VIDEO}"),
    ({"model_type": "timesformer"}, f"is a 'timesformer' checkpoint, {VIDEO}"),
    (
        {"architecture": "vit_small_patch14_dinov2", "num_classes": 0, "pretrained_cfg": {}},
        "is a timm model ('vit_small_patch14_dinov2'), and weights of timm are not supported",
    ),
    (
        {"architecture": "vit_pe_core_base_patch16_224", "model_type": "timm_wrapper"},
        "is a timm model of the Perception Encoder ('vit_pe_core_base_patch16_224')",
    ),
    (
        {"model_type": "distilbert"},
        "is a 'distilbert' checkpoint, an encoder of words or sentences that was trained on",
    ),
    ({"model_type": "altclip"}, f"is a 'altclip' checkpoint, {PAIR}"),
    ({"model_type": "llama"}, "is a 'llama' checkpoint, a language model;"),
    ({"model_type": "qwen2_vl"}, "is a 'qwen2_vl' checkpoint, a language model that reads images"),
    ({"model_type": "whisper"}, "is a 'whisper' checkpoint, an audio model"),
    ({"model_type": "convnextv2"}, "is a 'convnextv2' checkpoint, an image encoder"),
    ({"model_type": "internvideo9"}, f"is a 'internvideo9' checkpoint, {VIDEO}"),
    ({"model_type": "eva", "auto_map": {"AutoModel": "x.Y"}}, "is a 'eva' checkpoint, whose code comes with it"),
    ({"model_type": "of-our-own"}, "is a 'of-our-own' checkpoint, which is not supported"),
    ({"model_type": ["clip"]}, "has a config.json without a model_type"),
    ({"width": 3}, "has a config.json without a model_type"),
]


@pytest.mark.parametrize("kind", ["image", "text"])
@pytest.mark.parametrize(("config", "message"), CONFIGS, ids=[message[5:30] for _, message in CONFIGS])
def test_another_model_says_what_it_is(config: dict[str, Any], message: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    for file in ("model.safetensors", "tokenizer.json"):
        (tmp_path / file).touch()
    lines = []
    for ask in (load_image_tower if kind == "image" else load_text_tower, lambda name: check_available(name, kind)):
        with pytest.raises(MmfuseError) as caught:
            ask(str(tmp_path))
        lines.append(str(caught.value))
    assert lines[0] == lines[1]
    assert lines[0].startswith(f"{kind} tower '{tmp_path}' {message}")
    assert f"; {kind} towers are " in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["PE-Core-B16-224.pt", "config.yaml"], "has no config.json, only PE-Core-B16-224.pt: pickles are not read"),
        (["open_clip_config.json", "open_clip_model.safetensors"], "is an open_clip checkpoint; give the same model"),
        (["modules.json", "0_CLIPModel/config.json"], "is a folder of sentence-transformers; there is one in 0_CLIPMo"),
        (["model_index.json", "unet/config.json"], "is a diffusion pipeline; give the folder of one of its parts; "),
        (["adapter_config.json", "adapter_model.safetensors"], "is an adapter of huggingface/peft; give the tower"),
        (["recognizer.json", "trained.safetensors"], "is a recogniser that `mmfuse train` wrote"),
        (["dinov2/config.json"], "has no config.json; there is one in dinov2: give the path of that folder"),
        (["snapshots/abc", "refs/main"], "is a folder of the hub's cache; give the hub id of its tower"),
        (["llama.Q4.gguf"], "has no config.json, only llama.Q4.gguf, a format that is not read"),
        (["config.json", "a.pth", "b.pth", "c.pth", "d.pth"], ", only a.pth, b.pth, c.pth and 1 more: pickles are not"),
        (["config.json", "model.fp16.safetensors"], "only model.fp16.safetensors; give it that name"),
        (["config.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"], "fetch its index, model.safetensors"),
    ],
)
def test_a_folder_that_lacks_what_a_tower_needs(files: list[str], message: str, tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    with pytest.raises(MmfuseError) as caught:
        check_available(str(tmp_path), "image")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"image tower '{tmp_path}': {tmp_path} ")


def test_video_encoders_and_timm_are_explained_without_torch() -> None:
    script = (
        "import sys; from mmfuse.encoders.unsupported import of_config\n"
        "print(of_config({'model_type': 'videomae'}, 'image')); print(of_config({'architecture': 'vit'}, 'image'))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"

"""Small checkpoints: what is written is all that is needed, and nothing else is accepted."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import safetensors.torch
import torch

from mmfuse.errors import MmfuseError
from mmfuse.methods import names
from mmfuse.methods.low_rank import PeftMethod
from mmfuse.model import checkpoint
from mmfuse.model.fusion import FUSIONS
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers
from tests.methods.sweep import SMALL, disturb

PAIRS = [(method, "frozen") for method in names("image")] + [("frozen", method) for method in names("text")]


def build(image: Any = "lora", text: Any = "coop", **changes: Any) -> ActionRecognizer:
    settings: dict[str, Any] = {
        "image_encoder": towers.image_tower(),
        "text_encoder": towers.text_tower(),
        "fusion": {"kind": "joint", "width": 16},
        "frames": 4,
        "seed": 7,
    }
    sides = {
        f"{side}_method": {"method": method, **SMALL.get(method, {})} if isinstance(method, str) else method
        for side, method in (("image", image), ("text", text))
    }
    return ActionRecognizer(towers.PHRASES, **{**settings, **sides, **changes})


def trained(*pair: Any, **changes: Any) -> ActionRecognizer:
    """A recogniser whose every trained weight has moved."""
    model = build(*pair, **changes)
    disturb(model, torch.nn.Identity())
    return model.eval()


def reload(folder: Path, **changes: Any) -> ActionRecognizer:
    fresh = {"image_encoder": towers.image_tower(), "text_encoder": towers.text_tower()}
    return ActionRecognizer.from_checkpoint(folder, **{**fresh, **changes})


@pytest.mark.parametrize(("image", "text"), PAIRS, ids=lambda name: name)
def test_a_recogniser_survives_its_checkpoint(image: str, text: str, tmp_path: Path) -> None:
    model = trained(image, text)
    model.save_trained(tmp_path)
    torch.manual_seed(99)  # nothing may hang on the global generator
    again = reload(tmp_path)
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(towers.clips()), model(towers.clips()))
    assert again.trainable_parameters() == model.trainable_parameters()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_survives(fusion: str, tmp_path: Path) -> None:
    width = {} if fusion in {"linear", "concat"} else {"width": 16}
    model = trained("vpt-deep", "adapter", fusion={"kind": fusion, **width}, feature="grid")
    model.save_trained(tmp_path)
    with torch.no_grad():
        assert torch.equal(reload(tmp_path)(towers.clips()), model(towers.clips()))


def test_it_holds_the_trained_weights_alone(tmp_path: Path) -> None:
    model = trained()
    model.save_trained(tmp_path)
    stored = safetensors.torch.load_file(tmp_path / checkpoint.WEIGHTS)
    assert sum(weight.numel() for weight in stored.values()) == sum(model.trainable_parameters().values())
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.WEIGHTS, checkpoint.DESCRIPTION, "peft-image"}


def test_the_description_says_what_it_was(tmp_path: Path) -> None:
    model = trained({"method": "lora", "rank": 3})
    model.save_trained(tmp_path, sampling={"size": 32})
    told = checkpoint.read_description(tmp_path)
    assert told["towers"]["image"] == {
        "name": "dinov2",
        "fingerprint": model.fingerprints()["image"],
        "dtype": "float32",
    }
    assert told["arguments"]["image_method"] == {"method": "lora", "rank": 3}
    assert told["arguments"]["class_names"] == towers.PHRASES
    assert told["sampling"] == {"size": 32}


def test_towers_are_found_again_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    towers.save_in_hub_layout(towers.image_tower(), tmp_path / "image")
    towers.save_in_hub_layout(towers.text_tower(), tmp_path / "text")
    monkeypatch.chdir(tmp_path)
    model = trained("adapter", "lora", image_encoder="./image", text_encoder="./text")
    model.save_trained(tmp_path / "kept")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = ActionRecognizer.from_checkpoint("../kept")
    with torch.no_grad():
        assert torch.equal(again(towers.clips()), model(towers.clips()))


@pytest.mark.parametrize("side", ["image", "text"])
def test_other_weights_of_a_tower_are_refused(side: str, tmp_path: Path) -> None:
    trained().save_trained(tmp_path)
    other = towers.image_tower(seed=1) if side == "image" else towers.text_tower(seed=1)
    with pytest.raises(MmfuseError, match=f"was trained on other weights of the {side} tower: on those of"):
        reload(tmp_path, **{f"{side}_encoder": other})


def test_a_tower_of_another_shape_is_refused(tmp_path: Path) -> None:
    trained("bitfit", "frozen").save_trained(tmp_path)
    with pytest.raises(MmfuseError, match="was trained on other weights of the image tower"):
        reload(tmp_path, image_encoder=towers.image_tower("dinov2-swiglu"))


def test_a_tower_that_is_gone_can_be_given_anew(tmp_path: Path) -> None:
    trained(image_encoder=towers.image_tower()).save_trained(tmp_path)
    with pytest.raises(MmfuseError, match="image tower 'dinov2' is neither embedded"):
        ActionRecognizer.from_checkpoint(tmp_path, text_encoder=towers.text_tower())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("fusion.gate"), r"lacks fusion\.gate$"),
        (
            lambda w: w.update({"fusion.gates": torch.zeros(1)}),
            r"has, beyond what its description asks for, fusion\.gates",
        ),
        (lambda w: w.update({"fusion.time": torch.zeros(2, 2)}), r"has another shape for fusion\.time$"),
    ],
)
def test_weights_must_fit(change: Any, message: str, tmp_path: Path) -> None:
    trained().save_trained(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / checkpoint.WEIGHTS)
    change(weights)
    safetensors.torch.save_file(weights, tmp_path / checkpoint.WEIGHTS)
    with pytest.raises(MmfuseError, match=message):
        reload(tmp_path)


@pytest.mark.parametrize("content", ["", "{oops", "[]", "{}", '{"format": 1, "towers": {}, "arguments": {}}'])
def test_a_broken_description_is_refused(content: str, tmp_path: Path) -> None:
    trained().save_trained(tmp_path)
    (tmp_path / checkpoint.DESCRIPTION).write_text(content)
    with pytest.raises(MmfuseError, match=r"recognizer\.json is broken; it does not say"):
        reload(tmp_path)


def test_broken_weights_are_one_line(tmp_path: Path) -> None:
    trained().save_trained(tmp_path)
    (tmp_path / checkpoint.WEIGHTS).write_bytes(b"x" * 50)
    with pytest.raises(MmfuseError, match=r"trained\.safetensors cannot be read: [^\n]+$"):
        reload(tmp_path)
    (tmp_path / checkpoint.WEIGHTS).unlink()
    with pytest.raises(MmfuseError, match=r"trained\.safetensors cannot be read: [^\n]+$"):
        reload(tmp_path)


def test_no_checkpoint_and_a_later_one(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match=r"holds no checkpoint: it has no recognizer\.json"):
        reload(tmp_path / "nowhere")
    trained().save_trained(tmp_path)
    path = tmp_path / checkpoint.DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(MmfuseError, match=r"was written by mmfuse .*; this is .*: update it"):
        reload(tmp_path)


def test_an_argument_of_another_version_is_named(tmp_path: Path) -> None:
    trained().save_trained(tmp_path)
    path = tmp_path / checkpoint.DESCRIPTION
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "arguments": {**told["arguments"], "gadget": 3}}))
    with pytest.raises(MmfuseError, match="whose ActionRecognizer took gadget; this one"):
        reload(tmp_path)


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    model = trained(fusion="linear")  # which knows its classes by their places alone
    model.save_trained(tmp_path)
    path = tmp_path / checkpoint.DESCRIPTION
    told = json.loads(path.read_text())
    told["arguments"]["class_names"].reverse()
    path.write_text(json.dumps(told))
    with pytest.raises(MmfuseError, match="its classes or other arguments were changed since they were written"):
        reload(tmp_path)
    del told["arguments_sha256"]  # as earlier versions wrote it
    path.write_text(json.dumps(told))
    assert reload(tmp_path).class_names == told["arguments"]["class_names"]


def test_a_folder_used_again_keeps_nothing_of_the_other_method(tmp_path: Path) -> None:
    trained("lora", "dora").save_trained(tmp_path)
    trained("frozen", "dora").save_trained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.WEIGHTS, checkpoint.DESCRIPTION, "peft-text"}


def test_arguments_that_cannot_be_written_down(tmp_path: Path) -> None:
    model = trained()
    with pytest.raises(MmfuseError, match="cannot be written down"):
        checkpoint.write(tmp_path, kind="X", weights={}, towers={}, arguments={"model": model}, sampling=None)
    assert not (tmp_path / checkpoint.DESCRIPTION).exists()


def test_lightnings_own_checkpoint_is_small_and_loads(tmp_path: Path) -> None:
    model = trained("dora", "deep-prompt")
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "small.ckpt")
    again = ActionRecognizer.load_from_checkpoint(
        tmp_path / "small.ckpt", image_encoder=towers.image_tower(), text_encoder=towers.text_tower()
    ).eval()
    with torch.no_grad():
        assert torch.equal(again(towers.clips()), model(towers.clips()))


FOREIGN = """
    import json, sys
    sys.modules["mmfuse"] = None  # an import of it would fail
    import safetensors.torch, torch, transformers
    from peft import PeftModel
    from tokenizers import Tokenizer

    folder = sys.argv[1]
    for side, architecture in (("image", "Dinov2Model"), ("text", "CLIPTextModelWithProjection")):
        for adapter in json.loads(sys.argv[2])[side]:
            base = getattr(transformers, architecture).from_pretrained(f"{folder}/{side}", attn_implementation="sdpa")
            model = PeftModel.from_pretrained(base, f"{folder}/{adapter}/peft-{side}").eval()
            given = safetensors.torch.load_file(f"{folder}/{adapter}/given-{side}.safetensors")
            with torch.no_grad():
                if side == "image":
                    output = model(pixel_values=given["pixels"]).last_hidden_state
                else:
                    output = model(input_ids=given["ids"]).text_embeds
            torch.testing.assert_close(output, given["output"], rtol=1e-5, atol=1e-5)
            print("same", side, adapter)
"""


def test_methods_of_peft_load_where_mmfuse_is_unknown(tmp_path: Path) -> None:
    towers.save_in_hub_layout(towers.image_tower(), tmp_path / "image")
    towers.save_in_hub_layout(towers.text_tower(), tmp_path / "text")
    adapters: dict[str, list[str]] = {"image": [], "text": []}
    for name in sorted(set(names("image")) & set(names("text"))):
        model = trained(name, name)
        if not isinstance(model.image_method, PeftMethod):
            continue
        model.save_trained(tmp_path / name)
        pixels = torch.randn(2, 3, towers.SIZE, towers.SIZE)
        prompts = model.text_tower.tokenize(towers.PHRASES, trim=False)
        with torch.no_grad():
            seen = {"pixels": pixels, "output": model.image_tower(pixels.unsqueeze(1))[:, 0].contiguous()}
            read = {"ids": prompts.ids, "output": model.text_tower(prompts)}
        for side, given in (("image", seen), ("text", read)):
            safetensors.torch.save_file(given, tmp_path / name / f"given-{side}.safetensors")
            adapters[side].append(name)
    expected = ["boft", "dora", "ia3", "loha", "lokr", "lora", "oft", "olora", "peft", "pissa", "vera"]
    assert adapters["image"] == expected
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FOREIGN), str(tmp_path), json.dumps(adapters)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("same") == 2 * len(expected)

"""Towers from folders in hub layout: what is read, what is refused, and that the network is left alone."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor

from mmfuse.encoders import load_image_tower, load_text_tower
from mmfuse.encoders.hub import check_available
from mmfuse.errors import MmfuseError
from tests import towers


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a name or opens a connection fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def stored(kind: str, folder: Path) -> Path:
    tower = towers.text_tower(kind) if kind in towers.TEXT_KINDS else towers.image_tower(kind)
    return towers.save_in_hub_layout(tower, folder)


def weights(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def rewrite(folder: Path, tensors: dict[str, Tensor] | None = None, **config: Any) -> str:
    """The folder with other weights or another configuration; its name."""
    if tensors is not None:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return str(folder)


def write_preprocessor(folder: Path, content: dict[str, Any], name: str = "preprocessor_config.json") -> None:
    (folder / name).write_text(json.dumps(content))


PIXELS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", towers.IMAGE_KINDS)
def test_an_image_tower_survives_its_folder(kind: str, file: str, tmp_path: Path) -> None:
    folder, original = stored(kind, tmp_path), towers.image_tower(kind)
    write_preprocessor(folder, PIXELS)
    if file == "pytorch_model.bin":
        torch.save(weights(folder), folder / file)
        (folder / "model.safetensors").unlink()
    loaded = load_image_tower(str(folder))
    with torch.no_grad():
        assert torch.equal(loaded(towers.clips()), original(towers.clips()))
    if kind != "vit":  # whose pooler is not read
        assert loaded.weights_fingerprint() == original.weights_fingerprint()
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", towers.TEXT_KINDS)
def test_a_text_tower_survives_its_folder(kind: str, file: str, tmp_path: Path) -> None:
    folder, original = stored(kind, tmp_path), towers.text_tower(kind)
    if file == "pytorch_model.bin":
        torch.save(weights(folder), folder / file)
        (folder / "model.safetensors").unlink()
    loaded = load_text_tower(str(folder))
    with torch.no_grad():
        assert torch.equal(loaded(loaded.tokenize(towers.PHRASES)), original(original.tokenize(towers.PHRASES)))
    assert loaded.weights_fingerprint() == original.weights_fingerprint()


def test_todays_names_are_read_as_well_as_the_hubs(tmp_path: Path) -> None:
    folder = stored("dinov2", tmp_path)
    hub = weights(folder)
    assert "encoder.layer.0.attention.attention.query.weight" in hub  # as DINOv2 lies on the hub
    today = {
        name.replace("attention.attention.query", "attention.q_proj")
        .replace("attention.attention.key", "attention.k_proj")
        .replace("attention.attention.value", "attention.v_proj")
        .replace("attention.output.dense", "attention.o_proj"): tensor
        for name, tensor in hub.items()
    }
    assert load_image_tower(rewrite(folder, today)).weights_fingerprint() == towers.image_tower().weights_fingerprint()


def test_the_model_may_lie_under_a_head(tmp_path: Path) -> None:
    folder = stored("dinov2", tmp_path)
    classifier = {f"dinov2.{name}": tensor for name, tensor in weights(folder).items()}
    classifier |= {"classifier.weight": torch.zeros(3, 64), "classifier.bias": torch.zeros(3)}
    loaded = load_image_tower(rewrite(folder, classifier))
    assert loaded.weights_fingerprint() == towers.image_tower().weights_fingerprint()


def whole_model(family: str, folder: Path) -> Any:
    """A full CLIP or SigLIP checkpoint, both towers in one."""
    text, image = towers.text_tower(f"{family}-text"), towers.image_tower(f"{family}-image")
    configs = {"text_config": text.model.config.to_dict(), "vision_config": image.model.config.to_dict()}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        if family == "clip":
            model: Any = transformers.CLIPModel(transformers.CLIPConfig(**configs, projection_dim=24))
        else:
            model = transformers.SiglipModel(transformers.SiglipConfig(**configs))
        towers.randomised(model)
    model.save_pretrained(folder)
    text.tokenizer.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_either_tower_is_read_from_a_full_checkpoint(family: str, tmp_path: Path) -> None:
    model = whole_model(family, tmp_path)
    write_preprocessor(tmp_path, PIXELS)
    image, text = load_image_tower(str(tmp_path)), load_text_tower(str(tmp_path))
    pixels = torch.randn(2, 1, 3, towers.SIZE, towers.SIZE)
    prompts = text.tokenize(towers.PHRASES, trim=False)
    with torch.no_grad():
        tokens = image(pixels)
        expected = model.get_image_features(pixel_values=pixels[:, 0]).pooler_output
        cls = model.visual_projection(tokens[:, 0, 0]) if family == "clip" else tokens[:, 0, 0]
        torch.testing.assert_close(cls, expected, rtol=1e-5, atol=1e-5)
        expected = model.get_text_features(input_ids=prompts.ids).pooler_output
        torch.testing.assert_close(text(prompts), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("files", "mean", "std"),
    [
        ({"preprocessor_config.json": PIXELS}, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]),
        ({"processor_config.json": {"image_processor": PIXELS}}, [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]),
        ({"preprocessor_config.json": {"do_normalize": False, **PIXELS}}, [0, 0, 0], [1, 1, 1]),
        ({}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_pixels_are_normalised_as_the_checkpoint_says(
    files: dict[str, Any], mean: list[float], std: list[float], tmp_path: Path
) -> None:
    folder = stored("dinov2", tmp_path)
    for name, content in files.items():
        write_preprocessor(folder, content, name)
    tower = load_image_tower(str(folder))
    grey = torch.full((3, 1, 1), 128.0)
    expected = (grey / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(grey * tower.pixel_scale + tower.pixel_shift, expected)


def test_a_tower_knows_the_size_that_it_was_trained_on(tmp_path: Path) -> None:
    folder = stored("dinov2", tmp_path)
    assert load_image_tower(folder).native_size == towers.image_tower("dinov2").model.config.image_size
    write_preprocessor(
        Path(folder), {"crop_size": {"height": 42, "width": 42}, "size": {"shortest_edge": 48}, **PIXELS}
    )
    assert load_image_tower(folder).native_size == 42
    assert load_image_tower("tiny-dinov2").native_size == 64


def test_a_half_precision_checkpoint_is_read_in_full_precision(tmp_path: Path) -> None:
    folder = stored("dinov2", tmp_path)
    tower = load_image_tower(rewrite(folder, {name: w.half() for name, w in weights(folder).items()}, dtype="float16"))
    assert {parameter.dtype for parameter in tower.model.parameters()} == {torch.float32}


def test_a_vit_without_a_pooler_has_the_same_fingerprint_each_time(tmp_path: Path) -> None:
    folder = stored("vit", tmp_path)
    name = rewrite(folder, {key: w for key, w in weights(folder).items() if not key.startswith("pooler")})
    assert load_image_tower(name).weights_fingerprint() == load_image_tower(name).weights_fingerprint()


def test_a_tensor_that_is_lacking_is_named(tmp_path: Path) -> None:
    folder = stored("dinov2", tmp_path)
    tensors = weights(folder)
    del tensors["encoder.layer.1.mlp.fc1.weight"]
    with pytest.raises(MmfuseError, match=r"the checkpoint lacks encoder\.layer\.1\.mlp\.fc1\.weight$"):
        load_image_tower(rewrite(folder, tensors))
    with pytest.raises(MmfuseError, match=r"lacks embeddings\.cls_token, .*, .* and \d+ more$"):
        load_image_tower(rewrite(folder, {"other": torch.zeros(1)}))


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = stored("dinov2", tmp_path)
    tensors = weights(folder) | {"encoder.layer.1.mlp.fc1.weight": torch.zeros(5, 5)}
    with pytest.raises(MmfuseError, match=r"has another shape for encoder\.layer\.1\.mlp\.fc1\.weight$"):
        load_image_tower(rewrite(folder, tensors))


@pytest.mark.parametrize("family", ["vit", "clip"])
def test_layers_beyond_the_configuration_are_refused(family: str, tmp_path: Path) -> None:
    if family == "clip":
        whole_model("clip", tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())["vision_config"]
        name = rewrite(tmp_path, vision_config={**config, "num_hidden_layers": 1})
    else:
        name = rewrite(stored("vit", tmp_path), num_hidden_layers=1)
    with pytest.raises(MmfuseError, match=r"has, beyond what its config\.json describes, (encoder\.)?layers?\.1"):
        load_image_tower(name)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("dinov2", {"num_hidden_layers": 10**6}),
        ("dinov2", {"num_hidden_layers": 10**12}),
        ("dinov2", {"hidden_size": 10**6}),
        ("dinov2", {"image_size": 10**6}),
        ("dinov2", {"patch_size": 10**5}),
        ("vit", {"intermediate_size": 10**9}),
        ("clip-text", {"num_hidden_layers": 10**6}),
        ("clip-text", {"vocab_size": 10**9}),
        ("siglip-text", {"max_position_embeddings": 10**9}),
    ],
)
def test_a_configuration_beyond_its_weights_is_refused_before_a_model_is_built(
    kind: str, sizes: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, side = stored(kind, tmp_path), "text" if kind in towers.TEXT_KINDS else "image"
    name = rewrite(folder, **sizes)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the configuration was built")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    message = (
        rf"^{side} tower '.*' cannot be loaded: its config\.json describes at least \S+ weights, and its files have"
    )
    for ask in (load_text_tower if side == "text" else load_image_tower, lambda name: check_available(name, side)):
        with pytest.raises(MmfuseError, match=message):
            ask(name)


@pytest.mark.parametrize("content", [b"x" * 100, b"", None])
def test_a_broken_file_of_weights_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    folder = stored("dinov2", tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(MmfuseError, match=r"^image tower '.*' cannot be loaded: [^\n]+$"):
        load_image_tower(str(folder))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    folder, witness = stored("dinov2", tmp_path / "tower"), tmp_path / "witness"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return witness.touch, ()

    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.cls_token": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(MmfuseError, match="is broken, or holds more than tensors, which is never unpickled"):
        load_image_tower(str(folder))
    assert not witness.exists()


@pytest.mark.parametrize("content", ["{oops", "[]", '{"model_type": "dinov2", "num_attention_heads": "many"}'])
def test_a_broken_configuration_is_one_line(content: str, tmp_path: Path) -> None:
    folder = stored("dinov2", tmp_path)
    (folder / "config.json").write_text(content)
    with pytest.raises(MmfuseError, match=r"^image tower '.*': config\.json cannot be read: [^\n]+$"):
        load_image_tower(str(folder))


@pytest.mark.parametrize(
    ("kind", "load", "message"),
    [
        (
            "clip-text",
            load_image_tower,
            "is a 'clip_text_model' checkpoint, a supported text tower, but of that kind alone; image towers are",
        ),
        (
            "dinov2",
            load_text_tower,
            "is a 'dinov2' checkpoint, a supported image tower, but of that kind alone; text towers",
        ),
        ("clip-image", load_text_tower, "is a 'clip_vision_model' checkpoint"),
    ],
)
def test_another_kind_of_checkpoint_is_refused(kind: str, load: Any, message: str, tmp_path: Path) -> None:
    folder = stored(kind, tmp_path)
    towers.text_tokenizer("clip-text").save_pretrained(folder)
    with pytest.raises(MmfuseError, match=message):
        load(str(folder))


def test_a_siglip_tower_without_its_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match="has neither a CLS token nor a pooling head"):
        load_image_tower(rewrite(stored("siglip-image", tmp_path), vision_use_head=False))


def test_a_tokenizer_must_belong_to_its_weights(tmp_path: Path) -> None:
    folder = stored("clip-text", tmp_path)
    smaller = weights(folder)
    table = "text_model.embeddings.token_embedding.weight"
    smaller[table] = smaller[table][:100].clone()
    with pytest.raises(MmfuseError, match=r"its tokenizer knows 3\d\d tokens, its weights 100; they do not belong"):
        load_text_tower(rewrite(folder, smaller, vocab_size=100))


def test_a_broken_tokenizer_is_one_line(tmp_path: Path) -> None:
    folder = stored("clip-text", tmp_path)
    (folder / "tokenizer.json").write_text("{oops")
    with pytest.raises(MmfuseError, match=r"^text tower '.*': its tokenizer cannot be read: [^\n]+$"):
        load_text_tower(str(folder))


def test_a_vocabulary_with_merges_will_do_for_a_tokenizer(tmp_path: Path) -> None:
    folder, original = stored("clip-text", tmp_path), towers.text_tower("clip-text")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    ends = {"</w>": 400, "a</w>": 401}  # CLIP's own tokenizer marks the ends of words
    (folder / "vocab.json").write_text(json.dumps({**model["vocab"], **ends}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer.json").unlink()
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 32}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    wider = weights(folder)
    table = "text_model.embeddings.token_embedding.weight"
    wider[table] = torch.cat([wider[table], torch.zeros(100, 32)])
    tower = load_text_tower(rewrite(folder, wider, vocab_size=len(wider[table])))
    row = tower.tokenizer("a")["input_ids"]
    assert row[0] == original.tokenizer.bos_token_id
    assert row[-1] == original.tokenizer.eos_token_id
    assert len(row) == 3

"""Video towers: what `transformers` gives, by steps of time; what does not fit is refused before a run."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from mmfuse import ActionRecognizer
from mmfuse.bench.preflight import check_towers
from mmfuse.encoders import VideoTower, load_image_tower
from mmfuse.encoders.preprocessing import read_preprocessing
from mmfuse.errors import MmfuseError
from mmfuse.methods import attach
from mmfuse.records.cell import Cell
from tests import towers

PAIR = {"name": "x", "image": "lora", "text": "frozen"}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def pixels(frames: int, size: int) -> Tensor:
    return torch.randn(2, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


def stored(kind: str, folder: Path) -> Path:
    return towers.save_in_hub_layout(towers.image_tower(kind), folder)


def reference(model: Any, clips: Tensor) -> Tensor:
    more = {"skip_predictor": True} if model.config.model_type == "vjepa2" else {}
    return model(clips, **more).last_hidden_state


@pytest.mark.parametrize("kind", towers.VIDEO_KINDS)
def test_a_video_tower_equals_transformers(kind: str) -> None:
    tower, clips = towers.image_tower(kind), pixels(4, towers.SIZE)
    with torch.no_grad():
        tokens, expected = tower(clips), reference(tower.model, clips)
    assert tokens.shape[:2] == (2, 2), "one set of tokens for two frames"
    special = int(kind == "vivit")
    torch.testing.assert_close(tokens[:, :, 1:].flatten(1, 2), expected[:, special:], **TOLERANCE)
    first = expected[:, :1].expand(-1, 2, -1) if special else expected.unflatten(1, (2, -1)).mean(dim=2)
    torch.testing.assert_close(tokens[:, :, 0], first, **TOLERANCE)


@pytest.mark.parametrize(("frames", "size"), [(2, 24), (8, 48)])
def test_vjepa2_counts_patches_on_the_grid_of_what_it_is_given(frames: int, size: int) -> None:
    """Its own model counts them on the grid of its configuration: at another size rows would be mixed up."""
    tower, clips = towers.image_tower("vjepa2"), pixels(frames, size)
    config = towers.VIDEO_CONFIGS["vjepa2"]()
    config.crop_size, config.frames_per_clip = size, frames
    model = transformers.VJEPA2Model(config).eval()
    model.load_state_dict(towers.image_model("vjepa2").state_dict())
    with torch.no_grad():
        own = reference(towers.image_model("vjepa2"), clips)
        torch.testing.assert_close(tower(clips)[:, :, 1:].flatten(1, 2), reference(model, clips), **TOLERANCE)
        assert not torch.allclose(own, reference(model, clips), atol=1e-4)


@pytest.mark.parametrize("kind", ["videomae", "vivit"])
def test_positions_are_stretched_over_time_and_frame(kind: str) -> None:
    tower, clips = towers.image_tower(kind), pixels(8, 48)
    embeddings = tower.model.embeddings
    with torch.no_grad():
        embeddings.position_embeddings = nn.Parameter(torch.randn(embeddings.position_embeddings.shape))
        patches = embeddings.patch_embeddings.projection(clips.transpose(1, 2)).flatten(2).transpose(1, 2)
        added = tower.architecture.embed(tower.model, clips)[:, tower.special_tokens :] - patches
        table = embeddings.position_embeddings[0, tower.special_tokens :].unflatten(0, (2, 4, 4))  # (T', H, W, D)
        frames = functional.interpolate(table.permute(0, 3, 1, 2), size=(6, 6), mode="bicubic")  # (T', D, 6, 6)
        steps = functional.interpolate(frames.flatten(1).T[None], size=4, mode="linear")[0].T
    expected = steps.unflatten(1, frames.shape[1:]).permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(added[0], expected, **TOLERANCE)


@pytest.mark.parametrize("kind", towers.VIDEO_KINDS)
def test_a_clip_is_seen_as_a_whole(kind: str) -> None:
    tower, clips = towers.image_tower(kind), towers.clips(frames=4)
    with torch.no_grad():
        whole, turned = tower(clips), tower(clips.flip(1))
        assert not torch.allclose(whole.mean(dim=1), turned.mean(dim=1), atol=1e-4), "order counts"
        for layer in (0, 1):
            torch.testing.assert_close(tower.forward_from(tower.forward_to(clips, layer=layer), layer=layer), whole)
        tower.model.to(torch.float64)  # what a table of positions must follow, as it must follow a device
        assert tower(clips.double()).dtype == torch.float64


@pytest.mark.parametrize("kind", towers.VIDEO_KINDS)
def test_even_the_mean_fusion_knows_order_in_a_video_tower(kind: str) -> None:
    model = ActionRecognizer(
        ["waving", "jumping"], image_encoder=towers.image_tower(kind), frames=4, fusion="mean", image_method="lora"
    ).eval()
    assert model.frame_encoder.steps == 2
    assert model.frame_encoder.width == model.image_tower.width * (2 if kind == "vivit" else 1)
    clips = towers.clips(frames=4)
    with torch.no_grad():
        first = model(clips)
        assert model.frame_features(clips).shape == (3, 2, model.frame_encoder.width)
        assert not torch.allclose(first, model(clips[:, [2, 3, 0, 1]]), atol=1e-5)


def test_the_predictor_of_vjepa2_is_not_needed_and_not_kept(tmp_path: Path) -> None:
    folder = stored("vjepa2", tmp_path)
    assert not any(name.startswith("predictor") for name in safetensors.torch.load_file(folder / "model.safetensors"))
    tower = load_image_tower(str(folder))
    assert isinstance(tower, VideoTower)
    assert not any("predictor" in name for name, _ in tower.model.named_parameters())
    assert tower.weights_fingerprint() == towers.image_tower("vjepa2").weights_fingerprint()


@pytest.mark.parametrize("pooled", [False, True])
def test_videomae_is_read_under_the_names_that_its_checkpoints_have(pooled: bool, tmp_path: Path) -> None:
    """Published ones hold `q_bias` and `v_bias`; fine-tuned ones have no norm behind the layers."""
    config = towers.VIDEO_CONFIGS["videomae"]()
    config.use_mean_pooling = pooled
    model = towers.randomised(transformers.VideoMAEModel(config)).eval()
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    names = {"query.bias": "q_bias", "value.bias": "v_bias"}
    for new, old in names.items():
        for key in [key for key in tensors if key.endswith(f"attention.attention.{new}")]:
            tensors["videomae." + key.replace(new, old)] = tensors.pop(key)
    tensors = {key if key.startswith("videomae.") else f"videomae.{key}": value for key, value in tensors.items()}
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    tower, clips = load_image_tower(str(tmp_path)), pixels(4, towers.SIZE)
    with torch.no_grad():
        torch.testing.assert_close(tower(clips)[:, :, 1:].flatten(1, 2), reference(model, clips), **TOLERANCE)
    for key in [key for key in tensors if key.endswith("q_bias")]:
        del tensors[key]
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(MmfuseError, match=r"the checkpoint lacks encoder\.layer\.0\.attention\.attention\.query\.bias"):
        load_image_tower(str(tmp_path))


@pytest.mark.parametrize("processor", [transformers.VivitImageProcessor, transformers.VideoMAEImageProcessor])
def test_pixels_are_scaled_as_the_processor_does_it(processor: Any, tmp_path: Path) -> None:
    """ViViT's goes from -1 to 1 before it normalises."""
    size: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    own = processor(**size)
    folder = stored("vivit", tmp_path)
    own.save_pretrained(folder)
    tower = load_image_tower(str(folder))
    video = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    expected = torch.as_tensor(own([*video.permute(0, 2, 3, 1).numpy()], return_tensors="pt")["pixel_values"])
    torch.testing.assert_close(video * tower.pixel_scale + tower.pixel_shift, expected[0], rtol=0, atol=1e-5)


def test_the_settings_of_a_video_processor_are_read(tmp_path: Path) -> None:
    folder = stored("vjepa2", tmp_path)
    told = {"crop_size": {"height": 48, "width": 48}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(told))
    read = read_preprocessing(folder, "x")
    assert (read.size, read.mean, read.patch, read.has_summary) == (48, (0.5, 0.4, 0.3), 8, False)
    assert read.clip is not None
    assert (read.clip.frames, read.clip.tubelet) == (4, 2)
    (folder / "video_preprocessor_config.json").write_text(json.dumps({**told, "do_flip_channel_order": True}))
    with pytest.raises(MmfuseError, match="reads blue before red"):
        read_preprocessing(folder, "x")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"clip": {"frames": 7, "size": 32}}, r"7 frames a clip cannot be cut into the steps of 2 .* use 6 or 8$"),
        ({"clip": {"frames": 1, "size": 32}}, r"1 frames a clip .* use 2 or 4$"),
        ({"clip": {"frames": 4, "size": 30}}, r"frames of 30 pixels .* 8-pixel patches .* use 24 or 32$"),
        ({"pair": {**PAIR, "image": "aim"}}, r"method 'aim' is not for the video tower '.*': it lets frames see each"),
        ({"pair": {**PAIR, "image": "st-adapter"}}, r"method 'st-adapter' is not for the video tower"),
        (
            {"encoders": {"feature": "cls"}},
            r"has neither a CLS token nor a pooling head, .* 'cls' .* set feature to pa",
        ),
        ({"encoders": {"feature": "grid"}}, r"has neither a CLS token .* 'grid' is made of"),
    ],
)
def test_what_does_not_fit_a_video_tower_is_refused_before_a_run(
    asked: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = str(stored("vjepa2", tmp_path))
    settings: dict[str, Any] = {"dataset": "tiny", "pair": PAIR, "shots": 2, **asked}
    settings["encoders"] = {"image": folder, **asked.get("encoders", {})}
    with pytest.raises(MmfuseError, match=message) as caught:
        check_towers([Cell.model_validate(settings)])
    assert "\n" not in str(caught.value)
    fits = {"pair": PAIR, "clip": {"size": 32}, "encoders": {"image": folder}}
    check_towers([Cell.model_validate({**settings, **fits})])


def test_the_same_is_refused_in_python() -> None:
    build: Any = ActionRecognizer
    for arguments, message in (
        ({"frames": 5}, "use 4 or 6"),
        ({"frames": 4, "feature": "cls"}, "set feature to patch"),
        ({"frames": 4, "image_method": "aim"}, "is not for the video tower 'vjepa2'"),
    ):
        with pytest.raises(MmfuseError, match=message):
            build(["a", "b"], image_encoder=towers.image_tower("vjepa2"), **arguments)
    with pytest.raises(MmfuseError, match="3 frames a clip cannot be cut"):
        towers.image_tower("videomae")(towers.clips(frames=3))


VIVIT = partial(transformers.VivitModel, add_pooling_layer=False)
REAL: list[tuple[Any, Any, int, int]] = [
    # Of ViT-L, 24 layers of width 1024; of ViT-B, 12 of width 768: rank 8 on queries and values.
    (transformers.VJEPA2Model, transformers.VJEPA2Config(), 303_885_312, 24 * 2 * 8 * 2 * 1024),
    (transformers.VideoMAEModel, transformers.VideoMAEConfig(use_mean_pooling=False), 86_227_200, 12 * 2 * 8 * 2 * 768),
    (VIVIT, transformers.VivitConfig(), 88_646_400, 12 * 2 * 8 * 2 * 768),
]


@pytest.mark.parametrize(("model", "config", "weights", "trained"), REAL, ids=["vjepa2", "videomae", "vivit"])
def test_counts_at_real_size(model: Any, config: Any, weights: int, trained: int) -> None:
    with torch.device("meta"):
        built = model(config)
    tower = VideoTower(built, name="real", mean=(0.5,) * 3, std=(0.5,) * 3)
    attach(tower, "lora", generator=torch.Generator().manual_seed(0))
    assert sum(weight.numel() for weight in tower.model.parameters() if weight.requires_grad) == trained
    assert sum(weight.numel() for weight in tower.pretrained) == weights

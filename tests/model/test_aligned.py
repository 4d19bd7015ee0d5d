"""Zero-shot recognition by towers that were trained together, held against the whole model of `transformers`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch.nn import functional

from mmfuse import ActionRecognizer
from mmfuse.errors import MmfuseError
from tests.towers import save_whole_model

NAMES = ["waving", "to run", "playing the cello"]
TEMPLATES = ["a video of a person {}.", "{}"]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whole_model(request.param, tmp_path_factory.mktemp(request.param))


def test_logits_are_those_of_the_whole_model(folder: Path) -> None:
    built = {"image_encoder": str(folder), "text_encoder": str(folder), "templates": TEMPLATES, "frames": 3}
    model = ActionRecognizer(NAMES, fusion="aligned", **built).eval()
    assert model.trainable_parameters() == {"image_method": 0, "text_method": 0, "fusion": 0}
    with pytest.raises(MmfuseError, match="nothing of this model is trained"):
        model.optimizer_and_schedule(steps=1)
    side = model.image_tower.native_size
    video = torch.randint(0, 256, (2, 3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = transformers.AutoModel.from_pretrained(folder).eval()
    tower = model.image_tower
    with torch.no_grad():
        pixels = video.flatten(0, 1) * tower.pixel_scale + tower.pixel_shift
        frames = functional.normalize(_pooled(whole.get_image_features(pixels)), dim=-1).unflatten(0, (2, 3))
        texts = []
        for template in TEMPLATES:
            ids = model.text_tower.tokenize([template.format(name) for name in NAMES], trim=False).ids
            texts.append(functional.normalize(_pooled(whole.get_text_features(ids)), dim=-1))
        cosines = functional.cosine_similarity(frames.mean(1)[:, None], torch.stack(texts).mean(0)[None], dim=-1)
        torch.testing.assert_close(model(video), whole.logit_scale.exp() * cosines, atol=1e-5, rtol=1e-5)
        assert model(video).std() > 1e-3  # logits that tell nothing apart would agree as well


def _pooled(features: object) -> torch.Tensor:
    return features if isinstance(features, torch.Tensor) else features.pooler_output  # type: ignore[attr-defined]


def test_a_kept_model_is_rebuilt_from_its_towers(folder: Path, tmp_path: Path) -> None:
    built = {"image_encoder": str(folder), "text_encoder": str(folder), "frames": 3, "image_method": "lora"}
    model = ActionRecognizer(NAMES, fusion={"kind": "aligned"}, **built).eval()
    for weight in model.trained_parameters()["image"].values():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
    model.save_trained(tmp_path)
    side = model.image_tower.native_size
    video = torch.full((1, 3, 3, side, side), 200, dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(ActionRecognizer.from_checkpoint(tmp_path)(video), model(video))


def test_towers_that_were_not_trained_together_are_refused(folder: Path) -> None:
    with pytest.raises(MmfuseError, match="'tiny-dinov2' and 'tiny-clip-text' were not trained together"):
        ActionRecognizer(NAMES, fusion="aligned")
    built = {"image_encoder": str(folder), "text_encoder": str(folder), "feature": "patch"}
    with pytest.raises(MmfuseError, match="set feature to cls or both"):
        ActionRecognizer(NAMES, fusion="aligned", **built)

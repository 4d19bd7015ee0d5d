"""Every method inside the recogniser: with each fusion, forward, backward and a step of the optimiser."""

from __future__ import annotations

import itertools

import pytest
import torch

from mmfuse.fusion import FUSIONS
from mmfuse.methods import METHODS, names
from mmfuse.recognizer import ActionRecognizer
from tests import towers
from tests.methods.sweep import SMALL

FEATURES = itertools.cycle(["both", "cls", "patch", "grid"])
# Features meet methods nowhere but in the tower's output: each method is tried with one fusion and each fusion with
# many methods, instead of all with all.
PAIRS = [(method, "frozen") for method in names("image")] + [("frozen", method) for method in names("text")]
CASES = [
    pytest.param(image, text, fusion, feature, id=f"{image}+{text}-{fusion}-{feature}")
    for (image, text), fusion, feature in zip(PAIRS, itertools.cycle(FUSIONS), FEATURES, strict=False)
]


@pytest.mark.parametrize(("image", "text", "fusion", "feature"), CASES)
def test_pair_trains(image: str, text: str, fusion: str, feature: str) -> None:
    model = ActionRecognizer(
        towers.PHRASES,
        image_encoder=towers.image_tower(),
        text_encoder=towers.text_tower(),
        image_method={"method": image, **SMALL.get(image, {})},
        text_method={"method": text, **SMALL.get(text, {})},
        fusion={"kind": fusion, **({} if fusion in {"linear", "concat"} else {"width": 16})},
        frames=4,
        feature=feature,
    )
    before, labels = model.fingerprints(), torch.tensor([0, 1, 4])
    model.train()
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])
    loss = torch.nn.functional.cross_entropy(model(towers.clips()), labels)
    loss.backward()
    optimizer.step()
    counts = model.trainable_parameters()
    assert (counts["image_method"] > 0) is (image != "frozen")
    assert (counts["text_method"] > 0) is (text != "frozen")
    assert model.fingerprints() == before
    assert model.eval()(towers.clips()).shape == (3, len(towers.PHRASES))


def test_each_catalogue_entry_is_complete() -> None:
    for info in METHODS.values():
        assert info.summary
        assert info.family in {
            "baseline",
            "prompt",
            "adapter",
            "low-rank",
            "orthogonal",
            "scaling",
            "selective",
            "other",
        }
        assert info.paper or info.family == "baseline"

"""Every method inside the recogniser: with each fusion, forward, backward and a step of the optimiser."""

from __future__ import annotations

import itertools
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from mmfuse.methods import METHODS, names
from mmfuse.methods.recipes import Recipe
from mmfuse.model.fusion import FUSIONS
from mmfuse.model.optim import parameter_groups
from mmfuse.model.optimizations import Optimizations
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers
from tests.methods.sweep import SMALL, disturb

FEATURES = itertools.cycle(["both", "cls", "patch", "grid"])
# Features meet methods nowhere but in the tower's output: each method is tried with one fusion and each fusion with
# many methods, instead of all with all.
PAIRS = [(method, "frozen") for method in names("image")] + [("frozen", method) for method in names("text")]
CASES = [
    pytest.param(image, text, fusion, feature, id=f"{image}+{text}-{fusion}-{feature}")
    for (image, text), fusion, feature in zip(PAIRS, itertools.cycle(FUSIONS), FEATURES, strict=False)
]


MERGEABLE = {"dora": True, "ssf": True, "oft": True, "ia3": True, "vera": True, "frozen": False, "adapter": False}


def build(image: str, text: str, *, fusion: str = "joint", feature: str = "both") -> ActionRecognizer:
    return ActionRecognizer(
        towers.PHRASES,
        image_encoder=towers.image_tower(),
        text_encoder=towers.text_tower(),
        image_method={"method": image, **SMALL.get(image, {})},
        text_method={"method": text, **SMALL.get(text, {})},
        fusion={"kind": fusion, **({} if fusion in {"linear", "concat"} else {"width": 16})},
        frames=4,
        feature=feature,
    )


@pytest.mark.parametrize(("image", "text", "fusion", "feature"), CASES)
def test_pair_trains(image: str, text: str, fusion: str, feature: str) -> None:
    model = build(image, text, fusion=fusion, feature=feature)
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


def trainer(**changes: Any) -> L.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(accelerator="cpu", max_epochs=1, **{**quiet, **changes})


def batches() -> DataLoader[Any]:
    video = towers.clips(6)
    rows = [{"video": clip, "label": torch.tensor(i % 5), "index": torch.tensor(i)} for i, clip in enumerate(video)]
    return DataLoader(rows, batch_size=3)


@pytest.mark.parametrize(
    ("image", "text"), [("dora", "ssf"), ("oft", "ia3"), ("frozen", "frozen"), ("adapter", "vera")]
)
def test_testing_merges_methods_and_leaves_no_trace(image: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(image, text)
    disturb(model, torch.nn.Identity())
    before, merged = model.fingerprints(), []
    seen = model.test_step
    methods = {"image": model.image_method, "text": model.text_method}

    def step(*given: Any) -> None:
        merged.append({side: getattr(method, "merged", False) for side, method in methods.items()})
        assert model.fingerprints() == before
        seen(*given)

    monkeypatch.setattr(model, "test_step", step)
    for _ in range(2):  # a test, a training, and a test of what was trained
        trainer().test(model, batches(), verbose=False)
        with torch.no_grad():
            plain = model.eval()(towers.clips(6)).softmax(-1)
        torch.testing.assert_close(model.test_predictions["probabilities"], plain, rtol=1e-4, atol=1e-4)
        assert model.fingerprints() == before
        trainer().fit(model, batches())
    for side, method in (("image", image), ("text", text)):
        assert all(sides[side] is MERGEABLE[method] for sides in merged), side


def test_under_autocast_merging_rounds_no_more_than_the_path_beside_it() -> None:
    model = build("dora", "frozen")
    disturb(model, torch.nn.Identity())
    model.image_method.compose(False)  # a composed weight is the merged one
    found = {}
    for name, precision, merge in [
        ("exact", "32-true", False),
        ("beside", "bf16-mixed", False),
        ("merged", "bf16-mixed", True),
    ]:
        model.optimizations = Optimizations(merge=merge)
        trainer(precision=precision).test(model, batches(), verbose=False)
        found[name] = model.test_predictions["probabilities"]
    beside, merged = ((found[name] - found["exact"]).abs().mean() for name in ("beside", "merged"))
    assert merged < 3 * beside < 0.05, (merged, beside)
    assert not torch.equal(found["merged"], found["beside"]), "nothing was merged"


def test_weights_in_half_precision_are_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("dora", "frozen")
    disturb(model, torch.nn.Identity())
    merged: list[str] = []
    monkeypatch.setattr(model.image_method, "merge", lambda: merged.append("image"))
    trainer(precision="bf16-true").test(model, batches(), verbose=False)
    assert not merged


def test_a_test_that_was_broken_off_leaves_the_model_trainable(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("dora", "lora")
    before = model.fingerprints()
    disturb(model, torch.nn.Identity())

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(model, "test_step", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            trainer().test(model, batches(), verbose=False)
    started = {name: weight.clone() for name, weight in model.trained_state().items()}
    trainer().fit(model, batches())
    assert model.fingerprints() == before
    assert not [name for name, weight in model.trained_state().items() if torch.equal(weight, started[name])]


def test_factors_do_not_decay_towards_zero() -> None:
    for method in ("ia3", "boft", "ssf", "vera", "ln", "bitfit"):
        model = build(method, "frozen")
        image = {"image": model.trained_parameters()["image"]}
        groups = parameter_groups(image, {"image": Recipe(lr=1.0, weight_decay=1.0, warmup=0.0)})
        decayed = {id(weight) for group in groups if group["weight_decay"] for weight in group["params"]}
        kept = {name for name, weight in image["image"].items() if id(weight) in decayed}
        assert not {name for name in kept if "boft_R" not in name}, method

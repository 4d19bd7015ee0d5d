"""The recogniser: what it trains, what it leaves alone, and what its logits depend on."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from mmfuse.errors import MmfuseError
from mmfuse.model.fusion import FUSIONS
from mmfuse.model.recognizer import ActionRecognizer, NonFiniteLoss
from tests.towers import PHRASES, clips, image_tower, text_tower

FRAMES = 4
PAIRS = [("frozen", "frozen"), ("lora", "coop"), ("dora", "adapter"), ("vpt-deep", "frozen"), ("adapter", "lora")]


def recognizer(**changes: Any) -> ActionRecognizer:
    settings: dict[str, Any] = {
        "image_encoder": image_tower(),
        "text_encoder": text_tower(),
        "fusion": {"kind": "joint", "width": 16, "layers": 1},
        "frames": FRAMES,
    }
    return ActionRecognizer(PHRASES, **{**settings, **changes})


def loader(count: int = 10, batch: int = 4) -> DataLoader:
    video = clips(count, FRAMES)
    rows = [
        {"video": video[i], "label": torch.tensor(i % len(PHRASES)), "index": torch.tensor(i)} for i in range(count)
    ]
    return DataLoader(rows, batch_size=batch)


def trainer(**changes: Any) -> L.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(accelerator="cpu", **{"max_epochs": 2, **quiet, **changes})


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_training_changes_methods_and_fusion_and_leaves_the_towers_bit_identical(pair: tuple[str, str]) -> None:
    model = recognizer(image_method=pair[0], text_method=pair[1], method_lr=1e-2)
    model.fusion.gate.data.fill_(0.5)  # a gate at zero would let the transformer learn from its second step on only
    model.eval()
    before, frozen = model.fingerprints(), {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    started = {name: value.clone() for name, value in model.trained_state().items()}
    with model.image_tower.disabled(), model.text_tower.disabled(), torch.no_grad():
        tokens, words = model.image_tower(clips(2, FRAMES)), model.text_tower(model.text_tower.tokenize(PHRASES))

    trainer().fit(model, loader())

    assert model.fingerprints() == before
    for name, value in frozen.items():
        assert torch.equal(dict(model.named_parameters())[name], value), name
    still = [name for name, value in model.trained_state().items() if torch.equal(value, started[name])]
    assert not still, f"never trained: {still}"
    model.eval()
    with model.image_tower.disabled(), model.text_tower.disabled(), torch.no_grad():
        assert torch.equal(model.image_tower(clips(2, FRAMES)), tokens)
        assert torch.equal(model.text_tower(model.text_tower.tokenize(PHRASES)), words)


@pytest.mark.parametrize("kind", [kind for kind, fusion in FUSIONS.items() if fusion.open_vocabulary])
def test_permuting_the_classes_permutes_the_logits(kind: str) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    model = recognizer(fusion={"kind": kind, "width": 16}).eval()
    _open_gate(model)
    with torch.no_grad():
        logits = model(clips(3, FRAMES))
        permuted = model(clips(3, FRAMES), model.class_embeddings([PHRASES[i] for i in order]))
    torch.testing.assert_close(permuted, logits[:, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", FUSIONS)
def test_shuffling_the_frames_changes_what_sees_order_and_nothing_else(kind: str) -> None:
    model = recognizer(fusion={"kind": kind, **({} if kind in {"linear", "concat"} else {"width": 16})}).eval()
    _open_gate(model)
    video = clips(3, FRAMES)
    with torch.no_grad():
        change = (model(video) - model(video[:, [2, 0, 3, 1]])).abs().max()
    if FUSIONS[kind].sees_order:
        assert change > 1e-3
    else:
        assert change < 1e-5


def _open_gate(model: ActionRecognizer) -> None:
    if hasattr(model.fusion, "gate"):
        model.fusion.gate.data.fill_(1.0)


def test_the_order_blind_fusions_are_those_that_say_so() -> None:
    assert {kind for kind, fusion in FUSIONS.items() if not fusion.sees_order} == {"mean", "linear"}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (
        recognizer(image_method="dora", text_method="coop", seed=seed).trained_state() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_a_model_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    recognizer(image_method="lora", text_method="coop")
    assert torch.equal(torch.rand(3), expected)


def test_a_test_pass_counts_every_clip_once_and_keeps_its_prediction() -> None:
    model = recognizer()
    trainer().test(model, loader(10, batch=4), verbose=False)
    found = model.test_predictions
    assert found["index"].tolist() == list(range(10))
    assert found["label"].tolist() == [i % len(PHRASES) for i in range(10)]
    model.eval()
    with torch.no_grad():
        direct = model(clips(10, FRAMES)).softmax(-1)
    torch.testing.assert_close(found["probabilities"], direct, atol=1e-5, rtol=1e-4)
    assert torch.equal(found["predicted"], direct.argmax(-1))


def test_a_trained_text_tower_is_embedded_anew_after_training() -> None:
    model = recognizer(text_method="coop", method_lr=0.1)
    trainer(max_epochs=1).test(model, loader(), verbose=False)
    before = model._classes().clone()
    trainer().fit(model, loader())
    model.eval()
    after = model._classes()
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, model.class_embeddings())


def test_learned_context_replaces_the_template() -> None:
    plain, learned = recognizer(), recognizer(text_method="coop")
    assert plain.templates == ["a video of a person {}."]
    assert learned.templates == ["{}."]


def test_several_templates_are_averaged_as_unit_vectors() -> None:
    one, two = recognizer(templates=["a {}."]), recognizer(templates=["the {}."])
    both = recognizer(templates=["a {}.", "the {}."])
    with torch.no_grad():
        torch.testing.assert_close(both.class_embeddings(), (one.class_embeddings() + two.class_embeddings()) / 2)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    model = recognizer(fusion="linear")
    model.fusion.probe[1].bias.data[0] = float("nan")
    with pytest.raises(NonFiniteLoss, match="lower the learning rates"):
        trainer().fit(model, loader())


def test_checkpoints_of_lightning_hold_trained_weights_only(tmp_path: Any) -> None:
    model = recognizer(image_method="lora")
    fitted = trainer(max_epochs=1)
    fitted.fit(model, loader())
    fitted.save_checkpoint(tmp_path / "small.ckpt")
    kept = torch.load(tmp_path / "small.ckpt", weights_only=True)["state_dict"]
    assert set(kept) == set(model.trained_state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_method": "dorra"}, "unknown image method 'dorra'; did you mean 'dora'"),
        ({"image_method": "coop"}, "'coop' is not defined on the image tower"),
        ({"text_method": {"method": "coop", "lenght": 4}}, "did you mean 'length'"),
        ({"image_method": {"method": "lora", "rank": 0}}, "rank must be at least 1"),
        ({"image_method": {"method": "lora", "targets": ["qq"]}}, "no linear map with role 'qq'"),
        ({"image_method": {"rank": 4}}, "needs the key 'method'"),
        ({"text_method": {"method": "coop", "length": 30}}, "leaves no room"),
        ({"fusion": "join"}, "did you mean 'joint'"),
        ({"fusion": {"kind": "joint", "widht": 3}}, "did you mean 'width'"),
        ({"fusion": {"kind": "joint", "width": 18}}, "cannot be shared by 4 heads"),
        ({"fusion": {"kind": "late", "layers": 0}}, "layers must be at least 1"),
        ({"feature": "clss"}, "did you mean 'cls'"),
        ({"templates": ["x " * 60 + "{}"]}, "tokens; the text tower"),
        ({"image_encoder": "tiny-clip-text"}, "a image tower is wanted|an image tower is wanted"),
        ({"image_encoder": "/no/such/folder"}, "nor a folder that exists"),
    ],
)
def test_wrong_arguments_are_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError, match=message) as raised:
        recognizer(**changes)
    assert "\n" not in str(raised.value)


def test_one_class_is_refused() -> None:
    with pytest.raises(MmfuseError, match="at least two classes"):
        ActionRecognizer(["walking"], image_encoder=image_tower(), text_encoder=text_tower())

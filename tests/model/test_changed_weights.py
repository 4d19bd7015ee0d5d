"""What is computed once must be what would be computed now, however the weights were changed in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmfuse.model.class_prompts import EmbeddingScope
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers

FRAMES, CLIPS = 4, 10
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def build(
    image: Any = "frozen", text: Any = "coop", *, kind: type[ActionRecognizer] = ActionRecognizer, **changes: Any
) -> ActionRecognizer:
    settings: dict[str, Any] = {
        "image_encoder": towers.image_tower(),
        "text_encoder": towers.text_tower(),
        "fusion": {"kind": "joint", "width": 16, "layers": 1},
        "frames": FRAMES,
        "method_lr": 0.05,
    }
    return kind(towers.PHRASES, **{**settings, "image_method": image, "text_method": text, **changes}).eval()


def loader() -> DataLoader[Any]:
    video = towers.clips(CLIPS, FRAMES)
    rows = [
        {"video": clip, "label": torch.tensor(i % len(towers.PHRASES)), "index": torch.tensor(i)}
        for i, clip in enumerate(video)
    ]
    return DataLoader(rows, batch_size=4)


def trainer(*callbacks: L.Callback, **changes: Any) -> L.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(accelerator="cpu", callbacks=list(callbacks), **{"max_epochs": 2, **quiet, **changes})


def truth(model: ActionRecognizer) -> Tensor:
    """Probabilities (CLIPS, C) by the plainest path there is, in a copy that has kept nothing."""
    fresh = copy.deepcopy(model).eval()
    with torch.no_grad():
        logits = fresh.fusion(fresh.frame_features(towers.clips(CLIPS, FRAMES)), fresh.class_embeddings())
    return logits.softmax(dim=-1)


class Watched(L.Callback):
    """Notes, at the end of every epoch of evaluation, what was seen and what was true then."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, model: Any) -> None:
        self.logits, own = [], type(model).forward.__get__(model)

        def forward(video: Tensor, classes: Tensor | None = None) -> Tensor:
            self.logits.append(own(video, classes))
            return self.logits[-1]

        model.forward = forward

    def on_validation_batch_end(self, trainer: L.Trainer, model: Any, *_: Any) -> None:
        if trainer.num_val_batches and len(self.logits) == trainer.num_val_batches[0]:
            del model.forward
            self.pairs.append((torch.cat(self.logits).softmax(dim=-1), truth(model)))


@pytest.mark.parametrize("text", ["coop", "adapter", "lora"])
def test_validation_and_test_see_the_weights_of_the_moment(text: str) -> None:
    model, watched = build(text=text), Watched()
    fitted = trainer(watched, max_epochs=3, num_sanity_val_steps=0)
    fitted.fit(model, loader(), loader())
    assert fitted.optimizers[0].defaults["fused"], "the optimiser that raises no version of a weight"
    assert len(watched.pairs) == 3
    for seen, true in watched.pairs:
        torch.testing.assert_close(seen, true, **CLOSE)
    assert not torch.allclose(watched.pairs[0][1], watched.pairs[-1][1], atol=1e-3), "nothing was learned"
    fitted.test(model, loader(), verbose=False)
    torch.testing.assert_close(model.test_predictions["probabilities"], truth(model), **CLOSE)


def test_averaged_weights_are_seen_in_validation_and_after_training() -> None:
    class Averaging(WeightAveraging):
        """Swaps weights through `.data` before each validation, and back after it."""

    model, watched = build(text="adapter"), Watched()
    fitted = trainer(Averaging(), watched, max_epochs=3, num_sanity_val_steps=0)
    fitted.fit(model, loader(), loader())
    for seen, true in watched.pairs:
        torch.testing.assert_close(seen, true, **CLOSE)
    fitted.test(model, loader(), verbose=False)
    torch.testing.assert_close(model.test_predictions["probabilities"], truth(model), **CLOSE)


def in_place(weight: nn.Parameter, new: Tensor) -> None:
    with torch.no_grad():
        weight.copy_(new)


def through_data(weight: nn.Parameter, new: Tensor) -> None:
    weight.data.copy_(new)


def new_storage(weight: nn.Parameter, new: Tensor) -> None:
    weight.data = new.clone()


def fused_step(weight: nn.Parameter, new: Tensor) -> None:
    weight.grad = (weight.detach() - new).sign()
    torch.optim.AdamW([weight], lr=0.05, fused=True).step()
    weight.grad = None


def through_numpy(weight: nn.Parameter, new: Tensor) -> None:
    weight.detach().numpy()[...] = new.numpy()


WAYS = [in_place, through_data, new_storage, fused_step, through_numpy]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("part", ["image_tower", "image_method", "text_tower", "text_method", "fusion"])
def test_a_forward_sees_every_change_of_weights(part: str, way: Callable[[nn.Parameter, Tensor], None]) -> None:
    """Whatever the model was asked before, in whichever mode, with gradients or without."""
    model = build("adapter", "adapter")
    model.fusion.gate.data.fill_(1.0)
    for method in (model.image_method, model.text_method):
        for weight in method.parameters():
            weight.data += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    video = towers.clips(2, FRAMES)
    with torch.no_grad():
        before = model(video)
        model.frame_encoder.frozen_prefix(video)
    generator = torch.Generator().manual_seed(1)
    for weight in getattr(model, part).parameters():
        way(weight, weight.detach() + 0.2 * torch.randn(weight.shape, generator=generator))
    with torch.no_grad():
        after = model(video)
    torch.testing.assert_close(after, truth_of(model, video), **CLOSE)
    assert not torch.allclose(after, before, atol=1e-4)


def truth_of(model: ActionRecognizer, video: Tensor) -> Tensor:
    fresh = build("adapter", "adapter")
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        return fresh(video)


@pytest.mark.parametrize("text", ["frozen", "adapter"])
def test_loading_other_weights_while_frozen_shows(text: str) -> None:
    model, other = build(text=text), build(text=text, text_encoder=towers.text_tower(seed=1), seed=1)
    first, video = copy.deepcopy(model.state_dict()), towers.clips(2, FRAMES)
    model.freeze()
    with torch.no_grad():
        one = model(video)
        model.load_state_dict(other.state_dict())
        two = model(video)
        model.load_state_dict(first)
        again = model(video)
        expected = other(video)
    torch.testing.assert_close(two, expected, **CLOSE)
    assert torch.equal(one, again)
    assert not torch.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("first", ["disabled", "enabled"])
def test_a_disabled_text_tower_is_the_frozen_one_whatever_was_asked_before(first: str) -> None:
    model, plain = build(text="adapter"), build(text="frozen")
    for weight in model.text_method.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    plain.fusion.load_state_dict(model.fusion.state_dict())
    video = towers.clips(2, FRAMES)
    with torch.no_grad():
        if first == "enabled":
            model(video)
        with model.text_tower.disabled():
            torch.testing.assert_close(model(video), plain(video), **CLOSE)
        torch.testing.assert_close(model(video), truth_of_copy(model, video), **CLOSE)
        assert not torch.allclose(model(video), plain(video), atol=1e-4)


def truth_of_copy(model: ActionRecognizer, video: Tensor) -> Tensor:
    fresh = copy.deepcopy(model)
    return fresh.fusion(fresh.frame_features(video), fresh.class_embeddings())


def test_a_test_with_the_text_tower_disabled_is_not_that_of_the_trained_one() -> None:
    model = build(text="adapter")
    for weight in model.text_method.parameters():
        weight.data += 0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    trainer().test(model, loader(), verbose=False)
    with model.text_tower.disabled():
        features = model.frame_features(towers.clips(CLIPS, FRAMES))
        expected = model.fusion(features, model.class_embeddings()).detach().softmax(-1)
        trainer().test(model, loader(), verbose=False)
    torch.testing.assert_close(model.test_predictions["probabilities"], expected, **CLOSE)


@pytest.mark.parametrize("text", ["frozen", "coop"])
def test_full_precision_after_mixed_precision(text: str) -> None:
    model = build(text=text)
    trainer(max_epochs=1, precision="bf16-mixed").fit(model, loader(), loader())
    model.eval()
    with torch.no_grad():
        logits = model(towers.clips(CLIPS, FRAMES))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.softmax(-1), truth(model), **CLOSE)


def test_exporting_leaves_the_model_as_it_was() -> None:
    model, video = build("lora", "frozen"), towers.clips(2, FRAMES)
    with torch.no_grad():
        before = model(video)
        program = torch.export.export(model, (video,))
        after = model(video)
        assert torch.equal(before, after)
        torch.testing.assert_close(program.module()(video), before, **CLOSE)


def test_what_a_broken_off_training_has_kept_is_not_used() -> None:
    class Stop(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("stop")

    model = build(text="frozen")
    with pytest.raises(RuntimeError, match="stop"):
        trainer(Stop()).fit(model, loader())
    for weight in model.text_tower.parameters():
        weight.data += 0.1
    model.eval()
    batch = next(iter(loader()))
    with torch.no_grad():
        logits = model._logits(batch)
        torch.testing.assert_close(logits, truth_of_copy(model, batch["video"]), **CLOSE)


class OwnHooks(ActionRecognizer):
    """Overrides hooks as people do, without calling those of the base."""

    def on_validation_epoch_end(self) -> None:
        pass

    def on_test_start(self) -> None:
        pass

    def on_test_epoch_start(self) -> None:
        pass

    def on_train_end(self) -> None:
        pass


@pytest.mark.parametrize("text", ["coop", "frozen"])
def test_hooks_of_a_subclass_leave_nothing_behind(text: str) -> None:
    model = build(text=text, kind=OwnHooks)
    trainer().fit(model, loader(), loader())
    tester = trainer()
    for _ in range(2):
        for weight in (*model.text_tower.parameters(), *model.text_method.parameters()):
            weight.data *= 1.5
        [result] = tester.test(model, loader(), verbose=False)
        expected = truth(model)
        torch.testing.assert_close(model.test_predictions["probabilities"], expected, **CLOSE)
        labels = torch.arange(CLIPS) % len(towers.PHRASES)
        assert result["test/top1"] == pytest.approx((expected.argmax(dim=-1) == labels).double().mean().item())


class WithOffset(ActionRecognizer):
    """Learns something about each class that is in no tower."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offset = nn.Parameter(torch.zeros(len(self.class_names), self.text_tower.embedding_width))

    def class_embeddings(self, class_names: Any = None) -> Tensor:
        return super().class_embeddings(class_names) + self.offset


def test_what_a_subclass_adds_to_frozen_embeddings_is_trained_and_seen() -> None:
    model, watched = build(text="frozen", kind=WithOffset), Watched()
    trainer(watched, num_sanity_val_steps=0).fit(model, loader(), loader())
    assert model.offset.abs().min() > 0
    assert len(watched.pairs) == 2
    for seen, expected in watched.pairs:
        torch.testing.assert_close(seen, expected, **CLOSE)


def test_what_is_plugged_into_a_frozen_text_tower_by_hand_is_trained() -> None:
    model = build(text="frozen")
    model.scale = nn.Parameter(torch.ones(model.text_tower.embedding_width))
    model.text_tower.finish.append(lambda output, context: output * model.scale)
    trainer(num_sanity_val_steps=0).fit(model, loader(), loader())
    assert (model.scale - 1).abs().min() > 0


def test_a_frozen_text_tower_reads_the_prompts_once_a_training_and_a_trained_one_once_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = {}
    for text in ("frozen", "adapter"):
        model = build(text=text)
        read: list[int] = []
        own = model.text_tower.forward
        monkeypatch.setattr(
            model.text_tower, "forward", lambda prompts, own=own, read=read: read.append(1) or own(prompts)
        )
        trainer(max_epochs=3, num_sanity_val_steps=0).fit(model, loader(), loader())
        counts[text] = len(read)
    # 3 epochs of 3 steps, each followed by an epoch of validation.
    assert counts == {"frozen": 1, "adapter": 3 * 3 + 3}


def test_nothing_outlives_its_scope() -> None:
    scope, calls = EmbeddingScope(), []

    def compute() -> Tensor:
        calls.append(1)
        return torch.zeros(1)

    for _ in range(2):
        scope.get(compute, key="a")
    assert len(calls) == 2, "kept outside of a scope"
    scope.open()
    for key in ("a", "a", "b"):
        scope.get(compute, key=key)
    assert len(calls) == 4
    scope.close()
    scope.open()
    scope.get(compute, key="b")
    assert len(calls) == 5

"""The moving average of the trained weights, and SGD beside AdamW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from mmfuse.errors import MmfuseError
from mmfuse.methods.recipes import MOMENTUM, recipes_of
from mmfuse.model.averaging import CURRENT, decay_at
from tests.model.test_recognizer import loader, recognizer, trainer
from tests.towers import image_tower, text_tower

DECAY = 0.6


class Watched(L.Callback):
    """What the trained weights were at the start and after each step, and in each validation."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.steps.append(copied(pl_module))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == len(self.steps):
            self.steps.append(copied(pl_module))

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.validated.append(copied(pl_module))


def copied(model: Any) -> dict[str, Tensor]:
    return {name: w.detach().clone() for part in model.trained_parameters().values() for name, w in part.items()}


def averages(steps: list[dict[str, Tensor]], name: str) -> list[Tensor]:
    """The average after each step, from its definition, in 64 bits."""
    found = [steps[0][name].double()]
    for update, weights in enumerate(steps[1:]):
        keep = min(DECAY, (1 + update) / (10 + update))
        found.append(keep * found[-1] + (1 - keep) * weights[name].double())
    return found


def test_the_averaged_weights_are_validated_left_in_the_model_and_tested(tmp_path: Path) -> None:
    model, watched = recognizer(image_method="dora", text_method="adapter", ema=DECAY), Watched()
    towers = model.fingerprints()
    # Gradients of two batches make a step; 12 clips are 4 batches, so 2 steps an epoch.
    made = trainer(max_epochs=2, callbacks=[watched], accumulate_grad_batches=2, num_sanity_val_steps=0)
    made.fit(model, loader(count=12, batch=3), loader(count=3))
    assert len(watched.steps) == 5
    assert decay_at(3, decay=DECAY) < DECAY
    for name, weight in copied(model).items():
        expected = averages(watched.steps, name)
        torch.testing.assert_close(weight.double(), expected[-1], rtol=0, atol=1e-6)
        torch.testing.assert_close(watched.validated[0][name].double(), expected[2], rtol=0, atol=1e-6)
        # In the second epoch the training has gone on from its own weights, not from the average.
    moved = [name for name, weight in copied(model).items() if not torch.equal(weight, watched.steps[-1][name])]
    assert len(moved) > 20
    assert model.fingerprints() == towers
    made.test(model, loader(count=5), verbose=False)  # with weights merged, and taken apart again
    batch = torch.stack([row["video"] for row in loader(count=5).dataset])
    expected = model.eval()(batch).softmax(dim=-1)
    torch.testing.assert_close(model.test_predictions["probabilities"], expected, rtol=0, atol=1e-5)
    model.save_trained(tmp_path)
    again = type(model).from_checkpoint(tmp_path, image_encoder=image_tower(), text_encoder=text_tower())
    assert torch.equal(again(batch), model(batch))


def test_a_training_that_goes_on_from_a_checkpoint_averages_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    steady = {"kind": "joint", "width": 16, "layers": 1, "dropout": 0.0}
    settings: dict[str, Any] = {"fusion": steady, "ema": DECAY, "augmentation": {"cutmix": 1.0}}
    whole, half = recognizer(**settings), recognizer(**settings)
    trainer(max_epochs=4).fit(whole, loader())

    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "half.ckpt")
                trainer.should_stop = True

    trainer(max_epochs=4, callbacks=[Stop()]).fit(half, loader())
    kept = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert set(kept[CURRENT]) == set(kept["state_dict"]) == set(half.trained_state())
    for name, weight in copied(half).items():  # the average is what a test of the checkpoint would see
        assert torch.equal(kept["state_dict"][name], weight)
    rest = recognizer(**settings)
    trainer(max_epochs=4).fit(rest, loader(), ckpt_path=tmp_path / "half.ckpt")
    for name, weight in copied(rest).items():
        torch.testing.assert_close(weight, copied(whole)[name], rtol=0, atol=1e-6)


def test_sgd_has_its_momentum_and_rates_and_trains() -> None:
    model = recognizer(image_method="lora", optimizer="sgd", fusion_lr=0.07)
    optimizer, _ = model.optimizer_and_schedule(steps=4)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["momentum"] for group in optimizer.param_groups} == {MOMENTUM}
    rates = {group["part"]: group["lr"] for group in model.optimizer_and_schedule(steps=1)[0].param_groups}
    assert rates == {"fusion": 0.07, "image": recipes_of("lora", "frozen")["image"].lr}
    before = copied(model)
    watched = trainer(max_epochs=1)
    watched.fit(model, loader())
    assert isinstance(watched.optimizers[0], torch.optim.SGD)
    assert any(not torch.equal(weight, before[name]) for name, weight in copied(model).items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"momentum": 0.9}, "momentum is SGD's"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum is a number from 0 to below 1"),
        ({"ema": 1.0}, "ema is a decay from 0 (off) to below 1"),
        ({"ema": True}, "ema is a decay"),
    ],
)
def test_wrong_settings_are_one_clear_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError) as told:
        recognizer(**settings)
    assert message in str(told.value)

"""The optimiser's groups, and learning rates that rise and fall whatever the length of the training is known in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, Timer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader, IterableDataset

from mmfuse.errors import MmfuseError
from mmfuse.methods.recipes import RECIPES, Recipe
from mmfuse.model.optim import parameter_groups, rate_factor
from tests.model.test_recognizer import loader, recognizer, trainer


def test_matrices_decay_and_vectors_prompts_and_positions_do_not() -> None:
    model = recognizer(image_method="vpt-deep", text_method="coop", weight_decay=0.03)
    groups = parameter_groups(model.trained_parameters(), model.recipes)
    assert {group["weight_decay"] for group in groups} == {0.0, 0.03}
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert "fusion.class_projection.weight" in names
    assert not [name for name in names if name.endswith(("bias", "prompts", "context", "time", "modality"))]


def test_each_part_is_trained_by_its_own_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"low-rank": Recipe(0.01, 0.2, 0.1), "adapter": Recipe(0.02, 0.3, 0.1)}
    monkeypatch.setattr("mmfuse.methods.recipes.RECIPES", RECIPES | own)
    monkeypatch.setattr("mmfuse.methods.recipes.FUSION_RECIPE", Recipe(0.03, 0.4, 0.1))
    model = recognizer(image_method="lora", text_method="adapter")
    groups = parameter_groups(model.trained_parameters(), model.recipes)
    asked = {(group["part"], group["lr"], group["weight_decay"]) for group in groups}
    # LoRA has matrices only, an adapter and the fusion vectors besides.
    assert asked == {
        ("image", 0.01, 0.2),
        *(("text", 0.02, decay) for decay in (0.3, 0.0)),
        *(("fusion", 0.03, decay) for decay in (0.4, 0.0)),
    }
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    for part in ("image", "text"):
        side = {id(parameter) for parameter in model.trained_parameters()[part].values()}
        assert {id(p) for group in groups if group["part"] == part for p in group["params"]} == side


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_one_kernel_updates_all_weights_unless_gradients_are_clipped_in_mixed_precision(
    precision: Any, clip: float | None
) -> None:
    made = trainer(max_epochs=1, precision=precision, gradient_clip_val=clip)
    made.fit(recognizer(image_method="lora"), loader())
    assert made.optimizers[0].defaults["fused"] is (clip is None or precision == "32-true")


def test_learning_rates_rise_and_fall_as_their_recipes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"low-rank": Recipe(0.4, 0.0, 0.5), "prompt": Recipe(0.8, 0.0, 0.0)}
    monkeypatch.setattr("mmfuse.methods.recipes.RECIPES", RECIPES | own)
    monkeypatch.setattr("mmfuse.methods.recipes.FUSION_RECIPE", Recipe(0.3, 0.0, 0.25))
    model = recognizer(image_method="lora", text_method="coop")
    seen: dict[str, list[float]] = {"image": [], "text": [], "fusion": []}

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            for part in seen:
                [rate] = {group["lr"] for group in trainer.optimizers[0].param_groups if group["part"] == part}
                seen[part].append(rate)

    trainer(max_epochs=4, callbacks=[Rates()]).fit(model, loader(count=8, batch=4))
    # Of 8 steps image rises in 4, text in 1 (there is always a first step), the fusion in 2; then half a cosine to 0.
    falls = {count: [0.5 * (1 + math.cos(math.pi * step / count)) for step in range(count)] for count in (4, 6, 7)}
    assert seen["image"] == pytest.approx([0.1, 0.2, 0.3, 0.4, *(0.4 * f for f in falls[4])])
    assert seen["text"] == pytest.approx([0.8, *(0.8 * f for f in falls[7])])
    assert seen["fusion"] == pytest.approx([0.15, 0.3, *(0.3 * f for f in falls[6])])


class Stream(IterableDataset[Any]):
    """Batches whose number nobody knows beforehand."""

    def __init__(self, batches: int) -> None:
        self.batches = list(loader(count=4 * batches, batch=4))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Rates(L.Callback):
    """Notes the fusion's learning rate at every step; stops after some."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[float] = []
        self.stop_after = stop_after

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        [rate] = {group["lr"] for group in trainer.optimizers[0].param_groups if group["part"] == "fusion"}
        self.seen.append(rate)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = len(self.seen) == self.stop_after


def rates_of(data: Any, *, stop_after: int | None = None, warmup: float = 0.25, **changes: Any) -> list[float]:
    rates = Rates(stop_after)
    trainer(callbacks=[rates], **changes).fit(recognizer(fusion_lr=1.0, warmup=warmup), data)
    return rates.seen


def cosine(steps: int) -> list[float]:
    return [0.5 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


def test_a_stream_of_unknown_length_is_scheduled_by_epochs() -> None:
    data = DataLoader(Stream(3), batch_size=None)
    assert rates_of(data, max_epochs=4) == pytest.approx([rate for rate in [1.0, *cosine(3)] for _ in range(3)])


def test_a_stream_with_a_limit_is_scheduled_by_steps() -> None:
    data = DataLoader(Stream(3), batch_size=None)
    expected = pytest.approx([0.5, 1.0, *cosine(6)])
    assert rates_of(data, max_epochs=-1, max_steps=8) == expected
    assert rates_of(data, max_epochs=4, limit_train_batches=2) == expected


def test_a_training_of_limited_time_is_scheduled_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"elapsed": 0.0}
    monkeypatch.setattr(Timer, "time_elapsed", lambda self, stage="train": now["elapsed"])

    class Minute(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            now["elapsed"] = 60.0 * len(rates.seen)

    rates = Rates()
    made = trainer(callbacks=[rates, Minute()], max_epochs=-1, max_time="00:00:08:00")
    made.fit(recognizer(fusion_lr=1.0, warmup=0.25), loader(count=8, batch=4))
    # A step a minute, 8 minutes: the schedule is stepped before a callback can let the minute pass.
    elapsed = [0, *range(7)]
    assert rates.seen == pytest.approx([rate_factor(125 * minute, 1000, warmup=0.25) for minute in elapsed])


def test_a_training_without_an_end_keeps_its_rates_and_says_so() -> None:
    with pytest.warns(UserWarning, match="has no end .* stay constant"):
        seen = rates_of(loader(), max_epochs=-1, stop_after=8)
    assert seen == [1.0] * 8


def test_accumulation_that_changes_is_scheduled_by_epochs() -> None:
    changing = L.pytorch.callbacks.GradientAccumulationScheduler({0: 2, 2: 1})
    rates = Rates()
    trainer(callbacks=[changing, rates], max_epochs=4).fit(
        recognizer(fusion_lr=1.0, warmup=0.25), loader(count=8, batch=4)
    )
    assert rates.seen == pytest.approx([rate for rate in [1.0, *cosine(3)] for _ in range(2)])


def test_a_schedule_that_is_stepped_on_stays_at_its_end() -> None:
    assert [rate_factor(step, 10, warmup=0.0) for step in (10, 11, 15, 20, 1000)] == [0.0] * 5


def test_groups_have_names_that_a_monitor_can_log(tmp_path: Any) -> None:
    logger = CSVLogger(tmp_path)
    fitted = trainer(max_epochs=1, logger=logger, callbacks=[LearningRateMonitor("step")], log_every_n_steps=1)
    fitted.fit(recognizer(image_method="lora", text_method="adapter"), loader())
    names = [group["name"] for group in fitted.optimizers[0].param_groups]
    assert names == ["image", "text", "text/no_decay", "fusion/no_decay", "fusion"]
    header = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()[0]
    assert {f"lr-AdamW/{name}" for name in names} <= set(header.split(","))


def test_a_loop_of_ones_own_takes_the_steps_that_a_trainer_takes() -> None:
    by_trainer, by_hand = (recognizer(image_method="lora", text_method="coop", method_lr=0.01) for _ in range(2))
    for model in (by_trainer, by_hand):
        model.fusion.dropout.p = 0.0
        for module in model.fusion.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(module, torch.nn.MultiheadAttention):
                module.dropout = 0.0
    trainer(max_epochs=3).fit(by_trainer, loader())

    batches = loader()
    optimizer, schedule = by_hand.optimizer_and_schedule(steps=3 * len(batches))
    by_hand.train()
    for _ in range(3):
        for batch in batches:
            optimizer.zero_grad()
            by_hand.loss(batch).backward()
            optimizer.step()
            schedule.step()
    expected = by_trainer.trained_state()
    for name, weight in by_hand.trained_state().items():
        torch.testing.assert_close(weight, expected[name], msg=name)
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}


def test_without_a_trainer_the_length_must_be_said() -> None:
    with pytest.raises(MmfuseError, match=r"optimizer_and_schedule\(steps=\.\.\.\)"):
        recognizer().configure_optimizers()
    with pytest.raises(MmfuseError, match="at least one step"):
        recognizer().optimizer_and_schedule(steps=0)


@pytest.mark.parametrize(
    ("attribute", "parts"),
    [("", {"image", "text", "fusion"}), ("method_lr", {"image", "text"}), ("fusion_lr", {"fusion"})],
)
def test_a_rate_that_was_searched_for_is_the_one_that_is_used(attribute: str, parts: set[str], tmp_path: Any) -> None:
    model = recognizer(image_method="lora", text_method="adapter")
    before, weights = dict(model.recipes), {name: w.clone() for name, w in model.state_dict().items()}
    made = trainer(max_epochs=1, default_root_dir=tmp_path)
    found = Tuner(made).lr_find(
        model, loader(count=80), num_training=20, early_stop_threshold=None, attr_name=attribute
    )
    assert found is not None
    rate = found.suggestion()
    assert rate is not None
    for part, recipe in model.recipes.items():
        assert recipe.lr == (rate if part in parts else before[part].lr)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name]), "the search left its weights behind"
    made.fit(model, loader())
    assert {group["initial_lr"] for group in made.optimizers[0].param_groups if group["part"] in parts} == {rate}


@pytest.mark.parametrize("way", ["unfreeze the towers", "put in layers of peft"])
def test_what_belongs_to_no_method_is_not_trained_in_silence(way: str) -> None:
    model = recognizer(text_method="adapter")
    if way == "unfreeze the towers":
        model.image_tower.requires_grad_(True)
    else:
        import peft

        peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["q_proj"]), model.image_tower.model)
    with pytest.raises(MmfuseError, match=r"image_tower\..* would be trained, but belongs to no method: .*\"peft\""):
        trainer(max_epochs=1).fit(model, loader())


def test_a_tower_that_is_not_frozen_is_refused() -> None:
    import peft

    from tests.towers import image_tower

    tower = image_tower()
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["q_proj"]), tower.model)
    with pytest.raises(MmfuseError, match=r"image tower 'dinov2' is not frozen: model\..*lora_A.* requires gradients"):
        recognizer(image_encoder=tower)
    tower.requires_grad_(False)
    assert recognizer(image_encoder=tower).trainable_parameters()["image_method"] == 0


def test_unfreezing_trains_what_it_trained_before() -> None:
    model = recognizer(image_method="lora", text_method="bitfit")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    model.freeze()
    assert not [name for name, weight in model.named_parameters() if weight.requires_grad]
    model.unfreeze()
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == trained
    assert model.training
    prints = model.fingerprints()
    trainer(max_epochs=1).fit(model, loader())
    assert model.fingerprints() == prints

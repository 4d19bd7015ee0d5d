"""Checkpoints of Lightning and our own hold what was trained, whatever a stranger's code did before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch import Tensor, nn

from mmfuse.errors import MmfuseError
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers
from tests.model.test_changed_weights import FRAMES, build, loader, trainer

CLIPS = towers.clips(3, FRAMES, seed=5)


def logits(model: ActionRecognizer) -> Tensor:
    with torch.no_grad():
        return model.eval()(CLIPS)


def fitted(model: ActionRecognizer, folder: Path, *callbacks: Any, **changes: Any) -> Path:
    """Train, and give the checkpoint of the last epoch."""
    kept = ModelCheckpoint(folder, filename="last", save_top_k=-1)
    trainer(*callbacks, kept, enable_checkpointing=True, **changes).fit(model, loader())
    return folder / "last.ckpt"


def reload(path: Path, kind: type[ActionRecognizer] = ActionRecognizer, **changes: Any) -> ActionRecognizer:
    return kind.load_from_checkpoint(path, **fresh_towers(**changes))


def fresh_towers(**changes: Any) -> dict[str, Any]:
    return {"image_encoder": towers.image_tower(), "text_encoder": towers.text_tower(), **changes}


class Averaging(WeightAveraging):
    """The plain average of the weights after each step."""


def test_averaged_weights_are_what_a_checkpoint_holds(tmp_path: Path) -> None:
    model = build("lora", "adapter")
    path = fitted(model, tmp_path, Averaging())
    # At the end of a training the callback gives the model the average, which is in the checkpoint already.
    torch.testing.assert_close(logits(reload(path)), logits(model))
    content = torch.load(path, weights_only=True)
    frozen = model.frozen_names()
    for state in ("state_dict", "current_model_state"):
        assert content[state].keys() == model.trained_state().keys()
        assert frozen.isdisjoint(content[state])
    averaged, current = content["state_dict"], content["current_model_state"]
    assert any(not torch.equal(averaged[name], current[name]) for name in averaged)


def test_a_training_with_averaged_weights_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole, first, second = (build("lora", "adapter", fusion="mean") for _ in range(3))
    for model in (whole, first, second):
        model.fusion.dropout.p = 0.0
    path = fitted(whole, tmp_path / "whole", Averaging(), max_epochs=4)
    half = ModelCheckpoint(tmp_path / "half", filename="{epoch}", save_top_k=-1)
    trainer(Averaging(), half, enable_checkpointing=True, max_epochs=4).fit(first, loader())
    trainer(Averaging(), max_epochs=4).fit(second, loader(), ckpt_path=tmp_path / "half" / "epoch=1.ckpt")
    expected = torch.load(path, weights_only=True)["state_dict"]
    for name, weight in second.trained_state().items():
        torch.testing.assert_close(weight, expected[name], msg=name)


def test_what_a_later_stage_leaves_alone_is_kept_all_the_same(tmp_path: Path) -> None:
    model = build("lora", "adapter")
    trainer().fit(model, loader())
    for part in (model.fusion, model.text_method):
        part.requires_grad_(False)  # stage 2 trains the image side alone
    path = fitted(model, tmp_path)
    torch.testing.assert_close(logits(reload(path)), logits(model))
    model.save_trained(tmp_path / "small")
    again = ActionRecognizer.from_checkpoint(tmp_path / "small", **fresh_towers())
    assert torch.equal(logits(again), logits(model))


def test_a_frozen_model_is_kept_whole(tmp_path: Path) -> None:
    model = build("lora", "adapter")
    trainer().fit(model, loader())
    counts = model.trainable_parameters()
    model.freeze()
    assert model.trainable_parameters() == counts
    model.save_trained(tmp_path)
    again = ActionRecognizer.from_checkpoint(tmp_path, **fresh_towers())
    assert torch.equal(logits(again), logits(model))


def test_the_towers_come_back_by_name(tmp_path: Path) -> None:
    """And not the embedded ones, which are the arguments' defaults."""
    folders = {
        "image_encoder": towers.save_in_hub_layout(towers.image_tower(), tmp_path / "image"),
        "text_encoder": towers.save_in_hub_layout(towers.text_tower(), tmp_path / "text"),
    }
    named = {name: str(folder) for name, folder in folders.items()}
    model = build("lora", "coop", **named)
    path = fitted(model, tmp_path)
    again = ActionRecognizer.load_from_checkpoint(path)
    assert {"image_encoder": again.image_tower.name, "text_encoder": again.text_tower.name} == named
    assert torch.equal(logits(again), logits(model))


def test_towers_that_have_no_name_must_be_given(tmp_path: Path) -> None:
    path = fitted(build("lora", "coop"), tmp_path)
    with pytest.raises(MmfuseError, match="image tower 'dinov2' is neither embedded"):
        ActionRecognizer.load_from_checkpoint(path)


def test_other_towers_are_refused(tmp_path: Path) -> None:
    path = fitted(build("lora", "coop"), tmp_path)
    with pytest.raises(MmfuseError, match="trained on other weights of the text tower"):
        reload(path, text_encoder=towers.text_tower(seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_method": "adapter"}, r"lacks image_method\..* and 5 more"),
        ({"image_method": "frozen"}, r"also holds image_tower\..*lora_"),
        ({"text_method": {"method": "coop", "length": 3}}, r"has another shape for text_method\.context"),
        ({"fusion": {"kind": "joint", "width": 32, "layers": 1}}, "has another shape for fusion"),
    ],
)
def test_a_checkpoint_of_another_model_is_not_loaded_in_part(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = fitted(build("lora", "coop"), tmp_path)
    with pytest.raises(MmfuseError, match=message) as raised:
        reload(path, **changes)
    assert "\n" not in str(raised.value)
    other = build(**{"image": "lora", "text": "coop", **{k.removesuffix("_method"): v for k, v in changes.items()}})
    before = {name: weight.clone() for name, weight in other.trained_state().items()}
    with pytest.raises(MmfuseError, match=message):
        trainer().fit(other, loader(), ckpt_path=path)
    assert all(torch.equal(weight, before[name]) for name, weight in other.trained_state().items())


def test_half_precision_is_kept_and_loaded(tmp_path: Path) -> None:
    model = build("adapter", "coop")
    model.to(torch.bfloat16)  # as a trainer's bf16-true leaves it; nothing is computed, which takes long on some CPUs
    model.save_trained(tmp_path)
    again = ActionRecognizer.from_checkpoint(tmp_path, **fresh_towers())
    for name, weight in again.trained_state().items():
        assert torch.equal(weight, model.trained_state()[name].float()), name
    with pytest.raises(MmfuseError, match="trained on other weights of the image tower"):
        ActionRecognizer.from_checkpoint(tmp_path, **fresh_towers(image_encoder=towers.image_tower(seed=1)))


class Wider(ActionRecognizer):
    """Arguments of its own, and others for its base."""

    def __init__(self, names: list[str], *, hidden: int = 4, **settings: Any) -> None:
        super().__init__(names, fusion={"kind": "pool", "width": 4 * hidden}, image_method="lora", **settings)
        self.extra = nn.Linear(len(names), len(names))
        self.shift = nn.BatchNorm1d(len(names))

    def forward(self, video: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.shift(self.extra(super().forward(video, classes)))


class Deeper(Wider):
    """A subclass of a subclass, which says less."""

    def __init__(self, hidden: int) -> None:
        super().__init__(
            towers.PHRASES,
            hidden=hidden,
            image_encoder=towers.image_tower(),
            text_encoder=towers.text_tower(),
            frames=FRAMES,
        )


class Renamed(ActionRecognizer):
    """No arguments of its own."""


@pytest.mark.parametrize("kind", [Wider, Deeper, Renamed], ids=lambda kind: kind.__name__)
def test_subclasses_come_back_as_they_were(kind: Any, tmp_path: Path) -> None:
    model = kind(6) if kind is Deeper else kind(towers.PHRASES, frames=FRAMES, **fresh_towers())
    path = fitted(model, tmp_path)
    model.save_trained(tmp_path / "small")
    again = kind.from_checkpoint(tmp_path / "small", **({} if kind is Deeper else fresh_towers()))
    assert type(again) is kind
    assert torch.equal(logits(again), logits(model)), "weights and running statistics of its own modules as well"
    again = kind.load_from_checkpoint(path, **({} if kind is Deeper else fresh_towers()))
    assert torch.equal(logits(again), logits(model))


def test_a_subclass_says_who_can_load_it(tmp_path: Path) -> None:
    Deeper(6).save_trained(tmp_path)
    with pytest.raises(MmfuseError, match=r"was written by a Deeper, which takes hidden; load it with Deeper\.from_"):
        ActionRecognizer.from_checkpoint(tmp_path)


def test_a_model_inside_another_keeps_its_own_arguments(tmp_path: Path) -> None:
    class Taught(ActionRecognizer):
        def __init__(self, hidden: int) -> None:
            super().__init__(towers.PHRASES, fusion={"kind": "pool", "width": hidden})
            self.teacher = (Deeper(hidden),)

    model = Taught(8)
    assert model.arguments == {"hidden": 8}
    assert model.teacher[0].arguments == {"hidden": 8}
    assert build().arguments["text_method"] == "coop"
    assert build().arguments["method_lr"] == 0.05


def test_a_model_of_the_command_line_interface_is_kept(tmp_path: Path) -> None:
    from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context as given

    config = {"class_names": towers.PHRASES, "_instantiator": "lightning.pytorch.cli.instantiate_module"}
    with given(hparams=config, instantiator="lightning.pytorch.cli.instantiate_module"):
        model = build("lora", "coop")
    model.save_trained(tmp_path / "small")
    again = ActionRecognizer.from_checkpoint(tmp_path / "small", **fresh_towers())
    assert torch.equal(logits(again), logits(model))
    path = fitted(model, tmp_path)
    assert torch.equal(logits(reload(path)), logits(model))


@pytest.mark.parametrize("names", [np.array(towers.PHRASES), pd.Series(towers.PHRASES), pd.Index(towers.PHRASES)])
def test_names_of_numpy_and_pandas_are_names(names: Any, tmp_path: Path) -> None:
    model = ActionRecognizer(names, frames=FRAMES, templates=np.array(["a {}."]), **fresh_towers())
    assert model.class_names == towers.PHRASES
    assert all(type(name) is str for name in model.class_names)
    model.save_trained(tmp_path / "small")
    path = fitted(model, tmp_path)
    assert torch.load(path, weights_only=True)["hyper_parameters"]["class_names"] == towers.PHRASES
    assert torch.equal(logits(reload(path)), logits(model))
    again = ActionRecognizer.from_checkpoint(tmp_path / "small", **fresh_towers())
    assert again.class_names == towers.PHRASES


def test_weights_alone_can_be_loaded_into_a_model() -> None:
    one, other = build("lora", "coop"), build("lora", "coop", seed=1)
    other.load_state_dict(one.trained_state())
    assert torch.equal(logits(one), logits(other))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({"fusion.gate": torch.zeros(())})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_method": {"method": "lora", "alpha": 64}}, "image_method"),
        ({"templates": ["a film of {}."]}, "templates"),
        ({"class_names": "reversed"}, "class_names in another order"),
    ],
)
def test_weights_of_the_right_shapes_are_refused_for_other_settings(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    model = build("lora", "adapter")
    path = fitted(model, tmp_path)
    if changes.get("class_names"):
        changes = {"class_names": model.class_names[::-1]}
    with pytest.raises(MmfuseError, match=f"trained with another {named}"):
        reload(path, **changes)
    torch.testing.assert_close(logits(reload(path)), logits(model))

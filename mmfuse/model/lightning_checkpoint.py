"""Lightning's own checkpoints (`.ckpt`), kept small: trained weights only, in every state that they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mmfuse.errors import MmfuseError
from mmfuse.model.rebuilding import accepted_towers, refuse_other_towers, towers_of

if TYPE_CHECKING:
    from mmfuse.model.recognizer import ActionRecognizer

TOWERS = "mmfuse_towers"
"""Key under which a checkpoint says which towers its weights belong to."""
SETTINGS = "mmfuse_settings"
"""Key under which it says with what settings its weights were trained that their shapes do not tell."""


def complete(model: ActionRecognizer, checkpoint: dict[str, Any]) -> None:
    """Take the frozen weights out of a checkpoint that is about to be written, and say what it belongs to.

    A callback may have put other weights under `state_dict` than the model holds at the moment, and the model's own
    under another name, as averaging of weights does: whatever is there stays there.

    Args:
        model: the model.
        checkpoint: what Lightning and its callbacks have gathered; changed in place.
    """
    frozen = model.frozen_names()
    for key, state in checkpoint.items():
        if isinstance(state, dict) and not frozen.isdisjoint(state):
            checkpoint[key] = {name: value for name, value in state.items() if name not in frozen}
    towers = towers_of(model)
    checkpoint[TOWERS], checkpoint[SETTINGS] = towers, settings_of(model)
    named = {f"{side}_encoder": tower["name"] for side, tower in towers.items()}
    checkpoint[model.CHECKPOINT_HYPER_PARAMS_KEY] = {**model.arguments, **accepted_towers(type(model), named)}


def refuse_foreign(model: ActionRecognizer, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint of other methods, another fusion or other towers, which would be loaded in part.

    Args:
        model: what it is to be loaded into.
        checkpoint: as it was read.

    Raises:
        MmfuseError: saying what differs.
    """
    if TOWERS in checkpoint:
        refuse_other_towers(checkpoint[TOWERS], model, checkpoint="of Lightning")
    held, wanted, own = checkpoint["state_dict"], model.trained_state(), model.state_dict()
    faults = {
        "lacks": [name for name in wanted if name not in held],
        "also holds": [name for name in held if name not in own],
        "has another shape for": [name for name in wanted if name in held and held[name].shape != wanted[name].shape],
    }
    for fault, names in faults.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise MmfuseError(
                f"the checkpoint is one of another model: it {fault} {', '.join(names[:3])}{more}; build the model "
                "with the methods, the fusion and the classes that it was trained with"
            )
    _refuse_other_settings(checkpoint.get(SETTINGS, {}), settings_of(model))


def settings_of(model: ActionRecognizer) -> dict[str, Any]:
    """What the trained weights were trained with, and mean nothing without, in plain values."""
    return {
        **model.method_settings,
        "fusion": type(model.fusion).__name__,
        "feature": model.feature,
        "frames": model.frames,
        "templates": list(model.templates),
        "prompts": model.arguments.get("prompts"),
        "class_names": list(model.class_names),
    }


def _refuse_other_settings(trained: dict[str, Any], built: dict[str, Any]) -> None:
    """Refuse weights of the right shapes that another setting was trained with, such as another scale of LoRA.

    Other class names are taken, as a fusion with text can name new ones; the same ones in another order are not, since
    each would be called by another's name.
    """
    for key, value in trained.items():
        differs = value != built.get(key)
        if key == "class_names" and differs and sorted(value) != sorted(built[key]):
            continue
        if differs:
            where = " in another order" if key == "class_names" else f": {value!r:.120} and not {built.get(key)!r:.120}"
            raise MmfuseError(
                f"the checkpoint was trained with another {key}{where}; build the model with the settings that it was "
                "trained with"
            )


def fill_in_frozen(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Complete a state that leaves the frozen weights out by those that are there: a hook of `load_state_dict`.

    Args:
        module: the recogniser.
        state: what is being loaded; changed in place.
        prefix: of the recogniser's names in it, where it is a part of another module.
    """
    own: dict[str, Tensor] = module.state_dict()
    for name in module.frozen_names() & own.keys():  # type: ignore[operator]
        state.setdefault(prefix + name, own[name])

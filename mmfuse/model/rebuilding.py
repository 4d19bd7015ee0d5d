"""What a model says of itself so that it can be built again: the arguments it was called with, and its towers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities.parsing import get_init_args

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    from mmfuse.model.recognizer import ActionRecognizer

TOWERS = ("image_encoder", "text_encoder")
OMITTED = (*TOWERS, "optimizations")
"""Arguments that are written down in other words, or that change no number."""
DTYPES = {
    str(kind).removeprefix("torch."): kind for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}
"""Types of numbers that towers compute in."""


def constructor_arguments(model: object) -> dict[str, Any]:
    """The arguments that a model is being built with; to be called from its `__init__`.

    Those of the outermost constructor: a subclass has arguments of its own, and may give others to its base.

    Args:
        model: the model under construction.

    Returns:
        Plain values by name, the towers left out.
    """
    frame: FrameType | None = inspect.currentframe()
    frame = frame.f_back if frame is not None else None
    given: dict[str, Any] = {}
    while frame is not None and frame.f_code.co_name == "__init__" and _first_argument(frame) is model:
        given = get_init_args(frame) or given
        frame = frame.f_back
    return {name: plain(value) for name, value in given.items() if name not in OMITTED}


def _first_argument(frame: FrameType) -> object:
    return frame.f_locals.get(frame.f_code.co_varnames[0]) if frame.f_code.co_varnames else None


def plain(value: Any) -> Any:
    """A value in the types that JSON knows, as far as it can be put into them.

    >>> plain({"templates": ("a {}.",), "path": PurePath("kept")})
    {'templates': ['a {}.'], 'path': 'kept'}
    """
    if isinstance(value, str | PurePath):  # the strings of numpy are strings
        return str(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(inside) for key, inside in value.items()}
    if hasattr(value, "tolist"):  # arrays and scalars of numpy, series of pandas, tensors
        return plain(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [plain(inside) for inside in value]
    return value


def accepted_arguments(model: type) -> frozenset[str] | None:
    """Names of the keyword arguments that a class takes; `None` where it takes any."""
    parameters = inspect.signature(model).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


def accepted_towers(model: type, towers: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the towers that a class takes as arguments; one that fixes its towers itself takes none.

    Args:
        model: the class.
        towers: a tower or its name, by the name of the argument.
    """
    taken = accepted_arguments(model)
    return {name: tower for name, tower in towers.items() if taken is None or name in taken}


def towers_of(model: ActionRecognizer) -> dict[str, dict[str, str]]:
    """Name, fingerprint and type of numbers of the towers "image" and "text"."""
    towers = {"image": model.image_tower, "text": model.text_tower}
    prints = model.fingerprints()
    return {
        side: {
            "name": tower.reloadable_name,
            "fingerprint": prints[side],
            "dtype": str(tower.pretrained[0].dtype).removeprefix("torch."),
        }
        for side, tower in towers.items()
    }


def refuse_other_towers(
    trained_on: Mapping[str, Mapping[str, str]], model: ActionRecognizer, *, checkpoint: str
) -> None:
    """Refuse towers whose weights are not those that a checkpoint was trained on.

    A training in half precision rounds the towers as well; the current ones are rounded alike for the comparison.

    Args:
        trained_on: what `towers_of` said then.
        model: the current model.
        checkpoint: which one, for the message.

    Raises:
        MmfuseError: naming the tower.
    """
    for side, tower in (("image", model.image_tower), ("text", model.text_tower)):
        expected = trained_on[side]
        found = tower.weights_fingerprint(dtype=DTYPES.get(str(expected.get("dtype"))))
        if found != expected["fingerprint"]:
            raise MmfuseError(
                f"the checkpoint {checkpoint} was trained on other weights of the {side} tower: on those of "
                f"{expected['name']!r} with fingerprint {expected['fingerprint'][:12]}, while these have {found[:12]}"
            )

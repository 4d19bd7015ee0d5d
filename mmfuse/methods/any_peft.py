"""Any other configuration of huggingface/peft, by its own name and arguments: new releases bring new methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner

from mmfuse.encoders.tower import Tower
from mmfuse.errors import one_line, unknown
from mmfuse.methods.low_rank import PeftMethod
from mmfuse.methods.validation import target_names


class AnyPeft(PeftMethod):
    """A method of peft by the name of its type: `{"method": "peft", "type": "HRA", "r": 8}`.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        type: peft's name of the method, in either case.
        targets: roles of the linear maps, where peft's own `target_modules` is not given.
        layers: numbers of the layers whose maps are adapted; all where None.
        arguments: fields of peft's configuration, under peft's names.
    """

    # Not every tuner's merge equals its forward (some draw random numbers), so none is relied on here.
    mergeable = False

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        type: str,
        targets: Sequence[str] = ("q", "v"),
        layers: Sequence[int] | None = None,
        **arguments: Any,
    ) -> None:
        configuration = _configuration(type)
        fields = {field.name for field in dataclasses.fields(configuration)} - {"task_type", "peft_type"}
        for key in arguments:
            if key not in fields:
                raise unknown(f"argument of peft's {type}", key, [*fields, "targets", "layers"])
        if "target_modules" in fields and "target_modules" not in arguments:
            arguments["target_modules"] = target_names(tower, targets, layers)
        before = None if tower.on_meta else tower.weights_fingerprint()
        try:
            super().__init__(tower, generator=generator, config=configuration(**arguments))
            tower.try_out()
        except (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError) as error:
            raise ValueError(f"peft's {type}: {one_line(error)}") from error
        self._keep_to_the_laws(tower, type, before)

    def _keep_to_the_laws(self, tower: Tower, type: str, fingerprint: str | None) -> None:
        """Refuse arguments under which peft trains or changes the tower's own weights, or trains nothing."""
        if any(weight.requires_grad for weight in tower.pretrained):
            raise ValueError(f"peft's {type} would train the tower's own weights under these arguments")
        if fingerprint is not None and tower.weights_fingerprint() != fingerprint:
            raise ValueError(f"peft's {type} changes the tower's own weights under these arguments")
        if not any(weight.requires_grad for weight in tower.model.parameters()):
            raise ValueError(f"peft's {type} trains nothing in the tower under these arguments")


def _configuration(name: str) -> Any:
    """The configuration class of a type of peft."""
    tuners = {kind: PEFT_TYPE_TO_TUNER_MAPPING.get(kind) for kind in PeftType}
    # The others are prompts for language models, which put no layer into the model.
    known = [kind.value for kind, tuner in tuners.items() if isinstance(tuner, type) and issubclass(tuner, BaseTuner)]
    found = {kind.upper(): kind for kind in known}.get(str(name).upper())
    if found is None:
        raise unknown("type of peft that works on a tower's layers", name, known)
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(found)]

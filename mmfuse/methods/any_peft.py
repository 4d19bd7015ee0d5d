"""Any other configuration of huggingface/peft, by its own name and arguments: new releases bring new methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor

from mmfuse.encoders.tower import Tower
from mmfuse.errors import one_line, unknown
from mmfuse.methods.low_rank import PeftMethod
from mmfuse.methods.validation import target_names

REFUSED = {
    "ADALORA": "it must be told of every step of a training to share out its ranks; use lora",
    "LN_TUNING": "it trains layer norms whole, which are no linear maps; use ln",
    "POLY": "it chooses among adapters by the task of each example, and here is one task",
    "SHADOW": "it runs beside a language model that decodes token by token",
    "TRAINABLE_TOKENS": "it trains single tokens of a vocabulary; on the text tower coop learns words",
    "XLORA": "it mixes adapters that were trained before",
}
"""Types that change layers, but not in a way that a tower could be trained with, and why."""


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
    # Some types decompose the tower's weights, which another processor may do with other signs.
    keeps_frozen = True

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
        if "feedforward_modules" in fields:  # of IA3, which must be told where it scales the input of a map
            inner = [role for role in targets if role == "fc2"]
            arguments.setdefault("feedforward_modules", target_names(tower, inner, layers) if inner else [])
        if "progressbar" in fields:
            arguments.setdefault("progressbar", False)
        before = None if tower.on_meta else tower.weights_fingerprint()
        try:
            super().__init__(tower, generator=generator, config=configuration(**arguments))
            self._make_frozen_parts_persistent()
            output = tower.try_out()
        except (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError) as error:
            raise ValueError(f"peft's {type}: {one_line(error)}") from error
        self._keep_to_the_laws(tower, type, before, output)

    def _make_frozen_parts_persistent(self) -> None:
        """Let the state of what is inserted hold all its buffers, as no checkpoint could keep the others."""
        for tuner in self._tuners:
            pretrained = set(tuner.get_base_layer().modules())
            for module in tuner.modules():
                if module not in pretrained:
                    module._non_persistent_buffers_set.clear()

    def _keep_to_the_laws(self, tower: Tower, type: str, fingerprint: str | None, output: Tensor) -> None:
        """Refuse arguments under which peft trains or changes the tower's own weights, or trains nothing."""
        if any(weight.requires_grad for weight in tower.pretrained):
            raise ValueError(f"peft's {type} would train the tower's own weights under these arguments")
        if fingerprint is not None and tower.weights_fingerprint() != fingerprint:
            raise ValueError(f"peft's {type} changes the tower's own weights under these arguments")
        if torch.is_grad_enabled() and not output.requires_grad:
            raise ValueError(f"peft's {type} trains nothing in the tower under these arguments")


def _configuration(name: str) -> Any:
    """The configuration class of a type of peft."""
    tuners = {kind: PEFT_TYPE_TO_TUNER_MAPPING.get(kind) for kind in PeftType}
    # The others are prompts for language models, which put no layer into the model.
    known = [kind.value for kind, tuner in tuners.items() if isinstance(tuner, type) and issubclass(tuner, BaseTuner)]
    found = {kind.upper(): kind for kind in known}.get(str(name).upper())
    if found is None:
        raise unknown("type of peft that works on a tower's layers", name, known)
    if found in REFUSED:
        raise ValueError(f"peft's {found} cannot adapt a tower: {REFUSED[found]}")
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(found)]

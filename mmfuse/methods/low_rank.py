"""Low-rank methods, through huggingface/peft: its layers are put into the frozen tower in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from mmfuse.encoders.tower import Tower
from mmfuse.methods.base import Method, at_least
from mmfuse.seeding import seeded

ADAPTER = "default"


class PeftMethod(Method):
    """Any method of peft that inserts tuner layers into linear maps.

    `task_type` is left None on purpose: with FEATURE_EXTRACTION peft would pass `input_ids` to a vision tower.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        config: peft's own configuration, with `target_modules` as full names in the tower's model.
    """

    mergeable = True

    def __init__(self, tower: Tower, *, generator: torch.Generator, config: Any) -> None:
        super().__init__()
        self.config = config
        with seeded(generator):
            peft.inject_adapter_in_model(config, tower.model, adapter_name=ADAPTER)
        self._tuners = [module for module in tower.model.modules() if isinstance(module, BaseTunerLayer)]

    def attach(self, tower: Tower) -> None:
        """The layers are in place already; only the switch is left."""
        tower.switches.append(self._switch)

    def _switch(self, on: bool) -> None:
        for tuner in self._tuners:
            # Public since peft 0.5; it also turns gradients of the inserted weights off and on.
            tuner.enable_adapters(on)

    def merge(self, tower: Tower) -> None:
        """Fold the inserted matrices into the frozen ones."""
        for tuner in self._tuners:
            tuner.merge(safe_merge=True)

    def unmerge(self, tower: Tower) -> None:
        """Take the inserted matrices out again."""
        for tuner in self._tuners:
            tuner.unmerge()


class LoRA(PeftMethod):
    """LoRA (Hu et al. 2021, eq. 3): W + (α/r)·BA on linear maps, B starting at zero.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        rank: r.
        alpha: α; the update is scaled by α/r.
        dropout: probability, on the input of A.
        targets: roles of the linear maps: "q", "k", "v", "o", "fc1", "fc2".
    """

    magnitude = False

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        rank: int = 8,
        alpha: float = 16,
        dropout: float = 0.0,
        targets: Sequence[str] = ("q", "v"),
    ) -> None:
        at_least("rank", rank, 1)
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=target_names(tower, targets),
            use_dora=self.magnitude,
        )
        super().__init__(tower, generator=generator, config=config)


class DoRA(LoRA):
    """DoRA (Liu et al. 2024, eq. 5): m · (W + BA) / ‖W + BA‖, the norm by row and m starting as ‖W‖.

    Args: as `LoRA`.
    """

    magnitude = True


def target_names(tower: Tower, roles: Sequence[str]) -> list[str]:
    """Full names of the linear maps with the given roles, in every layer.

    Raises:
        ValueError: no role is given.
        MmfuseError: the tower has no such role.
    """
    wanted = [roles] if isinstance(roles, str) else list(roles)
    if not wanted:
        raise ValueError("targets must name at least one of q, k, v, o, fc1, fc2")
    return [path for role in wanted for path in tower.linear_paths(role)]

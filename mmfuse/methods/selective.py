"""Selective methods: weights of the tower itself are trained, all of them or those of one kind.

The pretrained values must survive, since they are what a checkpoint is loaded onto and what `Tower.disabled` runs. A
trained copy therefore stands in front of each chosen weight, as a parametrization of torch that gives the copy instead
of the original. `full` thus holds the tower's weights twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmfuse.encoders.architectures import is_norm
from mmfuse.encoders.tower import Tower
from mmfuse.methods.base import Method


class Replacement(nn.Module):
    """A trained copy that stands in for a frozen weight while it is on.

    Args:
        original: the frozen weight.
    """

    def __init__(self, original: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(original.detach().clone())
        self.on = True

    def forward(self, original: Tensor) -> Tensor:
        """The copy, or the weight itself while switched off."""
        return self.value if self.on else original


class Selective(Method):
    """Base of the methods that train weights of the tower; a subclass says which.

    Args:
        tower: either tower.
        generator: not used, as the copies start from the pretrained values.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator) -> None:
        super().__init__()
        self._replacements: list[Replacement] = []
        chosen = list(self._chosen(tower))
        self.first_adapted_layer = min(tower.layer_of(path) for path, _, _ in chosen)
        for _, module, name in chosen:
            replacement = Replacement(getattr(module, name))
            parametrize.register_parametrization(module, name, replacement)
            self._replacements.append(replacement)

    def _chosen(self, tower: Tower) -> Iterator[tuple[str, nn.Module, str]]:
        """Path of every module with a weight that is to be trained, the module, and the weight's name."""
        for path, module in tower.model.named_modules():
            for name, _ in module.named_parameters(recurse=False):
                used = not any(part in tower.unused for part in [*path.split("."), name])
                if used and self._is_trained(module, name):
                    yield path, module, name

    def _is_trained(self, module: nn.Module, name: str) -> bool:
        raise NotImplementedError

    def switch(self, on: bool) -> None:
        """Put the copies, or the pretrained weights, in front."""
        for replacement in self._replacements:
            replacement.on = on


class Full(Selective):
    """Fine-tune every weight of the tower: the upper reference, not parameter-efficient."""

    def _is_trained(self, module: nn.Module, name: str) -> bool:
        return True


class BitFit(Selective):
    """BitFit (Ben Zaken et al. 2022): all biases of the tower, those of its norms and of its embedding included."""

    def _is_trained(self, module: nn.Module, name: str) -> bool:
        return name.endswith("bias")


class LayerNormTuning(Selective):
    """Weights and biases of all layer norms (Basu et al. 2024, and others before)."""

    def _is_trained(self, module: nn.Module, name: str) -> bool:
        return is_norm(module)

"""Scaling methods: learned factors on what the frozen tower's maps give out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import peft
import torch
from torch import Tensor, nn

from mmfuse.encoders.architectures import is_norm
from mmfuse.encoders.tower import Tower
from mmfuse.methods.low_rank import PeftMethod
from mmfuse.methods.merging import Mergeable
from mmfuse.methods.validation import target_names


class IA3(PeftMethod):
    """(IA)³ (Liu et al. 2022, eq. 2): a factor for each key, each value and each hidden unit of the MLP, from one.

    Args:
        tower: either tower.
        generator: not used, as the factors start at one.
        targets: roles whose outputs are scaled ("q", "k", "v", "o", "fc1"); for "fc2" it is the inputs, the MLP's
            hidden units.
        layers: numbers of the layers that are scaled; all where None.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        targets: Sequence[str] = ("k", "v", "fc2"),
        layers: Sequence[int] | None = None,
    ) -> None:
        names = target_names(tower, targets, layers)
        hidden = target_names(tower, ["fc2"], layers) if "fc2" in targets else []
        config = peft.IA3Config(target_modules=names, feedforward_modules=hidden)
        super().__init__(tower, generator=generator, config=config)


class ScaleAndShift(nn.Module):
    """γ ⊙ x + β on the channels of x.

    Args:
        width: channels.
        channel_dim: where they are in x.
        generator: source of the initial values.
    """

    def __init__(self, width: int, *, channel_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + 0.02 * torch.randn(width, generator=generator))
        self.shift = nn.Parameter(0.02 * torch.randn(width, generator=generator))
        self.shape = (-1,) + (1,) * (-1 - channel_dim)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x."""
        return x * self.scale.view(self.shape) + self.shift.view(self.shape)


class SSF(Mergeable):
    """Scaling and shifting features (Lian et al. 2022, eq. 3): after every norm, linear map and the patch embedding.

    Factors start at N(1, 0.02²) and shifts at N(0, 0.02²), as in the paper, so it does not start as a no-op. It can be
    merged into weights and biases.

    Args:
        tower: either tower.
        generator: source of the initial values.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator) -> None:
        super().__init__()
        self._operations = _operations(tower)
        self._steps = [
            ScaleAndShift(
                int(operation.weight.shape[0]),
                channel_dim={nn.Conv2d: -3, nn.Conv3d: -4}.get(type(operation), -1),
                generator=generator,
            )
            for operation in self._operations
        ]
        self.steps = nn.ModuleList(self._steps)

    def attach(self, tower: Tower) -> None:
        """A hook on each operation."""
        for operation, step in zip(self._operations, self._steps, strict=True):
            operation.register_forward_hook(partial(self._scale_and_shift, step))

    def _scale_and_shift(self, step: nn.Module, _: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """A forward hook: what a frozen operation gives out, scaled and shifted unless its stand-in has done so."""
        return step(output) if self._on and not self._uses_stand_ins() else output

    def _targets(self) -> list[Any]:
        return self._operations

    def _weights(self) -> list[Tensor]:
        return [weight for module in (*self._operations, *self._steps) for weight in module.parameters()]

    def _stand_in(self, place: int) -> nn.Module:
        operation, step = self._operations[place], self._steps[place]
        # Of the operation alone: its hook and its `forward` lead to this method.
        merged = copy.deepcopy(operation, {id(self): self})
        merged._forward_hooks.clear()
        vars(merged).pop("forward", None)
        if not hasattr(operation, "bias"):  # a norm without mean has no place for the shift
            return nn.Sequential(merged, copy.deepcopy(step))
        bias = step.shift if operation.bias is None else step.scale * operation.bias + step.shift
        merged.weight = nn.Parameter(step.scale.view(-1, *[1] * (operation.weight.ndim - 1)) * operation.weight)
        merged.bias = nn.Parameter(bias.clone())
        return merged


def _operations(tower: Tower) -> list[Any]:
    """The operations of a transformer: patch embedding, norms and linear maps, in the model's own order.

    Not those that read its output: there the paper has its classifier.
    """
    left = (*tower.readout, *tower.unused)
    return [
        module
        for path, module in tower.model.named_modules()
        if (isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)) or is_norm(module)) and path.split(".")[0] not in left
    ]

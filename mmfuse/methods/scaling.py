"""Scaling methods: learned factors on what the frozen tower's maps give out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peft
import torch
from torch import Tensor, nn

from mmfuse.encoders.tower import Tower
from mmfuse.methods.low_rank import PeftMethod
from mmfuse.methods.merging import Foldable
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
    """γ ⊙ x + β on the channels of what a frozen module gives out, as a forward hook on it.

    Args:
        width: channels.
        channel_dim: where they are in the output.
        generator: source of the initial values.
    """

    def __init__(self, width: int, *, channel_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + 0.02 * torch.randn(width, generator=generator))
        self.shift = nn.Parameter(0.02 * torch.randn(width, generator=generator))
        self.shape = (-1,) + (1,) * (-1 - channel_dim)
        self.on = True

    def hook(self, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The output of the module, scaled and shifted while switched on."""
        return output * self.scale.view(self.shape) + self.shift.view(self.shape) if self.on else output


class SSF(Foldable):
    """Scaling and shifting features (Lian et al. 2022, eq. 3): after every norm, linear map and the patch embedding.

    Factors start at N(1, 0.02²) and shifts at N(0, 0.02²), as in the paper, so it is no no-op at its start. Weights and
    biases can take up all of it.

    Args:
        tower: either tower.
        generator: source of the initial values.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator) -> None:
        super().__init__()
        self._targets = _operations(tower)
        self._steps = [
            ScaleAndShift(
                int(target.weight.shape[0]),
                channel_dim=-3 if isinstance(target, nn.Conv2d) else -1,
                generator=generator,
            )
            for target in self._targets
        ]
        self.steps = nn.ModuleList(self._steps)

    def attach(self, tower: Tower) -> None:
        """A hook on each operation."""
        for target, step in zip(self._targets, self._steps, strict=True):
            target.register_forward_hook(step.hook)

    def _turn(self, on: bool) -> None:
        for step in self._steps:
            step.on = on

    def _folded_into(self) -> list[Any]:
        return self._targets

    def _fold(self) -> None:
        for target, step in zip(self._targets, self._steps, strict=True):
            bias = step.shift if target.bias is None else step.scale * target.bias + step.shift
            target.weight.data = step.scale.view(-1, *[1] * (target.weight.ndim - 1)) * target.weight
            target.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self._turn(False)

    def _unfold(self) -> None:
        self._turn(True)


HEADS = ("pooler", "head", "text_projection")  # behind the transformer, where the paper has its classifier


def _operations(tower: Tower) -> list[Any]:
    """The operations of a transformer: patch embedding, norms and linear maps, in the model's own order."""
    return [
        module
        for path, module in tower.model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.LayerNorm, nn.Linear)) and path.split(".")[0] not in HEADS
    ]

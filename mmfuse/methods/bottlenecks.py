"""Adapter methods: small bottlenecks placed in every layer of a frozen tower."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from mmfuse.encoders.tower import Context, Tower
from mmfuse.methods.base import Method, at_least


class Bottleneck(nn.Module):
    """Down-projection, non-linearity, up-projection.

    The up-projection starts at zero, so that an untrained bottleneck gives zero; the down-projection does not, since
    two zero matrices would never learn.

    Args:
        width: D of the tower.
        bottleneck: b, hidden units.
        generator: source of the initial weights.

    Shapes: (…, D) -> (…, D).
    """

    def __init__(self, width: int, *, bottleneck: int, generator: torch.Generator) -> None:
        super().__init__()
        at_least("bottleneck", bottleneck, 1)
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5), generator=generator)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (…, D) to an addition (…, D)."""
        return self.up(torch.relu(self.down(tokens)))


class AdaptFormer(Method):
    """AdaptFormer (Chen et al. 2022, eq. 3 and 4): a scaled bottleneck parallel to each MLP, on the MLP's own input.

    Args:
        tower: an image tower.
        generator: source of the initial weights.
        bottleneck: hidden units of each bottleneck.
        scale: s, by which its output is multiplied.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator, bottleneck: int = 64, scale: float = 0.1) -> None:
        super().__init__()
        self.scale = scale
        self.adapters = nn.ModuleList(
            Bottleneck(tower.width, bottleneck=bottleneck, generator=generator) for _ in range(tower.depth)
        )

    def attach(self, tower: Tower) -> None:
        """Beside every MLP."""
        for sockets, adapter in zip(tower.sockets, self.adapters, strict=True):
            sockets.beside_mlp.append(partial(self._beside, adapter))

    def _beside(self, adapter: nn.Module, hidden: Tensor, _: Context) -> Tensor:
        return self.scale * adapter(hidden)


class Pfeiffer(Method):
    """The adapter of AdapterFusion (Pfeiffer et al. 2020): one bottleneck with a residual after each MLP.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        bottleneck: hidden units of each bottleneck.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator, bottleneck: int = 64) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(
            Bottleneck(tower.width, bottleneck=bottleneck, generator=generator) for _ in range(tower.depth)
        )

    def attach(self, tower: Tower) -> None:
        """After every MLP."""
        for sockets, adapter in zip(tower.sockets, self.adapters, strict=True):
            sockets.after_mlp.append(partial(_with_residual, adapter))


def _with_residual(adapter: nn.Module, tokens: Tensor, _: Context) -> Tensor:
    return tokens + adapter(tokens)


def adapter(tower: Tower, *, generator: torch.Generator, bottleneck: int = 64) -> Method:
    """The method called `adapter`: AdaptFormer on an image tower, Pfeiffer's on a text tower."""
    kind = AdaptFormer if tower.kind == "image" else Pfeiffer
    return kind(tower, generator=generator, bottleneck=bottleneck)

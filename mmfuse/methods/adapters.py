"""Adapter methods: small bottlenecks placed in a frozen tower, in every layer or at its end.

Those that look along time are in `temporal`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfuse.encoders.tower import Context, Tower
from mmfuse.methods.base import Method
from mmfuse.methods.validation import at_least, chosen_layers, number


class Bottleneck(nn.Module):
    """Down-projection, non-linearity, up-projection.

    The up-projection starts at zero, so that an untrained bottleneck gives zero; the down-projection does not, since
    two zero matrices would never learn.

    Args:
        width: D of the tower.
        bottleneck: b, hidden units.
        generator: source of the initial weights.
        activation: the non-linearity.

    Shapes: (…, D) -> (…, D).
    """

    def __init__(
        self,
        width: int,
        *,
        bottleneck: int,
        generator: torch.Generator,
        activation: Callable[[Tensor], Tensor] = torch.relu,
    ) -> None:
        super().__init__()
        at_least("bottleneck", bottleneck, 1)
        self.activation = activation
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5), generator=generator)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (…, D) to an addition (…, D)."""
        return self.up(self.activation(self.down(tokens)))


class LayerAdapters(Method):
    """Base of the methods with one bottleneck at one place of each layer.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        bottleneck: b, hidden units of each bottleneck.
        layers: numbers of the layers that get one; all where None.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        bottleneck: int = 64,
        layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.layers = chosen_layers(tower, layers)
        self.first_adapted_layer = self.layers[0]
        self.adapters = self._bottlenecks(tower, bottleneck, generator)

    def _bottlenecks(self, tower: Tower, bottleneck: int, generator: torch.Generator) -> nn.ModuleList:
        """One bottleneck for each chosen layer."""
        return nn.ModuleList(Bottleneck(tower.width, bottleneck=bottleneck, generator=generator) for _ in self.layers)


class AdaptFormer(LayerAdapters):
    """AdaptFormer (Chen et al. 2022, eq. 3 and 4): a scaled bottleneck parallel to each MLP, on the MLP's own input.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        bottleneck: hidden units of each bottleneck.
        scale: s, by which its output is multiplied.
        layers: numbers of the layers that get one; all where None.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        bottleneck: int = 64,
        scale: float = 0.1,
        layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__(tower, generator=generator, bottleneck=bottleneck, layers=layers)
        number("scale", scale)
        self.scale = scale

    def attach(self, tower: Tower) -> None:
        """Beside the MLPs."""
        for layer, adapter in zip(self.layers, self.adapters, strict=True):
            tower.sockets[layer].beside_mlp.append(partial(self._beside, adapter))

    def _beside(self, adapter: nn.Module, hidden: Tensor, _: Context) -> Tensor:
        return self.scale * adapter(hidden)


class Pfeiffer(LayerAdapters):
    """The adapter of AdapterFusion (Pfeiffer et al. 2020): one bottleneck with a residual after each MLP.

    Args: as `LayerAdapters`.
    """

    def attach(self, tower: Tower) -> None:
        """After the MLPs."""
        for layer, adapter in zip(self.layers, self.adapters, strict=True):
            tower.sockets[layer].after_mlp.append(partial(with_residual, adapter))


class Houlsby(LayerAdapters):
    """The first adapters (Houlsby et al. 2019): a bottleneck with a residual after each attention and each MLP.

    The paper trains the layer norms as well; here, as in most later comparisons, the bottlenecks alone.

    Args: as `LayerAdapters`.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        bottleneck: int = 64,
        layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__(tower, generator=generator, bottleneck=bottleneck, layers=layers)
        self.after_mlp = self._bottlenecks(tower, bottleneck, generator)

    def attach(self, tower: Tower) -> None:
        """After the attentions and after the MLPs."""
        for layer, first, second in zip(self.layers, self.adapters, self.after_mlp, strict=True):
            tower.sockets[layer].after_attention.append(partial(with_residual, first))
            tower.sockets[layer].after_mlp.append(partial(with_residual, second))


def adapter(
    tower: Tower, *, generator: torch.Generator, bottleneck: int = 64, layers: Sequence[int] | None = None
) -> Method:
    """The method called `adapter`: AdaptFormer on an image tower, Pfeiffer's on a text tower."""
    kind = AdaptFormer if tower.kind == "image" else Pfeiffer
    return kind(tower, generator=generator, bottleneck=bottleneck, layers=layers)


class CLIPAdapter(Method):
    """CLIP-Adapter (Gao et al. 2021, eq. 3 to 5): α·A(f) + (1 − α)·f on what the tower gives out, f.

    A is a two-layer MLP without biases, a ReLU after each layer. On a text tower f is a class embedding; on an image
    tower it is each output token, as frame features are made of several. It does not start as a no-op.

    Args:
        tower: either tower.
        generator: source of the initial weights.
        reduction: how many times fewer hidden units than inputs.
        ratio: α, the share of the adapted feature.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator, reduction: int = 4, ratio: float = 0.2) -> None:
        super().__init__()
        width = tower.embedding_width
        at_least("reduction", reduction, 1)
        if reduction > width:
            raise ValueError(f"reduction must be between 1 and the feature's width {width}, got {reduction}")
        number("ratio", ratio)
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1, got {ratio}")
        self.ratio = ratio
        self.first_adapted_layer = tower.depth  # it is behind all of them
        self.down = nn.Linear(width, width // reduction, bias=False)
        self.up = nn.Linear(width // reduction, width, bias=False)
        for linear in (self.down, self.up):
            nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5), generator=generator)

    def attach(self, tower: Tower) -> None:
        """On the tower's output."""
        tower.finish.append(self._adapt)

    def _adapt(self, features: Tensor, _: Context) -> Tensor:
        adapted = functional.relu(self.up(functional.relu(self.down(features))))
        return self.ratio * adapted + (1 - self.ratio) * features


def with_residual(adapter: nn.Module, tokens: Tensor, _: Context) -> Tensor:
    """A socket: tokens and what the adapter adds to them."""
    return tokens + adapter(tokens)

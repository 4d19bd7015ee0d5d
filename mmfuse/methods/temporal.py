"""Adapters that let the frames of a clip see each other inside a frozen image tower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.tower import Context, Tower
from mmfuse.methods.adapters import Bottleneck, with_residual
from mmfuse.methods.base import Method
from mmfuse.methods.validation import at_least, chosen_layers, number


class SpaceTimeBottleneck(nn.Module):
    """The bottleneck of ST-Adapter: between down- and up-projection, a depth-wise convolution over time.

    A k×1×1 convolution in depth-wise form multiplies each channel of k neighbouring frames by weights of its own; it is
    written out as k multiplications, which are faster than a general 3-D convolution. It starts at zero, and with it
    what the bottleneck adds.

    Args:
        width: D of the tower.
        bottleneck: b, hidden units.
        kernel: k, frames that the convolution sees; odd.
        generator: source of the initial weights.

    Shapes: (B, T, P, D) -> (B, T, P, D).
    """

    def __init__(self, width: int, *, bottleneck: int, kernel: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        self.time_weight = nn.Parameter(torch.zeros(kernel, bottleneck))
        self.time_bias = nn.Parameter(torch.zeros(bottleneck))
        for linear in (self.down, self.up):
            nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5), generator=generator)
            nn.init.zeros_(linear.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches of all frames to what is added to them."""
        hidden, frames, reach = self.down(patches), patches.shape[1], len(self.time_weight) // 2
        padded = functional.pad(hidden, (0, 0, 0, 0, reach, reach))  # zeros before the first and after the last frame
        mixed = self.time_bias.expand_as(hidden)
        for step, weight in enumerate(self.time_weight):
            mixed = mixed + weight * padded[:, step : step + frames]
        return self.up(mixed)


class STAdapter(Method):
    """ST-Adapter (Pan et al. 2022, eq. 4): before each layer, patches + Up(DWConv(Down(patches))); CLS is left alone.

    Args:
        tower: an image tower.
        generator: source of the initial weights.
        bottleneck: hidden units.
        kernel: frames that the convolution sees; odd. The paper's best, 3×1×1, is 3.
        layers: numbers of the layers that get one; all where None.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        bottleneck: int = 384,
        kernel: int = 3,
        layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        at_least("bottleneck", bottleneck, 1)
        at_least("kernel", kernel, 1)
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be an odd number of frames, got {kernel}")
        self.layers = chosen_layers(tower, layers)
        self.first_adapted_layer = self.layers[0]
        self.adapters = nn.ModuleList(
            SpaceTimeBottleneck(tower.width, bottleneck=bottleneck, kernel=kernel, generator=generator)
            for _ in self.layers
        )

    def attach(self, tower: Tower) -> None:
        """Before the layers."""
        for layer, adapter in zip(self.layers, self.adapters, strict=True):
            tower.sockets[layer].before.append(partial(self._before, adapter))

    def _before(self, adapter: nn.Module, tokens: Tensor, context: Context) -> Tensor:
        patches = tokens[:, context.special :]
        added = adapter(patches.unflatten(0, (-1, context.frames))).flatten(0, 1)
        return torch.cat([tokens[:, : context.special], patches + added], dim=1)


class AIM(Method):
    """AIM (Yang et al. 2023, eq. 4 to 6): spatial, temporal and joint adapters around a frozen layer.

        x = x + temporal(attention over time(norm1 x))     the frozen attention, reused among the frames
        x = x + a + spatial(a),  a = attention(norm1 x)
        x = x + mlp(norm2 x) + scale · joint(norm2 x)

    The adapters have a GELU, and their up-projections start at zero, so that the tower starts as it was. The paper's
    model also learns a position for each frame; here order is left to the fusion, as for every other method.

    Args:
        tower: an image tower.
        generator: source of the initial weights.
        ratio: hidden units of an adapter, as a share of the tower's width.
        scale: s, by which the joint adapter's output is multiplied.
        layers: numbers of the layers that are adapted; all where None.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        generator: torch.Generator,
        ratio: float = 0.25,
        scale: float = 0.5,
        layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        number("ratio", ratio)
        number("scale", scale)
        hidden = int(tower.width * ratio)
        if hidden < 1:
            raise ValueError(f"ratio {ratio} of a width of {tower.width} leaves no hidden unit")
        self.scale = scale
        self.layers = chosen_layers(tower, layers)
        self.first_adapted_layer = self.layers[0]

        def bottlenecks() -> nn.ModuleList:
            return nn.ModuleList(
                Bottleneck(tower.width, bottleneck=hidden, generator=generator, activation=functional.gelu)
                for _ in self.layers
            )

        self.spatial, self.temporal, self.joint = bottlenecks(), bottlenecks(), bottlenecks()

    def attach(self, tower: Tower) -> None:
        """Before, within and beside each layer."""
        assert isinstance(tower, ImageTower)
        for place, layer in enumerate(self.layers):
            sockets = tower.sockets[layer]
            sockets.before.append(partial(self._over_time, tower, layer, self.temporal[place]))
            sockets.after_attention.append(partial(with_residual, self.spatial[place]))
            sockets.beside_mlp.append(partial(self._beside, self.joint[place]))

    def _over_time(self, tower: ImageTower, layer: int, adapter: nn.Module, tokens: Tensor, context: Context) -> Tensor:
        block = tower.layers[layer]
        attended = tower.attend_over_time(block, tower.part(block, "norm1")(tokens), context)
        return tokens + adapter(attended)

    def _beside(self, adapter: nn.Module, hidden: Tensor, _: Context) -> Tensor:
        return self.scale * adapter(hidden)

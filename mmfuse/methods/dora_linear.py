"""DoRA in training, with its weight multiplied out once a batch.

peft runs the low-rank path beside the frozen map and then rescales the sum, token by token: several passes over
activations that are N·T·S rows long. The same map is one matrix, m·(W + s·BA)/‖W + s·BA‖, of D rows. Where a batch has
more tokens than that (which images always have), multiplying the matrix out first costs less time and less memory.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor
from torch.nn import functional


class ComposedDoRA(Linear):
    """peft's DoRA layer that computes with the composed weight where that pays; weights, names and result are peft's.

    Shapes: input (…, D_in) to (…, D_out).
    """

    composes = True

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `peft.tuners.lora.Linear`."""
        if not self._pays(x) or self.disable_adapters or self.merged or args or kwargs:
            return super().forward(x, *args, **kwargs)
        return functional.linear(x, self.composed_weight(), self.base_layer.bias)

    def _pays(self, x: Tensor) -> bool:
        [name] = self.active_adapters
        dropout = self.lora_dropout[name]
        plain = not self.training or isinstance(dropout, torch.nn.Identity)
        return self.composes and plain and x.numel() // x.shape[-1] > self.out_features

    def composed_weight(self) -> Tensor:
        """m · (W + s·BA) / ‖W + s·BA‖ by row, (D_out, D_in); the norm gets no gradient (Liu et al. 2024, section 4.3).

        In full precision even under autocast: W + s·BA rounded to bfloat16 before it is normed would lose the update.
        """
        [name] = self.active_adapters
        kind = self.base_layer.weight.device.type
        # A device without autocast, such as meta on which operations are counted, has nothing to switch off.
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            update = self.lora_B[name].weight @ self.lora_A[name].weight
            weight = self.base_layer.weight + self.scaling[name] * update
            magnitude = self.lora_magnitude_vector[name].weight
            return weight * (magnitude / weight.detach().norm(dim=1)).unsqueeze(1)

"""Computing with weights into which a method is merged, for a faster test; the tower's own weights stay as they are.

While gradients are off, each module that the method works on computes by a stand-in: a copy of the frozen module whose
weights contain the method. Nothing is written into the tower, so there is nothing to bring back, whatever interrupts a
test, and fingerprints and checkpoints are right at any moment. Stand-ins belong to the weights that they were made of:
those are compared by content before each forward pass, but for the batches of a trainer's test after its first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmfuse.methods.base import Method


@dataclass(frozen=True)
class StandIns:
    """Modules with merged weights, and copies of all the weights that they were made of."""

    modules: Sequence[nn.Module]
    made_of: Sequence[Tensor]

    def up_to_date(self, weights: Sequence[Tensor]) -> bool:
        """Whether these weights are those that the modules were made of."""
        return len(weights) == len(self.made_of) and all(map(_same_weight, weights, self.made_of))


def _same_weight(weight: Tensor, other: Tensor) -> bool:
    return weight.dtype == other.dtype and weight.device == other.device and torch.equal(weight, other)


class Mergeable(Method):
    """Base of the methods that can be merged into the tower's weights.

    A subclass says on which modules it works, what each computes by itself, and how its stand-in is made.
    """

    mergeable = True

    def __init__(self) -> None:
        super().__init__()
        self._wanted = False
        self._on = True
        self._held = False
        self._stand_ins: StandIns | None = None

    @property
    def merged(self) -> bool:
        """Whether the method is merged in, for as long as gradients are off and the tower is not disabled."""
        return self._stand_ins is not None

    def merge(self) -> None:
        """Compute with merged weights where no gradients are wanted.

        Weights in half precision are not merged: a small change would be rounded away in their sum.
        """
        for place, module in enumerate(self._targets()):
            module.forward = partial(self._forward, place)
        self._wanted = True
        self.refresh()

    def unmerge(self) -> None:
        """Compute as in training again."""
        self._wanted, self._held, self._stand_ins = False, False, None
        for module in self._targets():
            vars(module).pop("forward", None)

    def switch(self, on: bool) -> None:
        """See `Method.switch`."""
        self._on = on

    def hold(self, on: bool) -> None:
        """See `Method.hold`."""
        self._held = on

    @torch.compiler.disable
    def refresh(self) -> None:
        """Merge anew where a weight has changed since; the tower asks for it before each forward pass."""
        if self._wanted and not (self._held and self.merged):
            weights = self._weights()
            if self._stand_ins is None or not self._stand_ins.up_to_date(weights):
                self._stand_ins = None if any(_is_half(weight) for weight in weights) else self._make(weights)

    def _make(self, weights: Sequence[Tensor]) -> StandIns:
        kind = weights[0].device.type
        exact = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
        # A test may run in inference mode, whose tensors could not be used with gradients afterwards.
        with torch.inference_mode(False), torch.no_grad(), exact:
            return StandIns(
                [self._stand_in(place) for place in range(len(self._targets()))], [w.clone() for w in weights]
            )

    def _uses_stand_ins(self) -> bool:
        return self._stand_ins is not None and self._on and not torch.is_grad_enabled()

    def _forward(self, place: int, *args: Any, **kwargs: Any) -> Any:
        """The forward of a target while the method is merged."""
        if self._stand_ins is not None and self._uses_stand_ins():
            return self._stand_ins.modules[place](*args, **kwargs)
        module = self._targets()[place]
        return type(module).forward(module, *args, **kwargs)

    def _targets(self) -> Sequence[nn.Module]:
        """The modules of the tower that the method works on."""
        raise NotImplementedError

    def _weights(self) -> list[Tensor]:
        """All that the stand-ins are made of, the frozen weights included."""
        raise NotImplementedError

    def _stand_in(self, place: int) -> nn.Module:
        """A new module that computes what a target and the method give together."""
        raise NotImplementedError


def _is_half(weight: Tensor) -> bool:
    return weight.is_floating_point() and weight.itemsize < torch.float32.itemsize

"""Folding a trained method into the frozen weights, for a faster test, and taking it out again without a trace."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmfuse.methods.base import Method


class Foldable(Method):
    """Base of the methods that can be written into the tower's weights.

    A subclass names the modules whose weights change, folds, and switches its own computation on and off. While folded
    the method computes nothing and must not be trained. The weights come back from a copy: subtracting what was added
    would leave rounding errors in them.
    """

    mergeable = True

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[tuple[nn.Module, dict[str, Tensor | None]]] = []
        self._suspended = False

    @property
    def merged(self) -> bool:
        """Whether the method is folded in."""
        return bool(self._kept)

    def merge(self) -> None:
        """Fold the method into the frozen weights; without effect where it is folded in already."""
        if not self.merged:
            # A test may run in inference mode, whose tensors could not be trained on afterwards.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = [(module, _copies(module)) for module in self._folded_into()]
                self._fold()

    def unmerge(self) -> None:
        """Bring the frozen weights back, bit by bit."""
        if self.merged:
            for module, weights in self._kept:
                _restore(module, weights)
            self._kept = []
            self._unfold()

    def switch(self, on: bool) -> None:
        """Let `Tower.disabled` switch the method off, folded in or not."""
        if not on:
            self._suspended = self.merged
            self.unmerge()
        self._turn(on)
        if on and self._suspended:
            self.merge()

    def _folded_into(self) -> Iterable[nn.Module]:
        """The modules whose weights `_fold` changes."""
        raise NotImplementedError

    def _fold(self) -> None:
        """Write the method into the weights, and compute nothing besides from now on."""
        raise NotImplementedError

    def _unfold(self) -> None:
        """Compute again, after the weights have been restored."""
        raise NotImplementedError

    def _turn(self, on: bool) -> None:
        """Switch the method on or off while it is not folded in."""
        raise NotImplementedError


def _copies(module: nn.Module) -> dict[str, Tensor | None]:
    named = {name: getattr(module, name) for name in ("weight", "bias")}
    return {name: None if weight is None else weight.detach().clone() for name, weight in named.items()}


def _restore(module: nn.Module, weights: dict[str, Tensor | None]) -> None:
    for name, original in weights.items():
        if original is None:
            setattr(module, name, None)
        else:
            getattr(module, name).data = original

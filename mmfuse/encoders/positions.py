"""Learned positions at another frame size, by a product with a fixed matrix.

The models of `transformers` bring their table of positions to another number of patches by bicubic interpolation. Where
the table is trained (`full`), its gradient then takes a kernel that on GPUs adds in whatever order the threads come,
so that no run equals the next. Interpolation is linear in the table, so it is a product with a matrix that depends on
the sizes alone; a product's gradient is a product, whose order is fixed.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class _OverUnitTable:
    """The embeddings of a model, with a unit matrix in the place of its table of positions."""

    def __init__(self, embeddings: nn.Module, unit: Tensor) -> None:
        self._embeddings = embeddings
        self.position_embeddings = unit.unsqueeze(0)  # (1, P, P), in DINOv2 and ViT
        self.position_embedding = SimpleNamespace(weight=unit)  # (P, P), in CLIP and SigLIP

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embeddings, name)


class TrainablePositions:
    """Stands in for a model's own `interpolate_pos_encoding`, and leaves everything to it but a trained table.

    Args:
        embeddings: the module that holds the table and interpolates it.

    Shapes: P positions of the table, S tokens of a frame, D the tower's width.
    """

    def __init__(self, embeddings: nn.Module) -> None:
        self._embeddings = embeddings

    def __call__(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Positions (1, S, D) for tokens (N, S, D) of frames of `height` by `width` pixels."""
        weight = self._weight()
        table = weight.reshape(-1, weight.shape[-1])  # (P, D)
        if not weight.requires_grad or (tokens.shape[1] == len(table) and height == width):
            return self._own_positions(self._embeddings, tokens, height, width)
        # What the model's own interpolation makes of a unit matrix is the matrix of that interpolation, (S, P).
        unit = torch.eye(len(table), device=table.device)
        with torch.no_grad():
            like = unit.new_empty(1, tokens.shape[1], len(table))  # of which it reads the shape
            matrix = self._own_positions(_OverUnitTable(self._embeddings, unit), like, height, width)
        # A table that is only counted, on the meta device, knows no autocast.
        kind = table.device.type if torch.amp.is_autocast_available(table.device.type) else "cpu"
        with torch.autocast(kind, enabled=False):
            return (matrix[0] @ table.float()).to(table.dtype).unsqueeze(0)

    def _weight(self) -> Tensor:
        """The table, (P, D) or (1, P, D)."""
        embeddings: Any = self._embeddings
        if hasattr(embeddings, "position_embedding"):
            return embeddings.position_embedding.weight
        return embeddings.position_embeddings

    def _own_positions(self, embeddings: Any, tokens: Tensor, height: int, width: int) -> Tensor:
        return type(self._embeddings).interpolate_pos_encoding(embeddings, tokens, height, width)  # type: ignore[attr-defined]


def make_deterministic(model: Any) -> None:
    """Let a model interpolate its positions so that their gradient is the same at each run; its outputs stay."""
    embeddings: Any = getattr(model, "embeddings", None)
    if hasattr(type(embeddings), "interpolate_pos_encoding"):
        embeddings.interpolate_pos_encoding = TrainablePositions(embeddings)

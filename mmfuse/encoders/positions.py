"""Learned positions at another frame size or number of frames, by a product with a fixed matrix.

The models of `transformers` bring their table of positions to another number of patches by bicubic interpolation. Where
the table is trained (`full`), its gradient then takes a kernel that on GPUs adds in whatever order the threads come,
so that no run equals the next. Interpolation is linear in the table, so it is a product with a matrix that depends on
the sizes alone; a product's gradient is a product, whose order is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfuse.encoders.architectures import ClipShape


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


LINEAR, CUBIC, BILINEAR, SMOOTHED = "linear", "cubic", "bilinear", "smoothed"
"""How positions are stretched along an axis; smoothed is bilinear, averaged where there are to be fewer of them."""


def stretched(table: Tensor, before: Sequence[int], after: Sequence[int], modes: Sequence[str]) -> Tensor:
    """A table of positions on a grid for a grid of other sides, as torch's interpolation makes it axis by axis.

    Args:
        table: (1, S, D), S being the product of `before`, the last axis running fastest.
        before, after: positions along each axis.
        modes: how each axis is interpolated.

    Returns:
        (1, S', D).
    """
    if tuple(before) == tuple(after):
        return table
    kind = table.device.type if torch.amp.is_autocast_available(table.device.type) else "cpu"
    with torch.autocast(kind, enabled=False):
        grid = table.float().reshape(*before, -1)
        for axis, (old, new, mode) in enumerate(zip(before, after, modes, strict=True)):
            if old != new:
                matrix = _interpolation(old, new, mode=mode, device=table.device)
                grid = torch.tensordot(matrix, grid, dims=([1], [axis])).movedim(0, axis)
        return grid.reshape(1, -1, grid.shape[-1]).to(table.dtype)


def resized(table: Tensor, trained: ClipShape, patches: Tensor) -> Tensor:
    """A video encoder's table of positions for another number of steps, or another size of frames.

    As a clip of T frames is spread over its whole video whatever T is, positions are stretched: linearly over time, and
    bicubically over a frame, as those of image encoders are.

    Args:
        table: (1, S, D), step by step in time and row by row within a step.
        trained: what the table was made for.
        patches: (B, D, T', rows, columns), of which only the size matters.

    Returns:
        (1, S', D), for the patches.
    """
    side = trained.size // trained.patch
    return stretched(table, (trained.frames // trained.tubelet, side, side), patches.shape[2:], (LINEAR, CUBIC, CUBIC))


@torch.no_grad()
def _interpolation(old: int, new: int, *, mode: str, device: torch.device) -> Tensor:
    """The matrix (new, old) by which torch interpolates along one axis."""
    unit = torch.eye(old, device=device)
    if mode == LINEAR:
        return functional.interpolate(unit[None], size=new, mode="linear")[0].T
    own = "bicubic" if mode == CUBIC else "bilinear"
    return functional.interpolate(unit[None, None], size=(new, old), mode=own, antialias=mode == SMOOTHED)[0, 0]


def grid_numbers(steps: int, rows: int, columns: int, *, side: int, device: torch.device) -> Tensor:
    """Numbers of patches on square grids of `side`, one grid a step: (steps · rows · columns,).

    >>> grid_numbers(2, 1, 2, side=2, device=torch.device("cpu")).tolist()
    [0, 1, 4, 5]
    """
    step, row, column = (torch.arange(count, device=device) for count in (steps, rows, columns))
    return (step[:, None, None] * side**2 + row[:, None] * side + column).flatten()


def keep_on_device(model: Any) -> None:
    """Let a table of positions that is neither weight nor buffer move with its model, as VideoMAE's does not."""
    embeddings: Any = getattr(model, "embeddings", None)
    table = vars(embeddings).get("position_embeddings") if embeddings is not None else None
    if isinstance(table, Tensor):
        del embeddings.position_embeddings
        embeddings.register_buffer("position_embeddings", table, persistent=False)

"""What of a frame reaches the fusion.

Shapes: B clips, T frames, P patches, D width of a token, F width of a frame feature.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FEATURES = {"both": 2, "cls": 1, "patch": 1, "grid": 5}
"""Kinds of frame features, with their width in tokens."""

GRID = 2  # side of the grid of pooled patches


def frame_features(tokens: Tensor, *, kind: str, rows: int) -> Tensor:
    """CLS and patch tokens to one feature a frame.

    Args:
        tokens: the CLS token and the patches, row by row, (B, T, 1 + P, D).
        kind: "both" (CLS and mean patch), "cls", "patch" (their mean), or "grid" (CLS and 2 × 2 pooled patches).
        rows: of patches in a frame.

    Returns:
        (B, T, F), F being `FEATURES[kind]` times D.
    """
    cls, patches = tokens[:, :, 0], tokens[:, :, 1:]
    if kind == "cls":
        return cls
    if kind == "patch":
        return patches.mean(dim=2)
    if kind == "both":
        return torch.cat([cls, patches.mean(dim=2)], dim=-1)
    grid = patches.unflatten(2, (rows, -1)).flatten(0, 1).permute(0, 3, 1, 2)
    pooled = functional.adaptive_avg_pool2d(grid, GRID).flatten(1)
    return torch.cat([cls, pooled.unflatten(0, cls.shape[:2])], dim=-1)

"""Frame features."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mmfuse.model.frame_features import GRID, frame_features


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (16, 16), (7, 4), (3, 5)])
def test_grid_is_adaptive_pooling(rows: int, columns: int) -> None:
    tokens = torch.randn(2, 3, 1 + rows * columns, 8, generator=torch.Generator().manual_seed(0))
    features = frame_features(tokens, kind="grid", rows=rows)
    patches = tokens[:, :, 1:].flatten(0, 1).mT.unflatten(2, (rows, columns))
    pooled = functional.adaptive_avg_pool2d(patches, GRID).flatten(1).unflatten(0, (2, 3))
    torch.testing.assert_close(features, torch.cat([tokens[:, :, 0], pooled], dim=-1))

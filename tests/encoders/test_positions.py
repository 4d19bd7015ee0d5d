"""Trained positions at another frame size: what the model's own interpolation gives, and its gradient."""

from __future__ import annotations

import copy

import pytest
import torch

from tests import towers

KINDS = [kind for kind in towers.IMAGE_KINDS if not kind.startswith("dinov3")]  # which has none to train


@pytest.mark.parametrize("kind", KINDS)
def test_trained_positions_equal_those_of_the_model_itself(kind: str) -> None:
    tower = copy.deepcopy(towers.image_tower(kind))
    embeddings = tower.model.embeddings
    table = embeddings.get_parameter(
        "position_embeddings" if hasattr(embeddings, "position_embeddings") else "position_embedding.weight"
    ).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    # Two by two, more rows than columns, and the tower's own number of patches.
    for height, width in ((16, 16), (48, 24), (towers.SIZE, towers.SIZE)):
        frames = torch.randint(0, 256, (1, 2, 3, height, width), dtype=torch.uint8, generator=generator)
        ours, [gradient] = _with_gradient(tower, frames, table)
        stand_in = embeddings.__dict__.pop("interpolate_pos_encoding")
        theirs, [expected] = _with_gradient(tower, frames, table)
        embeddings.interpolate_pos_encoding = stand_in
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
        assert expected.abs().max() > 0.1


def _with_gradient(
    tower: torch.nn.Module, frames: torch.Tensor, table: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    tokens = tower(frames)
    return tokens.detach(), torch.autograd.grad(tokens.square().sum(), [table])

"""What towers of public sizes would take on a GPU, by arithmetic alone: no run, no weights, no torch.

Operations are counted by formula: two for each multiplication with addition in linear maps and in attention. Through
frozen weights a step is a forward and a backward of the same size, since no weight gradients are computed; methods add
a few per cent, which are not counted, nor are fusion, text tower and decoding.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmfuse.bench.digests import frame_size
from mmfuse.bench.estimate import clips_of, frames_of, size_of, trains_image
from mmfuse.records.cell import Cell

A100 = 312.0
"""Dense bf16 TFLOP/s of an NVIDIA A100, from its data sheet."""
UTILISATION = 0.35
"""Share of the peak that estimates of hours assume."""
VIEWS = 8
"""Views of a training clip that a frozen tower looks at, once each."""
SIDE = 224
"""Pixels of a frame's side, where the tower is not available to ask."""
SHAPES = {
    "facebook/dinov2-small": (384, 12, 14),
    "facebook/dinov2-base": (768, 12, 14),
    "facebook/dinov2-large": (1024, 24, 14),
}
"""Width, layers and patch of public towers (Oquab et al., "DINOv2", 2023, table 17)."""


def forward_flops(*, width: int, depth: int, tokens: int, patch: int = 14) -> float:
    """Operations of one frame through a vision transformer with an MLP of four times its width.

    >>> round(forward_flops(width=768, depth=12, tokens=257) / 1e9, 1)
    46.3
    """
    linear = 2 * 12 * width * width * tokens
    attention = 4 * tokens * tokens * width
    return float(depth * (linear + attention) + 2 * (tokens - 1) * 3 * patch * patch * width)


def frame_flops(cell: Cell) -> float:
    """Operations of one frame through a cell's image tower; of one like DINOv2-S where its shape is not known."""
    width, depth, patch = SHAPES.get(cell.encoders.image, SHAPES["facebook/dinov2-small"])
    side = frame_size(cell) or SIDE
    return forward_flops(width=width, depth=depth, tokens=1 + (side // patch) ** 2, patch=patch)


def gpu_hours(cells: Iterable[Cell], *, peak: float = A100) -> float | None:
    """GPU-hours of the image towers of cells.

    Cells with a frozen tower share one look at each view of their data set's clips.

    Args:
        cells: of a grid.
        peak: TFLOP/s, of which `UTILISATION` is reached.

    Returns:
        `None` where the shape of a tower is not known.
    """
    flops, shared = 0.0, set()
    for cell in cells:
        if cell.encoders.image not in SHAPES:
            return None
        side = frame_size(cell) or SIDE
        size, looks = size_of(cell.dataset, cell.split), cell.clip.looks_at_test
        key = (cell.dataset.name, cell.split, cell.encoders.image, side, cell.clip.test_views)
        clips = 0.0
        if trains_image(cell):  # a step is two forwards
            clips = 2.0 * clips_of(cell) * cell.train.epochs + size.test * looks
        elif key not in shared:
            shared.add(key)
            clips = float(size.train * VIEWS + size.test * looks)
        flops += clips * frames_of(cell) * frame_flops(cell)
    return flops / (peak * 1e12 * UTILISATION) / 3600

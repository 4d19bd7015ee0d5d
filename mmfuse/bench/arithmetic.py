"""What towers of public sizes would take on a GPU at the least, by arithmetic alone: no run, no weights, no torch.

Products take as long as their operations, everything between them as long as the bytes that it reads and writes; a GPU
does both as fast as its data sheet says. Operations are counted by formula: two for each multiplication with addition
in linear maps and in attention. Through frozen weights a step is a forward and a backward of the same size, since no
weight gradients are computed; products of methods add a few per cent, which are not counted, nor are fusion, text tower
and decoding. Bytes are those of the kernels that a step launches, counted by `benchmarks/speed/counting.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mmfuse.bench.digests import frame_size
from mmfuse.bench.estimate import clips_of, frames_of, size_of, trains_image
from mmfuse.records.cell import Cell


@dataclass(frozen=True)
class Gpu:
    """What a GPU can do at the most, by its maker's data sheet.

    Args:
        lowered: TFLOP/s in bfloat16, dense, added up in 32 bits.
        full: TFLOP/s in 32 bits, without tensor cores.
        bandwidth: GB/s of its memory.
    """

    lowered: float
    full: float
    bandwidth: float


A100 = Gpu(312.0, 19.5, 2039.0)
"""An A100 SXM with 80 GB."""
TRAFFIC = {
    "frozen": 93.5,
    "adapter": 268.9,
    "adaptformer": 268.9,
    "bitfit": 235.5,
    "dora": 243.7,
    "full": 277.0,
    "ia3": 533.6,
    "ln": 217.5,
    "lora": 265.7,
    "ssf": 835.6,
    "vpt-deep": 258.8,
}
"""Bytes that a layer reads and writes between its products for each token and channel, in 16 bits, as eager kernels do.

`frozen` is a pass without gradients, methods are a forward and a backward:
`python -m benchmarks.speed.counting --traffic METHOD...`
"""
USUAL_TRAFFIC = TRAFFIC["lora"]
"""The same for methods that were not counted."""
PASSES = {"frozen": 1, "full": 3}
"""How many forwards a step's products amount to; weights that are trained take one more."""
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


def frame_seconds(*, width: int, depth: int, tokens: int, patch: int, method: str, gpu: Gpu) -> float:
    """Seconds of one frame through an image tower: of a pass without gradients, or of a training step with a method."""
    flops = forward_flops(width=width, depth=depth, tokens=tokens, patch=patch) * PASSES.get(method, 2)
    moved = TRAFFIC.get(method, USUAL_TRAFFIC) * depth * tokens * width
    return flops / (gpu.lowered * 1e12) + moved / (gpu.bandwidth * 1e9)


def utilisation(*, width: int, depth: int, tokens: int, method: str, gpu: Gpu) -> float:
    """Share of a GPU's peak that the products of a tower can reach at the most.

    >>> f"{utilisation(width=768, depth=12, tokens=257, method='frozen', gpu=A100):.2f}"
    '0.58'
    """
    flops = forward_flops(width=width, depth=depth, tokens=tokens) * PASSES.get(method, 2)
    seconds = frame_seconds(width=width, depth=depth, tokens=tokens, patch=14, method=method, gpu=gpu)
    return flops / seconds / (gpu.lowered * 1e12)


def gpu_hours(cells: Iterable[Cell], *, gpu: Gpu = A100) -> float | None:
    """GPU-hours that the image towers of cells take at the least.

    Cells with a frozen tower share one look at each view of their data set's clips.

    Args:
        cells: of a grid.
        gpu: what they run on.

    Returns:
        `None` where the shape of a tower is not known.
    """
    seconds, shared = 0.0, set()
    for cell in cells:
        if cell.encoders.image not in SHAPES:
            return None
        width, depth, patch = SHAPES[cell.encoders.image]
        side = frame_size(cell) or SIDE
        size, looks = size_of(cell.dataset, cell.split), cell.clip.looks_at_test
        shape: dict[str, Any] = {"width": width, "depth": depth, "tokens": 1 + (side // patch) ** 2, "patch": patch}
        look = frames_of(cell) * frame_seconds(**shape, method="frozen", gpu=gpu)
        key = (cell.dataset.name, cell.split, cell.encoders.image, side, cell.clip.test_views)
        if trains_image(cell):
            method = str(cell.pair.image["method"])
            step = frames_of(cell) * frame_seconds(**shape, method=method, gpu=gpu)
            seconds += clips_of(cell) * cell.train.epochs * step + size.test * looks * look
        elif key not in shared:
            shared.add(key)
            seconds += (size.train * VIEWS + size.test * looks) * look
    return seconds / 3600

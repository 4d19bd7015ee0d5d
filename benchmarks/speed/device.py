"""How near the hardware's peak the towers are run, and what a cell and the full grid would take.

Operations are counted by formula: two for each multiplication with addition in linear maps and in attention. Through
frozen weights a step is a forward and a backward of the same size, since no weight gradients are computed; methods add
a few per cent, which are not counted. What is said of whole cells and of the grid is arithmetic, not a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from benchmarks.speed.materials import WIDTHS
from benchmarks.speed.measuring import Bench, Clock, Figure, Row, interleaved
from benchmarks.speed.steps import FRAMES, SIZE, named, sides

if TYPE_CHECKING:
    from mmfuse.records.cell import Cell

PEAKS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10G": 70.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}
"""Dense bf16 TFLOP/s by a part of the device's name, from NVIDIA's data sheets of each product (those that state
figures with sparsity are halved)."""
UTILISATION = 0.35
"""Share of the peak that the full grid's estimate assumes."""
VIEWS = 8


def peak_of(name: str) -> float | None:
    """Dense bf16 TFLOP/s of a device; `None` where it is not known."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def forward_flops(*, width: int, depth: int, tokens: int, patch: int = 14) -> float:
    """Operations of one frame through a vision transformer with an MLP of four times its width.

    >>> round(forward_flops(width=768, depth=12, tokens=257) / 1e9, 1)
    46.3
    """
    linear = 2 * 12 * width * width * tokens
    attention = 4 * tokens * tokens * width
    return float(depth * (linear + attention) + 2 * (tokens - 1) * 3 * patch * patch * width)


def clip_flops(size: str, *, frames: int = FRAMES, side: int = SIZE) -> float:
    """Operations of one clip through a tower of a real size."""
    return frames * forward_flops(width=WIDTHS[size][0], depth=12, tokens=1 + (side // 14) ** 2)


def full_grid_hours(cells: Iterable[Cell], *, peak: float) -> float:
    """GPU-hours of a grid at ViT-B by arithmetic: towers alone, neither decoding nor fusion nor text.

    Args:
        cells: of the grid.
        peak: TFLOP/s, of which `UTILISATION` is reached.
    """
    from mmfuse.bench.estimate import clips_of, frames_of, size_of, trains_image

    flops, shared = 0.0, set()
    for cell in cells:
        size = size_of(cell.dataset, cell.split)
        key = (cell.dataset.name, cell.split)
        forwards = 0.0
        if trains_image(cell):  # a step is two forwards
            forwards = 2 * clips_of(cell) * cell.train.epochs + size.test
        elif key not in shared:  # one look at each view of a clip, for all such cells
            shared.add(key)
            forwards = size.train * VIEWS + size.test
        flops += forwards * clip_flops("vit-b", frames=frames_of(cell))
    return flops / (peak * 1e12 * UTILISATION) / 3600


def measure(bench: Bench) -> list[Row]:
    """Achieved TFLOP/s of steps and of tests, and the arithmetic on top."""
    name = _device_name(bench.device)
    peak = peak_of(name)
    rows, rates = [], {}
    for size in ("vit-s",) if bench.quick else ("vit-s", "vit-b"):
        found, rates[size] = _rates(bench, size, peak)
        rows += found
    if "vit-b" in rates:
        rows.append(_one_cell(rates["vit-b"]))
    rows.append(_grid(peak, name))
    return rows


def _device_name(device: str) -> str:
    if device == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()


def _rates(bench: Bench, size: str, peak: float | None) -> tuple[list[Row], dict[str, Figure]]:
    """TFLOP/s of a step and of a test, with the share of the peak; and clips a second."""
    clips = {"cpu": 2}.get(bench.device, 64)
    bench.say(f"TFLOP/s of dora on {size}, {clips} clips, bf16")
    both = sides(size, "dora", "bf16", clips=clips, device=bench.device)
    seen = interleaved({"step": both.ours, "test": both.our_test}, rounds=bench.rounds, clock=Clock(bench.device))
    rows, rates = [], {}
    for what, passes in (("step", 2), ("test", 1)):
        flops = passes * clips * clip_flops(size)
        achieved = Figure.of([flops / seconds / 1e12 for seconds in seen[what]])
        rates[what] = Figure.of([clips / seconds for seconds in seen[what]])
        share = "the device's peak is not known" if peak is None else f"{achieved.median / peak:.0%} of {peak:g}"
        said = "a training step" if what == "step" else "a forward without gradients"
        how = f"{rates[what].median:.3g} clips/s; {share}"
        figures = {"seconds": seen[what], "clips": clips, "clips_per_second": rates[what], "peak": peak}
        rows.append(
            Row(
                "device", f"{said}, dora on {named(size)}, bf16", "", achieved, unit="TFLOP/s", how=how, figures=figures
            )
        )
    return rows, rates


def _one_cell(rates: dict[str, Figure]) -> Row:
    """UCF101, 16 clips a class, 30 epochs, split 1's test list."""
    train, test = 101 * 16 * 30, 3783
    seconds = train / rates["step"].median + test / rates["test"].median
    return Row(
        "device",
        "one cell: UCF101, K=16, 30 epochs, dora on ViT-B, 8 frames (by arithmetic, not run)",
        "",
        Figure.of([seconds / 3600]),
        unit="h",
        how="from the clips a second above; without decoding",
        figures={"train_clips": train, "test_clips": test},
    )


def _grid(peak: float | None, name: str) -> Row:
    """The full grid at a stated utilisation of a device: this one's, or an A100's where this one's is not known."""
    from mmfuse.bench.grid import load_grid

    cells: list[Any] = load_grid("full").cells()
    which, used = (name, peak) if peak is not None else ("A100", PEAKS["A100"])
    hours = full_grid_hours(cells, peak=used)
    return Row(
        "device",
        f"the full grid, {len(cells):,} cells, ViT-B (by arithmetic, not run)",
        "",
        Figure.of([hours]),
        unit="GPU-hours",
        how=f"{UTILISATION:.0%} of the {used:g} TFLOP/s of {which}; towers alone",
        figures={"utilisation": UTILISATION, "peak": used, "device": which},
    )

"""How near the hardware's peak the towers are run, and what a cell and the full grid would take.

Operations are counted as `mmfuse.bench.arithmetic` says. What is said of whole cells and of the grid is arithmetic, not
a run.
"""

from __future__ import annotations

from benchmarks.speed.materials import WIDTHS
from benchmarks.speed.measuring import Bench, Clock, Figure, Row, interleaved
from benchmarks.speed.steps import FRAMES, SIZE, named, sides
from mmfuse.bench.arithmetic import A100, UTILISATION, forward_flops, gpu_hours

PEAKS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": A100,
    "L40S": 362.0,
    "L4": 121.0,
    "A10G": 70.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}
"""Dense bf16 TFLOP/s by a part of the device's name, from NVIDIA's data sheets of each product (those that state
figures with sparsity are halved)."""


def peak_of(name: str) -> float | None:
    """Dense bf16 TFLOP/s of a device; `None` where it is not known."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def clip_flops(size: str, *, frames: int = FRAMES, side: int = SIZE) -> float:
    """Operations of one clip through a tower of a real size."""
    return frames * forward_flops(width=WIDTHS[size][0], depth=12, tokens=1 + (side // 14) ** 2)


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
    """The first look of the full grid at a stated utilisation of this device, or of an A100 where it is not known."""
    from mmfuse.bench.added_draws import first_cells
    from mmfuse.bench.grid import load_grid

    full = load_grid("full")
    cells = first_cells(full.cells(), full.grid.until_decided)
    which, used = (name, peak) if peak is not None else ("A100", A100)
    return Row(
        "device",
        f"the full grid, {len(cells):,} cells, ViT-B (by arithmetic, not run)",
        "",
        Figure.of([gpu_hours(cells, peak=used) or 0.0]),
        unit="GPU-hours",
        how=f"{UTILISATION:.0%} of the {used:g} TFLOP/s of {which}; image towers alone, first look",
        figures={"utilisation": UTILISATION, "peak": used, "device": which},
    )

"""How near the hardware's limits the towers are run, and what a cell and the full grid would take at the least.

Kernels, operations and bytes of a step and of a frozen pass are counted on any machine (`counting.py`), and give the
time that a GPU takes at the least. On a GPU the time is measured as well, with the share of that floor and of the peak
that is reached, and a profiler's trace is kept. Without one the table says that this was not run. What is said of whole
cells and of the grid is arithmetic, not a run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.materials import WIDTHS
from benchmarks.speed.measuring import Bench, Clock, Figure, Row, interleaved, run_process
from benchmarks.speed.steps import FRAMES, SIZE, named, sides
from mmfuse.bench.arithmetic import A100, Gpu, forward_flops, gpu_hours

H100 = Gpu(989.0, 67.0, 3350.0)
GPUS = {
    "H200": Gpu(989.0, 67.0, 4800.0),
    "H100 PCIe": Gpu(756.0, 51.0, 2000.0),
    "H100": H100,
    "A100": A100,
    "L40S": Gpu(362.0, 91.6, 864.0),
    "L4": Gpu(121.0, 30.3, 300.0),
    "A10G": Gpu(70.0, 35.0, 600.0),
    "RTX 4090": Gpu(165.2, 82.6, 1008.0),
    "RTX 3090": Gpu(71.0, 35.6, 936.0),
}
"""By a part of the device's name, from NVIDIA's data sheets of each product (figures with sparsity are halved)."""
LAUNCH = 5e-6
"""Seconds that the processor takes to launch a kernel from torch: some 5 µs, between 3 and 10 by the processor."""
PAIRS = (("lora", "frozen"), ("dora", "adapter"))
BATCH = 16
AIMS = {"step": 0.40, "frozen": 0.55}
"""Of an H100's dense peak: a step of LoRA, and a frozen pass, ViT-B, 8 frames, batches of 16, bfloat16."""
TRACE = "trace.json"


def gpu_of(name: str) -> Gpu | None:
    """What a device can do; `None` where it is not known."""
    return next((gpu for part, gpu in GPUS.items() if part in name), None)


def counts(image: str, text: str, *, size: str = "vit-b", speed: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """Kernels of a step and of a frozen pass, counted in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.counting", "--pair", image, text]
    command += ["--size", size, "--clips", str(BATCH), *(word for one in speed for word in ("--speed", one))]
    return dict(json.loads(run_process(command).output.splitlines()[-1]))


def floor(kernels: list[Any], gpu: Gpu) -> float:
    """Seconds at the least: each kernel as fast as its operations or bytes allow, and none before it is launched."""
    peaks = {True: gpu.lowered * 1e12, False: gpu.full * 1e12}
    computed = sum(max(one["flops"] / peaks[one["lowered"]], one["bytes"] / (gpu.bandwidth * 1e9)) for one in kernels)
    return max(computed, LAUNCH * len(kernels))


def clip_flops(size: str, *, frames: int = FRAMES, side: int = SIZE) -> float:
    """Operations of one clip through a tower of a real size."""
    return frames * forward_flops(width=WIDTHS[size][0], depth=12, tokens=1 + (side // 14) ** 2)


def measure(bench: Bench) -> list[Row]:
    """What is counted, what is measured, and the arithmetic on top."""
    name = _device_name(bench.device)
    gpu = gpu_of(name)
    rows, rates = [], {}
    for pair in PAIRS[1:] if bench.quick else PAIRS:
        rows += _counted(bench, *pair)
    for size in ("vit-s",) if bench.quick else ("vit-s", "vit-b"):
        found, rates[size] = _rates(bench, size, gpu)
        rows += found
    if "vit-b" in rates:
        rows.append(_one_cell(rates["vit-b"]))
    rows.append(_grid(gpu, name))
    return rows


def _counted(bench: Bench, image: str, text: str) -> list[Row]:
    """The floor of a step and of a frozen pass on an H100 and an A100; measured where there is a GPU."""
    bench.say(f"kernels of {image}+{text} on ViT-B, counted")
    rows = []
    for part, kernels in counts(image, text).items():
        useful = (2 if part == "step" else 1) * BATCH * clip_flops("vit-b")
        casts = sum(one["cast"] for one in kernels)
        moved = sum(one["bytes"] for one in kernels) / 1e9
        shares = {
            label: useful / floor(kernels, gpu) / (gpu.lowered * 1e12)
            for label, gpu in (("H100", H100), ("A100", A100))
        }
        said = "a training step" if part == "step" else "a frozen pass"
        at_most = ", ".join(f"{share:.0%} on an {label} ({floor(kernels, GPUS[label]) * 1e3:.0f} ms)"
                            for label, share in shares.items())  # fmt: skip
        rows.append(
            Row(
                "device",
                f"{said}, {image}+{text}, ViT-B, {BATCH} clips, bf16: share of the peak",
                "",
                _reached(bench, image, part, useful),
                unit="",
                at_least=AIMS[part] if (image, part) in {("lora", "step"), ("lora", "frozen")} else None,
                how=f"{len(kernels):,} kernels, {casts} of them casts, {moved:.0f} GB: at most {at_most}"
                + ("; not run" if bench.device == "cpu" else ""),
                figures={"kernels": len(kernels), "casts": casts, "gigabytes": moved, "at_most": shares},
            )
        )
    return rows


def _reached(bench: Bench, image: str, part: str, useful: float) -> Figure | None:
    """Share of the peak that is reached on a GPU whose peak is known; a trace is kept."""
    gpu = None if bench.device == "cpu" else gpu_of(_device_name(bench.device))
    if gpu is None:
        return None
    both = sides("vit-b", image if part == "step" else "frozen", "bf16", clips=BATCH, device=bench.device)
    work = both.ours if part == "step" else both.our_test
    seconds = interleaved({"ours": work}, rounds=bench.rounds, clock=Clock(bench.device), warm=3)["ours"]
    if bench.keep is not None:
        _trace(work, bench.keep / f"{image}-{part}-{TRACE}")
    return Figure.of([useful / one / (gpu.lowered * 1e12) for one in seconds])


def _trace(work: Any, path: Path) -> None:
    """A profiler's trace of one step, for chrome://tracing."""
    import torch

    with torch.profiler.profile() as seen:
        work()
        torch.cuda.synchronize()
    seen.export_chrome_trace(str(path))


def _device_name(device: str) -> str:
    if device == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()


def _rates(bench: Bench, size: str, gpu: Gpu | None) -> tuple[list[Row], dict[str, Figure]]:
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
        peak = None if gpu is None else gpu.lowered
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


def _grid(gpu: Gpu | None, name: str) -> Row:
    """The first look of the full grid at the full speed of this device, or of an A100 where it is not known."""
    from mmfuse.bench.added_draws import first_cells
    from mmfuse.bench.grid import load_grid

    full = load_grid("full")
    cells = first_cells(full.cells(), full.grid.until_decided)
    which, used = (name, gpu) if gpu is not None else ("A100", A100)
    return Row(
        "device",
        f"the full grid, {len(cells):,} cells, ViT-B (by arithmetic, not run)",
        "",
        Figure.of([gpu_hours(cells, gpu=used) or 0.0]),
        unit="GPU-hours",
        how=f"at the least, on {which} at its full speed; image towers alone, first look",
        figures={"device": which},
    )

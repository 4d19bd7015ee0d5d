"""Peak memory of a training step, against the bare tower's: what each adds to the process, in one of its own.

Run as a module, it is that process: `python -m benchmarks.speed.peaks ours|theirs vit-s dora bf16 4 cpu` prints bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.speed.measuring import Bench, Figure, Row, run_process
from benchmarks.speed.steps import named, sides

CLIPS = {"vit-s": 2, "vit-b": 1}


def measure(bench: Bench) -> list[Row]:
    """DoRA, LoRA and VPT-deep on both sizes."""
    return [
        _case(bench, size, method)
        for size in CLIPS
        for method in (("dora", "lora", "vpt-deep") if size == "vit-s" else ("dora",))
    ]


def _case(bench: Bench, size: str, method: str) -> Row:
    bench.say(f"memory of a step, {method} on {size}")
    seen: dict[str, list[int]] = {"ours": [], "theirs": []}
    for _ in range(min(bench.rounds, 2)):
        for side, bytes_seen in seen.items():
            command = [sys.executable, "-m", "benchmarks.speed.peaks", side, size, method, "bf16", str(CLIPS[size])]
            bytes_seen.append(int(run_process([*command, bench.device]).output.split()[-1]))
    return Row(
        "memory",
        f"peak memory of a step, {method} on {named(size)}, bf16, clips: {CLIPS[size]}",
        "the bare tower with the same method",
        Figure.of([ours / theirs for ours, theirs in zip(seen["ours"], seen["theirs"], strict=True)]),
        at_most=1.10,
        how="what two steps add to the process at their peak",
        figures={"bytes": seen},
    )


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def main(side: str, size: str, method: str, precision: str, clips: str, device: str) -> None:
    """Print what two steps add at their peak, in bytes. The second one holds the optimiser's state as well."""
    both = sides(size, method, precision, clips=int(clips), device=device)
    work = both.ours if side == "ours" else both.theirs
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM
        before = _status("VmRSS")
        work()
        work()
        print(_status("VmHWM") - before)
    else:
        import torch

        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        work()
        print(torch.cuda.max_memory_allocated() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])

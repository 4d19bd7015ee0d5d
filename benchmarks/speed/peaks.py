"""Peak memory of a training step, against the bare tower's: what each adds to the process, in one of its own.

Run as a module, it is that process: `python -m benchmarks.speed.peaks ours|theirs vit-s dora bf16 4 cpu` prints bytes.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from benchmarks.speed.measuring import Bench, Row, in_turns, ratios, run_process
from benchmarks.speed.steps import BATCH, named, sides


def measure(bench: Bench) -> list[Row]:
    """A few clips, which are run at once, and a batch as grids take them, which is run in chunks."""
    small = [("vit-s", method, 2) for method in ("dora", "lora", "vpt-deep")]
    return [_case(bench, *case) for case in (*small, ("vit-b", "dora", 1), ("vit-s", "lora", BATCH))]


def _case(bench: Bench, size: str, method: str, clips: int) -> Row:
    bench.say(f"memory of a step, {method} on {size}, clips: {clips}")
    command = [sys.executable, "-m", "benchmarks.speed.peaks"]
    asked = [size, method, "bf16", str(clips), bench.device]

    def added(side: str, _turn: int) -> int:
        return int(run_process([*command, side, *asked]).output.split()[-1])

    seen = in_turns({side: partial(added, side) for side in ("ours", "theirs")}, range(min(bench.rounds, 2)))
    return Row(
        "memory",
        f"peak memory of a step, {method} on {named(size)}, bf16, clips: {clips}",
        "the bare tower with the same method",
        ratios(seen["ours"], seen["theirs"]),
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

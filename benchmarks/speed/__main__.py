"""How fast, against what: every claim of speed, measured side by side in one run.

    python benchmarks/speed [--only ROW]... [--rounds N] [--quick] [--whole] [--device cpu|cuda] [--out FILE]

See README.md in this folder for what is measured, and how.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

if not __package__:  # run as a folder: its modules are benchmarks.speed.*, and must not hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from benchmarks.speed.measuring import ONE_THREAD

if not __package__:
    os.environ.update(ONE_THREAD)  # read when torch is loaded
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from rich.console import Console

from benchmarks.speed import table
from benchmarks.speed.measuring import Bench, Row
from benchmarks.speed.rows import QUICK, ROWS, measured, say

RESULTS = Path(__file__).with_name("results.json")


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=ROWS, help="only this row; may be repeated")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each side (default 4)")
    parser.add_argument("--quick", action="store_true", help="small towers, few epochs: about two minutes")
    parser.add_argument("--whole", action="store_true", help="run every cell in full: hours")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, help="where figures are stored (default results.json beside this file; "
                        "with --quick, nowhere)")  # fmt: skip
    return parser.parse_args(given)


def main(given: list[str]) -> int:
    """Measure, print, store; 0 if every aim that was measured is met, else 1."""
    wishes = arguments(given)
    console = Console(width=None if sys.stdout.isatty() else 170)
    out = wishes.out or (None if wishes.quick else RESULTS)
    command = " ".join(["python benchmarks/speed", *given])
    rows: list[Row] = []
    # Each in a process of its own: what one leaves in the allocator's hands, the next one would not have to ask the
    # system for, which is a quarter of the time of some.
    apart = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="mmfuse-speed-") as folder:
        for name in wishes.only or (QUICK if wishes.quick else ROWS):
            bench = Bench(
                folder=Path(folder),
                rounds=wishes.rounds,
                quick=wishes.quick,
                whole=wishes.whole,
                device=wishes.device,
                say=partial(say, name),
                keep=None if out is None else out.parent,
            )
            with ProcessPoolExecutor(1, mp_context=apart) as process:
                rows += process.submit(measured, name, bench).result()
            if out is not None:  # after each, so that a run that is broken off leaves what it has
                table.store(out, table.document(rows, command=command, device=wishes.device))
    table.show(rows, console)
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

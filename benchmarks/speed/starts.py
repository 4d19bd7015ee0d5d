"""Commands that need no torch: how soon they answer, and what memory they take."""

from __future__ import annotations

from benchmarks.speed.measuring import Bench, Figure, Row, command_line, run_process


def measure(bench: Bench) -> list[Row]:
    """`--help`, and the plan of the largest grid."""
    bench_command = command_line("mmfuse-bench")
    results = str(bench.folder / "nothing")
    plan = ["--grid", "full", "--dry-run", "--results", results]
    rows = []
    for name, arguments, aim in (("--help", ["--help"], 0.5), ("--grid full --dry-run", plan, 3.0)):
        bench.say(f"mmfuse-bench {name}")
        run_process([*bench_command, *arguments])  # the first one reads the files from disk
        ended = [run_process([*bench_command, *arguments]) for _ in range(bench.rounds)]
        processor, wall = (Figure.of([getattr(one, key) for one in ended]) for key in ("processor", "wall"))
        peak = Figure.of([one.peak_bytes / 1e6 for one in ended])
        how = f"processor; by the wall {wall.median:.2f} s"
        figures = {"processor": processor, "wall": wall, "peak_mb": peak}
        rows.append(
            Row("start", f"mmfuse-bench {name}", "", processor, unit="s", at_most=aim, how=how, figures=figures)
        )
        if "--dry-run" in arguments:
            rows.append(Row("start", f"mmfuse-bench {name}: memory", "", peak, unit="MB", at_most=400))
    return rows

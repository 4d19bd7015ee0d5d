"""How often marks are wrong and what intervals cover, in simulated tables whose truth is known.

    python benchmarks/statistics [--tables N] [--quick] [--only WORDS] [--seed N] [--write]

The tests and intervals are those of `mmfuse.report.statistics`, which the report uses. `--write` puts the tables into
docs/tables.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a folder: its modules are benchmarks.statistics.*, and must not hide others of that name
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import math
from collections.abc import Iterable

from benchmarks.statistics.designs import null, real
from benchmarks.statistics.generate import Design
from benchmarks.statistics.judge import Outcome, Rate, run
from benchmarks.statistics.pages import PAGE, publish

TABLES, QUICK = 1000, 20


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/statistics", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=int, default=TABLES, help="tables of each kind")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} tables of each kind: whether everything runs")
    parser.add_argument("--only", default="", help="kinds of tables whose names hold these words")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--write", action="store_true", help=f"write the result into {PAGE.name}")
    return parser.parse_args(given)


def simulated(designs: Iterable[Design], *, tables: int, seed: int) -> list[Outcome]:
    """Outcomes of several designs, told one by one."""
    found = []
    for design in designs:
        found.append(run(design, tables=tables, seed=seed))
        print(design.name, file=sys.stderr, flush=True)
    return found


def as_markdown(outcomes: list[Outcome], columns: dict[str, str]) -> str:
    """A table of rates in per cent: a row a design.

    Args:
        outcomes: what was found.
        columns: heads by the name of the rate.
    """
    lines = ["| table | " + " | ".join(columns.values()) + " |", "|:--|" + "--:|" * len(columns)]
    for outcome in outcomes:
        shown = [str(getattr(outcome, name)) for name in columns]
        lines.append(f"| {outcome.design.name} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


MARKS = {"gain_column": "false `*`, column", "gain_table": "false `*`, table", "separated": "false separation"}
COVERAGE = {"over_draws": "± over draws", "over_clips": "± over clips", "gains_over_clips": "± over clips, gains"}
POWER = {"found": "true gains marked `*`", "left": "rows shown below the best"}


def page(nulls: list[Outcome], reals: list[Outcome], *, command: str) -> str:
    """What docs/tables.md says of the simulation."""
    false: list[Rate] = [getattr(outcome, name) for outcome in [*nulls, *reals] for name in MARKS]
    worst = max((rate for rate in false if rate.trials), key=lambda rate: rate.share or 0)
    error = 100 * 1.96 * math.sqrt(0.05 * 0.95 / worst.trials)
    return f"""`{command}` simulates tables whose truth is known, clip by clip, and
judges them with the functions that the report uses. Each table has K = 2, 8 and all, and their mean; accuracies move in
steps of a clip. In per cent of {worst.trials:,} tables of each kind: those with a false mark anywhere, which should be
5 or less, and intervals that hold the truth, which should be near 95. The worst of all rates of false marks is {worst};
the Monte Carlo error of a rate of 5% is {error:.1f}.

All pairs equal:

{as_markdown(nulls, {**MARKS, **COVERAGE})}
True gains of about 1, 2, 5 and 10 points over the baseline: false marks (of the wrong sign), and how many of the true
differences are found in the column of means:

{as_markdown(reals, {**MARKS, **POWER})}"""


def main(given: list[str]) -> None:
    """Simulate, and print or write the tables."""
    options = arguments(given)
    tables = QUICK if options.quick else options.tables
    kinds = [[d for d in designs if options.only in d.name] for designs in (null(), real())]
    nulls, reals = (simulated(designs, tables=tables, seed=options.seed) for designs in kinds)
    text = page(nulls or reals, reals, command=f"python benchmarks/statistics --tables {tables}")
    publish(text, name="simulation", write=options.write)


if __name__ == "__main__":
    main(sys.argv[1:])

"""How often the first table's verdicts are false, and how often its ranks lie where it says, in simulated tables.

    python -m benchmarks.statistics.over_datasets [--tables N] [--quick] [--seed N] [--write]

N tables of each kind without true gains, by default 2,000, and a tenth as many of those with true gains.

Every data set of a table is simulated clip by clip as in `benchmarks.statistics.generate`, with clips, draws and what
methods find easy of its own. The tests and intervals are those of `mmfuse.report.over_datasets`, which the first table
uses. `--write` puts the tables into docs/tables.md.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.statistics.designs import GAINS, HMDB51, UCF101
from benchmarks.statistics.generate import Design, simulate
from benchmarks.statistics.judge import Rate
from benchmarks.statistics.pages import PAGE, publish
from mmfuse.report.over_datasets import FEWEST_DATASETS, combined, friedman, rank_bounds
from mmfuse.report.statistics import LEVEL, Array, Differences, differences, holm

TABLES, QUICK = 2000, 20
DIVING48 = (1970, 76)


@dataclass(frozen=True)
class Kind:
    """One kind of table over several data sets.

    Args:
        name: what it is.
        designs: one a data set; their gains are those that all data sets share.
        varies: standard deviation of a pair's gain from data set to data set, on the logistic scale; its mean over all
            data sets there could be is that of the designs.
        cancels: a gain that every other data set has with the other sign, so that it is none over these.
        louder: factor on how much the last pair's gain varies.
        heavy: whether gains vary with heavy tails.
    """

    name: str
    designs: tuple[Design, ...]
    varies: float = 0.0
    cancels: float = 0.0
    louder: float = 1.0
    heavy: bool = False

    @property
    def rows(self) -> int:
        """Pairs."""
        return self.designs[0].rows

    def gains(self, generator: np.random.Generator) -> Array:
        """(D, R) true gains of one table on the logistic scale; the baseline has none."""
        shape = (len(self.designs), self.rows)
        drawn = generator.laplace(0, 2**-0.5, shape) if self.heavy else generator.normal(size=shape)
        gains = np.array([design.gains or (0.0,) * self.rows for design in self.designs]) + self.varies * drawn
        gains[:, -1] += (self.louder - 1) * self.varies * drawn[:, -1]
        gains[::2, 1:] += self.cancels
        gains[1::2, 1:] -= self.cancels
        gains[:, 0] = 0.0
        return gains


@dataclass
class Outcome:
    """Rates over many tables of one kind.

    Args:
        kind: of table.
        here: tables with a false verdict on these data sets.
        elsewhere: tables with a false verdict on others.
        friedman: tables in which Friedman's test rejects.
        ranks: tables in which any rank lies outside of its interval.
        found: true gains with a verdict.
        found_elsewhere: true gains that are told of other data sets.
    """

    kind: Kind
    here: Rate = field(default_factory=Rate)
    elsewhere: Rate = field(default_factory=Rate)
    friedman: Rate = field(default_factory=Rate)
    ranks: Rate = field(default_factory=Rate)
    found: Rate = field(default_factory=Rate)
    found_elsewhere: Rate = field(default_factory=Rate)


def run(kind: Kind, *, tables: int, seed: int) -> Outcome:
    """Simulate tables of one kind; the same seed gives the same tables, and other ones for each kind."""
    outcome = Outcome(kind)
    for at in range(tables):
        generator = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), at])
        gains = kind.gains(generator)
        data_sets = []
        for design, true in zip(kind.designs, gains, strict=True):
            table = simulate(replace(design, gains=tuple(true)), generator)
            data_sets.append(differences(table.columns[-1]))
        _verdicts(outcome, data_sets, gains)
        _ranks(outcome, data_sets, gains)
    return outcome


def _verdicts(outcome: Outcome, data_sets: Sequence[Differences], gains: Array) -> None:
    """Count verdicts that are not true of these data sets, or of all that there could be."""
    kind, rows = outcome.kind, range(1, outcome.kind.rows)
    found = [combined(data_sets, [(row, 0)] * len(data_sets)) for row in rows]
    here = holm([one.p if one else None for one in found])
    elsewhere = holm([one.elsewhere if one else None for one in found])
    shared = kind.designs[0].gains or (0.0,) * kind.rows
    false_here, false_elsewhere = False, False
    for row, one, p, other in zip(rows, found, here, elsewhere, strict=True):
        sign = np.sign(one.mean.mean) if one else 0
        marked = p is not None and p < LEVEL
        beyond = marked and other is not None and other < LEVEL
        false_here |= marked and sign != np.sign(0.0 if kind.cancels else gains[:, row].mean())
        false_elsewhere |= beyond and sign != np.sign(shared[row])
        if shared[row]:
            outcome.found.add(marked)
            if len(data_sets) >= FEWEST_DATASETS:
                outcome.found_elsewhere.add(beyond)
    outcome.here.add(false_here)
    if len(data_sets) >= FEWEST_DATASETS:
        outcome.elsewhere.add(false_elsewhere)


def _ranks(outcome: Outcome, data_sets: Sequence[Differences], gains: Array) -> None:
    """Count mean ranks outside of their intervals. Of pairs that are equal any order is right, and none is excluded."""
    found = rank_bounds(data_sets)
    low, high = (np.mean([getattr(one, name) for one in found], axis=0) for name in ("low", "high"))
    least = np.mean([1 + (true[None] > true[:, None] + 1e-12).sum(axis=1) for true in gains], axis=0)
    most = np.mean([len(true) - (true[None] < true[:, None] - 1e-12).sum(axis=1) for true in gains], axis=0)
    holds = (low <= least + 1e-9) & (most <= high + 1e-9)
    outcome.ranks.add(not holds.all())
    p = friedman(np.array([one.rank for one in found]))
    if p is not None:
        outcome.friedman.add(p < LEVEL)


def designs(data_sets: int, *, draws: int, rows: int = 5, gains: tuple[float, ...] = ()) -> tuple[Design, ...]:
    """Data sets of 240 clips."""
    return (Design("", rows=rows, draws=draws, gains=gains),) * data_sets


def _real(draws: int, rows: int = 5, gains: tuple[float, ...] = ()) -> tuple[Design, ...]:
    """Data sets as large as UCF101, HMDB51 and DIVING48."""
    sizes = (UCF101, HMDB51, DIVING48)
    return tuple(
        Design("", rows=rows, draws=draws, clips=clips, of_source=of_source, gains=gains) for clips, of_source in sizes
    )


def _level(found: tuple[Design, ...]) -> tuple[Design, ...]:
    """At accuracies of a half, where a gain and a loss of the same size cancel."""
    return tuple(replace(one, levels=(0.0, 0.0, 0.0)) for one in found)


def _counted(data_sets: int) -> str:
    return f"{data_sets} data set{'s' * (data_sets > 1)}"


def null() -> list[Kind]:
    """No pair gains on any of the data sets, or over them."""
    found = [
        Kind(f"{_counted(number)}, {rows} pairs, n = {draws}", designs(number, draws=draws, rows=rows))
        for number, rows, draws in (
            (1, 5, 3), (1, 15, 10), (2, 5, 3), (2, 5, 10), (3, 5, 3), (3, 15, 3), (3, 15, 5), (3, 15, 10), (5, 5, 3),
            (5, 15, 5), (10, 5, 3),
        )
    ]  # fmt: skip
    three, loud = designs(3, draws=3), designs(1, draws=5)[0]
    mixed = (loud, loud.quieter(0.25), replace(loud, draws=10))
    return [
        *found,
        Kind("clips as of UCF101, HMDB51 and DIVING48, 5 pairs, n = 3", _real(3)),
        Kind("the same, 5 pairs, n = 10", _real(10)),
        Kind("3 data sets, one with a quarter of the noise, one with 10 draws", mixed),
        Kind("3 data sets, one pair three times as noisy", tuple(replace(one, louder=3.0) for one in three)),
        Kind("3 data sets, heavy-tailed noise", tuple(replace(one, shape="laplace") for one in three)),
        Kind("3 data sets, draws that all agree", tuple(replace(one.quieter(0), scale=0.02) for one in three)),
        Kind("2 data sets, gains of 7 points that cancel, n = 5", _level(designs(2, draws=5)), cancels=0.3),
        Kind("4 data sets, gains of 7 points that cancel, n = 5", _level(designs(4, draws=5)), cancels=0.3),
    ]


def varying() -> list[Kind]:
    """Pairs gain here and lose there, by some five points, and nothing over all data sets that there could be."""
    found = [
        Kind(f"{number} data sets, {rows} pairs", _level(designs(number, draws=3, rows=rows)), varies=0.2)
        for number, rows in ((4, 5), (4, 15), (5, 5), (10, 5))
    ]
    five = _level(designs(5, draws=3))
    return [
        *found,
        Kind("5 data sets, heavy tails", five, varies=0.2, heavy=True),
        Kind("5 data sets, one pair varies three times as much", five, varies=0.2, louder=3.0),
    ]


def real() -> list[Kind]:
    """True gains of about 1, 2, 5 and 10 points."""
    found = [
        Kind(f"{_counted(number)}, n = {draws}", designs(number, draws=draws, gains=GAINS))
        for number in (1, 3, 5)
        for draws in (3, 5, 10)
    ]
    ten = Kind("10 data sets, n = 3, gains vary by 3 points", designs(10, draws=3, gains=GAINS), varies=0.1)
    return [*found, ten, Kind("as UCF101, HMDB51 and DIVING48, n = 5", _real(5, gains=GAINS))]


FALSE = {
    "here": "false verdict",
    "elsewhere": "false †",
    "ranks": "rank outside, any row",
}
VARYING = {"elsewhere": "false †", "friedman": "Friedman rejects"}
POWER = {
    "here": "false verdict",
    "ranks": "rank outside, any row",
    "found": "true gains with a verdict",
    "found_elsewhere": "true gains with †",
}  # fmt: skip


def as_markdown(outcomes: Sequence[Outcome], columns: dict[str, str]) -> str:
    """A table of rates in per cent: a row a kind."""
    lines = ["| table | " + " | ".join(columns.values()) + " |", "|:--|" + "--:|" * len(columns)]
    for outcome in outcomes:
        shown = [str(getattr(outcome, name)) for name in columns]
        lines.append(f"| {outcome.kind.name} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def page(nulls: list[Outcome], varied: list[Outcome], reals: list[Outcome], *, command: str, tables: int) -> str:
    """What docs/tables.md says of the simulation."""
    shares = [getattr(outcome, name).share or 0 for outcome in nulls for name in ("here", "elsewhere", "ranks")]
    worst = max([*shares, *(outcome.elsewhere.share or 0 for outcome in varied)], default=0)
    error = 100 * 1.96 * (0.05 * 0.95 / tables) ** 0.5
    return f"""`{command}` simulates {tables:,} first tables of each kind, in per cent.
Tables with a false verdict, a false † or any rank outside of its interval should be 5 or less; the worst of these
rates is {100 * worst:.1f}, with a Monte Carlo error of {error:.1f}.

No pair gains anything over these data sets:

{as_markdown(nulls, FALSE)}
Gains vary from data set to data set by some five points and are none over all that there could be. On these data sets
some are real; † would be false:

{as_markdown(varied, VARYING)}
True gains of about 1, 2, 5 and 10 points, {power_tables(tables)} tables of each kind:

{as_markdown(reals, POWER)}"""


def power_tables(tables: int) -> int:
    """How many tables with true gains are simulated beside so many without."""
    return max(tables // 10, QUICK)


def simulated(kinds: Sequence[Kind], *, tables: int, seed: int) -> list[Outcome]:
    """Outcomes of several kinds, told one by one."""
    found = []
    for kind in kinds:
        found.append(run(kind, tables=tables, seed=seed))
        one = found[-1]
        told = f"{kind.name}: here {one.here}, † {one.elsewhere}, ranks {one.ranks}, found {one.found}"
        print(told, file=sys.stderr, flush=True)
    return found


def main(given: list[str]) -> None:
    """Simulate, and print or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=int, default=TABLES, help="tables of each kind")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} tables of each kind: whether everything runs")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--write", action="store_true", help=f"write the result into {PAGE.name}")
    options = parser.parse_args(given)
    tables = QUICK if options.quick else options.tables
    counts = (tables, tables, power_tables(tables))
    every = zip((null(), varying(), real()), counts, strict=True)
    found = [simulated(kinds, tables=count, seed=options.seed) for kinds, count in every]
    command = "python -m benchmarks.statistics.over_datasets" + ("" if tables == TABLES else f" --tables {tables}")
    text = page(*found, command=command, tables=tables)
    publish(text, name="data sets", write=options.write)


if __name__ == "__main__":
    main(sys.argv[1:])

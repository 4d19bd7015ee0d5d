"""Simulated grids of `draws: {until: decided}`: how often a verdict is false, and what share of the cells it took.

    python -m benchmarks.statistics.sequential            # 2,000 grids a row, as in docs/deciding.md; a minute
    python -m benchmarks.statistics.sequential --quick    # 200 grids a row

A grid has three columns (K = 2, 8, all). The accuracy of a row in a draw is level + gain + what the draw does to all
rows + what it does to this row, rounded to whole test clips. Every second pair gains what the line says; the rest gain
nothing. All verdicts are those of `mmfuse.statistics.sequential`, which the runner and the tables use.

Shape legend: C columns, T grids, R rows (the first is the baseline), N draws.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mmfuse.statistics.sequential import BETTER, EQUIVALENT, OPEN, WORSE, Array, Rule, Verdicts, judge, looks_between

MARGIN = 0.5
LOOKS = looks_between(3, 10)
SHARED = (4.0, 4.0, 1.5)
"""Standard deviation of what a draw does to all rows, by column, in points: as in `demo`."""
OWN = (2.2, 2.0, 1.0)
"""The same of what it does to a single row."""
QUIET = (0.6, 0.4, 0.3)
"""The same on a large test list."""


@dataclass(frozen=True)
class Design:
    """One kind of grid.

    Args:
        name: what it is.
        rows: pairs, the baseline included.
        gain: of every second pair, in points.
        clips: test clips.
        own: spread of single rows, by column.
        ratio: single pairs' spreads differ by up to this factor, either way.
        loud_baseline, loud_pair: factors on the spreads of the baseline and of the last pair.
        heavy: whether draws are Laplace and not normal.
        best: whether rows are compared with the best of their column and not with the baseline.
    """

    name: str
    rows: int = 5
    gain: float = 0.0
    clips: int = 240
    own: tuple[float, float, float] = OWN
    ratio: float = 1.7
    loud_baseline: float = 1.0
    loud_pair: float = 1.0
    heavy: bool = False
    best: bool = False

    @property
    def comparisons(self) -> int:
        """Comparisons of a table."""
        return len(self.own) * (math.comb(self.rows, 2) if self.best else self.rows - 1)

    @property
    def gains(self) -> Array:
        """(R,) true gains."""
        gains = np.zeros(self.rows)
        gains[1::2] = self.gain
        return gains


def simulate(design: Design, *, grids: int, seed: int) -> Array:
    """Accuracies of whole grids, (C, T, R, N)."""
    generator = np.random.default_rng(seed)
    columns, rows, draws = len(design.own), design.rows, LOOKS[-1]
    factor = np.exp(generator.uniform(-1, 1, (columns, grids, rows, 1)) * math.log(design.ratio))
    factor[:, :, 0] *= design.loud_baseline
    factor[:, :, -1] *= design.loud_pair
    shape = (columns, grids, rows, draws)
    noise = generator.laplace(0, 0.5**0.5, shape) if design.heavy else generator.standard_normal(shape)
    shared = generator.standard_normal((columns, grids, 1, draws)) * np.reshape(SHARED, (-1, 1, 1, 1))
    own = noise * factor * np.reshape(design.own, (-1, 1, 1, 1))
    level = generator.uniform(40, 50, (columns, grids, 1, 1))
    accuracy = level + design.gains[:, None] + shared + own
    return np.asarray(np.round(accuracy * design.clips / 100) * 100 / design.clips)


@dataclass(frozen=True)
class Outcome:
    """Shares over all grids of a design, or `None` where there is nothing to take a share of.

    Args:
        design: the kind of grid.
        false: grids with a false verdict anywhere.
        false_of_ten: the same where all ten draws are run and looked at once.
        decided: comparisons with a verdict other than open.
        found: true gains found better.
        found_by_ten: the same with all ten draws.
        same: decided comparisons that all ten draws decide alike.
        verdicts: how many comparisons are decided.
        cells: cells run, of those with ten draws.
    """

    design: Design
    false: float
    false_of_ten: float
    decided: float
    found: float | None
    found_by_ten: float | None
    same: float | None
    verdicts: int
    cells: float


def run(design: Design, *, grids: int, seed: int = 0) -> Outcome:
    """Simulate grids of one design; the same seed gives the same grids."""
    accuracy = simulate(design, grids=grids, seed=seed)
    rule = Rule(LOOKS, MARGIN, design.comparisons)
    step, reference = 100 / design.clips, None if design.best else 0
    found = judge(accuracy, rule, step=step, reference=reference)
    ten = judge(accuracy, replace(rule, looks=LOOKS[-1:]), step=step, reference=reference)
    first = 0 if design.best else 1
    decided = found.verdict[..., first:] != OPEN
    alike = (found.verdict == ten.verdict)[..., first:] & decided
    real = design.gains > 0
    told = (BETTER, WORSE)[design.best]  # a true gain shows as better than the baseline, or the others as worse
    if design.best:
        real = ~real & real.any()
    return Outcome(
        design,
        false=_false(found, design),
        false_of_ten=_false(ten, design),
        decided=float(decided.mean()),
        found=_share(found.verdict[..., real] == told),
        found_by_ten=_share(ten.verdict[..., real] == told),
        same=_share(alike[decided]),
        verdicts=int(decided.sum()),
        cells=float(found.draws.mean()) / LOOKS[-1],
    )


def _share(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if hits.size else None


def _false(verdicts: Verdicts, design: Design) -> float:
    """Share of grids with a verdict that is not true of the gains they were made with."""
    verdict, over = verdicts.verdict, design.gains
    if design.best:
        over = over - over.max()
        alone = (over == 0).sum() == 1
        wrong = (verdict == BETTER) & ((over < 0) | (not alone)) | (verdict == WORSE) & (over == 0)
    else:
        wrong = (verdict == BETTER) & (over <= 0) | (verdict == WORSE) & (over >= 0)
    wrong |= (verdict == EQUIVALENT) & (np.abs(over) >= MARGIN)
    if not design.best:
        wrong[..., 0] = False
    return float(wrong.any(axis=-1).any(axis=0).mean())


def designs() -> Iterator[Design]:
    """All kinds of grids of the table in the documentation."""
    for rows in (5, 15):
        for gain in (0.0, 0.5, 1.0, 2.0, 4.0):
            yield Design("as in demo", rows, gain)
        for gain in (0.0, 0.5, 1.0, 2.0, 4.0):
            yield Design("quiet, 3,783 clips", rows, gain, clips=3783, own=QUIET)
        yield Design("baseline three times as noisy", rows, loud_baseline=3)
        yield Design("one pair three times as noisy", rows, loud_pair=3)
        yield Design("spreads from 1/3 to 3", rows, ratio=3)
        yield Design("Laplace draws", rows, heavy=True)
        yield Design("48 clips, spread 0.5", rows, clips=48, own=(0.5, 0.5, 0.5))
        for gain in (0.0, 2.0, 4.0):
            yield Design("as in demo, for the best", rows, gain, best=True)
        yield Design("for the best, one three times as noisy", rows, loud_pair=3, best=True)


HEAD = "| pairs | noise | gain | false | false, ten draws | found | found by ten | same as ten | cells |"


def line(outcome: Outcome) -> str:
    """A row of the table."""
    design = outcome.design
    shares = (outcome.false, outcome.false_of_ten, outcome.found, outcome.found_by_ten)
    same = "–" if outcome.same is None else f"{percent(outcome.same)} of {outcome.verdicts:,}"
    cells = [str(design.rows), design.name, f"{design.gain:g}", *map(percent, shares), same, percent(outcome.cells)]
    return f"| {' | '.join(cells)} |"


def pooled(outcomes: list[Outcome]) -> tuple[float, float]:
    """Over several designs: share of decided comparisons that ten draws decide alike, and of cells run."""
    verdicts = sum(outcome.verdicts for outcome in outcomes)
    alike = sum((outcome.same or 0.0) * outcome.verdicts for outcome in outcomes)
    return alike / max(verdicts, 1), sum(outcome.cells for outcome in outcomes) / len(outcomes)


def percent(share: float | None) -> str:
    """A share with one digit."""
    return "–" if share is None else f"{100 * share:.1f}"


def main() -> None:
    """Print the table of the documentation."""
    parser = argparse.ArgumentParser(description="simulate grids whose draws end when their comparisons are decided")
    parser.add_argument("--quick", action="store_true", help="200 grids a row in place of 2,000")
    grids = 200 if parser.parse_args().quick else 2000
    print(HEAD + "\n|--:|:--|--:|--:|--:|--:|--:|--:|--:|")
    by_group: dict[tuple[int, str], list[Outcome]] = {}
    for design in designs():
        outcome = run(design, grids=grids)
        by_group.setdefault((design.rows, design.name), []).append(outcome)
        print(line(outcome), flush=True)
    for (rows, name), outcomes in by_group.items():
        if len(outcomes) > 1:
            alike, cells = pooled(outcomes)
            print(f"\n{rows} pairs, {name}, all gains:")
            print(f"{percent(alike)}% of verdicts as with ten draws, {percent(cells)}% of the cells")


if __name__ == "__main__":
    main()

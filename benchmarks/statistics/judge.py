"""What a table's marks and intervals claim, compared with what is true."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.statistics.generate import Design, Simulated, over_clips, over_draws, simulate
from mmfuse.report.statistics import LEVEL, Differences, Mean, differences, holm, may_be_best, means


@dataclass
class Rate:
    """How often something happened."""

    hits: int = 0
    trials: int = 0

    def add(self, hit: bool | np.bool_) -> None:
        """Count one trial."""
        self.hits += bool(hit)
        self.trials += 1

    @property
    def share(self) -> float | None:
        """Share of hits; `None` without trials."""
        return self.hits / self.trials if self.trials else None

    def __str__(self) -> str:
        return "–" if self.share is None else f"{100 * self.share:.1f}"


@dataclass
class Outcome:
    """Rates over many tables of one design.

    Args:
        design: the kind of table.
        gain_column: tables with a false `*` in the column of gains.
        gain_table: tables with a false `*` in the table of gains.
        separated: tables with a row that is as good as the best and not marked `=`.
        over_draws: intervals over draws that hold the accuracy over all draws.
        over_clips: intervals over test clips that hold the accuracy over all clips.
        gains_over_clips: the same of differences.
        found: true gains that are marked `*` in the column of gains.
        left: rows below the best that are shown to be so in the column of means.
    """

    design: Design
    gain_column: Rate = field(default_factory=Rate)
    gain_table: Rate = field(default_factory=Rate)
    separated: Rate = field(default_factory=Rate)
    over_draws: Rate = field(default_factory=Rate)
    over_clips: Rate = field(default_factory=Rate)
    gains_over_clips: Rate = field(default_factory=Rate)
    found: Rate = field(default_factory=Rate)
    left: Rate = field(default_factory=Rate)


def run(design: Design, *, tables: int, seed: int) -> Outcome:
    """Simulate tables of one design; the same seed gives the same tables, and other ones for each design."""
    outcome = Outcome(design)
    for at in range(tables):
        generator = np.random.default_rng([seed, zlib.crc32(design.name.encode()), at])
        judge(outcome, simulate(design, generator))
    return outcome


def judge(outcome: Outcome, table: Simulated) -> None:
    """Add one table to an outcome."""
    design = outcome.design
    gains = np.array(design.gains or (0.0,) * design.rows)
    compared = [differences(column) for column in table.columns]
    worse = gains < gains.max()
    inside = may_be_best(compared)
    outcome.separated.add(any((~kept & ~worse).any() for kept in inside))
    for row in np.flatnonzero(worse):
        outcome.left.add(not inside[-1][row])
    in_column = _marks(compared[-1:], design)
    in_table = _marks(compared[:-1], design)
    outcome.gain_column.add(any(in_column[at] and not _true(gains, *at, compared[-1:]) for at in in_column))
    outcome.gain_table.add(any(in_table[at] and not _true(gains, *at, compared[:-1]) for at in in_table))
    for (_, row), marked in in_column.items():
        if gains[row] != gains[0]:
            outcome.found.add(marked)
    _cover(outcome, table, compared)


def _marks(compared: Sequence[Differences], design: Design) -> dict[tuple[int, int], bool]:
    """Which gains over the first row are marked, by column and row, as the tables of the report mark them."""
    places = [(column, row) for column in range(len(compared)) for row in range(1, design.rows)]
    p = holm([float(compared[column].p[row, 0]) for column, row in places])
    return {place: value is not None and value < LEVEL for place, value in zip(places, p, strict=True)}


def _true(gains: np.ndarray, column: int, row: int, compared: Sequence[Differences]) -> bool:
    """Whether the difference that is marked has the sign of the true one."""
    return bool(np.sign(compared[column].mean[row, 0]) == np.sign(gains[row] - gains[0]))


def _cover(outcome: Outcome, table: Simulated, compared: Sequence[Differences]) -> None:
    design = outcome.design
    for at, column in enumerate(table.columns[: len(design.levels)]):
        present = ~np.isnan(column.accuracy)
        truth = over_clips(design, table.shifts[:, at])
        shown = means(column)
        for row in (0, design.rows - 1):
            mean = shown[row]
            if mean is None:
                continue
            outcome.over_clips.add(_holds(mean, mean.half_clips, float(truth[row][present[row]].mean())))
            normal = design.shape == "normal" and (row == 0 or design.louder == 1)
            if mean.half is not None and normal:
                gain = design.gains[row] if design.gains else 0.0
                expected = over_draws(design, table.persistent[row], column=at, gain=gain)
                outcome.over_draws.add(_holds(mean, mean.half, expected))
        gain_shown = compared[at].between(design.rows - 1, 0)
        if gain_shown is not None:
            both = present[0] & present[-1]
            expected = float((truth[-1] - truth[0])[both].mean())
            outcome.gains_over_clips.add(_holds(gain_shown, gain_shown.half_clips, expected))


def _holds(mean: Mean, half: float | None, truth: float) -> bool:
    return half is not None and abs(mean.mean - truth) <= half

"""Test clips that are recognised or not, by models whose true difference is known.

Row r recognises clip i, of source s, in draw d at column k, where

    level[k] + gain[r] + source[s] + clip[i] + own source[r, s] + own clip[r, i]
             + draw[k, d] + own draw[k, r, d] + noise

is above zero. `own source` and `own clip` are what one method finds easier than another about these clips, whatever it
was trained on: over other test clips they average out, so rows with equal gains are equal in truth and yet differ on
one list. Noise is logistic and new for every model and clip.

Shape legend: R rows, K columns, n draws, N test clips, S sources.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mmfuse.report.statistics import Array, Column

FULL = (0.30, 0.25)
"""Spread of draws, shared and own, on the logistic scale: differences vary by some 4 points, as at K = 2 in `demo`."""
TRAININGS = (0.03, 0.06)
"""The same of repeated trainings on the same clips, as at K = all."""


@dataclass(frozen=True)
class Design:
    """One kind of table.

    Args:
        name: what it is.
        rows: pairs of methods; the first is the baseline.
        draws: draws.
        clips: test clips.
        of_source: clips of each source; the last source is smaller where they do not fit.
        noise: spread of draws, shared and own, by column.
        levels: level of each column on the logistic scale; 0 is an accuracy of a half.
        gains: by row, on the same scale; empty for none.
        own: spread of what one method alone finds easy, by source and by clip.
        scale: of the logistic noise of a model on a clip.
        louder: factor on the last row's own spread of draws.
        missing: share of cells that are missing.
        shape: distribution of the spread of draws: normal, uniform or laplace.
    """

    name: str
    rows: int = 5
    draws: int = 3
    clips: int = 240
    of_source: int = 10
    noise: tuple[tuple[float, float], ...] = (FULL, FULL, TRAININGS)
    levels: tuple[float, ...] = (-1.0, 0.0, 1.0)
    gains: tuple[float, ...] = ()
    own: tuple[float, float] = (0.3, 0.5)
    scale: float = 0.5
    louder: float = 1.0
    missing: float = 0.0
    shape: str = "normal"

    @cached_property
    def sizes(self) -> Array:
        """(S,) clips of each source."""
        whole, rest = divmod(self.clips, self.of_source)
        return np.array([self.of_source] * whole + [rest] * (rest > 0), dtype=np.float64)

    def quieter(self, factor: float) -> Design:
        """The same with another spread of draws."""
        return replace(self, noise=tuple((factor * shared, factor * own) for shared, own in self.noise))


SHARED = (0.7, 1.0)
"""Spread of what all methods find easy, by source and by clip."""


@dataclass(frozen=True)
class Simulated:
    """One table.

    Args:
        columns: as the report makes them of records, the mean over the last columns included.
        shifts: (R, K, n) sums of level, gain and draw: what is the same for all clips of a model.
        persistent: (R, N) sums of everything that stays with a clip.
    """

    columns: list[Column]
    shifts: Array
    persistent: NDArray[np.float32]


def simulate(design: Design, generator: np.random.Generator) -> Simulated:
    """Draw one table."""
    shifts = _shifts(design, generator)
    persistent = _persistent(design, generator)
    right = np.empty((len(design.levels), design.rows, design.draws, len(design.sizes)))
    starts = np.concatenate([[0], np.cumsum(design.sizes)[:-1]]).astype(np.int64)
    for at in range(len(design.levels)):
        for row in range(design.rows):
            chance = expit((persistent[row] + shifts[row, at, :, None]) / design.scale).astype(np.float32)
            seen = generator.random(chance.shape, dtype=np.float32) < chance
            right[at, row] = np.add.reduceat(seen, starts, axis=-1, dtype=np.int64)
    right[generator.random(right.shape[:-1]) < design.missing] = np.nan
    accuracy = 100 * right.sum(axis=-1) / design.clips
    columns = [Column(accuracy[at], right[at], design.sizes) for at in range(len(right))]
    averaged = len(right[1:])
    mean = Column(accuracy[1:].mean(axis=0), right[1:].mean(axis=0), design.sizes, averaged=averaged)
    return Simulated([*columns, mean], shifts, persistent)


def _shifts(design: Design, generator: np.random.Generator) -> Array:
    gains = np.array(design.gains or (0.0,) * design.rows)
    shared = np.array([_spread(design, generator, spread, (1, design.draws)) for spread, _ in design.noise])
    own = np.array([_spread(design, generator, spread, (design.rows, design.draws)) for _, spread in design.noise])
    own[:, -1] *= design.louder
    both = np.asarray(shared + own).transpose(1, 0, 2)
    return np.asarray(np.array(design.levels)[None, :, None] + gains[:, None, None] + both)


def _spread(design: Design, generator: np.random.Generator, spread: float, shape: tuple[int, ...]) -> Array:
    """Random numbers of mean zero and a given standard deviation."""
    if design.shape == "uniform":
        return generator.uniform(-(3**0.5) * spread, 3**0.5 * spread, shape)
    if design.shape == "laplace":
        return generator.laplace(0, spread / 2**0.5, shape)
    return generator.normal(0, spread, shape)


def _persistent(design: Design, generator: np.random.Generator) -> NDArray[np.float32]:
    source = np.repeat(np.arange(len(design.sizes)), design.sizes.astype(np.int64))
    shared = SHARED[0] * generator.standard_normal((1, len(design.sizes)), dtype=np.float32)
    own = np.float32(design.own[0]) * generator.standard_normal((design.rows, len(design.sizes)), dtype=np.float32)
    clips = SHARED[1] * generator.standard_normal((1, design.clips), dtype=np.float32)
    own_clips = np.float32(design.own[1]) * generator.standard_normal((design.rows, design.clips), dtype=np.float32)
    return np.asarray((shared + own)[:, source] + clips + own_clips, dtype=np.float32)


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def over_clips(design: Design, shifts: Array) -> Array:
    """True accuracy in per cent of given models over all clips there could be, by shift."""
    spread = np.sqrt(sum(part**2 for part in (*SHARED, *design.own)))
    return 100 * _expected(shifts, float(spread), design.scale)


def over_draws(design: Design, persistent: Array, *, column: int, gain: float = 0.0) -> float:
    """True accuracy in per cent over all draws there could be, on one list of clips, for normal draws.

    Args:
        design: the kind of table.
        persistent: (N,) what stays with each clip.
        column: which numbers of shots.
        gain: of the row.
    """
    spread = float(np.hypot(*design.noise[column]))
    return float(100 * _expected(persistent + design.levels[column] + gain, spread, design.scale).mean())


def _expected(at: Array, spread: float, scale: float) -> Array:
    """Mean of the logistic function at `at` plus a normal number of that spread."""
    values = (np.asarray(at, dtype=np.float64)[..., None] + spread * _NODES) / scale
    return np.asarray(expit(values) @ _WEIGHTS / _WEIGHTS.sum())

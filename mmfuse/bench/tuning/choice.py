"""Which of the trials is taken: the best one, if it is better than the default setting by more than chance tells.

The best of many noisy numbers is too high by construction, and where nothing helps it is the luckiest setting. So a
setting takes the default's place only where its gain, on the same validation clips, is more than one standard error
(Breiman et al. 1984, the 1-SE rule, here of the paired difference and over source groups, whose clips are alike).
`python -m benchmarks.recipes.selection` measures what that costs and what it saves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmfuse.bench.tuning.trials import Trial

MARGIN = 1.0
"""Standard errors by which a setting must be better than a simpler one."""


@dataclass(frozen=True)
class Difference:
    """The difference of two accuracies on the same clips, with its standard error over source groups.

    Both are shares between -1 and 1; the error is `None` where one group alone leaves it unknown.
    """

    mean: float
    error: float | None

    def exceeds(self, margin: float) -> bool:
        """Whether the difference is more than so many standard errors above zero."""
        return self.error is not None and self.mean > margin * self.error


def difference(ours: str, theirs: str, groups: Sequence[str]) -> Difference:
    """The paired difference of two trials.

    The standard error is that of a ratio of sums over groups (cluster-robust, with the factor G / (G - 1)).

    Args:
        ours, theirs: a character a clip, 1 where it was recognised.
        groups: the source of each clip.

    >>> difference("1110", "1000", ["a", "a", "b", "b"])
    Difference(mean=0.5, error=0.0)
    """
    gains = np.array([int(a) - int(b) for a, b in zip(ours, theirs, strict=True)], dtype=float)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    count = int(member.max()) + 1
    mean = float(gains.mean())
    if count < 2:
        return Difference(mean, None)
    residuals = np.bincount(member, weights=gains - mean)
    return Difference(mean, math.sqrt(count / (count - 1) * float(residuals @ residuals)) / len(gains))


def standard_error(hits: str, groups: Sequence[str]) -> float | None:
    """The standard error of an accuracy over source groups."""
    return difference(hits, "0" * len(hits), groups).error


@dataclass(frozen=True)
class Choice:
    """What one search came to.

    Args:
        chosen: the trial that is taken.
        default: the trial of the default setting; `None` where it gave nothing.
        best: the trial with the highest accuracy.
        gain: of the best over the default.
    """

    chosen: Trial
    default: Trial | None
    best: Trial
    gain: Difference | None

    @property
    def keeps_default(self) -> bool:
        """Whether the default setting stays."""
        return self.chosen is self.default


def choose(trials: Sequence[Trial], groups: Sequence[str], *, margin: float = MARGIN) -> Choice | None:
    """Choose among the trials of one search; `None` where none was evaluated on all folds.

    Args:
        trials: of one search.
        groups: the source of each validation clip, in the order of the trials' hits.
        margin: standard errors that the best must be above the default.
    """
    complete = [trial for trial in trials if trial.accuracy is not None]
    if not complete:
        return None
    best = max(complete, key=lambda trial: (trial.accuracy or 0.0, -trial.number))  # of equals the earlier
    default = next((trial for trial in complete if trial.number == 0), None)
    if default is None:
        return Choice(best, None, best, None)
    gain = difference(best.hits, default.hits, groups)
    return Choice(best if gain.exceeds(margin) else default, default, best, gain)

"""One search with Optuna: which setting is tried next, and which trial is given up early.

Optuna samples (tree-structured Parzen estimator; Bergstra et al. 2011) and prunes (asynchronous successive halving; Li
et al. 2020). It keeps nothing: before each trial its study is made anew from the trials that have come to their end,
and its sampler is seeded by the number of the trial. Hence what is tried next depends on these alone, and a search that
was killed goes on as one that was not. With a storage of Optuna's own it would not: a sampler begins its random numbers
again with each process, and a trial that was killed stays in the study and takes part in the halving.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mmfuse.bench.tuning.space import Dimension, Space, rounded
from mmfuse.bench.tuning.trials import State, Trial
from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    import optuna

REDUCTION = 3
"""Of the trials that reach a rung about one in so many goes on; the next rung is so many times as far."""
UNPRUNED = 4
"""The first trials are never given up: there is nothing to compare them with, and the first is the default setting."""
RANDOM = 6
"""Trials that are drawn at random before the sampler learns from them."""
RUNG = "completed_rung_"
"""Where Optuna's successive halving keeps what a trial had at each rung."""


def need_optuna() -> None:
    """Refuse a search where Optuna is not installed.

    Raises:
        MmfuseError: it is not.
    """
    if find_spec("optuna") is None:
        raise MmfuseError("searching needs Optuna: pip install 'mmfuse[tune]'")


class Sampler:
    """Says what one search tries next.

    Args:
        name: of the search; part of the seed.
        space: what is searched.
        seed: of the search.
    """

    def __init__(self, name: str, space: Space, *, seed: int) -> None:
        need_optuna()
        self._name, self._space, self._seed = name, space, seed
        self._distributions = {one.key: _distribution(one) for one in space.dimensions}

    def ask(self, settled: Sequence[Trial]) -> Asked:
        """The next trial.

        Args:
            settled: those that have come to their end, in order.
        """
        import optuna

        number = len(settled)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=self._seed_of(number), n_startup_trials=RANDOM),
                pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
            )
            study.add_trials([self._known(trial) for trial in settled])
            if number == 0:
                study.enqueue_trial(self._space.defaults)
            asked = study.ask(self._distributions)
        point = {one.key: _value(one, asked.params[one.key]) for one in self._space.dimensions}
        return Asked(study, asked, number=number, point=point)

    def _seed_of(self, number: int) -> int:
        digest = hashlib.sha256(f"{self._seed}\0{self._name}\0{number}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def _known(self, trial: Trial) -> optuna.trial.FrozenTrial:
        """A trial as Optuna knows it. One that gave nothing is left out of what is learnt from."""
        import optuna

        states = optuna.trial.TrialState
        state = {"complete": states.COMPLETE, "pruned": states.PRUNED}.get(trial.state, states.FAIL)
        steps = trial.steps if state != states.FAIL else {}
        return optuna.trial.create_trial(
            state=state,
            value=trial.accuracy,
            params={key: _clipped(one, trial.point[key]) for key, one in self._distributions.items()},
            distributions=self._distributions,
            intermediate_values=dict(steps),
            system_attrs={f"{RUNG}{number}": value for number, value in enumerate(trial.rungs)},
        )


class Asked:
    """A trial that is under way.

    Attributes:
        number: counted from 0; 0 is the default setting.
        point: the setting, by the keys of the space.
        steps: what was told of it so far, by rung.
    """

    def __init__(self, study: optuna.Study, trial: optuna.Trial, *, number: int, point: Mapping[str, Any]) -> None:
        self._study, self._trial = study, trial
        self.number, self.point = number, dict(point)
        self.steps: dict[int, float] = {}

    def goes_on(self, step: int, accuracy: float) -> bool:
        """Tell how good it is so far; whether it is worth going on.

        Args:
            step: how far it is, counted from 1 in the unit of the first rung.
            accuracy: the share of validation clips recognised.

        Raises:
            MmfuseError: the accuracy is no number.
        """
        if not math.isfinite(accuracy):
            raise MmfuseError(f"the validation accuracy is {accuracy}")
        self.steps[step] = accuracy
        self._trial.report(accuracy, step)
        # Asked in any case: it is then that what a trial had at a rung is noted for those that come later.
        pruned = self._trial.should_prune()
        return self.number < UNPRUNED or not pruned

    def as_trial(
        self, search: str, state: State, *, hits: str = "", error: str | None = None, seconds: float = 0.0
    ) -> Trial:
        """The trial, now that it has come to its end."""
        known = self._study.get_trials(deepcopy=False)[self._trial.number].system_attrs
        rungs = [value for key, value in sorted(known.items()) if key.startswith(RUNG)]
        return Trial(search, self.number, self.point, state, hits, self.steps, rungs, seconds, error)


def _distribution(one: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if one.choices is not None:
        return CategoricalDistribution(one.choices)
    return FloatDistribution(one.low, one.high, log=True)


def _value(one: Dimension, value: Any) -> Any:
    """A value as it is tried: a rate with a few digits, which may not leave its bounds."""
    return value if one.choices is not None else min(max(rounded(value), one.low), one.high)


def _clipped(distribution: Any, value: Any) -> Any:
    low, high = getattr(distribution, "low", None), getattr(distribution, "high", None)
    return value if low is None else min(max(float(value), low), high)

"""Several searches with one budget, shared out equally: the loop that asks, tries and keeps.

The loop knows neither videos nor models. What evaluates a trial is handed in, and so is the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mmfuse.bench.device_faults import is_device_fault
from mmfuse.bench.tuning.budget import Budget
from mmfuse.bench.tuning.sampler import Asked, Sampler
from mmfuse.bench.tuning.space import Space
from mmfuse.bench.tuning.trials import Journal, State, Trial
from mmfuse.errors import MmfuseError, one_line

GIVEN_UP = 3
"""Failures, with nothing else before them, after which a search is given up."""

GoesOn = Callable[[int, float], bool]
"""`goes_on(step, accuracy)`: told how good a trial is so far; false where it is to be given up."""
InTime = Callable[[], bool]
"""Whether there is time left; asked between batches."""


class GivenUp(Exception):
    """A trial is given up because others were better at this step."""


class OutOfTime(Exception):
    """A trial is stopped because the budget is spent."""


class Evaluate(Protocol):
    """Evaluates a setting: gives a character a validation clip, 1 where it was recognised.

    Raises `GivenUp` or `OutOfTime`; whatever else it raises is a failed trial.
    """

    def __call__(self, point: Mapping[str, Any], *, goes_on: GoesOn, in_time: InTime) -> str:
        """See above."""
        ...


class View(Protocol):
    """Shows a search."""

    def began(self, search: Search, number: int, point: Mapping[str, Any]) -> None:
        """A trial begins."""

    def ended(self, search: Search, trial: Trial) -> None:
        """A trial has come to its end."""


@dataclass(frozen=True)
class Search:
    """The search of one pair.

    Args:
        name: unlike that of all others; part of the seed.
        title: what is shown.
        space: what is searched.
        evaluate: tries a setting.
    """

    name: str
    title: str
    space: Space
    evaluate: Evaluate


@dataclass
class Searches:
    """All searches that share a budget.

    The next trial is always that of the search that has had least so far: fewest trials, or where the budget is a time
    fewest seconds. Every search begins with the default setting.

    Args:
        searches: one a pair.
        journal: where trials are kept.
        budget: of all.
        seed: of what is tried.
        view: shows them.
        reserve: seconds to be kept for what comes afterwards, by what is known so far; only for a time.
        clock: seconds, monotonic.
        started: when this process began to spend the budget, by the clock; by default now.
    """

    searches: Sequence[Search]
    journal: Journal
    budget: Budget
    seed: int
    view: View
    reserve: Callable[[], float] = lambda: 0.0
    clock: Callable[[], float] = time.monotonic
    started: float | None = None
    _samplers: dict[str, Sampler] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._spent_before = self.journal.seconds
        if self.started is None:
            self.started = self.clock()

    def run(self) -> None:
        """Try until the budget is spent.

        Raises:
            MmfuseError: the device can be used no more.
            KeyboardInterrupt: the user has stopped it; the trial under way will be made again.
        """
        while (search := self._next()) is not None:
            self._try(search)

    # -- which one ----------------------------------------------------------------------------------------------------

    def _next(self) -> Search | None:
        """The search that has had least, of those that may go on."""
        open_ones = [one for one in self.searches if not self._is_over(one)]
        return min(open_ones, key=self._had, default=None)

    def _had(self, search: Search) -> tuple[bool, float]:
        """What a search has had; those without any trial come first."""
        trials = self.journal.of(search.name)
        had = len(trials) if self.budget.trials is not None else sum(trial.seconds for trial in trials)
        return bool(trials), had

    def _is_over(self, search: Search) -> bool:
        trials = self.journal.of(search.name)
        if len(trials) >= GIVEN_UP and all(trial.state == "failed" for trial in trials[:GIVEN_UP]):
            return True
        if self.budget.trials is not None:
            return len(trials) >= self.budget.trials
        # A first trial is made as far as the time allows; further ones only where they can come to their end.
        return self.seconds_left() <= self._expected(trials)

    def seconds_left(self) -> float:
        """Seconds left for trials; without end where the budget is a number of trials."""
        if self.budget.seconds is None:
            return float("inf")
        assert self.started is not None
        return self.budget.seconds - self._spent_before - (self.clock() - self.started) - self.reserve()

    @staticmethod
    def _expected(trials: Sequence[Trial]) -> float:
        """Seconds that the next trial of a search will take: the mean of those that came to their end."""
        whole = [trial.seconds for trial in trials if trial.state == "complete"]
        return sum(whole) / len(whole) if whole else 0.0

    # -- one trial ----------------------------------------------------------------------------------------------------

    def _try(self, search: Search) -> None:
        settled = self.journal.of(search.name)
        asked = self._sampler(search).ask(settled)
        if not self.journal.begin(search.name, asked.number):
            told = "its process ended while it ran, again and again, as where memory runs out"
            self._settle(search, asked.as_trial(search.name, "failed", error=told))
            return
        self.view.began(search, asked.number, asked.point)
        begun, left = self.clock(), self.seconds_left()
        state, hits, error, fault = self._evaluate(search, asked, lambda: self.clock() - begun < left, begun)
        seconds = self.clock() - begun
        if state == "stopped":  # it will be made again, should there be more time one day
            self.journal.interrupt(search.name, asked.number, seconds=seconds)
            self.view.ended(search, asked.as_trial(search.name, state, seconds=seconds))
            return
        self._settle(search, asked.as_trial(search.name, state, hits=hits, error=error, seconds=seconds))
        if fault:
            raise MmfuseError(
                f"{error}: this process can use its device no more; the same command goes on with the next trial"
            )

    def _evaluate(
        self, search: Search, asked: Asked, in_time: InTime, begun: float
    ) -> tuple[State, str, str | None, bool]:
        """How a trial ended: its state, its hits, why it failed, and whether the device is lost."""
        try:
            hits = search.evaluate(asked.point, goes_on=asked.goes_on, in_time=in_time)
            return "complete", hits, None, False
        except GivenUp:
            return "pruned", "", None, False
        except OutOfTime:
            return "stopped", "", None, False
        except Exception as fault:
            return "failed", "", f"{type(fault).__name__}: {one_line(fault)}"[:500], is_device_fault(fault)
        except BaseException:
            # Lightning turns Ctrl-C and SIGTERM into ends of the process.
            self.journal.interrupt(search.name, asked.number, seconds=self.clock() - begun)
            raise KeyboardInterrupt from None

    def _settle(self, search: Search, trial: Trial) -> None:
        self.journal.settle(trial)
        self.view.ended(search, trial)

    def _sampler(self, search: Search) -> Sampler:
        if search.name not in self._samplers:
            self._samplers[search.name] = Sampler(search.name, search.space, seed=self.seed)
        return self._samplers[search.name]

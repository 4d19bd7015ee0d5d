"""From clips to one model: several pairs are searched with one budget, and the best one is trained on all clips.

No torch at import. The test list is read once, after everything, by the run of the one cell that was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmfuse.bench.tuning.choice import Choice, choose, difference, standard_error
from mmfuse.bench.tuning.space import Space, with_settings
from mmfuse.bench.tuning.trials import Journal, Trial
from mmfuse.errors import MmfuseError
from mmfuse.methods.registry import IMAGE, TEXT, catalogue, parse_pair
from mmfuse.records.cell import Cell

CANDIDATES = {
    "frozen+frozen": "nothing of the towers: seconds, and what all others must beat",
    "ssf+ssf": "a scale and a shift after each operation: hardly any weights",
    "lora+lora": "low-rank changes of both towers: the usual choice",
    "adapter+adapter": "bottlenecks in both towers",
    "st-adapter+frozen": "bottlenecks that look over the frames: for actions that only their order tells",
}
"""The pairs that are tried where none are named, one of each kind, and why."""
SAFETY = 1.25
"""By which the time of the last training is over-estimated."""


def candidate_pairs(methods: str | None) -> list[str]:
    """The pairs to try.

    Args:
        methods: names with commas between them: pairs such as dora+adapter, or methods, which are put on each tower
            that they are defined on; `None` for the usual ones.

    Raises:
        MmfuseError: an unknown name, or one that stands there twice.

    >>> candidate_pairs("lora,st-adapter,frozen+coop")
    ['lora+lora', 'st-adapter+frozen', 'frozen+coop']
    """
    if methods is None:
        return list(CANDIDATES)
    pairs = []
    for name in (part.strip() for part in methods.split(",")):
        pair = name if "+" in name else _on_both(name)
        parse_pair(pair)
        if "peft" in pair.split("+"):
            raise MmfuseError("the method peft means nothing without arguments; run it in a grid, or leave it out")
        if pair in pairs:
            raise MmfuseError(f"--methods names {pair} twice; take one away")
        pairs.append(pair)
    return pairs


def _on_both(name: str) -> str:
    known = {info.name: info.towers for info in catalogue()}
    towers = known.get(name, (IMAGE,))  # an unknown one is named as such where the pair is read
    return "+".join(name if tower in towers else "frozen" for tower in (IMAGE, TEXT))


@dataclass(frozen=True)
class Candidate:
    """A pair with the search of its settings.

    Args:
        pair: its name.
        space: what was searched.
        trials: that were made.
        choice: what is taken; `None` where no trial came to its end.
    """

    pair: str
    space: Space
    trials: list[Trial]
    choice: Choice | None

    @property
    def accuracy(self) -> float | None:
        """The validation accuracy of what is taken."""
        return None if self.choice is None else self.choice.chosen.accuracy


@dataclass(frozen=True)
class Findings:
    """What a search over pairs came to.

    Args:
        candidates: all pairs, in the order in which they were named.
        groups: the source of each validation clip.
    """

    candidates: Sequence[Candidate]
    groups: Sequence[str]

    @property
    def best(self) -> Candidate | None:
        """The pair with the highest accuracy; of equals the first. `None` where no trial came to its end."""
        found = [one for one in self.candidates if one.accuracy is not None]
        return max(found, key=lambda one: one.accuracy or 0.0, default=None)

    @property
    def as_good(self) -> list[Candidate]:
        """The other pairs whose accuracy is less than one standard error of the paired difference below the best."""
        best = self.best
        if best is None or best.choice is None:
            return []
        hits = best.choice.chosen.hits
        others = [one for one in self.candidates if one is not best and one.choice is not None]
        return [
            one
            for one in others
            if one.choice is not None and not difference(hits, one.choice.chosen.hits, self.groups).exceeds(1.0)
        ]

    def error_of(self, trial: Trial) -> float | None:
        """The standard error of a trial's accuracy, over sources."""
        return standard_error(trial.hits, self.groups) if trial.hits else None

    def chosen_cell(self) -> Cell:
        """The cell that is trained on all clips.

        Raises:
            MmfuseError: no trial came to its end.
        """
        best = self.best
        if best is None or best.choice is None:
            raise MmfuseError(self.why_nothing())
        return with_settings(best.space.cell, best.space.settings(best.choice.chosen.point))

    def why_nothing(self) -> str:
        """Why there is nothing to choose from."""
        errors = [trial.error for one in self.candidates for trial in one.trials if trial.error]
        return f"no setting could be trained; the first fault: {errors[0]}" if errors else "no trial came to its end"


def findings(spaces: Mapping[str, Space], journal: Journal, groups: Sequence[str]) -> Findings:
    """What the trials of a journal come to, by pair."""
    candidates = []
    for pair, space in spaces.items():
        trials = journal.of(pair)
        candidates.append(Candidate(pair, space, trials, choose(trials, groups)))
    return Findings(candidates, groups)


@dataclass(frozen=True)
class FinalTraining:
    """How long the last training, on all clips, and the test will take.

    Args:
        found: gives what the trials come to so far.
        clips: training clips of the last training.
        kept: training clips of all folds of a trial together.
        tested: test clips.
    """

    found: Callable[[], Findings]
    clips: int
    kept: int
    tested: int

    def seconds(self) -> float:
        """By what the trial that would be taken now took a clip and epoch; nothing before any has come to its end."""
        best = self.found().best
        if best is None or best.choice is None:
            return 0.0
        chosen = best.choice.chosen
        epochs = int(chosen.point.get("train.epochs", best.space.cell.train.epochs))
        each = chosen.seconds / (self.kept * epochs)
        return SAFETY * each * (self.clips * epochs + self.tested)


def summary(found: Findings, **more: Any) -> dict[str, Any]:
    """What was found, as plain values: for `--json`, for the file that is kept, and for the page."""
    best = found.best
    assert best is not None
    assert best.choice is not None
    chosen = best.choice.chosen
    return {
        "pair": best.pair,
        "settings": best.space.settings(chosen.point),
        "default": best.choice.keeps_default,
        "validation": {
            "top1": chosen.accuracy,
            "error": found.error_of(chosen),
            "clips": len(chosen.hits),
            "sources": len(set(found.groups)),
        },
        "as_good": [one.pair for one in found.as_good],
        "candidates": [_candidate(one, found) for one in found.candidates],
        **more,
    }


def _candidate(one: Candidate, found: Findings) -> dict[str, Any]:
    return {
        "pair": one.pair,
        "chosen": None if one.choice is None else one.choice.chosen.number,
        "top1": one.accuracy,
        "searched": one.space.document(),
        "trials": [
            {
                "number": trial.number,
                "state": trial.state,
                "settings": one.space.settings(trial.point),
                "top1": trial.accuracy,
                "error": found.error_of(trial) if trial.accuracy is not None else None,
                "early": None if not trial.steps else list(trial.steps.values())[-1],
                "seconds": trial.seconds,
                "fault": trial.error,
            }
            for trial in one.trials
        ],
    }

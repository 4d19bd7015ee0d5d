"""Measure the options of training that are off unless said: augmentation, SGD, averaged weights.

    python -m benchmarks.recipes.options --work DIR      # goes on where it was; 51 minutes of a busy machine
    python -m benchmarks.recipes.options                 # the tables, from options.csv alone

As in search.py everything is judged on validation clips cut from the training lists of `tiny` and `motley` in whole
source groups, and no test clip is read. Each option is given what the plain training is given: the same clips, steps,
rates and initial weights, and none is tuned. The rates were chosen for AdamW; whether SGD would want others is tried.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.recipes.search import HERE, METHOD_EPOCHS, SETS, Bench, Ledger, as_table
from benchmarks.recipes.search import Run as Plain
from mmfuse.methods.recipes import FUSION_RECIPE, RECIPES
from mmfuse.report.statistics import mean_of

DRAWS = (0, 1, 2)
PAIR, STILL = "lora+frozen", "frozen+frozen"
FACTORS = (0.1, 0.3, 1.0, 3.0)
"""By which SGD's learning rates may be larger than those of the recipes."""
PLAIN = "none"
OPTIONS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "mixup: 0.8": {"augmentation": {"mixup": 0.8}},
    "cutmix: 1.0": {"augmentation": {"cutmix": 1.0}},
    "color_jitter: 0.4": {"augmentation": {"color_jitter": 0.4}},
    "random_erasing: 0.25": {"augmentation": {"random_erasing": 0.25}},
    "rand_augment: {operations: 2, magnitude: 9}": {"augmentation": {"rand_augment": {}}},
    "ema: 0.999": {"ema": 0.999},
    "optimizer: sgd": {"optimizer": "sgd"},
}
"""By what stands under `train` in a grid."""


@dataclass(frozen=True)
class Trial:
    """One training with one option."""

    option: str
    pair: str
    dataset: str
    draw: int
    factor: float = 1.0
    """By which both learning rates are larger than the recipes'."""


class OptionBench:
    """Trains as `search.Bench` does, with an option.

    Args:
        bench: has the clips.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def top1(self, trial: Trial) -> float:
        """Train, and give the share of the held-out clips that is recognised."""
        rates = {"method_lr": trial.factor * RECIPES["low-rank"].lr, "fusion_lr": trial.factor * FUSION_RECIPE.lr}
        steady = {"weight_decay": FUSION_RECIPE.weight_decay, "warmup": FUSION_RECIPE.warmup}
        run = Plain(trial.pair, trial.dataset, trial.draw, **rates, **steady, epochs=METHOD_EPOCHS)
        return self.bench.top1(run, **OPTIONS[trial.option])


def sgd_rates(ledger: Ledger) -> dict[float, float | None]:
    """Mean top-1 of both sets on draw 0 with both towers frozen, by the factor of SGD's learning rates."""
    trials = {factor: [Trial("optimizer: sgd", STILL, name, 0, factor) for name in SETS] for factor in FACTORS}
    return {factor: ledger.mean(these) for factor, these in trials.items()}


def effects(ledger: Ledger) -> str:
    """Each option against the plain training of the same draws, as Markdown.

    Args:
        ledger: the trials. Those that are not there are made where it can, all of a draw before any of the next one.
    """
    places = list(itertools.product(DRAWS, SETS))
    found = {
        (place, option): ledger.top1(Trial(option, PAIR, place[1], place[0])) for place in places for option in OPTIONS
    }
    top1 = {key: 100 * value for key, value in found.items() if value is not None}
    lines = [f"| option | {' | '.join(SETS)} | gain |", "|:--|" + "--:|" * (len(SETS) + 1)]
    for option in OPTIONS:
        if any((place, option) not in top1 or (place, PLAIN) not in top1 for place in places):
            continue
        shown = [f"{mean_of([top1[(draw, name), option] for draw in DRAWS]).mean:.1f}" for name in SETS]
        gains = {place: top1[place, option] - top1[place, PLAIN] for place in places}
        gain = mean_of([sum(gains[draw, name] for name in SETS) / len(SETS) for draw in DRAWS])
        told = "" if option == PLAIN else f"{gain.mean:+.1f} ± {gain.half:.1f}"
        lines.append(f"| {'plain' if option == PLAIN else f'`{option}`'} | {' | '.join(shown)} | {told} |")
    return "\n".join(lines)


def tables(ledger: Ledger) -> str:
    """All that the trials so far tell, as Markdown."""
    rates = as_table({STILL: sgd_rates(ledger)}, what="SGD, by factor of the rates, draw 0")
    return f"{rates}\n\n{effects(ledger)}"


def main() -> None:
    """Make the trials, or print what they gave."""
    parser = argparse.ArgumentParser(description="Measure the options of training.")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder for the second set and what is kept of it")
    parser.add_argument("--runs", type=Path, default=HERE / "options.csv", metavar="FILE", help="where results stand")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = OptionBench(Bench(options.work)) if options.work else None
    print(tables(Ledger(options.runs, bench, kind=Trial)))


if __name__ == "__main__":
    main()

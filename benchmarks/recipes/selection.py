"""Is the best of many trials better than the default, and how much better must it look to be taken?

    python -m benchmarks.recipes.selection                  # the simulation; a minute
    python -m benchmarks.recipes.selection --train PAIR     # real searches on `tiny`; no test clip is read

The simulation makes trials whose true accuracies are known, and lets `mmfuse.bench.tuning.choice.choose` choose by the
clips that each recognises. The training searches on one half of the source groups of `tiny`'s training list, and judges
the default and what was chosen on the other half, which no search has seen.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri

from mmfuse.bench.tuning.budget import Budget
from mmfuse.bench.tuning.choice import choose, difference
from mmfuse.bench.tuning.fold_training import FoldTraining
from mmfuse.bench.tuning.folds import Fold, TrainingPool
from mmfuse.bench.tuning.interval import accuracy_interval
from mmfuse.bench.tuning.prepare import pool_of
from mmfuse.bench.tuning.search import Search, Searches
from mmfuse.bench.tuning.space import space_of
from mmfuse.bench.tuning.trials import Journal, Trial
from mmfuse.data import few_shot
from mmfuse.records.cell import Cell

MARGINS = (0.0, 1.0, 2.0)
TABLES = 400
TRIALS = 16
DEFAULT = 0.5
ALIKE, IN_SOURCE = 0.5, 0.3
"""Share of the variance that a clip has in common over settings, and clips of one source have among them."""
WORLDS = {"nothing helps": (0.0, 0.0), "most are worse": (-0.05, 0.05), "some are better": (0.0, 0.05)}
"""Mean and standard deviation of the true gains of settings over the default."""


def simulated(clips: int, world: tuple[float, float], rng: np.random.Generator) -> tuple[list[Trial], list[str], Any]:
    """Trials of one search, the sources of the clips (two of each), and the true gains over the default."""
    mean, spread = world
    gains = np.concatenate([[0.0], rng.normal(mean, spread, TRIALS - 1)])
    sources = np.arange(clips) // 2
    common = np.sqrt(ALIKE) * rng.normal(size=clips)
    source = np.sqrt(IN_SOURCE) * rng.normal(size=(TRIALS, clips // 2 + 1))[:, sources]
    rest = np.sqrt(1 - ALIKE - IN_SOURCE) * rng.normal(size=(TRIALS, clips))
    right = common + source + rest < ndtri(np.clip(DEFAULT + gains, 0.01, 0.99))[:, None]
    hits = ["".join("1" if one else "0" for one in row) for row in right]
    trials = [Trial("simulated", number, {}, "complete", text) for number, text in enumerate(hits)]
    return trials, [str(one) for one in sources], gains


def simulation() -> str:
    """True gains of what is chosen, by margin, as Markdown."""
    lines = [
        "| settings | held-out clips | margin | true gain | default kept | worse by > 2 points |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for (name, world), clips in [(item, clips) for item in WORLDS.items() for clips in (48, 200)]:
        rng = np.random.default_rng(0)
        searches = [simulated(clips, world, rng) for _ in range(TABLES)]
        for margin in MARGINS:
            found = []
            for trials, sources, gains in searches:
                choice = choose(trials, sources, margin=margin)
                assert choice is not None
                found.append((gains[choice.chosen.number], choice.keeps_default))
            gain = 100 * np.array([one for one, _ in found])
            kept = float(np.mean([keeps for _, keeps in found]))
            told = f"{gain.mean():+.2f} ± {1.96 * gain.std(ddof=1) / np.sqrt(TABLES):.2f}"
            lines.append(f"| {name} | {clips} | {margin:g} | {told} | {kept:.0%} | {np.mean(gain < -2):.0%} |")
    return "\n".join(lines)


def coverage(tables: int = 1000) -> str:
    """How often the interval of one accuracy holds the true one, as Markdown: clips of a source share their chance."""
    lines = ["| accuracy | sources | clips of each | alike | holds |", "|--:|--:|--:|--:|--:|"]
    rng = np.random.default_rng(0)
    for share, (sources, each), alike in itertools.product((0.5, 0.9), ((8, 3), (30, 1), (30, 4)), (0.05, 0.5)):
        held = 0
        groups = [str(one) for one in np.repeat(np.arange(sources), each)]
        for _ in range(tables):
            width = 1 / alike - 1  # of the beta distribution whose intraclass correlation is `alike`
            chance = rng.beta(share * width, (1 - share) * width, sources)
            right = rng.random(sources * each) < np.repeat(chance, each)
            low, high = accuracy_interval(right.tolist(), groups)
            held += low <= share <= high
        lines.append(f"| {share} | {sources} | {each} | {alike} | {held / tables:.1%} |")
    return "\n".join(lines)


class Quiet:
    """Shows nothing."""

    def began(self, *_: Any) -> None:
        """Nothing."""

    def ended(self, search: Search, trial: Trial) -> None:
        """One line a trial."""
        print(f"  {trial.number} {trial.state} {trial.accuracy} {trial.seconds:.0f} s", flush=True)


def halves(cell: Cell, shots: int) -> tuple[TrainingPool, Fold]:
    """The clips that are searched on, and a fold that trains on all of them and is judged on those held out."""
    whole = pool_of(cell)
    kept, held = few_shot.hold_out(whole.catalogue, whole.clips, share=0.5)
    chosen = kept.groupby("label", sort=True).head(shots).reset_index(drop=True)

    def only(clips: set[str], **parts: str) -> Any:
        table = whole.catalogue.table
        table = table[table["clip"].isin(clips)].reset_index(drop=True)
        part = [parts["held"] if clip in set(held["clip"]) else parts["kept"] for clip in table["clip"]]
        return dataclasses.replace(whole.catalogue, table=table.assign(part=part))

    judged = only({*chosen["clip"], *held["clip"]}, kept="train", held="test")
    pool = TrainingPool(only(set(chosen["clip"]), kept="train", held="test"), chosen)
    return pool, Fold(judged, judged.part("test"))


def trained(pair: str, *, draws: int, trials: int, epochs: int, shots: int) -> str:
    """Default and chosen settings on sources that no search has seen, as Markdown."""
    image, text = pair.split("+")
    lines = [
        "| pair | draw | search: default | search: best | taken | unseen: default | unseen: taken |",
        "|:--|--:|--:|--:|:--|--:|--:|",
    ]
    for draw in range(draws):
        cell = Cell(
            dataset={"name": "tiny"},
            pair={"name": pair, "image": image, "text": text},
            shots="all",
            draw=draw,
            clip={"frames": 8, "size": 64, "flip": False},
            fusion={"kind": "joint", "width": 128},
            train={"epochs": epochs},
        )
        pool, unseen = halves(cell, shots)
        space = space_of(cell)
        training, outer = FoldTraining(space, pool), FoldTraining(space, pool, folds=(unseen,))
        with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "trials", {}) as journal:
            search = Search(pair, pair, space, training)
            Searches([search], journal, Budget(trials=trials), seed=draw, view=Quiet()).run()
            choice = choose(journal.trials, training.groups)
        assert choice is not None
        assert choice.default is not None
        always = {"goes_on": lambda *_: True, "in_time": lambda: True}
        default = outer(space.defaults, **always)
        taken = default if choice.keeps_default else outer(choice.chosen.point, **always)
        gain = difference(taken, default, outer.groups)
        shown = "default" if choice.keeps_default else str(space.settings(choice.chosen.point))
        lines.append(
            f"| {pair} | {draw} | {_percent(choice.default.hits)} | {_percent(choice.best.hits)} | {shown} | "
            f"{_percent(default)} | {_percent(taken)} ({100 * gain.mean:+.1f} ± {100 * (gain.error or 0):.1f}) |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines)


def _percent(hits: str) -> str:
    return f"{100 * hits.count('1') / len(hits):.1f}"


def main() -> None:
    """Simulate, or train."""
    parser = argparse.ArgumentParser(description="How good is the best of many trials?")
    parser.add_argument("--train", metavar="PAIR", help="search on tiny with this pair")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--shots", type=int, default=8)
    options = parser.parse_args()
    if options.train is None:
        print(simulation(), coverage(), sep="\n\n")
        return
    torch.set_num_threads(1)
    print(
        trained(options.train, draws=options.draws, trials=options.trials, epochs=options.epochs, shots=options.shots)
    )


if __name__ == "__main__":
    main()

"""Choose the training recipes of `mmfuse.methods.recipes`: one a family of methods, the same budget for each.

    python -m benchmarks.recipes.search --work DIR             # goes on where it was
    python -m benchmarks.recipes.search --work DIR --methods   # then every method with its family's recipe
    python -m benchmarks.recipes.search                        # the tables, from runs.csv alone

Everything is judged on validation clips cut from the training lists of two generated sets, `tiny` and `motley` (see
second_set.py), in whole source groups; no test clip is ever read. Of each class half of the training clips is held out,
and 8 of the rest are learnt from. Two draws of both.

Two searches, one after the other:
  fusion   with both towers frozen the fusion's learning rate, then weight decay and warm-up, which the methods share
  rates    a family's learning rate, with one of its methods on each tower, the other tower frozen: four rates on
           one draw, and the next one where the best is the lowest or the highest; the better two on the other draw too
What has the highest top-1, averaged over towers, sets and draws, is taken; of equals the smaller.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import functools
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from torch import Tensor

from benchmarks.recipes.second_set import make
from mmfuse import ActionRecognizer, FewShotVideoDataModule
from mmfuse.bench.run_cell import quiet
from mmfuse.data import few_shot
from mmfuse.encoders import load_image_tower, load_text_tower
from mmfuse.methods.recipes import FUSION_RECIPE, recipes_of
from mmfuse.methods.registry import names

Choice = TypeVar("Choice", float, tuple[float, float])

HERE = Path(__file__).resolve().parent
SETS = ("tiny", "motley")
DRAWS = (0, 1)
SHOTS, HELD_OUT = 8, 0.5
EPOCHS, METHOD_EPOCHS = 24, 16  # frozen towers train in seconds; methods are given fewer steps, all of them as many
LADDER = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FIRST = slice(3, 7)  # the rates that every family is tried with; where the best is the lowest or highest, the next too
FUSION_RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
FINALISTS = 2
WIDE = 512  # the fusion beside towers of usual size; elsewhere it is as wide as the demonstration's
STEADY = tuple(itertools.product((0.0, 0.05), (0.05, 0.1, 0.2)))  # weight decay, warm-up
FAMILIES = {
    "baseline": ("full+frozen", "frozen+full"),  # of the baselines only `full` trains anything
    "selective": ("bitfit+frozen", "frozen+bitfit"),
    "scaling": ("ssf+frozen", "frozen+ssf"),
    "prompt": ("vpt-deep+frozen", "frozen+coop"),
    "adapter": ("adaptformer+frozen", "frozen+pfeiffer"),
    "low-rank": ("lora+frozen", "frozen+lora"),
    "orthogonal": ("oft+frozen", "frozen+oft"),
}
"""A family's methods in the search, as pairs of image and text method."""
SPELT = {
    "peft": {"method": "peft", "type": "HRA", "r": 8},
    "vpt-deep-2": {"method": "vpt-deep", "length": 2},
    "prefix-2": {"method": "prefix", "length": 2},
    "coop-words": {"method": "coop", "words": "a video of a shape"},
}
"""Methods that a name alone does not tell."""
LOOKED_INTO = (  # below the frozen towers at first
    "vpt-deep+frozen",
    "vpt-deep-2+frozen",
    "prefix+frozen",
    "prefix-2+frozen",
    "vera+frozen",
    "frozen+vera",
    "frozen+coop",
    "frozen+coop-words",
    "frozen+deep-prompt",
    "frozen+prefix",
)
LOOKED_AT = (1e-3, 1e-2)
ALL_EPOCHS = 20  # of every method, on all that is not held out


@dataclass(frozen=True)
class Run:
    """One training, and all that was chosen for it."""

    pair: str
    dataset: str
    draw: int
    method_lr: float = 1e-3
    fusion_lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    shots: str = str(SHOTS)
    width: int = 128
    epochs: int = EPOCHS


class Bench:
    """Trains on what is kept of the training list and says how good that is on what was held out.

    Args:
        work: folder for the second set, the lists and the features of the frozen tower.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        self.datasets = {"tiny": "tiny", "motley": make(work / "motley")}
        self.image, self.text = load_image_tower("tiny-dinov2"), load_text_tower("tiny-clip-text")
        self.data = functools.lru_cache(self._data)

    def _data(self, dataset: str, draw: int, shots: str, frozen: bool) -> FewShotVideoDataModule:
        """Clips of one draw; kept, with what was decoded. `frozen` ones give features of the frozen tower."""
        whole = FewShotVideoDataModule(self.datasets[dataset], shots="all", draw=draw)
        kept, held = few_shot.hold_out(whole.catalogue, whole.train_clips, share=HELD_OUT)
        if shots != "all":
            kept = kept.groupby("label", sort=True).head(int(shots))
        listed = self.work / f"{dataset}-draw{draw}-k{shots}.txt"
        rows = [
            f"{clip} {label}" for part in (kept, held) for clip, label in zip(part["clip"], part["label"], strict=True)
        ]
        listed.write_text("\n".join(rows) + "\n", encoding="utf-8")
        data = FewShotVideoDataModule(
            self.datasets[dataset],
            train_list=listed,
            validation=len(held) / len(rows),
            size=64,
            flip=False,
            seed=draw,
        )
        if set(data.validation_clips["clip"]) != set(held["clip"]):
            raise RuntimeError("the data module has held out other clips")
        if frozen:
            towers = {"image_encoder": copy.deepcopy(self.image), "text_encoder": copy.deepcopy(self.text)}
            tower = ActionRecognizer(data.class_names, **towers)

            def compute(video: Tensor) -> Tensor:
                with torch.no_grad():
                    return tower.frame_features(video)

            key = self.image.weights_fingerprint()
            data.use_cached_features(compute, width=tower.frame_encoder.width, key=key, folder=self.work / "features")
        return data

    def top1(self, run: Run, **options: Any) -> float:
        """Train, and give the share of the held-out clips that is recognised.

        Args:
            run: the training.
            options: more arguments of the recogniser.
        """
        image, text = run.pair.split("+")
        data = self.data(run.dataset, run.draw, run.shots, image == "frozen" and "augmentation" not in options)
        with quiet():
            model = ActionRecognizer(
                data.class_names,
                image_encoder=copy.deepcopy(self.image),
                text_encoder=copy.deepcopy(self.text),
                image_method=SPELT.get(image, image),
                text_method=SPELT.get(text, text),
                fusion={"kind": "joint", "width": run.width},
                templates=data.templates,
                frames=data.frames,
                method_lr=run.method_lr,
                fusion_lr=run.fusion_lr,
                weight_decay=run.weight_decay,
                warmup=run.warmup,
                seed=run.draw,
                **options,
            )
            trainer = L.Trainer(
                max_epochs=run.epochs,
                accelerator="cpu",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
            )
            L.seed_everything(run.draw, workers=True, verbose=False)
            trainer.fit(model, data)
            trainer.limit_val_batches = 1.0
            [metrics] = trainer.validate(model, data, verbose=False)
        return float(metrics["val/top1"])


class Ledger:
    """The results of all runs so far, in a CSV file that grows by a line a run.

    Args:
        path: the file; made when the first run ends.
        bench: makes the runs that are not there, by its `top1`; `None`: they are left out.
        kind: dataclass of the runs.
    """

    def __init__(self, path: Path, bench: Any, kind: type = Run) -> None:
        self.path, self.bench = path, bench
        self.known: dict[tuple[str, ...], float] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self.known[tuple(row[field.name] for field in dataclasses.fields(kind))] = float(row["top1"])

    def top1(self, run: Any) -> float | None:
        """What a run gave; it is made if need be."""
        key = tuple(map(str, dataclasses.astuple(run)))
        if key not in self.known and self.bench is not None:
            begun = time.monotonic()
            self.known[key] = round(self.bench.top1(run), 4)
            self._append(run, self.known[key], time.monotonic() - begun)
        return self.known.get(key)

    def _append(self, run: Any, top1: float, seconds: float) -> None:
        row = {**dataclasses.asdict(run), "top1": top1, "seconds": round(seconds, 1)}
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(*row.values(), flush=True)

    def mean(self, runs: Sequence[Any]) -> float | None:
        """Mean top-1 of several runs; `None` where one has not been made."""
        found = [self.top1(run) for run in runs]
        return None if None in found else sum(value for value in found if value is not None) / len(found)


Setting = dict[str, Any]


def over(pairs: Sequence[str], setting: Setting, draws: Sequence[int] = DRAWS) -> list[Run]:
    """One setting with all pairs, draws and sets."""
    return [Run(pair, dataset, draw, **setting) for draw, pair, dataset in itertools.product(draws, pairs, SETS)]


def best(scores: dict[Choice, float | None]) -> Choice | None:
    """What has the highest score, of equals the smaller; `None` while a score is missing."""
    if not scores or None in scores.values():
        return None
    return max(sorted(scores), key=lambda choice: scores[choice] or 0.0)


class Search:
    """The three searches, each step of which makes the runs it needs and says what they chose.

    Args:
        ledger: the runs.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def fusion_rates(self) -> dict[float, float | None]:
        """Mean top-1 by the fusion's learning rate."""
        return {rate: self.ledger.mean(over(["frozen+frozen"], {"fusion_lr": rate})) for rate in FUSION_RATES}

    def wide_fusion(self) -> dict[float, float | None]:
        """The same for a wide fusion, on the first draw: a check that decides nothing."""
        settings = {rate: {"fusion_lr": rate, "width": WIDE} for rate in FUSION_RATES[:-1]}
        return {rate: self.ledger.mean(over(["frozen+frozen"], how, DRAWS[:1])) for rate, how in settings.items()}

    def fusion_steady(self) -> dict[tuple[float, float], float | None]:
        """Mean top-1 by weight decay and warm-up of the fusion."""
        if (rate := best(self.fusion_rates())) is None:
            return {}
        settings = {(decay, warmup): {"weight_decay": decay, "warmup": warmup} for decay, warmup in STEADY}
        return {
            choice: self.ledger.mean(over(["frozen+frozen"], {"fusion_lr": rate, **setting}))
            for choice, setting in settings.items()
        }

    def fusion(self) -> Setting | None:
        """What the other searches start from."""
        rate, steady = best(self.fusion_rates()), best(self.fusion_steady())
        if rate is None or steady is None:
            return None
        return {"fusion_lr": rate, "weight_decay": steady[0], "warmup": steady[1]}

    def frozen(self, draws: Sequence[int]) -> float | None:
        """Mean top-1 without any method, trained for as long as the families are."""
        if (fusion := self.fusion()) is None:
            return None
        return self.ledger.mean(over(["frozen+frozen"], {**fusion, "epochs": METHOD_EPOCHS}, draws))

    def _method(self, rate: float) -> Setting:
        return {**(self.fusion() or {}), "method_lr": rate, "epochs": METHOD_EPOCHS}

    def first_rates(self, family: str) -> dict[float, float | None]:
        """Mean top-1 on the first draw, by a family's learning rate: those of the ladder that were tried."""
        scores: dict[float, float | None] = {}
        if self.fusion() is None:
            return scores
        tried = list(LADDER[FIRST])
        while len(scores) < len(tried):
            for rate in tried:
                scores[rate] = self.ledger.mean(over(FAMILIES[family], self._method(rate), DRAWS[:1]))
            if (found := best(scores)) is None:
                break
            if found in (min(tried), max(tried)):
                place = LADDER.index(found)
                tried += [rate for rate in LADDER[max(place - 1, 0) : place + 2] if rate not in tried]
        return scores

    def last_rates(self, family: str) -> dict[float, float | None]:
        """Mean top-1 on both draws, of the rates that were best on the first one."""
        first = self.first_rates(family)
        if best(first) is None:
            return {}
        finalists = sorted(first, key=lambda rate: (-(first[rate] or 0.0), rate))[:FINALISTS]
        return {rate: self.ledger.mean(over(FAMILIES[family], self._method(rate))) for rate in sorted(finalists)}


def every_method(ledger: Ledger) -> dict[str, float | None]:
    """Top-1 of every method of the catalogue on `tiny`, beside a frozen tower, learning from all that is not held out.

    Returns:
        By pair, on draw 0.
    """
    pairs = ["frozen+frozen"]
    pairs += [f"{name}+frozen" for name in names("image") if name not in ("frozen", "adapter")]  # adapter: an alias
    pairs += [f"frozen+{name}" for name in names("text") if name not in ("frozen", "adapter")]
    found: dict[str, float | None] = {}
    for pair in pairs:
        parts = recipes_of(*(SPELT.get(name, name) for name in pair.split("+")))
        fusion = parts["fusion"]
        method = parts.get("image") or parts.get("text") or fusion
        steady = {"weight_decay": fusion.weight_decay, "warmup": fusion.warmup}
        run = Run(pair, "tiny", 0, method.lr, fusion.lr, **steady, shots="all", epochs=ALL_EPOCHS)
        found[pair] = ledger.top1(run)
    return found


def looked_into(ledger: Ledger) -> dict[str, dict[float, float | None]]:
    """Methods that stayed below the frozen tower, at two rates: top-1 on draw 0, as in `every_method`."""
    fusion = FUSION_RECIPE
    shared = {"fusion_lr": fusion.lr, "weight_decay": fusion.weight_decay, "warmup": fusion.warmup}
    scores: dict[str, dict[float, float | None]] = {}
    for pair, rate in itertools.product(LOOKED_INTO, LOOKED_AT):
        run = Run(pair, "tiny", 0, rate, **shared, shots="all", epochs=ALL_EPOCHS)
        scores.setdefault(pair, {})[rate] = ledger.top1(run)
    return scores


def as_table(columns: dict[str, dict[Any, float | None]], *, what: str) -> str:
    """Markdown: a row for each of `columns`, a column for each setting, the best in bold."""
    settings = sorted({setting for scores in columns.values() for setting in scores})
    lines = [f"| {what} | " + " | ".join(_named(setting) for setting in settings) + " |"]
    lines.append("|:--|" + "--:|" * len(settings))
    for name, scores in columns.items():
        chosen = best(scores)
        cells = [_percent(scores.get(setting), bold=setting == chosen) for setting in settings]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _named(setting: Any) -> str:
    return ", ".join(f"{value:g}" for value in setting) if isinstance(setting, tuple) else f"{setting:g}"


def _percent(value: float | None, *, bold: bool = False) -> str:
    if value is None:
        return "–"
    return f"**{100 * value:.1f}**" if bold else f"{100 * value:.1f}"


def tables(search: Search) -> str:
    """All that the runs so far tell, as Markdown."""
    wide = {"width 128": search.fusion_rates(), f"width {WIDE}": search.wide_fusion()}
    first = {family: search.first_rates(family) for family in FAMILIES}
    last = {family: search.last_rates(family) for family in FAMILIES}
    frozen = [search.frozen(DRAWS[:1]), search.frozen(DRAWS)]
    parts = [as_table(wide, what="fusion, by learning rate")]
    parts.append(as_table({"fusion": search.fusion_steady()}, what="by weight decay, warm-up"))
    parts.append(as_table(first, what="family, by learning rate, draw 0"))
    parts.append(f"Without a method: {_percent(frozen[0])} on draw 0, {_percent(frozen[1])} on both.")
    parts.append(as_table(last, what="the better two, both draws"))
    lines = ["| pair | rate | top-1 |", "|:--|--:|--:|"]
    for pair, value in every_method(search.ledger).items():
        recipes = recipes_of(*(SPELT.get(name, name) for name in pair.split("+")))
        method = recipes.get("image") or recipes.get("text")
        lines.append(f"| {pair} | {f'{method.lr:g}' if method else '–'} | {_percent(value)} |")
    parts.append("\n".join(lines))
    parts.append(as_table(looked_into(search.ledger), what="looked into, by learning rate, draw 0"))
    return "\n\n".join(parts)


def main() -> None:
    """Make the runs, or print what they gave."""
    parser = argparse.ArgumentParser(description="Choose the training recipes.")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder for the second set and what is kept of it")
    parser.add_argument("--runs", type=Path, default=HERE / "runs.csv", metavar="FILE", help="where results stand")
    parser.add_argument("--methods", action="store_true", help="run every method with its recipe instead of the search")
    options = parser.parse_args()
    torch.set_num_threads(1)
    search = Search(Ledger(options.runs, Bench(options.work) if options.work else None))
    if options.work is None:
        print(tables(search))
    elif options.methods:
        every_method(search.ledger)
        looked_into(search.ledger)
    else:
        # All families go through a step before any goes through the next: a search cut short is fair to all.
        search.frozen(DRAWS)
        for step in (search.first_rates, search.last_rates):
            for family in FAMILIES:
                step(family)


if __name__ == "__main__":
    main()

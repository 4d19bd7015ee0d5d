"""What a second cell costs on a warm worker, outside its training and test loops."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from benchmarks.speed.grids import Case, run_grid
from benchmarks.speed.materials import (
    ClipSet,
    embedded_towers,
    image_tower,
    listed,
    moving_clips,
    text_tower,
    tiny_clips,
)
from benchmarks.speed.measuring import Bench, Figure, Row

PAIRS = ("frozen+frozen", "dora+adapter", "lora+frozen", "vpt-deep+coop")


def measure(bench: Bench) -> list[Row]:
    """With the embedded towers, and with ones of the size of ViT-B."""
    tiny = Case(tiny_clips(bench.folder / "warm", test=2), embedded_towers(), PAIRS, (2,), 1, classes=12, width=128)
    rows = [_case(bench, tiny, "embedded towers")]
    if not bench.quick:
        bench.say("making towers and clips")
        large = (image_tower(bench.folder, "vit-b"), text_tower(bench.folder))
        few = shortened(moving_clips(bench.folder), bench.folder)
        rows.append(_case(bench, Case(few, large, PAIRS, (1,), 1, classes=4), "towers of ViT-B's size"))
    return rows


def shortened(clips: ClipSet, folder: Path, *, each: int = 1) -> ClipSet:
    """So many clips a class to learn from, and as many to be tested on."""
    rows = [
        list(pd.read_csv(path).groupby("label").head(each)[["path", "label"]].itertuples(index=False, name=None))
        for path in (clips.train, clips.test)
    ]
    return listed(f"{clips.name}-{each}", clips.root, *rows, lists=folder, size=clips.size, flip=clips.flip)


def _case(bench: Bench, case: Case, what: str) -> Row:
    name = f"warm-{case.towers[0].name}"
    run_grid(bench, case, name=name, pairs=case.pairs, shots=case.shots, epochs=case.epochs)
    records = [json.loads(path.read_text()) for path in (bench.folder / f"grid-{name}" / "results").rglob("*.json")]
    done = sorted((r for r in records if r.get("state") == "done"), key=lambda r: r["provenance"]["started"])
    outside = {
        record["cell"]["pair"]["name"]: record["cost"]["seconds"]
        - record["cost"]["train_seconds"]
        - record["cost"]["test_seconds"]
        for record in done
    }
    later = list(outside.values())[1:]
    return Row(
        "warm",
        f"a further cell on a warm worker, outside training and test, {what}",
        "",
        Figure.of(later),
        unit="s",
        at_most=0.5,
        how="by the wall, as records have it",
        figures={"outside": outside},
    )

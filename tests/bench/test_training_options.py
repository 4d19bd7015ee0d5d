"""Options of training in whole cells: what they do to what is kept, to estimates, and to records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmfuse.bench.estimate import clips_in_memory, keeps_features, work_of
from mmfuse.bench.job import Job, Outcome
from mmfuse.bench.run_cell import run_cell
from mmfuse.records.cell import Cell
from tests.bench.real import make_cell

pytestmark = pytest.mark.usefixtures("cache")

AUGMENTED: dict[str, Any] = {
    "mixup": 0.8,
    "cutmix": 1.0,
    "color_jitter": 0.4,
    "random_erasing": 0.5,
    "rand_augment": {},
}
ALL: dict[str, Any] = {**AUGMENTED, "optimizer": "sgd", "momentum": 0.8, "ema": 0.9}


def with_train(cell: Cell, **train: Any) -> Cell:
    frozen = {"name": "frozen+frozen", "image": "frozen", "text": "frozen"}
    told = cell.model_dump()
    return Cell.model_validate({**told, "pair": frozen, "train": {**told["train"], **train}})


def run(cell: Cell) -> Outcome:
    return run_cell(Job(cell=cell, command="again", keep_checkpoint=True), progress=lambda news: None)


def test_augmented_clips_leave_no_features_and_the_same_cell_gives_the_same_weights(
    clips: dict[str, str], towers: dict[str, str], cache: Path
) -> None:
    cell = with_train(make_cell(clips, towers), **ALL)
    first, again = run(cell), run(cell)
    assert not (cache / "features").exists()
    weights = [outcome.files["checkpoint/trained.safetensors"] for outcome in (first, again)]
    assert weights[0] == weights[1]
    record = first.record
    assert record.cell.config_hash == cell.config_hash
    assert record.recipes is not None
    assert record.recipes["fusion"]["lr"] == cell.recipes["fusion"].lr


def test_estimates_know_that_augmented_clips_are_looked_at_in_every_epoch(
    clips: dict[str, str], towers: dict[str, str]
) -> None:
    plain = with_train(make_cell(clips, towers), epochs=100, batch_size=3)
    augmented = with_train(make_cell(clips, towers), epochs=100, batch_size=3, mixup=0.8)
    assert keeps_features(plain)
    assert not keeps_features(augmented)
    assert work_of(augmented) > 3 * work_of(plain)
    assert clips_in_memory(augmented) == 3

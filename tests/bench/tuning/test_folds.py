"""Folds are cut from training clips by whole sources, and a search is handed nothing else."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pandas as pd
import pytest

import mmfuse.bench.tuning
from mmfuse.bench.tuning.fold_training import FoldTraining, validation_groups
from mmfuse.bench.tuning.folds import PARTS, TrainingPool, folds_of, training_pool
from mmfuse.bench.tuning.search import GivenUp, OutOfTime
from mmfuse.bench.tuning.space import space_of
from mmfuse.data import few_shot
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell

CELL = Cell(
    dataset={"name": "tiny"},
    pair={"name": "frozen+frozen", "image": "frozen", "text": "frozen"},
    shots=2,
    clip={"frames": 2, "size": 32, "views": 1},
    fusion={"kind": "mean", "width": 16},
    train={"epochs": 3, "batch_size": 12},
)


@pytest.fixture(scope="module")
def tiny() -> Catalogue:
    return load_catalogue("tiny")


def pool_of(catalogue: Catalogue, shots: int) -> TrainingPool:
    return training_pool(catalogue, few_shot.draw_clips(catalogue, shots=shots, draw=0))


@pytest.mark.parametrize("shots", [2, 3, 8, 16])
def test_folds_hold_out_whole_sources_of_training_clips_of_every_class(tiny: Catalogue, shots: int) -> None:
    pool = pool_of(tiny, shots)
    folds = folds_of(pool)
    drawn, tested = set(pool.clips["clip"]), set(tiny.part("test")["clip"])
    for fold in folds:
        kept = fold.catalogue.part("train")
        assert {*kept["clip"], *fold.held["clip"]} == drawn
        assert not tested & set(fold.catalogue.table["clip"])
        assert not {*zip(kept["label"], kept["group"], strict=True)} & {
            *zip(fold.held["label"], fold.held["group"], strict=True)
        }
        assert set(kept["label"]) == set(fold.held["label"]) == set(range(12))
    held = pd.concat([fold.held["clip"] for fold in folds])
    assert held.is_unique
    assert len(folds) == min(PARTS, shots)
    assert set(held) == drawn, "with so few clips each is held out once"
    assert len(validation_groups(folds)) == len(held)


def test_one_fold_is_enough_where_it_holds_out_enough_clips(tiny: Catalogue) -> None:
    assert len(folds_of(pool_of(tiny, 16), enough=48)) == 1


def test_a_class_of_one_source_is_named(tiny: Catalogue) -> None:
    with pytest.raises(MmfuseError, match="from 'MoveRight': its 1 training clip is of one source"):
        folds_of(pool_of(tiny, 1))


def test_a_clip_of_the_test_list_is_refused(tiny: Catalogue) -> None:
    with pytest.raises(MmfuseError, match="in the test list"):
        training_pool(tiny, tiny.part("test").head(1))


def test_what_searches_cannot_read_a_data_set() -> None:
    """Behind the door of `training_pool` nothing reads lists: neither by a catalogue nor by a data set's name."""
    reads = {"load_catalogue", "located_catalogue", "lists_of", "resolve", "make_data", "make_test_data", "run_cell"}
    folder = Path(mmfuse.bench.tuning.__file__).parent
    for name in ("search", "sampler", "space", "trials", "choice", "folds", "fold_training"):
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        called |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not reads & called, name


def test_a_trial_needs_no_test_clip_and_repeats_itself(tiny: Catalogue) -> None:
    """The videos of the test list are not even there; and what one trial gives does not hang on those before it."""
    absent = tiny.table.assign(
        path=[
            path if part == "train" else "/nowhere"
            for path, part in zip(tiny.table["path"], tiny.table["part"], strict=True)
        ]
    )
    training = FoldTraining(space_of(CELL), pool_of(dataclasses.replace(tiny, table=absent), 2))
    steps: list[int] = []

    def goes_on(step: int, accuracy: float) -> bool:
        assert 0 <= accuracy <= 1
        steps.append(step)
        return True

    point = {"train.fusion_lr": 0.002}
    first = training(point, goes_on=goes_on, in_time=lambda: True)
    assert steps == [1, 3, 6]
    assert len(first) == len(training.groups) == 24
    assert training(point, goes_on=goes_on, in_time=lambda: True) == first
    for ended, given in (  # each before another trial of the same search
        (GivenUp, {"goes_on": lambda *_: False, "in_time": lambda: True}),
        (OutOfTime, {"goes_on": goes_on, "in_time": lambda: False}),
    ):
        with pytest.raises(ended):
            training(point, **given)

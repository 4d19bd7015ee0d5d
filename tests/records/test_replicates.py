"""Which cells may be averaged, and how the rows of those are named that may not."""

from __future__ import annotations

from typing import Any

import pytest

from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import PlannedCell
from mmfuse.records.replicates import row_names, variants
from mmfuse.records.status import Entry

PAIR = {"name": "dora+adapter", "image": "dora", "text": "adapter"}


def entry(*, shots: int = 2, draw: int = 0, inputs: dict[str, str] | None = None, **settings: Any) -> Entry:
    cell = Cell.model_validate({"dataset": "tiny", "pair": PAIR, "shots": shots, "draw": draw, **settings})
    return Entry(PlannedCell(cell, Inputs(**(inputs or {}))), "missing")


def test_draws_and_seeds_are_replicates() -> None:
    entries = [entry(draw=draw, seed=seed, shots=k) for draw in (0, 1) for seed in (0, 1) for k in (2, 4)]
    assert set(row_names(entries)) == {"dora+adapter"}
    assert len({one.cell.replicate_key for one in entries}) == 2  # one a number of shots


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train": {"epochs": 12}}, "epochs 12"),
        ({"train": {"method_lr": 0.5}}, "image.lr 0.5, text.lr 0.5"),
        ({"fusion": {"kind": "joint", "width": 64}}, "fusion.width 64"),
        ({"clip": {"frames": 16}}, "clip.frames 16"),
        ({"clip": {"flip": False}}, "clip.flip no"),
        ({"templates": ["a clip of {}"]}, "templates ['a clip of {}']"),
        ({"precision": "64-true"}, "precision 64-true"),
        ({"encoders": {"image": "facebook/dinov2-base"}}, "encoders.image facebook/dinov2-base"),
        ({"pair": {**PAIR, "image": {"method": "dora", "rank": 2}}}, "image.rank 2"),
        ({"dataset": {"name": "tiny", "damaged": "keep"}}, "dataset.damaged keep"),
    ],
)
def test_one_name_with_two_settings_is_two_rows(settings: dict[str, Any], told: str) -> None:
    entries = [entry(draw=0), entry(draw=1), entry(draw=2, **settings)]
    names = row_names(entries)
    assert names[0] == names[1] != names[2] == f"dora+adapter ({told})"
    assert entries[0].cell.replicate_key == entries[1].cell.replicate_key != entries[2].cell.replicate_key


@pytest.mark.parametrize("digest", ["dataset", "test_clips", "image_tower", "text_tower"])
def test_other_inputs_are_another_row_even_under_equal_settings(digest: str) -> None:
    old, new = {digest: "a" * 64}, {digest: "b" * 64}
    entries = [entry(draw=0, inputs=old), entry(draw=1), entry(draw=2, inputs=new)]
    named = digest.replace("_", " ")
    assert variants(entries) == [f"{named} aaaaaaaa", f"{named} aaaaaaaa", f"{named} bbbbbbbb"]


def test_another_draw_of_clips_is_no_other_input() -> None:
    assert variants([entry(draw=0, inputs={"train_clips": "a"}), entry(draw=1, inputs={"train_clips": "b"})]) == [
        "",
        "",
    ]


def test_settings_that_go_with_the_number_of_shots_keep_one_row() -> None:
    entries = [entry(shots=2, train={"epochs": 60}), entry(shots=8, train={"epochs": 30})]
    assert row_names(entries) == ["dora+adapter", "dora+adapter"]


def test_rows_of_two_grids_are_named_alike_at_every_number_of_shots() -> None:
    entries = [entry(shots=k, train={"epochs": epochs}) for epochs in (1, 12) for k in (2, 8)]
    assert row_names(entries) == ["dora+adapter (epochs 1)"] * 2 + ["dora+adapter (epochs 12)"] * 2

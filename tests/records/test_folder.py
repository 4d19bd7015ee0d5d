"""A results folder of thousands of cells: what has not changed is not read again, nor is it listed cell by cell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mmfuse.records import folder as module
from mmfuse.records.cell import Cell, Inputs, identity
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.record import Failure, failed
from tests.bench.fakes import done

CELLS = [
    Cell.model_validate(
        {"dataset": "tiny", "pair": {"name": "p", "image": "lora", "text": "frozen"}, "shots": 2, "draw": draw}
    )
    for draw in range(3)
]
KNOWN = Inputs(**{name: name for name in ("dataset", "train_clips", "test_clips", "image_tower", "text_tower")})


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultsFolder:
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))
    made = ResultsFolder(tmp_path / "results")
    made.prepare()
    for cell in CELLS:
        outcome = done(cell, inputs=KNOWN.model_copy(update={"test_clips": None}))
        made.write(outcome.record, outcome.files)
    return made


def test_only_what_has_changed_is_read_again(results: ResultsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = results.read()
    read: list[Path] = []
    original = module.read_record
    monkeypatch.setattr(module, "read_record", lambda path: read.append(path) or original(path))
    again, _ = results.read()
    assert [record.name for record in again] == [record.name for record in before] == sorted(c.name for c in CELLS)
    assert read == []
    changed = results.records / f"{before[1].stem}.json"
    os.utime(changed, ns=(1, 1))
    results.read()
    assert read == [changed]


def test_a_finished_cell_is_found_by_its_name_where_all_its_inputs_are_known(
    results: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = ResultsFolder(results.path)
    outcome = done(CELLS[0], inputs=KNOWN)
    elsewhere.write(outcome.record, outcome.files)
    partly = KNOWN.model_copy(update={"text_tower": None})
    assert len(list(results.finished(CELLS[0], partly))) == 2  # with and without the digest of the test list
    listed: list[Any] = []
    monkeypatch.setattr(Path, "glob", lambda path, pattern: listed.append(pattern) or [])
    [found] = results.finished(CELLS[0], KNOWN)
    assert found.identity == identity(CELLS[0].config_hash, KNOWN)
    assert listed == []


def test_a_failure_goes_when_its_cell_is_done_without_a_listing_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ResultsFolder(tmp_path)
    results.prepare()
    for cell in CELLS:
        results.write(failed(cell, Failure(kind="Lost", message="lost"), inputs=Inputs()))
    listings: list[Any] = []
    original = os.listdir
    monkeypatch.setattr(module.os, "listdir", lambda path: listings.append(path) or original(path))
    for cell in CELLS:
        outcome = done(cell, inputs=KNOWN)
        results.write(outcome.record, outcome.files)
    assert sorted(path.name for path in results.records.glob("*.json")) == sorted(
        f"{done(cell, inputs=KNOWN).record.stem}.json" for cell in CELLS
    )
    assert len(listings) <= 1

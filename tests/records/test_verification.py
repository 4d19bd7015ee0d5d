"""A record that was edited, with its checksum renewed, is found out by its predictions."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmfuse.records import verification
from mmfuse.records.cell import Cell, Dataset, Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.predictions import decode
from mmfuse.records.predictions import test_list_digest as list_digest
from mmfuse.records.record import Record
from mmfuse.records.status import read_entries
from mmfuse.utils.files import sha256_of_file, sha256_of_json
from tests.bench.fakes import done

CELL = Cell.model_validate({"dataset": "tiny", "pair": {"name": "p", "image": "lora", "text": "frozen"}, "shots": 2})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultsFolder:
    """One finished cell that recognised 60 % of its test clips."""
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))
    made = ResultsFolder(tmp_path / "results")
    made.prepare()
    made.write_manifest(Manifest("test", [PlannedCell(CELL)]))
    outcome = done(CELL, inputs=Inputs(), top1=0.6)
    made.write(outcome.record, outcome.files)
    [table] = made.records.glob("*.csv.gz")
    _edit(made, lambda content: content["inputs"].update(test_clips=list_digest(decode(table))))
    assert [entry.state for entry in read_entries(made)] == ["done"]
    return made


def _edit(folder: ResultsFolder, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a record and renew its checksum."""
    [path] = folder.records.glob("*.json")
    content = json.loads(path.read_text())
    content.pop("checksum")
    change(content)
    path.write_text(json.dumps({**content, "checksum": sha256_of_json(content)}))


def _set(*place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set("metrics", "top1", value=0.9), "a top1 of 0.900000, its predictions of 0.600000"),
        (_set("metrics", "top5", value=0.9), "a top5 of 0.900000"),
        (_set("metrics", "mean_class", value=0.61), "a mean_class of 0.610000"),
        (_set("metrics", "test_clips", value=1000), "1,000 test clips, its predictions of"),
        (_set("predictions", "clips", value=1000), "test clips, its predictions of"),
        (_set("predictions", "sha256", value="0" * 64), "not those that were written with it"),
        (_set("predictions", "file", value="other.csv.gz"), "are missing"),
        (_set("predictions", value=None), "without predictions"),
        (_set("metrics", value=None), "without metrics"),
        (_set("class_names", value=["only"]), "name classes that it does not have"),
        (_set("inputs", "test_clips", value="f" * 64), "of another test list"),
    ],
)
def test_an_edited_record_is_no_record(folder: ResultsFolder, change: Callable[..., None], told: str) -> None:
    _edit(folder, change)
    [entry] = read_entries(folder)
    assert entry.state == "failed"
    assert entry.failure is not None
    assert entry.failure.kind == "DamagedRecord"
    assert told in entry.failure.message
    assert "run the grid again" in entry.failure.message


def test_predictions_that_were_edited_along_contradict_themselves(folder: ResultsFolder) -> None:
    [table] = folder.records.glob("*.csv.gz")
    lines = gzip.decompress(table.read_bytes()).decode().replace(",0,1,0.4", ",0,0,0.4").encode()
    table.write_bytes(gzip.compress(lines))
    _edit(folder, _set("predictions", "sha256", value=sha256_of_file(table)))
    _edit(folder, lambda content: content["metrics"].update(top1=1.0, mean_class=1.0))
    [entry] = read_entries(folder)
    assert entry.failure is not None
    assert "contradict themselves" in entry.failure.message


def test_a_setting_that_was_edited_makes_a_record_stale(folder: ResultsFolder) -> None:
    _edit(folder, lambda content: content["cell"]["train"].update(epochs=3))
    [entry] = read_entries(folder)
    assert (entry.state, entry.reason) == ("stale", "changed: train.epochs")


def test_predictions_are_compared_once_and_again_when_they_change(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Record] = []
    compare = verification.contradiction

    def watched(record: Record, path: Path) -> str | None:
        read.append(record)
        return compare(record, path)

    monkeypatch.setattr(verification, "contradiction", watched)
    for _ in range(3):
        assert [entry.state for entry in read_entries(folder)] == ["done"]
    assert read == []  # the fixture has read them
    [table] = folder.records.glob("*.csv.gz")
    table.write_bytes(gzip.compress(gzip.decompress(table.read_bytes()).replace(b"clip1,", b"clipX,")))
    assert [entry.state for entry in read_entries(folder)] == ["failed"]
    assert len(read) == 1


def test_own_data_sets_of_one_name_in_two_places_are_two(folder: ResultsFolder) -> None:
    def planned(place: str, videos: str) -> PlannedCell:
        cell = CELL.model_copy(update={"dataset": Dataset(name="mine", root=place)})
        return PlannedCell(cell, Inputs(videos=videos))

    def roots() -> list[str | None]:
        return [entry.cell.dataset.root for entry in read_entries(folder) if entry.cell.dataset.own]

    folder.write_manifest(Manifest("first", [planned("/a", "one")]))
    folder.write_manifest(Manifest("second", [planned("/b", "another")]))
    assert roots() == ["/a", "/b"]
    folder.write_manifest(Manifest("second", [planned("/moved", "one")]))
    assert roots() == ["/moved"], "the same clips elsewhere are no other data set"

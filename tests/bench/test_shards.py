"""Parts of a grid: each cell in one of them, the same whoever asks, about equal in cost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmfuse.bench.added_draws import column_of
from mmfuse.bench.grid import load_grid
from mmfuse.bench.session import Request, Session
from mmfuse.bench.shards import share_of
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.selection import Shard
from mmfuse.records.status import conflicts, read_entries
from mmfuse.records.until_decided import UntilDecided
from tests.bench import fakes

OWN = {
    "name": "mine",
    "datasets": ["ucf101", "hmdb51"],
    "shots": [2, 16, "all"],
    "draws": [0, 1],
    "pairs": ["frozen+frozen", "frozen+adapter", "dora+adapter"],
    "encoders": {"image": "facebook/dinov2-base", "text": "openai/clip-vit-base-patch16"},
}


def parts(cells: Sequence[Cell], count: int, rule: UntilDecided | None = None) -> list[list[str]]:
    shares = [share_of(cells, Shard(number, count), until_decided=rule) for number in range(1, count + 1)]
    assert sum(share.cost for share in shares) == pytest.approx(1)
    return [[cell.name for cell in share.cells] for share in shares]


def session(folder: Path, **request: Any) -> Session:
    return Session(Request(grid=OWN, results=folder, **request))


@pytest.mark.parametrize("rule", [None, UntilDecided(until="decided", at_most=5)])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_every_cell_is_in_one_part_and_columns_that_are_decided_stay_whole(
    tmp_path: Path, rule: UntilDecided | None, count: int
) -> None:
    draws = {} if rule is None else {"draws": rule.to_json()}
    cells = Session(Request(grid=OWN | draws, results=tmp_path)).cells
    found = parts(cells, count, rule)
    assert Counter(name for part in found for name in part) == Counter(cell.name for cell in cells)
    if rule is not None:
        part_of = {name: number for number, part in enumerate(found) for name in part}
        columns = {(column_of(cell), part_of[cell.name]) for cell in cells}
        assert len(columns) == len({column for column, _ in columns})


def test_parts_are_about_equal_in_cost_also_where_few_cells_cost_the_most(tmp_path: Path) -> None:
    cells = session(tmp_path).cells
    for count in (2, 3, 4):
        costs = [share_of(cells, Shard(number, count)).cost * count for number in range(1, count + 1)]
        assert 0.95 < min(costs) <= max(costs) < 1.05
    assert len({len(part) for part in parts(cells, 3)}) > 1  # equal numbers of cells would be 1.4 times as costly


def test_cells_that_share_the_features_of_a_frozen_tower_stay_together_where_that_costs_nothing(tmp_path: Path) -> None:
    pairs = ["frozen+frozen", "frozen+adapter", "dora+frozen", "dora+adapter", "lora+frozen", "lora+adapter"]
    cells = Session(Request(grid=OWN | {"pairs": pairs, "shots": [2, 16]}, results=tmp_path)).cells
    part_of = {name: number for number, part in enumerate(parts(cells, 2)) for name in part}
    frozen = {(cell.dataset.name, part_of[cell.name]) for cell in cells if cell.pair.image["method"] == "frozen"}
    assert len(frozen) == 2  # each data set has its own, all in one part


def test_a_part_follows_from_the_grid_and_not_from_what_has_been_run(tmp_path: Path) -> None:
    before = [cell.name for cell in session(tmp_path, shard="2/3").cells]
    folder = ResultsFolder(tmp_path)
    folder.prepare()
    for entry in session(tmp_path).entries()[::2]:
        outcome = fakes.done(entry.cell, inputs=entry.planned.inputs)
        folder.write(outcome.record, outcome.files)
    again = session(tmp_path, shard="2/3")
    assert [cell.name for cell in again.cells] == before
    assert {entry.state for entry in again.entries()} == {"done", "missing"}


def test_the_command_line_wins_over_the_grid_and_no_record_names_a_shard(tmp_path: Path) -> None:
    grid = OWN | {"run": {"shard": "1/4"}}
    of_grid = Session(Request(grid=grid, results=tmp_path))
    assert str(of_grid.share.shard) == "1/4"  # type: ignore[union-attr]
    other = Session(Request(grid=grid, results=tmp_path, shard="2/4"))
    assert not {cell.name for cell in other.cells} & {cell.name for cell in of_grid.cells}
    for command in (other.rerun_command(other.cells[0]), session(tmp_path, shard="2/4").rerun_command(other.cells[0])):
        assert "2/4" not in command
    # The grid's own part would leave the cell out.
    assert "--shard 1/1" in other.rerun_command(other.cells[0])


def test_parts_in_folders_of_their_own_are_merged_by_copying_and_what_they_read_otherwise_is_named(
    tmp_path: Path,
) -> None:
    small = OWN | {"datasets": ["ucf101"], "shots": [2], "draws": [0]}
    for number, digest in ((1, "a"), (2, "a"), (3, "b")):
        part = Session(Request(grid=small, results=tmp_path / str(number), shard=f"{number}/3"))
        part.folder.prepare()
        part.folder.write_manifest(part._manifest(part.possible_entries()))
        for entry in part.entries():
            known = entry.planned.inputs.model_copy(update={"videos": digest})
            outcome = fakes.done(entry.cell, inputs=known)
            part.folder.write(outcome.record, outcome.files)
    for parts_copied, conflict in (((1, 2), False), ((3,), True)):
        for number in parts_copied:
            shutil.copytree(tmp_path / str(number), tmp_path / "all", dirs_exist_ok=True)
        entries = read_entries(ResultsFolder(tmp_path / "all"))
        assert [sentence.split(" differ")[0] for sentence in conflicts(entries)] == (
            ["the videos of ucf101, split 1"] if conflict else []
        )
    assert [entry.state for entry in entries] == ["done"] * 3


@pytest.mark.parametrize("text", ["3/2", "0/2", "a/b", "1/0", "1", "", "1/2/3", "-1/2", "1.0/2", "1/10001", "١/٢"])
def test_what_is_no_part_is_refused_and_nothing_is_written(tmp_path: Path, text: str) -> None:
    for make in (lambda: session(tmp_path / "r", shard=text), lambda: load(tmp_path, text)):
        with pytest.raises(MmfuseError, match="a shard is written i/n, such as 1/4"):
            make()
    assert not (tmp_path / "r").exists()


def load(folder: Path, text: str) -> None:
    path = folder / "g.yaml"
    path.write_text(f"name: g\ndatasets: tiny\nshots: 1\npairs: frozen+frozen\nrun: {{shard: {text!r}}}\n")
    load_grid(str(path))


def test_more_parts_than_there_is_to_run_and_lists_that_are_not_here_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match=r"the shard 5/5 has nothing to run: there are 3 cells"):
        Session(Request(grid=OWN, only=["pair=dora+adapter", "dataset=ucf101", "draw=0"], shard="5/5"))
    rule = {"until": "decided", "at_most": 5}
    with pytest.raises(MmfuseError, match=r"there are 6 columns \(data set, split, K\), which stay whole"):
        Session(Request(grid=OWN | {"draws": rule}, shard="7/7"))
    clips = {"name": "own", "root": str(tmp_path), "train": "train.csv", "test": "test.csv"}
    with pytest.raises(MmfuseError, match=r"train.csv is not here, and a grid is parted by how many clips"):
        Session(Request(grid=OWN | {"datasets": [clips]}, shard="1/2"))

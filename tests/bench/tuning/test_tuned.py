"""`mmfuse tune` from end to end once, and the file of winners as grids take it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmfuse.bench.grid import load_grid
from mmfuse.bench.session import Request, Session
from mmfuse.bench.tuning.grid_search import GridSearch
from mmfuse.bench.tuning.tuned import TunedSettings
from mmfuse.cli import bench
from mmfuse.errors import MmfuseError, MmfuseWarning
from mmfuse.records.record import Tuned
from mmfuse.report.tables.notes import tuned_note
from tests.bench.real import SIZE, make_clips, make_towers
from tests.report.made import build, results

PAIRS = ["frozen+frozen", "lora+frozen"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    make_clips(folder / "drifts", train=2)
    write(folder / "grid.yaml", make_towers(folder / "towers"))
    return folder


def write(path: Path, towers: Any, **more: Any) -> Path:
    content = {
        "name": "small",
        "datasets": [{"name": "drifts", "root": str(path.parent / "drifts"), "train": "train.csv", "test": "test.csv"}],
        "shots": [1, 2],
        "draws": [0, 1],
        "pairs": PAIRS,
        "encoders": towers,
        "clip": {"frames": 2, "size": SIZE, "views": 1},
        "fusion": {"kind": "mean", "width": 8},
        "train": {"epochs": 2},
        **more,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def again(place: Path, name: str, **more: Any) -> Path:
    content = yaml.safe_load((place / "grid.yaml").read_text(encoding="utf-8"))
    path = place / name
    path.write_text(yaml.safe_dump({**content, **more}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tuned(place: Path) -> Path:
    """The file of winners, by the command; it is made to have found something."""
    with pytest.MonkeyPatch.context() as patch:
        words = ["tune", str(place / "grid.yaml"), "--trials=2", "--threads=1", f"--out={place / 'small-tuned.yaml'}"]
        patch.setattr(sys, "argv", ["mmfuse-bench", *words])
        with pytest.raises(SystemExit) as end:
            bench.main()
        assert not end.value.code
    content = yaml.safe_load((place / "small-tuned.yaml").read_text(encoding="utf-8"))
    assert [(one["pair"], one["shots"], one["trials"]) for one in content["winners"]] == [(p, [1, 2], 2) for p in PAIRS]
    assert content["winners"][1]["validation"]["clips"] == 6
    content["winners"][1]["settings"] = {"train": {"method_lr": 0.002, "epochs": 4}, "image": {"rank": 16}}
    content["winners"][1]["default"] = False
    content["winners"][0] |= {"settings": {}, "default": True}
    path = place / "found.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_winners_change_the_cells_that_they_are_for_and_no_others(place: Path, tuned: Path) -> None:
    before = load_grid(str(place / "grid.yaml")).cells()
    grid = load_grid(str(again(place, "with.yaml", tuned="found.yaml")))
    after = grid.cells()
    assert [cell.name for cell in before] == [cell.name for cell in after]
    for old, new in zip(before, after, strict=True):
        assert (old.config_hash == new.config_hash) is (old.pair.name == "frozen+frozen")
        if old.pair.name == "lora+frozen":
            assert (new.train.epochs, new.train.method_lr, new.pair.image["rank"]) == (4, 0.002, 16)
            assert new.train.fusion_lr == old.train.fusion_lr
    assert [cell.config_hash for cell in grid.untuned_cells()] == [cell.config_hash for cell in before]
    assert grid.tuned is not None
    assert grid.tuned.told(after[-1]) == Tuned(file=TunedSettings(tuned).digest, trials=2, default=False)


def test_records_name_the_file(place: Path, tuned: Path, tmp_path: Path) -> None:
    grid = str(again(place, "with.yaml", tuned="found.yaml"))
    session = Session(Request(grid=grid, results=tmp_path))
    [job, *_] = [session._job(entry, _NoStore()) for entry in session.entries()]  # type: ignore[arg-type]
    assert job.tuned == Tuned(file=TunedSettings(tuned).digest, trials=2, default=True)


class _NoStore:
    def store_for(self, _: Any) -> None:
        return None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pairs": [*PAIRS, "dora+frozen"]}, "no settings for dora+frozen on drifts split 1 at K=1"),
        ({"fusion": {"kind": "mean", "width": 16}}, "searched beside other ones than the grid has now"),
        ({"overrides": [{"where": {"shots": [1]}, "train": {"epochs": 9}}]}, "searched beside other ones than"),
        ({"tuned": "absent.yaml"}, "there is no file"),
    ],
)
def test_what_was_not_searched_is_refused(place: Path, tuned: Path, change: Any, told: str) -> None:
    path = again(place, "changed.yaml", **{"tuned": "found.yaml", **change})
    with pytest.raises(MmfuseError, match=re.escape(told)) as fault:
        load_grid(str(path)).cells()
    assert str(fault.value).startswith(f"{path}:"), "with its line"


def test_a_file_that_is_no_file_of_winners_names_its_line(place: Path, tuned: Path) -> None:
    content = yaml.safe_load(tuned.read_text(encoding="utf-8"))
    content["winners"][1]["settings"] = {"tower": {"rank": 3}}
    (place / "bad.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(MmfuseError, match=r"bad.yaml:\d+: winners\[1\]"):
        load_grid(str(again(place, "changed.yaml", tuned="bad.yaml"))).cells()


def test_changed_clips_are_told_of(place: Path, tuned: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(tuned.read_text(encoding="utf-8"))
    content["winners"][0]["read"]["videos"] = "0" * 64
    (place / "old.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    grid = str(again(place, "changed.yaml", tuned="old.yaml"))
    with pytest.warns(MmfuseWarning, match="searched before the videos of drifts changed"):
        Session(Request(grid=grid, results=tmp_path)).prepare()


def test_each_number_of_shots_apart_needs_clips_to_hold_out(place: Path) -> None:
    with pytest.raises(MmfuseError, match="no validation part can be cut from 'jumping': its 1 training clip"):
        GridSearch(load_grid(str(place / "grid.yaml")), by_shots=True, data_root=place)


def test_tables_say_how_settings_were_found(tmp_path: Path) -> None:
    entries = results(tmp_path, [build(pair) for pair in ("frozen+frozen", "dora+adapter")], lambda _: 0.5)
    plain, searched = (entry.record for entry in entries if entry.record is not None)
    assert tuned_note([plain, searched]) == []
    told = Tuned(file="0" * 64, trials=12, default=True)
    provenance = searched.provenance.model_copy(update={"tuned": told})
    [note] = tuned_note([plain, searched.model_copy(update={"provenance": provenance})])
    assert "tuned with 12 trials a pair" in note
    assert "stayed for 1 of 1" in note
    assert "Not tuned, and so at a disadvantage: frozen+frozen" in note

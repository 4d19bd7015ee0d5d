"""Running a grid from Python: what is checked before the first cell, and what comes back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmfuse import run_grid
from mmfuse.bench.session import Request, Session
from mmfuse.errors import MmfuseError
from mmfuse.records.status import read_entries
from tests.bench.real import CLASSES, SIZE, make_clips, make_towers


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_towers(root)
    make_clips(root / "clips")
    return root


def grid(world: Path, **changes: Any) -> dict[str, Any]:
    own = {"name": "walks", "root": str(world / "clips"), "train": "train.csv", "test": "test.csv", "classes": CLASSES}
    keys: dict[str, Any] = {
        "name": "mine",
        "datasets": [own],
        "shots": [1],
        "pairs": ["frozen+frozen"],
        "encoders": {"image": str(world / "image"), "text": str(world / "text")},
        "clip": {"frames": 2, "size": SIZE},
        "fusion": {"kind": "mean", "width": 16},
        "train": {"epochs": 1, "batch_size": 4},
    }
    return keys | changes


class Watching:
    """A view that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, worker: int, job: Any) -> None:
        self.told.append("started")

    def progressed(self, worker: int, job: Any, progress: Any) -> None:
        pass

    def finished(self, worker: int, record: Any) -> None:
        self.told.append(record.state)

    def skipped(self, job: Any) -> None:
        self.told.append("skipped")

    def decoding(self, dataset: str, done: int, total: int) -> None:
        self.told.append(f"decoded {done} of {total}")

    def tick(self) -> None:
        pass


def test_a_grid_of_keys_runs_and_can_be_run_again_by_its_command(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    view = Watching()
    folder = run_grid(grid(world), results=tmp_path / "results", workers=1, view=view)
    [record] = folder.read()[0]
    assert (record.state, view.told) == ("done", ["started", "done"])
    assert capfd.readouterr() == ("", ""), "nothing is printed unless asked"
    again = Watching()
    run_grid(grid(world), results=tmp_path / "results", workers=1, view=again)
    assert again.told == [], "finished cells keep their numbers"
    words = record.command.split()
    assert words[0] == "mmfuse-bench"
    rerun = Session(Request(grid=words[words.index("--grid") + 1], results=tmp_path / "results"))
    assert [entry.state for entry in rerun.entries()] == ["done"], "the kept file is the same grid"


def test_a_script_needs_no_main_guard(world: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import mmfuse\nmmfuse.run_grid({grid(world)!r}, results={str(tmp_path / 'out')!r}, workers=1)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failed_cell_is_among_the_results_with_its_reason(world: Path, tmp_path: Path) -> None:
    folder = run_grid(grid(world), results=tmp_path, workers=1, time_limit=0.001)
    [entry] = read_entries(folder)
    assert entry.failure is not None
    assert (entry.state, entry.failure.kind) == ("failed", "TimeLimit")


def test_everything_that_is_missing_is_told_before_the_first_cell(world: Path, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    absent = {"image": str(tmp_path / "image"), "text": str(tmp_path / "nowhere")}
    own = {"name": "gone", "root": str(tmp_path / "clips"), "train": "train.csv", "test": "test.csv"}
    with pytest.raises(MmfuseError) as caught:
        run_grid(grid(world, encoders=absent, datasets=[own]), results=tmp_path / "results", workers=1)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3, lines
    assert not (tmp_path / "results").exists(), "nothing is written for a run that cannot begin"


def test_a_class_of_one_clip_has_none_to_validate_on(tmp_path: Path) -> None:
    grid = {"name": "one", "datasets": ["tiny"], "shots": [1], "pairs": ["frozen+frozen"]}
    Session(Request(grid=grid, results=tmp_path / "without")).prepare()
    with pytest.raises(MmfuseError, match="no validation part can be cut from 'MoveRight'") as told:
        Session(Request(grid={**grid, "train": {"validation": 0.25}}, results=tmp_path / "with")).prepare()
    assert "\n" not in str(told.value)
    assert not (tmp_path / "with").exists()


def test_only_the_towers_of_cells_to_be_run_are_looked_for(world: Path, tmp_path: Path) -> None:
    run_grid(grid(world), results=tmp_path, workers=1)
    pairs = ["frozen+frozen", {"name": "other", "image": "frozen", "text": "frozen", "encoders": {"text": "no/where"}}]
    view = Watching()
    run_grid(grid(world, pairs=pairs), results=tmp_path, workers=1, only=["pair=frozen+frozen"], view=view)
    assert view.told == []


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_is_a_number_of_seconds(limit: float) -> None:
    with pytest.raises(MmfuseError, match="--time-limit is a number of seconds above 0"):
        Request(grid="smoke", time_limit=limit)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"draws": object}, "a grid holds texts"),
        ({"draws": {1, 2}}, "draws"),
        ({"datsets": ["tiny"]}, "did you mean 'datasets'"),
        ({"name": "../x"}, "name"),
    ],
)
def test_wrong_keys_are_named(world: Path, tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(MmfuseError, match=told):
        run_grid(grid(world) | keys, results=tmp_path / "results")
    assert not (tmp_path / "results").exists()

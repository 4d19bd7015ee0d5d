"""Which results folder and which grid a command takes: named by its place or by an option, or the one written last."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import typer

from mmfuse.cli import bench, main, verbs
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.latest import find_results
from tests.report.made import build, results


def written(path: Path, at: int, *, pair: str = "frozen+frozen") -> Path:
    """A results folder whose files were all written at one time."""
    results(path, [build(pair, draw=draw) for draw in range(3)], lambda _: 0.5)
    for file in path.rglob("*"):
        os.utime(file, (at, at))
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Exit code, stdout and stderr of `mmfuse` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmfuse", *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_the_results_that_were_written_last_are_read_and_named_on_stderr(call, tmp_path: Path) -> None:
    written(tmp_path / "results" / "first", 1_000)
    last = written(tmp_path / "results" / "group" / "last", 2_000, pair="lora+frozen")
    (tmp_path / "results" / "nothing").mkdir()
    code, out, err = call("status", "--json")
    told = json.loads(out)
    assert (code, told["results"], told["cells"][0]["pair"]) == (0, "results/group/last", "lora+frozen")
    assert err.count("\n") == 1
    assert "reading results/group/last, of 2 results folders below results the one written last" in err
    # One record more in the other, and it is the last.
    [record, *_] = (tmp_path / "results" / "first" / "records").glob("*.json")
    os.utime(record, (3_000, 3_000))
    assert json.loads(call("tables", "--json")[1])["results"] == "results/first"
    assert last.is_dir()


def test_results_are_named_by_their_place_too(call, tmp_path: Path) -> None:
    written(tmp_path / "results" / "one", 1_000)
    written(tmp_path / "results" / "two", 2_000)
    named = call("tables", "--results", "results/one", "--format", "csv")
    assert call("tables", "results/one", "--format", "csv") == named
    assert named[0] == 0
    assert call("compare", "frozen+frozen", "frozen+frozen", "results/one")[::2] == (0, "")
    code, out, err = call("status", "results/one", "--results", "results/two")
    assert (code, out) == (2, "")
    assert "two results folders are named" in err
    assert call("status", "one")[2] == "mmfuse: there is no folder one; did you mean results/one?\n"


def test_the_folder_that_one_is_in_comes_first(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "results" / "one", 1_000)
    monkeypatch.chdir(tmp_path / "results" / "one")
    code, out, err = call("status", "--json")
    assert (code, json.loads(out)["results"]) == (0, ".")
    assert err == "reading the results of this folder; --results names another\n"


@pytest.mark.parametrize("verb", ["status", "tables", "report", "figures", "compare"])
def test_without_any_results_a_line_says_what_to_do(call, tmp_path: Path, verb: str) -> None:
    (tmp_path / "results" / "empty").mkdir(parents=True)
    words = [verb, *(["frozen+frozen", "lora+frozen"] if verb == "compare" else [])]
    code, out, err = call(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "run a grid: mmfuse-bench --grid demo" in err
    written(tmp_path / "elsewhere", 1_000)
    assert "such as --results elsewhere" in call(*words)[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "results"]


def test_equal_times_are_told_and_what_cannot_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call
) -> None:
    below = tmp_path / "results"
    for name in ("a", "b", "locked"):
        written(below / name, 5_000)
    scan = os.scandir

    def scandir(path):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_results(below)
    assert (found.folders, found.as_recent) == ([below / "a", below / "b"], [below / "b"])
    assert found.unreadable == [f"{below / 'locked'} cannot be read: Permission denied"]
    code, _, err = call("status")
    assert code == 0
    assert "passed over: results/locked cannot be read" in err
    assert "reading results/a, which was written last, as was results/b" in err


def test_a_folder_without_cells_is_found_and_reading_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    assert find_results(tmp_path / "results").folders == []
    assert find_results(tmp_path / "nowhere").folders == []
    empty = ResultsFolder(tmp_path / "results" / "empty")
    empty.prepare()
    assert find_results(tmp_path / "results").folders == [empty.path]


def test_a_grid_is_named_by_its_place_or_by_an_option(call) -> None:
    by_option = call("run", "--grid", "smoke", "--dry-run")
    assert by_option[0] == 0
    assert call("run", "smoke", "--dry-run") == by_option
    assert call("run", "smoke", "--grid", "smoke", "--dry-run") == by_option
    assert "two grids are named, 'smoke' and --grid demo" in call("run", "smoke", "--grid", "demo")[2]
    assert call("smoke")[2].endswith("but there is such a grid: mmfuse run smoke\n")


def test_a_run_takes_the_same_options_in_both_commands() -> None:
    group = typer.main.get_command(bench.app)
    run = group.commands["run"]  # type: ignore[attr-defined]
    own = {"--version", "--install-completion", "--show-completion"}
    assert {one.opts[0] for one in group.params} - own == {
        one.opts[0] for one in run.params if one.param_type_name == "option"
    }
    assert verbs.VERBS["run"] is verbs.run

"""Draws that are added where a comparison is open: which, and that nobody's order of work changes a verdict."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmfuse.records.decisions import Decision
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.record import Failure, failed
from mmfuse.records.status import counts, read_entries
from tests.bench import added
from tests.bench.harness import ran

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid that one runner with one worker has brought to its end."""
    path = tmp_path_factory.mktemp("whole")
    assert added.run(path).failed == []
    return path


def of(path: Path, pair: str) -> list[Decision]:
    return [decision for decision in added.known(path) if decision.pair == pair]


def test_what_is_plain_or_hopeless_ends_at_the_first_look_and_what_is_open_goes_on(whole: Path) -> None:
    baseline, plain, hard, hopeless = (of(whole, pair) for pair in added.PAIRS)
    assert [decision.verdict for decision in plain] == ["better", "better"]
    assert [decision.draws for decision in plain] == [3, 3]
    assert all(decision.verdict == "open" and decision.draws < 10 for decision in hopeless)
    assert all(decision.further is None or decision.further > 0 for decision in hopeless)
    assert [(decision.draws, decision.verdict) for decision in hard] == [(5, "open"), (7, "better")]
    assert [decision.draws for decision in baseline] == [5, 7]
    assert {decision.verdict for decision in baseline} == {None}


def test_only_cells_that_a_look_asked_for_were_run(whole: Path) -> None:
    asked = {(decision.pair, decision.shots): decision.draws for decision in added.known(whole)}
    names = ran(whole)
    assert len(names) == len(set(names)) == sum(asked.values())
    assert all(decision.wanted == decision.draws for decision in added.known(whole))


def test_status_knows_of_no_cell_that_nobody_wants(whole: Path) -> None:
    found = counts(read_entries(ResultsFolder(whole)))
    assert found["missing"] == 0
    assert found["done"] == len(ran(whole))


def test_a_finished_grid_has_nothing_more_to_run(whole: Path) -> None:
    before = len(ran(whole))
    assert added.run(whole).done == 0
    assert len(ran(whole)) == before


def test_three_workers_come_to_the_same_verdicts(whole: Path, tmp_path: Path) -> None:
    added.run(tmp_path, workers=3)
    assert added.known(tmp_path) == added.known(whole)
    assert sorted(ran(tmp_path)) == sorted(ran(whole))


def _program(path: Path, *pairs: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.bench.added", str(path), *pairs], cwd=REPOSITORY)


def test_two_runners_at_once_come_to_the_same_verdicts(whole: Path, tmp_path: Path) -> None:
    runners = [_program(tmp_path), _program(tmp_path)]
    assert [runner.wait() for runner in runners] == [0, 0]
    assert added.known(tmp_path) == added.known(whole)
    assert sorted(ran(tmp_path)) == sorted(ran(whole))


def test_a_grid_that_is_killed_again_and_again_comes_to_the_same_verdicts(whole: Path, tmp_path: Path) -> None:
    for at_least in (2, 9, 25):
        runner = _program(tmp_path)
        while len(list((tmp_path / "records").glob("*.json"))) < at_least:
            assert runner.poll() is None
            time.sleep(0.02)
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait()
    added.run(tmp_path)
    assert added.known(tmp_path) == added.known(whole)
    assert added.planned(tmp_path) == added.planned(whole)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_in_which_cells_end_changes_neither_a_verdict_nor_what_is_run(
    whole: Path, tmp_path: Path, seed: int
) -> None:
    added.run(tmp_path, local=added.Shuffled(seed))
    assert ran(tmp_path) != ran(whole)
    assert added.known(tmp_path) == added.known(whole)
    assert added.planned(tmp_path) == added.planned(whole)
    assert sorted(ran(tmp_path)) == sorted(ran(whole))


def test_a_look_is_not_judged_without_a_cell_that_was_stopped(whole: Path, tmp_path: Path) -> None:
    """Stopped at the last cell of the first look, which the hopeless pair's spread takes part in."""
    folder, results = ResultsFolder(tmp_path), ResultsFolder(whole)
    folder.prepare()
    [manifest] = results.manifests()
    manifest.cells = [planned for planned in manifest.cells if planned.cell.draw < 3]
    folder.write_manifest(manifest)
    stopped = "at-50-6"
    for record in results.read()[0]:
        if record.cell.draw < 2 or (record.cell.draw == 2 and record.cell.pair.name != stopped):
            folder.write(record, {"predictions": (results.records / record.predictions.file).read_bytes()})
        elif record.cell.draw == 2:
            folder.write(failed(record.cell, Failure(kind="Interrupted", message="stopped"), inputs=record.inputs))
    assert {(decision.draws, decision.wanted) for decision in added.known(tmp_path)} == {(0, 3)}
    added.run(tmp_path)
    assert set(ran(tmp_path)) < set(ran(whole))
    assert added.known(tmp_path) == added.known(whole)
    assert added.planned(tmp_path) == added.planned(whole)


def test_a_failed_cell_holds_up_its_pair_alone_and_can_be_made_good(tmp_path: Path) -> None:
    pairs = ("at-50-1", "at-90-1", "dies-once")
    tally = added.run(tmp_path, *pairs)
    assert {record.cell.pair.name for record in tally.failed} == {"dies-once"}
    assert [decision.verdict for decision in of(tmp_path, "at-90-1")] == ["better", "better"]
    assert [(decision.draws, decision.wanted) for decision in of(tmp_path, "dies-once")] == [(0, 3), (0, 3)]
    healed = added.run(tmp_path, *pairs, retry_failed=True)
    assert healed.done >= 6
    assert all(decision.draws >= 3 for decision in of(tmp_path, "dies-once"))


def test_fail_fast_adds_nothing(tmp_path: Path) -> None:
    tally = added.run(tmp_path, "at-50-1", "at-54-3", "wrong", fail_fast=True)
    assert len(tally.failed) == 1
    assert len(ResultsFolder(tmp_path).manifests()[0].cells) == 18

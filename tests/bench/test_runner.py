"""The runner under faults that really happen: killed workers, killed runners, interrupts, full disks, cut records."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from mmfuse.bench import runner
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Inputs
from mmfuse.records.folder import ResultsFolder, read_record
from mmfuse.records.locks import Claim, Claims
from mmfuse.records.record import Record
from mmfuse.records.status import read_entries
from mmfuse.utils.files import sha256_of_json
from tests.bench import harness
from tests.bench.harness import cell, cells, ran, run, states

REPOSITORY = Path(__file__).parents[2]


def records(path: Path) -> dict[str, Record]:
    found, damaged = ResultsFolder(path).read()
    assert not damaged
    return {record.name: record for record in found}


def failure(path: Path, pair: str) -> tuple[str, str]:
    """Kind and message of the failure that the tables would name."""
    [entry] = [entry for entry in read_entries(ResultsFolder(path)) if entry.cell.pair.name == pair]
    assert entry.state == "failed"
    assert entry.failure is not None
    return entry.failure.kind, entry.failure.message


def test_all_cells_get_a_record_and_no_claim_stays(tmp_path: Path) -> None:
    wanted = cells("one", "two", draws=3)
    tally = run(tmp_path, wanted, workers=2)
    assert (tally.done, tally.failed) == (6, [])
    assert set(states(tmp_path, wanted).values()) == {"done"}
    assert set(records(tmp_path)) == {one.name for one in wanted}
    assert not list((tmp_path / "running").iterdir())


def test_a_second_run_does_nothing_and_added_cells_change_no_finished_one(tmp_path: Path) -> None:
    run(tmp_path, cells("one"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "records").iterdir()}
    tally = run(tmp_path, cells("one", "two"))
    assert tally.done == 1
    assert len(ran(tmp_path)) == 2
    assert {name: (tmp_path / "records" / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("act", ["dies", "wrong", "hangs"])
def test_a_failing_cell_is_named_and_the_others_finish(tmp_path: Path, act: str) -> None:
    wanted = cells("one", act, "two")
    tally = run(tmp_path, wanted, total=1.5 if act == "hangs" else None)
    assert tally.done == 2
    assert states(tmp_path, wanted) == {"one/0": "done", f"{act}/0": "failed", "two/0": "done"}
    kind, message = failure(tmp_path, act)
    expected = {
        "dies": ("WorkerDied", "SIGKILL"),
        "wrong": ("MmfuseError", "the loss became nan"),
        "hangs": ("TimeLimit", "1.5 s"),
    }[act]
    assert kind == expected[0]
    assert expected[1] in message
    if act == "wrong":
        [record] = [record for record in records(tmp_path).values() if record.state == "failed"]
        assert record.error is not None
        assert "tests/bench/fakes.py" in (record.error.traceback or "")


def test_a_failed_device_costs_no_other_cell_and_its_own_one_a_second_try(tmp_path: Path) -> None:
    wanted = cells("poisons-once", "one", "poisons", "two")
    tally = run(tmp_path, wanted)
    assert (tally.done, len(tally.failed)) == (3, 1)
    kind, message = failure(tmp_path, "poisons")
    assert kind == "RuntimeError"
    assert message.startswith("CUDA error: device-side assert triggered")
    assert Counter(ran(tmp_path)) == {one.name: 1 + one.pair.name.startswith("poisons") for one in wanted}
    notes = {record.cell.pair.name: record.notes for record in records(tmp_path).values()}
    assert notes["one"] == notes["two"] == ()
    for pair in ("poisons", "poisons-once"):
        assert "run twice, since the device failed the first time: CUDA error" in notes[pair][0]


def test_a_silent_cell_counts_as_hung(tmp_path: Path) -> None:
    run(tmp_path, cells("hangs"), silence=1.0)
    assert failure(tmp_path, "hangs") == ("Hung", "stopped after 1 s without any news")


def test_what_was_only_lost_is_done_again_and_what_failed_by_itself_on_request(tmp_path: Path) -> None:
    wanted = cells("dies-once", "wrong")
    run(tmp_path, wanted)
    assert states(tmp_path, wanted) == {"dies-once/0": "failed", "wrong/0": "failed"}
    run(tmp_path, wanted)
    assert states(tmp_path, wanted) == {"dies-once/0": "done", "wrong/0": "failed"}
    assert len(ran(tmp_path)) == 3
    run(tmp_path, wanted, retry_failed=True)
    assert len(ran(tmp_path)) == 4
    # Nothing of the story is lost: the healed failure lies among the superseded records.
    assert [read_record(path).state for path in (tmp_path / "superseded").iterdir()] == ["failed"]  # type: ignore[union-attr]


def test_fail_fast_begins_no_further_cell(tmp_path: Path) -> None:
    wanted = cells("wrong", "one", "two")
    run(tmp_path, wanted, fail_fast=True)
    assert states(tmp_path, wanted) == {"wrong/0": "failed", "one/0": "missing", "two/0": "missing"}


@contextmanager
def program(path: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A runner in a process group of its own."""
    command = [sys.executable, "-m", "tests.bench.harness", str(path), *arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], *, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_marks_the_running_cell_and_the_next_run_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    wanted = cells("one", "hangs-once", "two")
    with program(tmp_path, "1", "one", "hangs-once", "two") as runner:
        wait_for(lambda: len(ran(tmp_path)) == 2)
        assert states(tmp_path, wanted)["hangs-once/0"] == "running"
        runner.send_signal(number)
        assert runner.wait(300) == 130
    assert states(tmp_path, wanted) == {"one/0": "done", "hangs-once/0": "failed", "two/0": "missing"}
    assert failure(tmp_path, "hangs-once")[0] == "Interrupted"
    assert run(tmp_path, wanted).done == 2
    assert set(states(tmp_path, wanted).values()) == {"done"}


def test_an_impatient_second_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    wanted = cells("hangs-once", "one")
    with program(tmp_path, "1", "hangs-once", "one") as runner:
        wait_for(lambda: len(ran(tmp_path)) == 1)
        [worker] = _children(runner.pid)
        for _ in range(3):
            runner.send_signal(signal.SIGINT)
        assert runner.wait(300) == 130
        wait_for(lambda: not _alive(worker), seconds=60)
    assert failure(tmp_path, "hangs-once")[0] == "Interrupted"
    assert not list((tmp_path / "running").iterdir())
    assert run(tmp_path, wanted).done == 2


def test_a_folder_that_takes_no_further_claim_ends_the_run_after_what_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    take = Claims.take

    def until_read_only(claims: Claims, key: str) -> Claim | None:
        if len(taken) == 2:
            raise OSError(errno.EROFS, "Read-only file system")
        taken.append(key)
        return take(claims, key)

    monkeypatch.setattr(Claims, "take", until_read_only)
    wanted = cells("slow", "slow2", "slow3")
    with pytest.raises(MmfuseError, match=r"can no longer be written \(Read-only file system\)"):
        run(tmp_path, wanted, workers=2)
    assert states(tmp_path, wanted) == {"slow/0": "done", "slow2/0": "done", "slow3/0": "missing"}


def test_a_killed_runner_takes_its_workers_along_and_the_next_run_goes_on(tmp_path: Path) -> None:
    wanted = cells("one", "hangs-once", "two")
    with program(tmp_path, "1", "one", "hangs-once", "two") as runner:
        wait_for(lambda: len(ran(tmp_path)) == 2)
        [worker] = _children(runner.pid)
        runner.kill()
        runner.wait()
        wait_for(lambda: not _alive(worker), seconds=60)
    assert failure(tmp_path, "hangs-once")[0] == "RunnerDied"
    uninterrupted = tmp_path / "other"
    assert run(tmp_path, wanted).done == 2
    uninterrupted.mkdir()
    run(uninterrupted, cells("one"))
    assert set(states(tmp_path, wanted).values()) == {"done"}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_two_runners_share_a_folder_and_do_each_cell_once(tmp_path: Path) -> None:
    arguments = ("4", "slow", "slow2", "slow3")
    with program(tmp_path, *arguments) as one, program(tmp_path, *arguments) as two:
        assert (one.wait(300), two.wait(300)) == (0, 0)
    wanted = cells("slow", "slow2", "slow3", draws=4)
    assert set(states(tmp_path, wanted).values()) == {"done"}
    assert sorted(ran(tmp_path)) == sorted(one.name for one in wanted)


def test_what_a_dead_runner_of_another_machine_has_left_is_run_last_and_what_a_live_one_runs_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = cells("one", "two", "three")
    ResultsFolder(tmp_path).prepare()
    elsewhere = Claims(tmp_path / "running", boot="elsewhere")
    dead, alive = (elsewhere.take(one.config_hash) for one in wanted[:2])
    assert dead is not None
    assert alive is not None
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", lambda handle, kind: None)  # locks do not reach as far
        patch.setattr(runner, "Claims", partial(Claims, patience=0.5))
        sleep = time.sleep
        patch.setattr(time, "sleep", lambda seconds: (alive.beat(), sleep(0.6)))
        patch.setattr(harness, "to_run", lambda entries, **_: entries)
        tally = run(tmp_path, wanted)
    assert (tally.done, tally.elsewhere) == (2, 1)
    assert ran(tmp_path) == [wanted[2].name, wanted[0].name]


def test_a_full_disk_costs_the_cells_that_do_not_fit_and_no_other(tmp_path: Path) -> None:
    wanted = cells("one", "big", "two")
    small = (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, small)
    try:
        tally = run(tmp_path, wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tally.done == 2
    assert states(tmp_path, wanted) == {"one/0": "done", "big/0": "failed", "two/0": "done"}
    assert failure(tmp_path, "big")[0] == "RecordNotWritten"
    assert not [path for path in (tmp_path / "records").iterdir() if path.name.startswith(".")]
    assert run(tmp_path, wanted).done == 1
    assert set(states(tmp_path, wanted).values()) == {"done"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_without_any_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        wanted = cells("one", "big", "two")
        tally = run(disk, wanted)
        assert tally.done == 2
        assert failure(disk, "big")[0] == "RecordNotWritten"
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert run(disk, wanted).done == 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def _edit(path: Path) -> None:
    content = json.loads(path.read_text())
    content["metrics"]["top1"] = 0.99
    path.write_text(json.dumps(content))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _edit, _flip, _empty])
def test_a_damaged_record_is_named_and_healed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    wanted = cells("one", "two")
    run(tmp_path, wanted)
    [path] = (tmp_path / "records").glob("*-one-*.json")
    whole = read_record(path)
    damage(path)
    assert states(tmp_path, wanted) == {"one/0": "failed", "two/0": "done"}
    kind, message = failure(tmp_path, "one")
    assert kind == "DamagedRecord"
    assert path.name in message
    assert run(tmp_path, wanted).done == 1
    healed = read_record(path)
    assert isinstance(healed, Record)
    assert isinstance(whole, Record)
    assert healed.metrics == whole.metrics
    assert states(tmp_path, wanted) == {"one/0": "done", "two/0": "done"}


def test_a_record_of_before_a_field_was_added_is_still_whole(tmp_path: Path) -> None:
    run(tmp_path, cells("one"))
    [path] = (tmp_path / "records").glob("*.json")
    content = json.loads(path.read_text())
    del content["checksum"], content["provenance"]["certified"]
    path.write_text(json.dumps({**content, "checksum": sha256_of_json(content)}))
    assert states(tmp_path, cells("one")) == {"one/0": "done"}


def test_a_changed_input_makes_a_record_stale_and_keeps_it(tmp_path: Path) -> None:
    wanted = cells("one")
    run(tmp_path, wanted, inputs=Inputs(dataset="old", train_clips="d"))
    new = Inputs(dataset="new", train_clips="d")
    assert states(tmp_path, wanted, inputs=new) == {"one/0": "stale"}
    run(tmp_path, wanted, inputs=new)
    assert len(ran(tmp_path)) == 1
    run(tmp_path, wanted, inputs=new, rerun="stale")
    assert len(ran(tmp_path)) == 2
    assert states(tmp_path, wanted, inputs=new) == {"one/0": "done"}
    # The old number is still there, and is the right one again if the input comes back.
    assert states(tmp_path, wanted, inputs=Inputs(dataset="old")) == {"one/0": "done"}


def test_changed_settings_make_a_record_stale_and_name_what_changed(tmp_path: Path) -> None:
    run(tmp_path, [cell("one", train={"epochs": 5})])
    wanted = [cell("one", train={"epochs": 6})]
    run(tmp_path, wanted)
    assert len(ran(tmp_path)) == 1
    [entry] = read_entries(ResultsFolder(tmp_path))
    assert (entry.state, entry.reason) == ("stale", "changed: train.epochs")


def test_a_rerun_that_fails_takes_no_finished_number_away(tmp_path: Path) -> None:
    wanted = cells("dies-second")
    assert run(tmp_path, wanted).done == 1
    before = records(tmp_path)
    assert len(run(tmp_path, wanted, rerun="all").failed) == 1
    assert records(tmp_path) == before
    [kept] = (tmp_path / "superseded").iterdir()
    assert "WorkerDied" in kept.read_text()


def test_rerun_all_does_everything_again(tmp_path: Path) -> None:
    wanted = cells("one", "two")
    run(tmp_path, wanted)
    assert run(tmp_path, wanted, rerun="all").done == 2


def test_workers_that_cannot_start_are_said_to_be_so(tmp_path: Path) -> None:
    from mmfuse.bench.engines.base import Limits
    from mmfuse.bench.engines.local import LocalEngine, Slot
    from mmfuse.bench.job import Job
    from mmfuse.bench.runner import Runner, Task
    from tests.bench.harness import Silent, plan

    folder = ResultsFolder(tmp_path)
    tasks = [Task(entry, Job(cell=entry.cell)) for entry in plan(folder, cells("one", "two", "three"))]
    engine = LocalEngine(slots=[Slot({})], limits=Limits(), runner="mmfuse.no_such_module:run")
    with pytest.raises(MmfuseError, match=r"do not start.*no_such_module"):
        Runner(folder=folder, tasks=tasks, engine=engine, view=Silent()).run()


def test_an_interrupt_before_the_first_cell_starts_no_worker(tmp_path: Path) -> None:
    """As while clips are decoded ahead."""
    from mmfuse.bench.engines.base import Limits
    from mmfuse.bench.engines.local import LocalEngine, Slot
    from mmfuse.bench.job import Job
    from mmfuse.bench.runner import Runner, Task
    from tests.bench.harness import Silent, plan

    folder = ResultsFolder(tmp_path)
    tasks = [Task(entry, Job(cell=entry.cell)) for entry in plan(folder, cells("one"))]
    engine = LocalEngine(slots=[Slot({})], limits=Limits(), runner="mmfuse.no_such_module:run")
    interrupted = partial(signal.raise_signal, signal.SIGTERM)
    tally = Runner(folder=folder, tasks=tasks, engine=engine, view=Silent(), before=interrupted).run()
    assert tally.interrupted
    assert folder.read()[0] == []

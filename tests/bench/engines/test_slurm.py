"""Cells in jobs of a cluster: by submitit's own executors for real, and by what it would give to Slurm."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmfuse.bench.engines import slurm
from mmfuse.bench.engines.base import Limits
from mmfuse.bench.engines.slurm import SlurmEngine, parameters_of, parse_parameters
from mmfuse.bench.job import Job
from mmfuse.bench.session import Request, Session
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from tests.bench.harness import RUNNER, cells, ran, run, states

PATIENCE = 120.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "LOOK_EVERY", 0.2)


def engine(folder: Path, executor: str, **changes: Any) -> SlurmEngine:
    settings: dict[str, Any] = {"limits": Limits(), "parameters": parameters_of({"time": 60}), "workers": 1}
    return SlurmEngine(folder=folder, runner=RUNNER, executor=executor, **settings | changes)


def test_submitits_debug_executor_runs_them_in_this_process(tmp_path: Path) -> None:
    wanted = cells("one", "two")
    assert run(tmp_path, wanted, other=engine(tmp_path, "debug")).done == 2


def when_begun(folder: Path, name: str, act: Callable[[int], None]) -> threading.Thread:
    """Once a cell runs, do something to the process of its job."""

    def watch() -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not any(name in line for line in ran(folder)):
            time.sleep(0.05)
        act(_job_process(folder))

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def _job_process(folder: Path) -> int:
    """The process that submitit runs the job in, by its command."""
    place = str(folder / "slurm").encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            words = (entry / "cmdline").read_bytes() if (entry / "cmdline").exists() else b""
            if b"submitit.core._submit" in words and place in words:
                return int(entry.name)
    raise AssertionError("no job runs")


def test_a_job_that_vanishes_costs_its_cell_with_the_cause_and_the_log_and_no_other(tmp_path: Path) -> None:
    wanted = cells("hangs-once", "two")
    thread = when_begun(tmp_path, "hangs-once", lambda process: os.kill(process, signal.SIGKILL))
    tally = run(tmp_path, wanted, other=engine(tmp_path, "local"))
    thread.join()
    assert states(tmp_path, wanted) == {"hangs-once/0": "failed", "two/0": "done"}
    [record] = tally.failed
    assert record.error is not None
    assert record.error.kind == "JobLost"
    log = re.search(r"its log: (\S+)$", record.error.message)
    assert log is not None
    assert Path(log[1]).is_file()


def test_a_preempted_job_goes_on_with_the_cell_that_it_had_begun_and_repeats_no_other(tmp_path: Path) -> None:
    wanted = cells("one", "wrong", "hangs-once", "two")
    thread = when_begun(tmp_path, "hangs-once", lambda process: os.kill(process, signal.SIGUSR2))
    tally = run(tmp_path, wanted, other=engine(tmp_path, "local", parameters=parameters_of({"time": 600})))
    thread.join()
    assert tally.done == 3
    assert [record.error and record.error.kind for record in tally.failed] == ["MmfuseError"]
    counted = [name.split("-k2")[0].removeprefix("tiny-split1-") for name in ran(tmp_path)]
    assert sorted(counted) == ["hangs-once", "hangs-once", "one", "two", "wrong"]
    # Logs stay, and nothing that was exchanged.
    [left] = (tmp_path / "slurm").iterdir()
    assert not [path for path in left.iterdir() if path.is_dir()]
    assert list(left.glob("*_log.err"))
    assert not list((tmp_path / "running").iterdir())


FAKES = {
    "srun": "",
    "sbatch": 'cp "$1" "$FAKE/script.sh"; echo "Submitted batch job 77"',
    "squeue": 'echo "$@" >> "$FAKE/asked"; [ ! -f "$FAKE/queue" ] || cat "$FAKE/queue"',
    "sacct": 'printf "JobID|State|NodeList\\n77_0|OUT_OF_MEMORY|n1\\n77_1|NODE_FAIL|n2\\n"',
    "scancel": 'echo "$@" >> "$FAKE/cancelled"',
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that stand in for Slurm's, and of what they were told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    return folder


def test_the_array_asks_for_what_was_asked_for_and_is_cancelled(tmp_path: Path, cluster: Path) -> None:
    (cluster / "queue").write_text("77_0|PENDING\n77_1|PENDING\n77_2|PENDING\n")
    asked = {"partition": "gpu", "time": "4:00:00", "mem": "32G", "cpus_per_task": 8, "constraint": "a100|h100"}
    parameters = parameters_of(asked, devices=2)
    running = engine(tmp_path / "r", "slurm", parameters=parameters, devices=2, workers=3)
    jobs = iter([_job(cell) for cell in cells("one", "two", draws=4)])
    events = running.run(lambda: next(jobs, None))
    next(events)
    next(events)
    running.close()
    script = (cluster / "script.sh").read_text()
    flags = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", script, re.MULTILINE))
    assert flags["array"] == "0-2%3"
    assert (flags["partition"], flags["time"], flags["mem"], flags["constraint"]) == (
        "gpu",
        "240",
        "32G",
        "'a100|h100'",
    )
    assert (flags["gpus-per-node"], flags["cpus-per-task"], flags["nodes"]) == ("2", "8", "1")
    assert flags["signal"] == "USR2@90"
    assert str(tmp_path / "r" / "slurm") in flags["error"]
    assert "--cpus-per-task=8" in script  # to srun as well
    assert "export PYTHONPATH=" in script
    assert (cluster / "cancelled").read_text() == "77\n"


def _job(cell: Cell) -> Job:
    return Job(cell=cell, command="again")


def test_a_node_that_does_not_see_the_folder_is_an_error_and_no_wait(tmp_path: Path, cluster: Path) -> None:
    wanted = cells("one", "two")
    told = r"job 77_0 ended \(OUT_OF_MEMORY\) before it was heard of; is .* on a file system that the nodes share\?"
    with pytest.raises(MmfuseError, match=told):
        run(tmp_path / "r", wanted, other=engine(tmp_path / "r", "slurm", workers=2))
    assert set(states(tmp_path / "r", wanted).values()) <= {"missing", "failed"}
    assert not list((tmp_path / "r" / "running").iterdir())


def test_a_scheduler_that_does_not_answer_is_an_error_and_no_wait(
    tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "UNSEEN", 0.1)
    (cluster / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    with pytest.raises(MmfuseError, match=r"the scheduler has not answered for .* Unable to contact slurm controller"):
        run(tmp_path / "r", cells("one", "two"), other=engine(tmp_path / "r", "slurm", workers=2))


def test_what_the_scheduler_refuses_is_one_line(tmp_path: Path, cluster: Path) -> None:
    (cluster / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1\n")
    with pytest.raises(MmfuseError, match=r"refuses the jobs: .*invalid partition specified: gpuu") as raised:
        run(tmp_path / "r", cells("one", "two"), other=engine(tmp_path / "r", "slurm", workers=2))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"partitoin": "gpu"}, "unknown parameter of slurm 'partitoin'; did you mean 'partition'?"),
        ({"array_parallelism": 3}, "array_parallelism is set by the engine; say --workers instead"),
        ({"nodes": 2}, "say devices instead"),
        ({"time": "soon"}, "time is minutes, or [days-]hours:minutes:seconds"),
        ({"time": 0}, "at least a minute"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(MmfuseError, match=re.escape(told)):
        parameters_of(given)


def test_parameters_are_checked_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {
        "name": "g",
        "datasets": ["tiny"],
        "shots": [1],
        "pairs": ["frozen+frozen"],
        "run": {"slurm": {"mem": "8G"}},
    }
    with pytest.raises(MmfuseError, match="did you mean 'account'"):
        Session(Request(grid=grid, results=tmp_path / "r", engine="slurm", slurm=["acount=me"]))
    with pytest.raises(MmfuseError, match="needs --engine slurm"):
        Request(grid=grid, slurm=["account=me"])
    with pytest.raises(MmfuseError, match="--slurm is written KEY=VALUE"):
        parse_parameters(["account"])
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MmfuseError, match=r"pip install 'mmfuse\[slurm\]'"):
        Session(Request(grid=grid, results=tmp_path / "r", engine="slurm"))
    assert not (tmp_path / "r").exists()


def test_gpus_are_those_of_a_cell_unless_said_otherwise() -> None:
    assert parameters_of({}, devices=4)["gpus_per_node"] == 4
    assert parameters_of({"gres": "gpu:a100:1"})["gpus_per_node"] is None
    assert parameters_of({"gpus_per_node": 0})["gpus_per_node"] is None
    assert parameters_of({"mem_gb": 12})["mem"] == "12G"

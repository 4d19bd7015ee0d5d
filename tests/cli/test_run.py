"""Grids and single models through the commands, with real cells: run, resume, kill, train, predict."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from mmfuse.cli import bench, main
from tests.bench.real import SIZE, make_clips, make_towers

REPOSITORY = Path(__file__).parents[2]

DIVERGING = {"method_lr": 1e6, "fusion_lr": 1e6, "weight_decay": 1e6}
"""The largest that a cell takes: each step of AdamW multiplies the weights by 1 - 1e12, until they are infinite."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with towers, clips and a grid of eight cells."""
    folder = tmp_path_factory.mktemp("world")
    grid = {
        "name": "drifts",
        "datasets": [make_clips(folder / "clips")],
        "shots": [1, 2],
        "draws": [0, 1],
        "pairs": ["frozen+frozen", "lora+frozen"],
        "encoders": make_towers(folder),
        "clip": {"frames": 4, "size": SIZE},
        "fusion": {"kind": "joint", "width": 16, "layers": 1, "heads": 2},
        "train": {"epochs": 2, "batch_size": 4},
    }
    (folder / "drifts.yaml").write_text(yaml.safe_dump(grid))
    return folder


@dataclass
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def call(world: Path, module: ModuleType, *words: str) -> Done:
    """A command in this process, which has torch loaded already; the workers that it starts are real ones."""
    out, err = io.StringIO(), io.StringIO()
    before, argv = Path.cwd(), sys.argv
    os.chdir(world)
    sys.argv = ["mmfuse-bench" if module is bench else "mmfuse", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            module.main()
    finally:
        os.chdir(before)
        sys.argv = argv
    return Done(int(end.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module", autouse=True)
def cache(world: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMFUSE_CACHE", str(world / "cache"))
        patch.setenv("COLUMNS", "160")
        yield


def accuracies(world: Path, results: str) -> list[str]:
    """The tables that hold accuracies, as CSV lines; times differ from run to run."""
    lines = call(world, bench, "tables", "--all", "--results", results, "--format", "csv").stdout.splitlines()
    return [line for line in lines if line.startswith(("accuracy", "gain"))]


@pytest.fixture(scope="module")
def whole(world: Path) -> Path:
    """The grid run in one go."""
    done = call(world, bench, "--grid", "drifts.yaml", "--workers", "1", "--store", "kept")
    assert done.returncode == 0, done.stderr
    assert "frozen+frozen" in done.stdout
    assert "[8/8]" in done.stderr
    assert f"decoded clips are kept in {world / 'kept'}" in done.stderr
    told, tables, report, figures, draws = done.stderr.splitlines()[2], *done.stderr.splitlines()[-4:]
    assert told == "drifts, split 1, K=1, 2: 2 draws cannot conclude; 3 is the least"
    assert tables == "next: mmfuse-bench tables --results results/drifts --all"
    assert report == "next: mmfuse-bench report --results results/drifts --out report.html"
    assert figures == "next: mmfuse-bench figures --results results/drifts --out figures"
    assert draws.startswith("next: draws: {at_least: 3, at_most: 10, until: decided} in the grid")
    return world / "results" / "drifts"


def test_a_second_run_finds_everything_done(world: Path, whole: Path) -> None:
    again = call(world, bench, "--grid", "drifts.yaml", "--json")
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    document = json.loads(again.stdout)
    assert document["counts"]["done"] == len(document["cells"]) == 8
    assert all(cell["top1"] is not None and cell["seconds"] > 0 for cell in document["cells"])


def test_cells_that_ran_before_a_diagnosis_was_asked_for_are_done_and_said_to_lack_it(world: Path, whole: Path) -> None:
    grid = yaml.safe_load((world / "drifts.yaml").read_text()) | {"diagnose": "test_selection"}
    (world / "diagnosed.yaml").write_text(yaml.safe_dump(grid))
    done = call(world, bench, "--grid", "diagnosed.yaml")
    assert done.returncode == 0, done.stderr
    assert "begin" not in done.stderr
    assert "next: 8 finished cells lack the diagnosis; --rerun all adds it, and changes no number" in done.stderr


def test_the_command_of_a_record_runs_it_again(world: Path, whole: Path) -> None:
    [path] = whole.glob("records/*lora+frozen-k2-draw1*.json")
    before = json.loads(path.read_text())
    words = before["command"].split()
    assert words[0] == "mmfuse-bench"
    assert call(world, bench, *words[1:]).returncode == 0
    after = json.loads(path.read_text())
    assert after["metrics"] == before["metrics"]
    assert after["provenance"]["finished"] > before["provenance"]["finished"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_grid_that_was_stopped_and_resumed_gives_the_same_tables(
    world: Path, whole: Path, number: signal.Signals
) -> None:
    results = f"stopped-{number.name}"
    # Without kept clips too, the numbers are to be the same.
    words = ["--grid", "drifts.yaml", "--results", results, "--workers", "1", "--store", "off"]
    command = [sys.executable, "-m", "mmfuse.cli.bench", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, cwd=world, env=environment, stderr=subprocess.DEVNULL) as runner:
        while len(list((world / results / "records").glob("*.json"))) < 2:
            assert runner.poll() is None
            time.sleep(0.02)
        runner.send_signal(number)
        assert runner.wait(300) == (130 if number == signal.SIGINT else -signal.SIGKILL)
    status = json.loads(call(world, bench, "status", "--results", results, "--json").stdout)
    assert 2 <= status["counts"]["done"] < 8
    resumed = call(world, bench, "--grid", "drifts.yaml", "--results", results)
    assert resumed.returncode == 0, resumed.stderr
    assert accuracies(world, results) == accuracies(world, str(whole))


def test_a_grid_until_decided_that_was_killed_and_resumed_gives_the_same_tables(world: Path) -> None:
    """Nothing is learned at such rates, so that both pairs are equal on any machine, which the last look tells."""
    grid: dict[str, Any] = yaml.safe_load((world / "drifts.yaml").read_text())
    grid |= {"name": "until", "shots": [1], "train": {"epochs": 1, "fusion_lr": 1e-9}}
    twin = {"name": "twin", "image": "frozen", "text": "frozen", "train": {"label_smoothing": 0.2}}
    grid["pairs"] = ["frozen+frozen", twin]
    grid["draws"] = {"at_least": 3, "at_most": 5, "until": "decided", "margin": 50}
    (world / "until.yaml").write_text(yaml.safe_dump(grid))
    words = ["--grid", "until.yaml", "--workers", "1", "--store", "off"]
    done = call(world, bench, *words)
    assert done.returncode == 0, done.stderr
    assert all(f"[{ended}/{ended}] done " in done.stderr for ended in (6, 8, 10)), done.stderr
    document = json.loads(call(world, bench, "status", "--results", "results/until", "--json").stdout)
    assert document["counts"] == {"done": 10, "failed": 0, "stale": 0, "running": 0, "missing": 0}
    told = {one["pair"]: (one["verdict"], one["draws"], one["gain"]) for one in document["decisions"]}
    assert told == {"frozen+frozen": (None, 5, None), "twin": ("equivalent", 5, 0.0)}

    command = [sys.executable, "-m", "mmfuse.cli.bench", *words, "--results", "killed"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, cwd=world, env=environment, stderr=subprocess.DEVNULL) as runner:
        while len(list((world / "killed" / "records").glob("*.json"))) < 4:
            assert runner.poll() is None
            time.sleep(0.02)
        runner.kill()
    resumed = call(world, bench, *words, "--results", "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert accuracies(world, "killed") == accuracies(world, "results/until")
    again = json.loads(call(world, bench, "status", "--results", "killed", "--json").stdout)
    assert (again["counts"], again["decisions"]) == (document["counts"], document["decisions"])


def test_an_edited_list_makes_its_cells_stale_and_keeps_their_numbers(world: Path, whole: Path) -> None:
    listed = world / "clips" / "train.csv"
    before, told = listed.read_bytes(), sorted(path.name for path in whole.glob("records/*.json"))
    lines = before.splitlines()
    try:
        listed.write_bytes(b"\n".join([lines[0], *lines[2:]]) + b"\n")  # one training clip fewer
        done = call(world, bench, "--grid", "drifts.yaml", "--only", "shots=1", "--json")
        states = {(cell["shots"], cell["state"]) for cell in json.loads(done.stdout)["cells"]}
        assert states == {(1, "stale")}
        assert sorted(path.name for path in whole.glob("records/*.json")) == told
    finally:
        listed.write_bytes(before)
    again = json.loads(call(world, bench, "--grid", "drifts.yaml", "--json").stdout)
    assert again["counts"]["done"] == 8


def test_videos_replaced_under_the_same_names_make_the_cells_that_ran_stale(world: Path) -> None:
    grid: dict[str, Any] = yaml.safe_load((world / "drifts.yaml").read_text())
    grid |= {"name": "replaced", "datasets": [make_clips(world / "own")], "shots": [1], "pairs": ["frozen+frozen"]}
    (world / "replaced.yaml").write_text(yaml.safe_dump(grid))

    def states() -> dict[int, str]:
        document = json.loads(call(world, bench, "--grid", "replaced.yaml", "--dry-run", "--json").stdout)
        return {cell["draw"]: cell["state"] for cell in document["cells"]}

    def exchange() -> None:
        """Names, sizes and times of the folder's files stay what they are; each of the two has the other's content."""
        one, other = (world / "own" / f"test_{name}_0.mp4" for name in ("walking", "running"))
        one.rename(world / "own" / "aside")
        other.rename(one)
        (world / "own" / "aside").rename(other)

    half = call(world, bench, "--grid", "replaced.yaml", "--only", "draw=0", "--workers", "1")
    assert half.returncode == 0, half.stderr
    assert states() == {0: "done", 1: "missing"}
    exchange()
    assert states() == {0: "stale", 1: "missing"}
    exchange()
    assert states() == {0: "done", 1: "missing"}


def test_failed_cells_show_in_table_and_exit_code(world: Path) -> None:
    grid: dict[str, Any] = yaml.safe_load((world / "drifts.yaml").read_text())
    grid |= {"name": "bad", "shots": [2], "draws": [0]}
    grid["pairs"] = [
        "frozen+frozen",
        {"name": "blows-up", "image": "lora", "text": "frozen", "train": DIVERGING},
    ]
    grid["train"]["epochs"] = 6
    (world / "bad.yaml").write_text(yaml.safe_dump(grid))
    done = call(world, bench, "--grid", "bad.yaml")
    assert done.returncode == 1
    assert "NonFiniteLoss" in done.stderr
    [row] = [line for line in done.stdout.splitlines() if "blows-up" in line and "failed" in line][:1]
    assert "failed" in row
    assert call(world, bench, "--grid", "bad.yaml").returncode == 1


def test_train_then_predict(world: Path) -> None:
    words = ["--dataset", "clips", "--shots", "1", "--pair", "lora+frozen", "--epochs", "1", "--out", "model"]
    towers = [f"encoders.{side}={world / side}" for side in ("image", "text")]
    for setting in (*towers, "clip.size=16", "clip.frames=2", "fusion.width=16", "image.rank=2"):
        words += ["--set", setting]
    trained = call(world, main, "train", *words)
    assert trained.returncode == 0, trained.stderr
    assert "top-1" in trained.stdout
    assert trained.stderr.splitlines()[0] == "loading"
    # The command that is printed is one that runs.
    [line] = [line for line in trained.stdout.splitlines() if line.startswith("try next: ")]
    words = shlex.split(line.removeprefix("try next: "))
    assert words[:3] == ["mmfuse", "predict", "model"]
    tried = call(world, main, *words[1:])
    assert (tried.returncode, tried.stderr) == (0, "")
    assert "%  " in tried.stdout
    video = world / "clips" / "test_running_0.mp4"
    shown = call(world, main, "predict", "model", str(video), "--top", "2", "--json")
    assert shown.returncode == 0, shown.stderr
    [told] = json.loads(shown.stdout)["predictions"]
    assert len(told["classes"]) == 2
    assert told["classes"][0]["probability"] >= told["classes"][1]["probability"]
    # A checkpoint with one flipped bit is refused.
    weights = world / "model" / "trained.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(bytes(content))
    refused = call(world, main, "predict", "model", str(video))
    assert refused.returncode == 2
    assert "damaged" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_train_gives_the_numbers_of_a_grids_cell(world: Path, whole: Path) -> None:
    (world / "drifts").symlink_to(world / "clips")  # clips are drawn by the name of their data set
    words = ["--dataset", "drifts", "--shots", "2", "--draw", "1", "--pair", "lora+frozen", "--epochs", "2"]
    settings = {"clip.frames": 4, "clip.size": SIZE, "train.batch_size": 4}
    settings |= {"fusion.kind": "joint", "fusion.width": 16, "fusion.layers": 1, "fusion.heads": 2}
    for key, value in {**{f"encoders.{side}": world / side for side in ("image", "text")}, **settings}.items():
        words += ["--set", f"{key}={value}"]
    done = call(world, main, "train", *words, "--threads", "1", "--out", "same", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    [path] = whole.glob("records/*lora+frozen-k2-draw1*.json")
    record = json.loads(path.read_text())
    assert told["metrics"] == record["metrics"]
    assert told["predictions"]["sha256"] == record["predictions"]["sha256"]
    assert told["provenance"]["threads"] == record["provenance"]["threads"] == 1
    before = torch.get_num_threads()
    more = call(world, main, "train", *words, "--threads", "2", "--out", "more", "--json")
    assert json.loads(more.stdout)["provenance"]["threads"] == 2
    assert torch.get_num_threads() == before


def test_nothing_is_left_of_a_training_that_is_refused_or_failed_before(world: Path) -> None:
    words = ["--dataset", "clips", "--shots", "1", "--pair", "lora+frozen", "--epochs", "1", "--out", "retried"]
    for setting in (*(f"encoders.{side}={world / side}" for side in ("image", "text")), "clip.size=16"):
        words += ["--set", setting]
    refused = call(world, main, "train", *words, "--set", "fusion.width=30")
    assert refused.returncode == 2
    assert "cannot be shared by 4 heads" in refused.stderr
    assert not (world / "retried").exists()
    diverging = [word for key, value in DIVERGING.items() for word in ("--set", f"train.{key}={value}")]
    failed = call(world, main, "train", *words, "--epochs", "9", *diverging)
    assert failed.returncode == 1
    assert "lower the learning rates" in failed.stderr
    assert [path.name for path in (world / "retried").iterdir()] == ["failure.json"]
    done = call(world, main, "train", *words)
    assert done.returncode == 0, done.stderr
    assert not (world / "retried" / "failure.json").exists()
    again = call(world, main, "train", *words)
    assert again.returncode == 2
    assert "already holds a trained model; name another folder by --out" in again.stderr


def test_ctrl_c_ends_a_training_with_130(world: Path) -> None:
    words = ["--dataset", "clips", "--shots", "2", "--pair", "lora+frozen", "--epochs", "100000", "--out", "endless"]
    for setting in (*(f"encoders.{side}={world / side}" for side in ("image", "text")), "clip.size=16"):
        words += ["--set", setting]
    # As the installed command starts. Under `python -m` CPython ends by the signal itself, whatever the exit code,
    # where the interrupt went through an `exec` of text, as that of dataclasses is which an import makes.
    command = [sys.executable, "-c", "from mmfuse.cli.main import main; main()", "train", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, cwd=world, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not (world / "endless").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130
        assert "Traceback" not in process.stderr.read()
    assert not (world / "endless" / "record.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dataset", "tny"], "did you mean 'tiny'?"),
        (["--pair", "lora+adaptor"], "did you mean 'adapter'?"),
        (["--shots", "40"], "at most 32"),
        (["--shots", "few"], "shots"),
        (["--shots", "0"], "shots is a whole number from 1, or 'all'; not '0'"),
        (["--damaged", "kep"], "Invalid value for '--damaged': 'kep' is not one of 'error', 'keep'"),
        (["--set", "train.epoch=3"], "did you mean 'epochs'?"),
        (["--set", "fusion.kind=laet"], "did you mean 'late'?"),
        (["--set", "image.rnk=3"], "did you mean 'rank'?"),
        (["--set", "colour=red"], "unknown key of --set 'colour'"),
        (["--set", "train"], "KEY=VALUE"),
        (["--set", "seed=x"], "seed: input should be a valid integer, unable to parse string as an integer; got 'x'"),
        (["--set", "precision=17"], "unknown precision '17'"),
        (["--set", "image.layers=[1"], "the value cannot be read"),
        (["--epochs", "0"], "train.epochs: input should be greater than or equal to 1; got 0"),
        (["--threads", "0"], "--threads counts from 1; got 0"),
        (["--prompts", "nowhere.json"], "prompts nowhere.json cannot be read: No such file or directory"),
        (["--set", "train.momentum=0.9"], "momentum is SGD's"),
        (["--dataset", "no/where"], "no/where is not there; give the folder of your clips"),
        (["--pair", "lora+*"], "train takes one pair"),
        (["--out", "drifts.yaml/x"], "name another folder by --out"),
    ],
)
def test_a_wrong_request_to_train(world: Path, words: list[str], told: str) -> None:
    base = {"--dataset": "tiny", "--shots": "2", "--pair": "lora+adapter", "--out": "never"}
    given = dict(zip(words[::2], words[1::2], strict=True))
    asked = [word for pair in {**base, **given}.items() for word in pair]
    done = call(world, main, "train", *asked)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (world / "never").exists()

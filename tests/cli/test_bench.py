"""The command as users call it: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mmfuse.bench import logger_names
from mmfuse.cli import bench, main, verbs
from mmfuse.records.locks import Claims
from tests.report.made import build, results

REPOSITORY = Path(__file__).parents[2]


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `mmfuse-bench` in this process."""
    monkeypatch.setattr(sys, "argv", ["mmfuse-bench", *words])
    with pytest.raises(SystemExit) as end:
        bench.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


ANSWERS = [("bench", word) for word in ("--help", "--version", "list methods", "list grids", "list datasets")]


@pytest.mark.parametrize(
    ("module", "words"),
    [*ANSWERS, ("main", "--help"), ("main", "--version"), ("main", "train --help"), ("main", "predict --help")],
)
def test_what_must_answer_at_once_imports_nothing_heavy(module: str, words: str) -> None:
    decoder = set() if "--version" in words else {"av"}  # which alone knows its FFmpeg, and is loaded at once
    code = (
        f"import sys; sys.argv = ['x', *{words.split()!r}]\n"
        f"from mmfuse.cli.{module} import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"heavy = {{'torch', 'pandas', 'scipy', 'transformers', 'lightning'}} | {decoder!r}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_plan_needs_neither_data_nor_weights_nor_torch(tmp_path: Path) -> None:
    environment = {**os.environ, "MMFUSE_DATA": str(tmp_path), "HF_HOME": str(tmp_path)}
    code = (
        "import sys; sys.argv = ['x', '--grid', 'full', '--dry-run', '--json']\n"
        "from mmfuse.cli.bench import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'pandas', 'scipy.stats'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert len(plan["cells"]) == plan["counts"]["missing"] > 800
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--grid", "dmeo"], "unknown grid 'dmeo'; did you mean 'demo'?"),
        (["--grid", "no/such.yaml"], "there is no grid file no/such.yaml"),
        ([], "name a grid by --grid NAME|FILE"),
        (["--gird", "demo"], "--gird"),
        (["--grid", "smoke", "--only", "pair=dorra+adapter"], "unknown pair"),
        (["--grid", "smoke", "--only", "shots=99"], "unknown shots"),
        (["--grid", "smoke", "--engine", "rai"], "did you mean 'ray'?"),
        (["--grid", "smoke", "--rerun", "stael"], "did you mean 'stale'?"),
        (["--grid", "smoke", "--workers", "0"], "--workers counts from 1"),
        *(
            (["--grid", "smoke", "--time-limit", text], "--time-limit is a number")
            for text in ("0", "-1", "nan", "inf")
        ),
        (["list", "method"], "did you mean 'methods'?"),
        (["tables", "--results", "."], "holds no results"),
        (["tables"], "--results"),
        (["--grid", "smoke", "status", "--results", "."], "takes no command"),
        (["--results", ".", "run", "--grid", "smoke"], "--results stands before 'run'"),
        (["--workers", "2", "tables", "--results", "."], "--workers stands before 'tables'"),
        (["run"], "name a grid by --grid NAME|FILE"),
        (["run", "--grid", "dmeo"], "unknown grid 'dmeo'; did you mean 'demo'?"),
    ],
)
def test_a_wrong_request_gets_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, monkeypatch, *words)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("words", ["status", "tables --format csv", "list methods", "run --grid smoke --dry-run"])
def test_both_commands_take_the_same_verbs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    results(tmp_path / "told", [build("frozen+frozen", shots=2, draw=draw) for draw in range(3)], lambda cell: 0.5)
    read = words.startswith(("status", "tables"))
    given = [*words.split(), *(["--results", "told"] if read else [])]
    monkeypatch.setattr(sys, "argv", ["command", *given])
    told = []
    for module in (bench, main):
        with pytest.raises(SystemExit) as end:
            module.main()
        assert not end.value.code
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != ""


def test_the_verbs_are_those_of_both_commands() -> None:
    commands = [set(typer.main.get_command(module.app).commands) for module in (bench, main)]  # type: ignore[attr-defined]
    assert set(verbs.VERBS) == commands[0]
    assert set(verbs.VERBS) < commands[1]


def test_missing_data_are_named_with_where_to_get_and_put_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMFUSE_ANNOTATIONS", raising=False)
    code, out, err = call(capsys, monkeypatch, "--grid", "full", "--data-root", str(tmp_path / "videos"))
    assert (code, out) == (2, "")
    *lines, image, text = err.splitlines()  # the towers are missing too, and that is told at once
    assert "image tower 'facebook/dinov2-base'" in image
    assert "text tower 'openai/clip-vit-base-patch16'" in text
    assert len(lines) == 3
    for line, title, source in zip(
        lines, ("UCF101", "HMDB51", "Diving48"), ("crcv.ucf.edu", "serre", "diving48"), strict=True
    ):
        assert title.casefold() in line.casefold()
        assert source in line.casefold()
        assert str(tmp_path / "videos") in line
    assert not (tmp_path / "results").exists()


def test_the_official_lists_are_looked_for_where_they_are_said_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--grid", "full", "--only", "dataset=hmdb51", "--data-root", "videos", "--annotations", "lists"]
    code, _, err = call(capsys, monkeypatch, *words)
    assert code == 2
    assert "(looked below: lists); name its folder with --annotations or MMFUSE_ANNOTATIONS" in err


def test_a_results_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        code, _, err = call(capsys, monkeypatch, "--grid", "smoke", "--results", str(place))
        assert code == 2
        assert str(place) in err
        assert err.count("\n") == 1


def test_results_of_another_version_are_refused_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mmfuse-results.json").write_text('{"format": 99}')
    for words in (["status"], ["tables"], ["--grid", "smoke"]):
        code, _, err = call(capsys, monkeypatch, *words, "--results", str(tmp_path))
        assert code == 2
        assert "format 99" in err
        assert "another folder" in err


def test_more_shots_than_a_class_has(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    grid = tmp_path / "many.yaml"
    grid.write_text("name: many\ndatasets: [tiny]\nshots: [33]\npairs: [frozen+frozen]\n")
    code, _, err = call(capsys, monkeypatch, "--grid", str(grid), "--results", str(tmp_path / "r"))
    assert code == 2
    assert "33" in err
    assert "32" in err


def test_status_and_tables_of_a_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cells = [build(pair, draw=draw) for pair in ("frozen+frozen", "lora+frozen") for draw in (0, 1)]
    results(tmp_path, cells, lambda cell: "failed" if cell.draw else 0.5)
    code, out, _ = call(capsys, monkeypatch, "status", "--results", str(tmp_path), "--json")
    assert code == 0
    status = json.loads(out)
    assert status["counts"] == {"done": 2, "failed": 2, "stale": 0, "running": 0, "missing": 0}
    assert {"dataset", "split", "pair", "shots", "draw", "state", "top1", "top5", "mean_class", "seconds"} <= set(
        status["cells"][0]
    )
    assert status["cells"][1]["error"] == {"kind": "NonFiniteLoss", "message": "the loss became nan"}
    code, out, _ = call(capsys, monkeypatch, "status", "--results", str(tmp_path))
    assert "2 done, 2 failed" in out
    assert "NonFiniteLoss" in out
    for style, mark in (
        ("rich", "┃"),
        ("markdown", "|:--|"),
        ("latex", r"\toprule"),
        ("csv", "table,row,column,dataset,"),
        ("json", '"quantity": "gain"'),
        ("html", "<td>"),
    ):
        code, out, _ = call(capsys, monkeypatch, "tables", "--results", str(tmp_path), "--format", style)
        assert code == 0
        assert mark in out
        assert "lora+frozen" in out


def test_status_names_equal_errors_once_and_shows_every_row_to_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results(tmp_path, [build(f"pair{at}", train={"epochs": 1 + at}) for at in range(30)], lambda cell: "failed")
    _, out, _ = call(capsys, monkeypatch, "status", "--results", str(tmp_path))
    assert out.count("the loss became nan") == 1
    assert "30 failed: NonFiniteLoss: the loss became nan\n  tiny  pair0  K=2  draw 0\n" in out
    assert all(f"\npair{number} " in out and f"\n  tiny  pair{number} " in out for number in range(30))
    assert "more" not in out


@pytest.mark.parametrize("logger", ["tensorboard", "wandb", "mlflow"])
def test_a_logger_without_its_package_is_named_before_anything_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logger: str
) -> None:
    monkeypatch.setattr(logger_names, "find_spec", lambda name: None)
    grid = tmp_path / "logged.yaml"
    grid.write_text(
        f"name: logged\ndatasets: [tiny]\nshots: [2]\npairs: [frozen+frozen]\nrun: {{loggers: [csv, {logger}]}}\n"
    )
    code, _, err = call(capsys, monkeypatch, "--grid", str(grid), "--results", str(tmp_path / "r"))
    assert code == 2
    assert f"logged.yaml:5: run.loggers[1]: the logger '{logger}' needs its package: pip install {logger}" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_status_shows_what_another_terminal_is_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cells = [build(pair, draw=draw) for pair in ("frozen+frozen", "lora+frozen") for draw in (0, 1)]
    results(tmp_path, cells, lambda cell: 0.5 if cell.pair.frozen else "missing")
    claim = Claims(tmp_path / "running").take(cells[2].config_hash)
    assert claim is not None
    claim.write({"phase": "training", "epoch": 3, "epochs": 20, "fraction": 0.5, "loss": 1.25, "clips_per_second": 87})
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = call(capsys, monkeypatch, "status", "--results", str(tmp_path))
    claim.release()
    lines = [line.split() for line in out.splitlines()]
    assert "2/4 cells" in out
    assert "left" in out
    assert ["tiny", "lora+frozen", "K=2", "draw", "0", "3/20", "1.250", "87"] in lines
    assert ["frozen+frozen", "●●", "50.0"] in lines
    assert ["lora+frozen", "▸·"] in lines
    _, out, _ = call(capsys, monkeypatch, "status", "--results", str(tmp_path))
    assert "no runner is at it" in out
    results(tmp_path, cells[:2], lambda cell: 0.5)
    _, out, _ = call(capsys, monkeypatch, "status", "--results", str(tmp_path))
    assert "2/2 cells  complete" in out


def test_the_tool_prints_its_help_without_a_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mmfuse"])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert not end.value.code
    assert "train" in capsys.readouterr().out

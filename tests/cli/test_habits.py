"""What people expect of any command: narrow terminals, NO_COLOR and pipes are respected, versions are told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer

from mmfuse.cli import bench, main
from tests.report.made import build, results

REPOSITORY = Path(__file__).parents[2]
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:[349][0-7]|[34]8)(?:;[0-9;]*)?m")
PAIRS = ("frozen+frozen", "dora+adapter", "adaptformer+deep-prompt")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with numbers, failures and gaps."""
    cells = [build(pair, shots=shots, draw=draw) for pair in PAIRS for shots in (2, 4, 8, 16) for draw in range(3)]

    def top1(cell):
        if cell.pair.name == "dora+adapter" and cell.shots == 4:
            return "failed" if cell.draw else "missing"
        return 0.3 + 0.01 * len(cell.pair.name) + 0.002 * cell.draw * cell.shots

    folder = tmp_path_factory.mktemp("told")
    results(folder, cells, top1)
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def run(module: ModuleType, *words: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            module.main()
        assert not end.value.code
        return capsys.readouterr().out

    return run


def numbers(text: str) -> list[str]:
    return sorted(re.findall(r"[+-]?\d+\.\d+ ± \d+\.\d+", text))


def test_no_number_is_cut_in_a_narrow_terminal(call, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    wide = call(bench, "tables", "--all", "--results", told)
    assert len(numbers(wide)) > 20
    for columns in (50, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        narrow = call(bench, "tables", "--all", "--results", told)
        assert max(map(len, narrow.splitlines())) <= columns
        assert numbers(narrow) == numbers(wide)
        assert all(narrow.count(f"│ {pair}") >= wide.count(f"│ {pair}") for pair in PAIRS)


@pytest.mark.parametrize("what", ["grids", "methods", "datasets", "encoders"])
def test_lists_stay_whole_in_a_narrow_terminal(call, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = json.loads(call(bench, "list", what, "--json"))
    listed = [value for row in rows for value in row.values() if value and value is not True]  # which is told as yes
    words = {word for value in listed for part in np.atleast_1d(value) for word in str(part).split()}
    monkeypatch.setenv("COLUMNS", "50")
    narrow = call(bench, "list", what)
    assert max(map(len, narrow.splitlines())) <= 50
    assert not {word for word in words if word not in narrow}


@pytest.mark.parametrize("words", ["--help", "train --help", "predict --help", "data cache --help"])
def test_help_fits_a_narrow_terminal(call, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, call(main, *words.split()).splitlines())) <= 50


def test_what_is_piped_holds_no_code_of_a_terminal(call, told: Path) -> None:
    for words in (["status"], ["tables"], ["tables", "--format", "markdown"]):
        assert "\x1b" not in call(bench, *words, "--results", told)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_come_in_a_terminal_unless_they_are_not_wanted(told: Path, no_color: str) -> None:
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm-256color", "COLUMNS": "100"}
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "mmfuse.cli.bench", "status", "--results", str(told)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment, cwd=REPOSITORY) as process:
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 65536):
                written += part
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
        assert process.wait() == 0
    assert "●●●" in re.sub(r"\x1b\[[0-9;]*m", "", written.decode())
    assert bool(COLOUR.search(written.decode())) is not bool(no_color)


@pytest.mark.parametrize("style", [["--json"], []])
def test_a_reader_who_has_seen_enough(style: list[str]) -> None:
    command = [sys.executable, "-m", "mmfuse.cli.bench", "list", "methods", *style]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize("module", [bench, main])
def test_versions(call, module: ModuleType) -> None:
    told = dict(line.split(" ", 1) for line in call(module, "--version").splitlines())
    for name in ("mmfuse", "torch", "peft", "transformers", "av"):
        assert told[name] == version(name)
    assert re.fullmatch(r"[\w.-]+", told["ffmpeg"])
    assert told["device"]


def pages(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """The words that lead to each command of a command."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from pages(below, *words, name)


@pytest.mark.parametrize("columns", ["50", "80"])
@pytest.mark.parametrize("module", [bench, main])
def test_helps_are_whole_sentences(call, module: ModuleType, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for words in pages(typer.main.get_command(module.app)):
        told = call(module, *words, "--help")
        assert "..." not in told.partition("\n\n")[2], words  # after the usage, in which it means several
        assert max(map(len, told.splitlines())) <= int(columns)
        assert not re.search(r"^ +--\S+ <", told, flags=re.MULTILINE), words  # a type where a word should stand


@pytest.mark.parametrize("module", [bench, main])
def test_every_command_and_option_has_a_help_that_is_a_sentence(module: ModuleType) -> None:
    group = typer.main.get_command(module.app)
    for words in pages(group):
        command = group
        for word in words:
            command = command.commands[word]
        helps = [command.help, *(getattr(one, "help", None) for one in command.params if not one.hidden)]
        for text in filter(None, helps):
            assert text[0].isupper(), (words, text)
            assert text.endswith((".", "…")), (words, text)

"""Streams that are closed, full or no longer read: no traceback, and no output in somebody's file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["--help", "list grids", "list methods --json", "--grid smoke --dry-run", "status --results RESULTS --json"]


def run(words: str, redirect: str, results: Path) -> subprocess.CompletedProcess[str]:
    command = f'exec "{sys.executable}" -m mmfuse.cli.bench {words.replace("RESULTS", str(results))} {redirect}'
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, cwd=results.parent)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mmfuse.records.folder import Manifest, ResultsFolder

    folder = ResultsFolder(tmp_path_factory.mktemp("streams") / "results")
    folder.prepare()
    folder.write_manifest(Manifest("smoke"))
    return folder.path


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", COMMANDS)
def test_closed_streams(words: str, redirect: str, results: Path) -> None:
    done = run(words, redirect, results)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", COMMANDS)
def test_a_full_disk_behind_stdout_is_told_in_one_line(words: str, results: Path) -> None:
    done = run(words, ">/dev/full", results)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("words", COMMANDS)
def test_a_reader_that_has_seen_enough(words: str, results: Path) -> None:
    done = run(words, "| head -c 1 >/dev/null", results)
    assert "Traceback" not in done.stderr

"""Commands whose standard streams are closed, full or broken end with their own exit code and without a traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmfuse.utils.streams import RemarkStream

REPOSITORY = Path(__file__).parents[2]
ANSWERS = {
    ("bench", "list methods"): 0,
    ("bench", "list methods --json"): 0,
    ("bench", "--grid smoke --dry-run"): 0,
    ("bench", "--help"): 0,
    ("bench", "--grid nix"): 2,
    ("main", "data split tiny --shots 2"): 0,
    ("main", "predict nowhere nothing.mp4"): 2,
}


def shell(module: str, words: str, streams: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with its streams redirected by a shell; what it says on stderr comes back on stdout."""
    line = f"exec {sys.executable} -m mmfuse.cli.{module} {words} {streams}"
    environment = {**os.environ, "MMFUSE_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False
    )


@pytest.mark.parametrize(("module", "words", "code"), [(*command, code) for command, code in ANSWERS.items()])
def test_closed_streams_are_no_fault(tmp_path: Path, module: str, words: str, code: int) -> None:
    for streams in (">&-", "<&- >&- 2>&-"):
        done = shell(module, words, streams, tmp_path)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_full_streams(tmp_path: Path) -> None:
    full = shell("bench", "list methods", "> /dev/full", tmp_path)
    assert full.returncode == 2
    assert full.stderr.splitlines() == [
        "mmfuse-bench: No space left on device; see to that, or name another place",
    ]
    assert shell("bench", "--grid nix", "2> /dev/full", tmp_path).returncode == 2


def test_remarks_that_nobody_reads_any_more_are_dropped() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as raw, RemarkStream(io.BufferedWriter(raw.raw), line_buffering=True) as stream:
        for _ in range(2):
            print("a remark", file=stream)
            stream.flush()
        assert os.fstat(stream.fileno()).st_rdev == Path(os.devnull).stat().st_rdev


def test_what_is_written_to_a_closed_number_goes_into_no_file(tmp_path: Path) -> None:
    """The number of a closed standard error must not be given to the next file, into which others would then write."""
    code = (
        "from mmfuse.utils.streams import prepare_streams; import os\n"
        "prepare_streams()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "os.write(2, b'what a native library says')\n"
        "assert file.fileno() > 2, file.fileno()\n"
    )
    done = subprocess.run(["sh", "-c", f'exec {sys.executable} -c "$0" 2>&-', code], cwd=REPOSITORY, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""

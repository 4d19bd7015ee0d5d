"""Every block of the documentation and of the front page is run, or says above it why it is not."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmfuse.data.tiny import dataset
from tests.docs.blocks import Block, UnmarkedBlock, blocks_of, fits, steps_of
from tests.docs.sharing import once, shared_folder

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
RESULTS = "results/smoke"
GRID = "mmfuse-bench --grid smoke --only shots=2 --only draw=0 --only pair=frozen+frozen,lora+adapter --workers 1"
LONG = "takes minutes; CI runs the same machinery by make smoke"
# The front page holds no marks; they are given by how a block begins.
README: dict[str, dict[str, Any]] = {
    "make bench": {
        "why": LONG,
        "instead": ['make -C "$MMFUSE_CHECKOUT" -n bench', 'make -C "$MMFUSE_CHECKOUT" -n test'],
    },
    "mmfuse data get": {
        "why": "needs UCF101; without it the commands say what is missing",
        "instead": [
            "mmfuse data get ucf101",
            "! mmfuse data check ucf101 --root data/ucf101",
            "mmfuse run paper --only dataset=ucf101 --dry-run",
            "mmfuse run full --dry-run",
        ],
    },
    "mmfuse best": {
        "why": f"{LONG}; its own tests run the search",
        "instead": ["mmfuse best --help", "mmfuse predict --help"],
    },
    "mmfuse status": {
        "why": f"the results that were written last are {RESULTS} here, which have another pair",
        "swap": {"compare dora+adapter": "compare lora+adapter"},
    },
    "import lightning": {"why": "twenty epochs are run as one", "swap": {"max_epochs=20": "max_epochs=1"}},
}


class Server:
    """The process that runs pages."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.docs.warm"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, blocks: list[Block], folder: Path) -> str | None:
        """Run a page in a folder of its own; why it failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        report = folder.parent / f"{folder.name}.json"
        request = {
            "folder": str(folder),
            "environment": {**environment(self.shared), "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
            "steps": steps_of(blocks),
            "report": str(report),
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline(), "the process that runs pages has died"
        if not report.exists():
            return report.with_suffix(".log").read_text(errors="replace")
        failure: str | None = json.loads(report.read_text())
        return failure


def environment(shared: Path) -> dict[str, str]:
    """A reader's: the package on the path, a cache, and no network."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MMFUSE_CACHE": str(shared / "cache"),
        "HF_HOME": str(shared / "hub"),
        "HF_HUB_OFFLINE": "1",
        "MMFUSE_CHECKOUT": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_ADDRESS": "local",  # else it joins the cluster of other tests, whose nodes are killed
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of this run share."""
    return shared_folder(tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def server(shared: Path) -> Iterator[Server]:
    with (shared / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ours = shared / "cache" / f"tiny-v{dataset.VERSION}"
        if not ours.exists():
            ours.parent.mkdir()
            ours.symlink_to(dataset.generate())  # made once on a machine, and read by other tests too
    made = Server(shared)
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    made.process.wait(timeout=60)


def results_in(shared: Path) -> Path:
    """A results folder of a grid that was really run."""

    def make(folder: Path) -> None:
        done = subprocess.run(
            [*GRID.split(), "--results", str(folder)],
            env={**os.environ, **environment(shared)},
            cwd=shared,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-4000:]

    return once(shared / "smoke", make)


def run(server: Server, path: Path, tmp_path: Path, **how: Any) -> str | None:
    """Run a page; where it looks at results, a copy of some lies in its folder."""
    blocks = blocks_of(path, **how)
    folder = tmp_path / "page"
    folder.mkdir()
    if any(RESULTS in f"{block.text} {block.mark}" for block in blocks):
        shutil.copytree(results_in(server.shared), folder / RESULTS)
    return server.run(blocks, folder)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_block_of_the_page_runs(path: Path, server: Server, tmp_path: Path) -> None:
    failure = run(server, path, tmp_path)
    assert failure is None, failure


def test_every_block_of_the_front_page_runs(server: Server, tmp_path: Path) -> None:
    failure = run(server, ROOT / "README.md", tmp_path, indented=True, marks=README)
    assert failure is None, failure


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_no_block_is_skipped_in_silence(path: Path) -> None:
    how: dict[str, Any] = {"indented": True, "marks": README} if path.name == "README.md" else {}
    blocks = blocks_of(path, **how)
    fences = sum(line.lstrip().startswith("```") for line in path.read_text(encoding="utf-8").splitlines())
    assert fences == 2 * sum(block.fenced for block in blocks), "a fence that the tests do not find"
    run_or_marked = steps_of(blocks)
    assert run_or_marked or not blocks


def test_every_mark_of_the_front_page_is_used() -> None:
    blocks = blocks_of(ROOT / "README.md", indented=True, marks=README)
    marked = [block.text for block in blocks if block.mark]
    assert all(any(text.startswith(begin) for text in marked) for begin in README)


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("```console\nmmfuse\n```\n", "begins with"),
        ("```rust\nfn main\n```\n", "neither run nor marked"),
        ("```text\nsome output\n```\n", "neither run nor marked"),
        ("<!-- check: {shown: true} -->\n```text\na layout\n```\n", "does not say why"),
        ("<!-- check: {skip: true} -->\n```console\n$ mmfuse\n```\n", "skip"),
        ('<!-- check: {why: to be shorter, swap: {"--epoch 3": ""}} -->\n```console\n$ mmfuse\n```\n', "to swap"),
    ],
)
def test_a_block_that_would_be_skipped_is_a_fault(block: str, fault: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(block)
    with pytest.raises(UnmarkedBlock, match=fault):
        steps_of(blocks_of(page))


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        ([], "anything", True),
        (["a b", ""], "a   b\n", True),
        (["a"], "a\nb\n", False),
        (["...", "b"], "a\na\nb\n", True),
        (["...", "b"], "b\n", True),
        (["top ...%"], "top 3.4%\n", True),
        (["top ...%"], "top 3.4\n", False),
        (["b", "..."], "a\nb\n", False),
    ],
)
def test_outputs_are_compared(expected: list[str], output: str, same: bool) -> None:
    assert fits(expected, output) is same


def test_a_page_that_is_wrong_fails(server: Server, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1\n```\n\n```python\nprint(x + 1)\n```\n\n```text\n2\n```\n\n"
        "```console\n$ mmfuse-bench list grids\ngrid description\n...\n```\n\n"
        "```console\n$ mmfuse-bench list gridz\n```\n"
    )
    failure = run(server, page, tmp_path)
    assert failure is not None
    assert "page.md:20: mmfuse-bench list gridz\nended with 2" in failure

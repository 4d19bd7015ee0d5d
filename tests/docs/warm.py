"""A process that has imported torch and the package once, and runs each page in a fork of itself.

It reads requests as JSON lines: `folder`, `environment`, `steps`, `report`. Each ends in a report file: the first
step that failed and how, or nothing. Commands of the package run through their entry points in a fork; all others run
in a shell.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from tests.docs.blocks import Step, fits

OURS = ("mmfuse", "mmfuse-bench")
SHELL = set("|&;<>()$`*?[#~")
BASE = {"name": "part", "datasets": ["tiny"], "shots": [2], "pairs": ["frozen+frozen"]}


def preload() -> None:
    """Import what takes long."""
    import lightning
    import torch

    import mmfuse.bench.run_cell
    import mmfuse.model.recognizer

    assert lightning
    assert mmfuse
    torch.set_num_threads(1)


def forked(run: Callable[[], None], output: Path) -> int:
    """Run a function in a fork of this process, its output in a file; returns its exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        into = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(into, 1)
        os.dup2(into, 2)
        code = 1
        try:
            run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(line: str, output: Path) -> int:
    """Run a command line."""
    if not SHELL & set(line):
        words = shlex.split(line)
        if words[0] in OURS:
            return forked(lambda: entry_point(words), output)
    with output.open("wb") as file:
        return subprocess.run(["bash", "-c", line], stdout=file, stderr=subprocess.STDOUT, check=False).returncode


def entry_point(words: list[str]) -> None:
    """What the script of that name does."""
    from mmfuse.cli import bench
    from mmfuse.cli import main as tool

    sys.argv = words
    (tool if words[0] == "mmfuse" else bench).main()


def grid(text: str) -> None:
    """A part of a grid file is one that makes a grid with what else a grid needs."""
    import yaml

    from mmfuse.bench.grid import load_grid

    path = Path("part.yaml")
    path.write_text(yaml.safe_dump({**BASE, **yaml.safe_load(text)}), encoding="utf-8")
    assert load_grid(str(path)).cells()


class Session:
    """A fork that runs the snippets of a page one after the other, so that each finds the names of those before.

    Commands must not run in it: they see files alone, as a reader's do, and not what a snippet has registered.
    """

    def __init__(self) -> None:
        asked, self._asking = os.pipe()
        self._answers, answering = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._asking)
            self._serve(os.fdopen(asked), answering)
            os._exit(0)
        os.close(asked)
        os.close(answering)

    def run(self, code: str, where: str, output: Path) -> int:
        """Run a snippet; 0 where it did not fail."""
        request = {"code": code, "where": where, "output": str(output)}
        os.write(self._asking, (json.dumps(request) + "\n").encode())
        return int(os.read(self._answers, 1) or b"1")

    def close(self) -> None:
        """End the fork."""
        os.close(self._asking)
        os.waitpid(self._child, 0)

    @staticmethod
    def _serve(asked: TextIO, answering: int) -> None:
        names: dict[str, Any] = {"__name__": "page"}
        for line in asked:
            request = json.loads(line)
            into = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(into, 1)
            os.dup2(into, 2)
            os.close(into)
            failed = False
            try:
                exec(compile(request["code"], request["where"], "exec"), names)
            except BaseException:
                failed = True
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(answering, b"1" if failed else b"0")


def failure_of(step: Step, session: Session) -> str | None:
    """Run a step; why it failed."""
    output = Path(".output")
    output.write_text("")
    if step["kind"] == "file":
        path = Path(step["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step["text"], encoding="utf-8")
        return None
    if step["kind"] == "grid":
        code = forked(lambda: grid(step["text"]), output)
    elif step["kind"] == "python":
        code = session.run(step["code"], step["where"].rpartition(":")[0], output)
    else:
        code = command(step["line"], output)
    said = output.read_text(encoding="utf-8", errors="replace")
    what = f"{step['where']}: {step.get('line', step['kind'])}"
    if code != step.get("exit", 0):
        return f"{what}\nended with {code}, not {step.get('exit', 0)}:\n{said[-4000:]}"
    if not fits(step.get("expected", []), said):
        return f"{what}\nshows other output than the page does:\n{said[-4000:]}"
    return None


def page(request: dict[str, Any]) -> None:
    """Run the steps of a page until one fails."""
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path.insert(0, "")
    session, failure = Session(), None
    for step in request["steps"]:
        if (failure := failure_of(step, session)) is not None:
            break
    session.close()
    Path(request["report"]).write_text(json.dumps(failure), encoding="utf-8")


def main() -> None:
    """Serve until the input ends."""
    preload()
    for line in sys.stdin:
        request = json.loads(line)
        log = Path(request["report"]).with_suffix(".log")
        code = forked(lambda request=request: page(request), log)  # type: ignore[misc]
        print(json.dumps(code), flush=True)


if __name__ == "__main__":
    main()

"""What the shell offers when a name is half typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmfuse.cli import completion

REPOSITORY = Path(__file__).parents[2]

# Presses tab in a bash that has taken over what the commands say by --show-completion.
PRESS_TAB = """
eval "$(mmfuse --show-completion bash)"
eval "$(mmfuse-bench --show-completion bash)"
press() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    "_${1//-/_}_completion" "$1"
    printf '%s\\n' "${COMPREPLY[*]}"
}
press mmfuse tr
press mmfuse train --pair dora+adapte
press mmfuse-bench --grid sm
press mmfuse-bench tables --results ./
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_both_commands_complete_in_bash(tmp_path: Path) -> None:
    for command, module in (("mmfuse", "main"), ("mmfuse-bench", "bench")):
        script = tmp_path / command
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mmfuse.cli.{module} "$@"\n')
        script.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(
        ["bash", "--norc", "-c", PRESS_TAB], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["train", "dora+adapter", "smoke", ""]


def test_names() -> None:
    assert completion.grids("") == sorted(path.stem for path in (REPOSITORY / "benchmarks" / "grids").glob("*.yaml"))
    assert completion.grids("field-") == ["field-novel"]
    assert completion.datasets("u") == ["ucf101"]
    assert completion.one_of("local", "ray")("r") == ["ray"]
    assert completion.switches("com") == ["compile=on", "compose=off"]


def test_pairs_are_completed_a_side_at_a_time() -> None:
    assert {"lora+", "dora+", "frozen+"} < set(completion.pairs(""))
    assert completion.pairs("dor") == completion.pairs("dora+")
    assert {"dora+frozen", "dora+coop"} < set(completion.pairs("dora+"))
    assert completion.pairs("dora+coo") == ["dora+coop"]
    assert completion.pairs("nothing") == []


def test_completing_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from mmfuse.cli import bench, completion, main\n"
        "completion.pairs(''), completion.grids(''), completion.datasets('')\n"
        "heavy = {'torch', 'pandas', 'numpy', 'av', 'lightning', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)

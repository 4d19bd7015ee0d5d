"""LaTeX tables compile, whatever the names in them."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmfuse.cli import bench
from mmfuse.records.cell import Cell
from tests.report.made import build, results

HOSTILE = (
    "a_b^c & 50% #1 $x$ {y} ~z \\input{/etc/passwd}",
    '[2ex] <b> "quoted" `ticked\' -- | * = @',
    "naïve Müller–Lyer Δ≥µ… “straße”",
    "日本語 ✓ 🙂 gnp",
)
PREAMBLE = r"""\documentclass{article}
\usepackage[paperwidth=60cm,paperheight=40cm,margin=1cm]{geometry}
\usepackage{booktabs}
"""


def latex(folder: Path, cells: list[Cell], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `tables --format latex` prints for cells of which every fifth failed."""
    results(folder, cells, lambda cell: "failed" if (cell.draw + len(cell.pair.name)) % 5 == 0 else 0.3 + cell.draw / 9)
    monkeypatch.setattr(sys, "argv", ["mmfuse-bench", "tables", "--results", str(folder), "--all", "--format", "latex"])
    with pytest.raises(SystemExit) as end:
        bench.main()
    assert not end.value.code
    return capsys.readouterr().out


def every_table() -> list[Cell]:
    """Cells that make each kind of table."""
    names = ("frozen+frozen", "dora+adapter", *HOSTILE)
    places = itertools.product(enumerate(names), (2, 16, "all"), range(3))
    cells = [build(name, shots=shots, draw=draw, train={"epochs": 9 + at}) for (at, name), shots, draw in places]
    variants = [build("late_fusion", shots=16, draw=draw, fusion={"kind": "late"}) for draw in range(3)]
    known = [build("frozen+frozen", shots=shots, dataset="hmdb51") for shots in (2, 16)]
    own = {"name": HOSTILE[0][:20], "root": "/clips", "train": "a.csv", "test": "b.csv"}
    return [*cells, *variants, *known, build("frozen+frozen").model_copy(update={"dataset": _own(own)})]


def _own(keys: dict[str, str]) -> object:
    return Cell.model_validate(
        {"dataset": keys, "pair": {"name": "x", "image": "frozen", "text": "frozen"}, "shots": 2}
    ).dataset


def test_every_table_compiles_with_hostile_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    text = latex(tmp_path / "results", every_table(), capsys, monkeypatch)
    assert text.count(r"\toprule") >= 8
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels) == text.count(r"\caption{")
    assert all(re.fullmatch("tab:[a-z0-9-]+", label) for label in labels)
    assert "$ 2/3, 1 failed." in text
    page = tmp_path / "page.tex"
    page.write_text(f"{PREAMBLE}\\begin{{document}}\n{text}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", page.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    faults = [line for line in done.stdout.splitlines() if line.startswith(("!", "l."))]
    assert done.returncode == 0, faults
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    log = (tmp_path / "page.log").read_text(errors="replace")
    assert "Missing character" not in log
    assert "/etc/passwd" not in [line.strip("()") for line in log.splitlines()]

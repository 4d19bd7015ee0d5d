"""Figures for a paper: what is written, how wide it is, and that it is the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import read_entries
from mmfuse.report.page.build import build_page
from mmfuse.report.plots.paper import COLUMN, PAGE, draw_figures
from tests.cli.test_bench import REPOSITORY, call
from tests.report.scenes import IMAGE, hostile, plain

NAMES = ["overview", "gains", "shots", "parameters", "seconds", "grid", "confusion", "classes"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A results folder and the folder of its figures."""
    results, out = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("figures")
    folder = plain(results, skip=[("dora+adapter", 2, 1)])
    written = list(draw_figures(folder, read_entries(folder), out=out))
    assert [path.name for path in written] == [
        f"tiny-split1-{name}.{kind}" for name in NAMES for kind in ("pdf", "png")
    ]
    assert sorted(written) == sorted(out.iterdir())
    return results, out


def test_figures_are_as_wide_as_a_column_or_a_page(drawn: tuple[Path, Path]) -> None:
    for name in NAMES:
        with Image.open(drawn[1] / f"tiny-split1-{name}.png") as picture:
            width = PAGE if name == "overview" else COLUMN
            assert picture.width == pytest.approx(300 * width, abs=1)
            assert picture.height < 1.4 * picture.width


def test_fonts_are_embedded_as_outlines_that_journals_take(drawn: tuple[Path, Path]) -> None:
    for path in drawn[1].glob("*.pdf"):
        content = path.read_bytes()
        assert b"/FontFile2" in content  # Type 42: TrueType inside
        assert b"/Type3" not in content
        assert b"/CreationDate" not in content


def test_another_process_writes_the_same_bytes_and_needs_no_torch(drawn: tuple[Path, Path], tmp_path: Path) -> None:
    calls = [["figures", "--out", "f"], ["report", "--no-frames", "--out", "r.html"]]
    code = (
        "import sys\nfrom mmfuse.cli.bench import main\n"
        f"for words in {calls!r}:\n"
        f"    sys.argv = ['x', *words, '--results', {str(drawn[0])!r}]\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code, end.code\n"
        "assert not {'torch', 'transformers', 'lightning'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote f/") == 2 * len(NAMES)
    for path in drawn[1].iterdir():
        assert (tmp_path / "f" / path.name).read_bytes() == path.read_bytes(), path.name
    folder = ResultsFolder(drawn[0])
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == build_page(folder, read_entries(folder))


def test_marks_differ_in_grey(drawn: tuple[Path, Path]) -> None:
    """Colour is not all that tells the states and pairs apart: without it, there is still ink of several kinds."""
    with Image.open(drawn[1] / "tiny-split1-shots.png") as picture:
        shades = picture.convert("L").getcolors()
    assert shades is not None
    assert sum(count for count, shade in shades if shade < 120) > 1000


@pytest.mark.filterwarnings("error")
def test_hostile_names_stay_inside_the_folder_and_the_figure(tmp_path: Path) -> None:
    folder = hostile(tmp_path / "results", datasets=[{"name": f"..{IMAGE}", "root": str(tmp_path)}])
    out = tmp_path / "figures"
    written = list(draw_figures(folder, read_entries(folder), out=out, pair="frozen+frozen"))
    # Of the pair that was chosen there are no gains: nothing is gained over itself.
    # One data set has no figure of all.
    stem = "img_src_x_onerror_window_harmed_true-split1"
    assert [path.stem for path in written] == [f"{stem}-{name}" for name in NAMES[:-1] for _ in range(2)]
    assert {path.parent for path in written} == {out}
    assert all(path.stat().st_size > 3000 for path in written)


def test_an_unknown_pair_is_refused(
    drawn: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("figures", "--results", str(drawn[0]), "--out", str(tmp_path / "f"), "--pair", "dora+adaptr")
    code, _, told = call(capsys, monkeypatch, *words)
    assert code == 2
    assert "did you mean 'dora+adapter'" in told
    assert not (tmp_path / "f").exists()


def test_nothing_done_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(tmp_path / "r", draws=[0], shots=[2], skip=[("frozen+frozen", 2, 0), ("dora+adapter", 2, 0)])
    code, _, told = call(capsys, monkeypatch, "figures", "--results", str(tmp_path / "r"), "--out", str(tmp_path / "f"))
    assert code == 2
    assert "is done yet, so there is nothing to draw" in told
    assert len(told.splitlines()) == 1

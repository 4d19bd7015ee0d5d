"""What the front page says is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_grid_file_is_a_grid(tmp_path: Path) -> None:
    from mmfuse.bench.grid import load_grid

    [text] = blocks("yaml")
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text("path,label\na.mp4,up\nb.mp4,down\n", encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("root: videos", f"root: {tmp_path}"), encoding="utf-8")
    cells = load_grid(str(path)).cells()
    expected = yaml.safe_load(text)
    assert len(cells) == len(expected["shots"]) * len(expected["draws"]) * len(expected["pairs"])


@pytest.mark.parametrize("target", re.findall(r"^ {4}make (\w+)", PAGE, flags=re.MULTILINE))
def test_the_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_every_file_it_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)|`(benchmarks/[\w/.]+|data_splits/)`", PAGE):
        assert (ROOT / (name[0] or name[1])).exists(), name


def test_no_number_of_a_training_stands_on_the_front_page() -> None:
    """A training goes another way on another processor: what stands here holds on all of them."""
    assert not re.search(r"\d\s*±|±\s*\d", PAGE)
    assert not re.search(r"\d+(\.\d+)? ?(points|clips/s)", PAGE)
    assert "move with the processor" in " ".join(PAGE.split())

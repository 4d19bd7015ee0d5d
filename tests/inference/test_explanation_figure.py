"""The picture of an explanation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmfuse.errors import MmfuseError
from mmfuse.inference.explain import Explanation
from mmfuse.inference.explanation_figure import AGAINST, FOR, figure, write_figure
from mmfuse.inference.predict import Prediction


def explanation(frames: int, *, label: str = "waving", name: str = "a.mp4", rate: float = 25.0) -> Explanation:
    contributions = tuple(float(value) for value in np.linspace(-0.4, 1.0, frames)) if frames > 1 else (0.5,)
    return Explanation(
        prediction=Prediction(Path("videos") / name, (label, "jumping", "running"), (0.7, 0.2, 0.1)),
        pictures=np.full((frames, 16, 16, 3), 120, dtype=np.uint8),
        numbers=tuple(range(0, 5 * frames, 5)),
        count=5 * frames,
        frames_per_second=rate,
        contributions=contributions,
        grey=-0.25,
        margin=sum(contributions) - 0.25,
    )


def words(found: Explanation) -> str:
    drawn = figure(found)
    return "\n".join(
        [text.get_text() for text in drawn.texts]
        + [text.get_text() for axes in drawn.axes for text in [axes.title, *axes.texts]]
    )


@pytest.mark.parametrize("frames", [1, 2, 8, 11])
def test_every_frame_has_its_bar_on_one_scale(frames: int) -> None:
    found = explanation(frames)
    drawn = figure(found)
    bars = [axes for axes in drawn.axes if axes.patches]
    assert len(drawn.axes) == 2 * frames
    assert [axes.patches[0].get_height() for axes in bars] == pytest.approx(list(found.contributions))
    assert len({axes.get_ylim() for axes in bars}) == 1
    for axes, contribution in zip(bars, found.contributions, strict=True):
        low, high = axes.get_ylim()
        assert low < contribution < high
        assert axes.patches[0].get_facecolor()[:3] == pytest.approx(_rgb(FOR if contribution >= 0 else AGAINST))


def _rgb(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def test_what_is_written_on_it() -> None:
    found = explanation(2)
    told = words(found)
    for expected in ("waving: 70.0%", "a.mp4 (10 frames); then jumping 20.0%, running 10.0%", "frame 5 · 0.2 s"):
        assert expected in told
    assert "+71%\n(+1.00)" in told
    assert "−29%\n(−0.40)" in told
    assert " ".join(told.split()).count("−0.25 for an evenly grey clip, +0.60 by the frames, +0.35 for this") == 1
    assert "frame 5 ·" not in words(explanation(2, rate=0.0))


@pytest.mark.parametrize("kind", ["png", "pdf", "svg", "PNG"])
def test_it_is_written_in_the_format_of_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{kind}"
    write_figure(explanation(3), path)
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind.lower()]
    first = path.read_bytes()
    assert first.startswith(begins)
    if kind == "png":
        write_figure(explanation(3), path)
        assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["out.gif", "out", "clip.mp4"])
def test_a_name_of_another_kind_is_refused_and_nothing_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(MmfuseError, match="known: pdf, png, svg"):
        write_figure(explanation(2), tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MmfuseError, match="cannot be written"):
        write_figure(explanation(2), tmp_path / "file" / "out.png")


@pytest.mark.parametrize("odd", ["$x_1$", "$\\frac{", "a" * 300, "\x1b[31m\x00\n", "\udcff%s{}", "走路 [b]"])
def test_names_are_shown_as_they_are_or_as_signs(odd: str, tmp_path: Path) -> None:
    found = explanation(2, label=odd, name=odd.replace("/", "") + ".mp4")
    write_figure(found, tmp_path / "out.svg")
    write_figure(found, tmp_path / "out.png")
    assert b"\x1b" not in (tmp_path / "out.svg").read_bytes()

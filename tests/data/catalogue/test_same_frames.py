"""Copies are found however they were made, and recordings of one still camera are not taken for copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.same_frames import WAYS, draw, ground, thumbnails
from mmfuse.data.catalogue.same_frames import find_same_frames, same_among

ALIKE = [way for way in WAYS if way != "5 % cut off each side"]


@pytest.fixture(scope="module")
def drawn() -> list[NDArray[np.uint8]]:
    """Three clips before one ground and a still camera."""
    rng = np.random.default_rng(5)
    behind = ground(rng)
    return [draw(rng, behind) for _ in range(3)]


@pytest.fixture(scope="module")
def originals(drawn, tmp_path_factory: pytest.TempPathFactory) -> list[NDArray[np.uint8]]:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return [thumbnails(path, frames) for frames in drawn]


@pytest.mark.parametrize("way", ALIKE)
def test_a_copy_is_found_and_no_other_recording(way: str, drawn, originals, tmp_path: Path) -> None:
    change, how = WAYS[way]
    copy = thumbnails(tmp_path / "copy.mp4", change(drawn[1]), **how)
    [pair] = same_among([*originals, copy])
    assert (pair.first, pair.second) == (1, 3)
    assert pair.mirrored == ("mirrored" in way)


def test_what_cannot_be_read_is_named_and_the_others_are_compared(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    found = find_same_frames([str(tmp_path / "bad.mp4")])
    assert found.same == []
    assert list(found.unreadable) == [0]

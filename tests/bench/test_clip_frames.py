"""Frames of single test clips, and the reasons for those that are not available."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfuse.bench.clip_frames import FRAMES, ClipFrames
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from tests.data.videos import encode
from tests.report.made import build


def test_frames_are_read_and_each_data_set_is_looked_for_once(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            encode(tmp_path / part / name / f"{name}.mp4", codec="libx264", count=9)
    (tmp_path / "test" / "b" / "b.mp4").write_bytes(b"no video")
    asked: list[str] = []

    def find(cell: Cell) -> Catalogue:
        asked.append(cell.dataset.name)
        return load_catalogue(cell.dataset.request(), split=cell.split)

    cell = build("frozen+frozen", dataset={"name": "mine", "root": str(tmp_path)})  # type: ignore[arg-type]
    read = ClipFrames(find)
    frames = read(cell, "test/a/a.mp4")
    assert len(frames) == FRAMES
    assert all(frame.ndim == 3 and frame.shape[2] == 3 for frame in frames)
    with pytest.raises(MmfuseError, match=r"b\.mp4"):
        read(cell, "test/b/b.mp4")
    with pytest.raises(MmfuseError, match="not in the available lists"):
        read(cell, "test/c/c.mp4")
    assert asked == ["mine"]


def test_lists_that_are_not_at_hand_are_told_for_every_clip() -> None:
    calls = []

    def find(cell: Cell) -> Catalogue:
        calls.append(cell)
        raise MmfuseError("no lists below here")

    read = ClipFrames(find)
    for clip in ("a", "b"):
        with pytest.raises(MmfuseError, match="no lists below here"):
            read(build("frozen+frozen"), clip)
    assert len(calls) == 1

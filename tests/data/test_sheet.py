"""A sheet shows what training and test read, to the pixel, and changes nothing of what they read later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmfuse.cli.show import ShowRequest, show
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.data.sheet import draw_sheet, shown_clips
from mmfuse.errors import MmfuseError


def test_what_is_shown_is_what_is_read() -> None:
    data = FewShotVideoDataModule("tiny", shots=1, test_views="2x3", size=48, frames=4)
    shown = shown_clips(data, data.train_clips, training=True, views=2)
    loader = data.train_dataloader()
    for epoch in range(2):
        for batch in loader:
            for video, row in zip(batch["video"], batch["index"].tolist(), strict=True):
                one = shown[2 * row + epoch]
                assert one.clip == data.train_clips["clip"][row]
                assert np.array_equal(one.frames, video.permute(0, 2, 3, 1).numpy())
    first = data.test_clips[:2]
    tested = shown_clips(data, first, training=False)
    video = next(iter(data.test_dataloader()))["video"][:2]
    views = video.reshape(-1, *video.shape[2:]).permute(0, 1, 3, 4, 2).numpy()
    assert np.array_equal(np.stack([one.frames for one in tested]), views)
    assert [one.view for one in tested[:4]][-1] == "clip 2 of 2, crop 1 of 3"
    assert tested[0].numbers != tested[3].numbers
    assert all(one.seconds == sorted(one.seconds) and len(one.seconds) == 4 for one in tested)
    sheet = draw_sheet(tested[:3], title="tiny")
    assert np.asarray(sheet).std() > 0
    assert sheet.height == draw_sheet(tested[:2], title="tiny").height + (sheet.height - 26) // 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": Path("sheet.jpg")}, "--out names a picture in PNG"),
        ({"clip": ("MoveLeft_g99_c01",)}, "unknown clip of this draw 'MoveLeft_g99_c01'; did you mean"),
        ({"views": 100}, r"rows are more than a sheet holds \(200\)"),
    ],
)
def test_wrong_requests(change, message: str, tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match=message):
        show(ShowRequest(**{"dataset": "tiny", "out": tmp_path / "a.png", **change}))
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_picture(tmp_path: Path) -> None:
    show(ShowRequest(dataset="tiny", out=tmp_path / "a.png", clips=2, test=True))
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.format == "PNG"

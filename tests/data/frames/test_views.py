"""Views at test: exactly so many, where the papers take them, and the same from every source of frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfuse import FewShotVideoDataModule
from mmfuse.data.batches import ClipBatches, Request
from mmfuse.data.cache.feature_batches import BLOCK
from mmfuse.data.frames.sampling import segment_centres
from mmfuse.data.frames.sources import Frames
from mmfuse.data.frames.views import Views
from mmfuse.errors import MmfuseError
from mmfuse.model.batches import VIEWS_AT_ONCE, mean_over_views
from tests.data.videos import encode

HEIGHT, WIDTH, SIZE = 20, 33, 16


class Numbered:
    """Gives frames whose pixels say which frame, row and column they are; counts how often it is asked."""

    def __init__(self, count: int, *, upright: bool = False) -> None:
        self.count, self.asked = count, 0
        shape = (WIDTH, HEIGHT) if upright else (HEIGHT, WIDTH)
        rows, columns = np.indices(shape, dtype=np.uint8)
        self._place = np.stack([np.zeros_like(rows), rows, columns], axis=-1)

    def pick(self, path: str, choose: Callable[[int], Any]) -> tuple[Frames, Any]:
        self.asked += 1
        wanted = choose(self.count)
        frames = np.repeat(self._place[None], len(wanted), axis=0)
        frames[..., 0] = wanted[:, None, None]
        return frames, np.arange(len(wanted))


def seen(views: str, *, frames: int = 3, count: int = 100, upright: bool = False) -> list[tuple[list[int], int, int]]:
    """Of each view the numbers of its frames, its top and its left."""
    source = Numbered(count, upright=upright)
    table = pd.DataFrame({"clip": ["a"], "path": ["a"], "label": [0]})
    batches = ClipBatches(table, source=source, frames=frames, size=SIZE, training=False, test_views=Views.parse(views))
    video = batches[Request(0, [0])]["video"]
    assert source.asked == 1
    if views == "1x1":
        assert video.ndim == 5
        video = video[:, None]
    assert video.shape == (1, Views.parse(views).count, frames, 3, SIZE, SIZE)
    return [(view[:, 0, 0, 0].tolist(), int(view[0, 1, 0, 0]), int(view[0, 2, 0, 0])) for view in video[0]]


def test_clips_are_spread_over_the_segments_and_crops_along_the_longer_side() -> None:
    centre = [((segment_centres(100, 3)).tolist(), 2, 9)]
    assert seen("1x1") == centre
    assert [place[1:] for place in seen("1x3")] == [(2, 0), (2, 9), (2, 17)]
    assert [place[1:] for place in seen("1x3", upright=True)] == [(0, 2), (9, 2), (17, 2)]
    clips = seen("4x3")
    assert [place[1:] for place in clips] == [(2, 0), (2, 9), (2, 17)] * 4
    numbers = [place[0] for place in clips[::3]]
    assert sorted(number for clip in numbers for number in clip) == segment_centres(100, 12).tolist()
    for clip in numbers:  # one frame of each third of the video, in order
        assert [number * 3 // 100 for number in clip] == [0, 1, 2]
    assert len({tuple(clip) for clip in numbers}) == 4
    assert seen("5x1")[2] == centre[0]  # the middle one of an odd number
    assert [place[0] for place in seen("2x1", count=1)] == [[0, 0, 0]] * 2


@pytest.mark.parametrize(
    "text", ["0x3", "4x2", "4", "4x", "x3", "65x1", "4x3x1", "4×3", " 4x3", "-1x1", "4X3", "٤x3", 3]
)
def test_other_views_are_refused_in_one_line(text: Any) -> None:
    with pytest.raises(MmfuseError, match=r"^test_views are clips × crops: .* such as 4x3; got [^\n]*$"):
        Views.parse(text)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("videos")
    for part, count in (("train", 2), ("test", 3)):
        for label in ("wave", "jump"):
            for number in range(count):
                place = root / part / label / f"{part}_{label}{number}.mp4"
                encode(place, codec="libx264", count=30 + number, width=96, height=64)
    return {"name": "mine", "root": str(root)}


def shown(mine: dict[str, Any], name: str = "video", **how: Any) -> dict[int, torch.Tensor]:
    prepare = how.pop("prepare", lambda data: None)
    data = FewShotVideoDataModule(mine, shots="all", frames=4, size=16, batch_size=4, views=2, **how)
    prepare(data)
    return {
        int(index): row
        for batch in data.test_dataloader()
        for index, row in zip(batch["index"], batch[name], strict=True)
    }


def test_stores_and_kept_features_show_what_the_files_show(mine: dict[str, Any], tmp_path: Path) -> None:
    decoded = shown(mine, test_views="4x3")
    assert len(decoded) == 6
    assert {view.shape for view in decoded.values()} == {(12, 4, 3, 16, 16)}
    calls: list[int] = []

    def tower(video: torch.Tensor) -> torch.Tensor:
        calls.append(len(video))
        return video.float().mean((3, 4))

    def keep(data: FewShotVideoDataModule) -> None:
        data.use_cached_features(tower, width=3, key="t", folder=tmp_path / "features")

    for _ in range(2):
        stored = shown(mine, test_views="4x3", store=tmp_path / "store")
        assert all(torch.equal(decoded[index], stored[index]) for index in decoded)
        kept = shown(mine, "features", test_views="4x3", prepare=keep)
        for index, video in decoded.items():
            assert torch.allclose(kept[index], tower(video), atol=1e-4)
        assert set(calls) == {BLOCK, 12}
        assert calls.count(BLOCK) == 6  # computed once: a block of 16 holds one clip's twelve views
    # Another number of views is another entry, and the centre is the same whoever shows it.
    one, three = shown(mine, "features", prepare=keep), shown(mine, "features", test_views="1x3", prepare=keep)
    for index in decoded:
        assert torch.equal(three[index][1], one[index])


def test_probabilities_are_averaged_and_few_views_go_through_at_once() -> None:
    clips = torch.randn(5, 12, 4, 3, generator=torch.Generator().manual_seed(0))
    sizes = []

    def probabilities(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        return part.sum(dim=1).softmax(dim=-1)

    found = mean_over_views(probabilities, clips)
    expected = clips.sum(dim=2).softmax(dim=-1).mean(dim=1)
    assert torch.allclose(found, expected)
    assert sum(sizes) == 60
    assert max(sizes) <= VIEWS_AT_ONCE

"""Kept features are the tower's own, computed once, and never trusted when anything is wrong with them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmfuse import ActionRecognizer, FewShotVideoDataModule
from mmfuse.data.cache import feature_batches
from mmfuse.data.cache.feature_batches import BLOCK
from mmfuse.data.cache.feature_store import FeatureStore
from mmfuse.errors import MmfuseError
from tests.data.videos import encode
from tests.towers import SIZE, image_tower, text_tower

WIDTH = 6


class Tower:
    """Stands for a frozen tower, and counts the clips it was shown."""

    def __init__(self) -> None:
        self.clips = 0

    def __call__(self, video: Tensor) -> Tensor:
        assert len(video) == BLOCK
        self.clips += len(video)
        means = video.float().mean((3, 4))
        return torch.cat([means, means.square()], dim=-1)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("videos")
    for part, count in (("train", 3), ("test", 2)):
        for label in ("wave", "jump"):
            for number in range(count):
                encode(root / part / label / f"{part}_{label}{number}.mp4", codec="libx264", count=9 + 3 * number)
    return {"name": "mine", "root": str(root)}


def module(mine: dict[str, Any], **how: Any) -> FewShotVideoDataModule:
    settings: dict[str, Any] = {"shots": "all", "frames": 4, "size": SIZE, "batch_size": 4, "views": 2, "flip": True}
    return FewShotVideoDataModule(mine, **settings | how)


def served(
    mine: dict[str, Any], folder: Path, tower: Tower, *, key: str = "tower", **how: Any
) -> FewShotVideoDataModule:
    data = module(mine, **how)
    data.use_cached_features(tower, width=WIDTH, key=key, folder=folder)
    return data


def epochs(data: FewShotVideoDataModule, count: int = 3) -> list[dict[int, Tensor]]:
    shown = []
    for number in range(count):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
        shown.append(by_index(data, loader))
    return shown


def by_index(data: FewShotVideoDataModule, loader: Any) -> dict[int, Tensor]:
    name = "features" if data._features else "video"
    batches = [data.on_after_batch_transfer(batch, 0) for batch in loader]
    return {int(index): row for batch in batches for index, row in zip(batch["index"], batch[name], strict=True)}


def features_of(video: Tensor) -> Tensor:
    return Tower()(video.expand(BLOCK, *video.shape))[0]


def test_kept_features_equal_those_of_the_video_in_training_and_at_test(mine: dict[str, Any], tmp_path: Path) -> None:
    data, live = served(mine, tmp_path, Tower()), module(mine)
    for kept, direct in zip(epochs(data), epochs(live), strict=True):
        assert kept.keys() == direct.keys()
        for index, video in direct.items():
            assert torch.equal(kept[index], features_of(video))
    kept, direct = by_index(data, data.test_dataloader()), by_index(live, live.test_dataloader())
    for index, video in direct.items():
        assert torch.equal(kept[index], features_of(video))


def test_each_view_is_computed_once_for_all_draws_seeds_and_processes(mine: dict[str, Any], tmp_path: Path) -> None:
    first, second, other = Tower(), Tower(), Tower()
    data = served(mine, tmp_path, first)
    epochs(data, 6)
    assert first.clips == 2 * BLOCK  # 2 views of 6 clips, each in one padded block, whatever the batches are
    epochs(served(mine, tmp_path, second, shots=2, draw=1, seed=9, batch_size=3), 6)
    assert second.clips == 0
    epochs(served(mine, tmp_path, other, key="another tower"), 1)
    assert other.clips > 0


@pytest.mark.parametrize("damage", ["flip a bit", "cut the file short", "replace the video"])
def test_features_that_cannot_be_trusted_are_computed_again(mine: dict[str, Any], tmp_path: Path, damage: str) -> None:
    data = served(mine, tmp_path, Tower())
    [expected] = epochs(data, 1)
    [file] = tmp_path.glob("*/features.f32")
    content = bytearray(file.read_bytes())
    if damage == "flip a bit":
        kept = np.flatnonzero(np.frombuffer(content, dtype=np.uint8))
        content[kept[len(kept) // 2]] ^= 1
        file.write_bytes(content)
    elif damage == "cut the file short":
        file.write_bytes(content[: len(content) // 3])
    else:
        path = Path(data.train_clips["path"][0])
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    again = Tower()
    [found] = epochs(served(mine, tmp_path, again), 1)
    assert again.clips > 0
    assert all(torch.equal(found[index], expected[index]) for index in expected)


def test_features_of_another_decoder_are_not_read(
    mine: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another reader or library may show other pixels of the same file."""
    epochs(served(mine, tmp_path, Tower()), 1)
    monkeypatch.setattr(feature_batches, "decoder_version", lambda: "another")
    again = Tower()
    epochs(served(mine, tmp_path, again), 1)
    assert again.clips > 0


def test_an_absent_entry_and_one_of_zeros_are_told_apart(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, clips=2, views=1, frames=3, width=2)
    assert store.read(0, 0, mark=7) is None
    store.write(0, 0, 7, np.zeros((3, 2), np.float32))
    found = FeatureStore(tmp_path, clips=2, views=1, frames=3, width=2).read(0, 0, mark=7)
    assert found is not None
    assert not found.any()
    assert store.read(0, 0, mark=8) is None
    assert store.read(1, 0, mark=7) is None


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system of its own, where this process may mount one."""
    folder.mkdir(exist_ok=True)
    if not shutil.which("mount") or subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
        pytest.skip("this process may not mount file systems")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_time_and_nothing_else(mine: dict[str, Any], tmp_path: Path) -> None:
    """Writing into a hole of a mapped file would end the process with SIGBUS."""
    expected = epochs(served(mine, tmp_path / "roomy", Tower()))
    with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        (tmp_path / "full" / "filler").write_bytes(bytes(8192))
        tower = Tower()
        data = served(mine, tmp_path / "full", tower)
        found = epochs(data)
        assert "No space left on device" in data.features_fault
        del data
    for shown, right in zip(found, expected, strict=True):
        assert all(torch.equal(shown[index], right[index]) for index in right)


def test_a_complete_store_that_can_only_be_read_is_read(mine: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "features"
    expected = epochs(served(mine, folder, Tower()))
    with mounted(folder, "--bind", "-o", "ro", str(folder)):
        tower = Tower()
        data = served(mine, folder, tower)
        found = epochs(data)
        assert "Read-only file system" in data.features_fault
        del data
    assert tower.clips == 0
    for shown, right in zip(found, expected, strict=True):
        assert all(torch.equal(shown[index], right[index]) for index in right)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_the_disk_does_not_take_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", refuse)
    store = FeatureStore(tmp_path, clips=3, views=1, frames=3, width=2, memory=2 * 24)
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    for clip in range(3):
        store.write(clip, 0, 7, features + clip)
    assert os.strerror(code) in store.fault
    np.testing.assert_array_equal(store.read(1, 0, 7), features + 1)
    assert store.read(1, 0, 8) is None, "of a video that has changed since"
    assert store.read(2, 0, 7) is None, "there was room for two"


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = FeatureStore(tmp_path / "file" / "store", clips=1, views=1, frames=3, width=2)
    store.write(0, 0, 7, np.ones((3, 2), np.float32))
    found = store.read(0, 0, 7)
    assert found is not None
    assert found.all()
    assert store.fault


def test_endless_views_cannot_be_kept(mine: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match="set views to 1 or more"):
        served(mine, tmp_path, Tower(), views=0)


def test_a_real_tower_gives_a_clip_the_same_bits_whatever_it_is_computed_with() -> None:
    model = ActionRecognizer(["a", "b"], image_encoder=image_tower(), text_encoder=text_tower(), frames=4).eval()
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (BLOCK, 4, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    order = torch.randperm(BLOCK, generator=generator)
    with torch.no_grad():
        features, shuffled = model.frame_features(video), model.frame_features(video[order])
        repeated = model.frame_features(video[:1].expand(BLOCK, -1, -1, -1, -1))
    assert torch.equal(shuffled, features[order])
    assert all(torch.equal(row, features[0]) for row in repeated)

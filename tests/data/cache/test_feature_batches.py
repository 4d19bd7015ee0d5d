"""Absent features are computed once among all processes, decoded ahead by others, and the same whoever does it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmfuse import FewShotVideoDataModule
from mmfuse.data.cache import feature_batches
from mmfuse.data.cache.claims import Claims
from mmfuse.data.cache.feature_batches import BLOCK
from mmfuse.data.cache.feature_store import FeatureStore
from mmfuse.data.loader import Feeding
from mmfuse.errors import MmfuseError
from tests.data.videos import encode

CLIPS, FRAMES, SIZE, WIDTH = 2 * BLOCK + 3, 2, 16, 3


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """More test clips than two blocks hold."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(CLIPS):
        encode(root / "test" / ("wave", "jump")[number % 2] / f"{number:02}.mp4", codec="libx264", count=4 + number % 5)
    for label in ("wave", "jump"):
        encode(root / "train" / label / f"train_{label}.mp4", codec="libx264", count=9)
    return {"name": "mine", "root": str(root)}


class Tower:
    """Stands for a frozen tower, and counts the clips it was shown."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.clips, self._then = 0, then

    def __call__(self, video: Tensor) -> Tensor:
        assert len(video) == BLOCK
        self.clips += len(video)
        self._then()
        return video.float().mean((3, 4))


def module(mine: dict[str, Any], folder: Path, tower: Tower, feeding: Feeding | None = None) -> FewShotVideoDataModule:
    data = FewShotVideoDataModule(mine, shots="all", frames=FRAMES, size=SIZE, batch_size=4, views=1)
    data.feed(feeding or Feeding(), tell=lambda phase, done, total: told.append((phase, done, total)))
    told: list[tuple[str, int, int]] = []
    data.told = told  # type: ignore[attr-defined]
    data.use_cached_features(tower, width=WIDTH, key="tower", folder=folder)
    return data


def features(data: FewShotVideoDataModule) -> Tensor:
    return torch.cat([batch["features"] for batch in data.test_dataloader()])


@pytest.fixture(scope="module")
def expected(mine: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    return features(module(mine, tmp_path_factory.mktemp("alone"), Tower()))


def content(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*/*")) if path.name != "claims"]


def test_any_number_of_processes_leaves_the_same_bytes(mine: dict[str, Any], expected: Tensor, tmp_path: Path) -> None:
    live = FewShotVideoDataModule(mine, shots="all", frames=FRAMES, size=SIZE, batch_size=4, views=1)
    video = torch.cat([batch["video"] for batch in live.test_dataloader()])
    assert torch.equal(expected, video.float().mean((3, 4)))
    before = torch.random.get_rng_state()
    files = []
    for workers in (0, 2):
        tower, folder = Tower(), tmp_path / str(workers)
        data = module(mine, folder, tower, Feeding(workers, "forkserver"))
        loader = data.test_dataloader()
        torch.random.set_rng_state(before)
        assert torch.equal(torch.cat([batch["features"] for batch in loader]), expected)
        files.append((content(folder), torch.random.get_rng_state().tolist()))
        assert tower.clips == 3 * BLOCK, "of 35 clips"
        assert data.told == [("test", done, CLIPS) for done in (0, BLOCK, 2 * BLOCK, CLIPS)]  # type: ignore[attr-defined]
        assert multiprocessing.active_children() == []
    assert files[0] == files[1]


def _other(mine: dict[str, Any], folder: Path, count: int, link: Connection) -> None:
    """Another process: claims the first clips of the test list, and computes them when it is told to."""
    data = module(mine, folder, Tower())
    features_of = data.test_dataloader().dataset
    rows = range(count)
    for row in rows:
        assert features_of._store.claim(features_of._rows[row], 1)
    link.send("claimed")
    assert link.recv() == "go on"
    features_of._keep(rows, [1], [(count, torch.full((count, FRAMES, WIDTH), 7.0))])
    features_of._store.release_all()


@pytest.mark.parametrize("ends", ["well", "killed"])
def test_processes_share_the_work_and_a_killed_one_leaves_no_claim(
    mine: dict[str, Any], expected: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=_other, args=(mine, tmp_path, BLOCK, theirs))
    other.start()
    assert ours.recv() == "claimed"
    done = iter([True])

    def go_on() -> None:
        """Once this process has begun on what it found unclaimed, the other one comes to its end."""
        if next(done, False):
            if ends == "well":
                ours.send("go on")
            else:
                os.kill(other.pid or 0, signal.SIGKILL)
            other.join()

    tower = Tower(go_on)
    monkeypatch.setattr(feature_batches, "LOOK_AGAIN", 0.0)
    found = features(module(mine, tmp_path, tower))
    assert other.exitcode == (0 if ends == "well" else -signal.SIGKILL)
    assert torch.equal(found[BLOCK:], expected[BLOCK:])
    if ends == "well":
        assert (found[:BLOCK] == 7).all(), "what the other one computed"
        assert tower.clips == 2 * BLOCK, "of the 19 that it left"
    else:
        assert torch.equal(found, expected)
        assert tower.clips == 3 * BLOCK


def test_a_clip_that_cannot_be_decoded_is_named_and_leaves_no_process_and_no_claim(
    mine: dict[str, Any], expected: Tensor, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(mine["root"], tmp_path / "videos"))
    torn = root / "test" / "wave" / "34.mp4"
    whole = torn.read_bytes()
    torn.write_bytes(b"no video")
    folder, here = tmp_path / "features", {**mine, "root": str(root)}
    with pytest.raises(MmfuseError, match=r"34\.mp4") as caught:
        features(module(here, folder, Tower(), Feeding(2, "forkserver")))
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []
    torn.write_bytes(whole)
    again = Tower()
    assert torch.equal(features(module(here, folder, again)), expected)
    assert again.clips < CLIPS, "what was computed is kept"


def test_where_nothing_more_is_kept_only_what_is_asked_for_is_computed(
    mine: dict[str, Any], expected: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    monkeypatch.setattr(feature_batches, "FeatureStore", _Forgetful)
    tower = Tower()
    assert torch.equal(features(module(mine, tmp_path, tower)), expected)
    # One block that was not kept told that nothing is, when the next was begun; then one for each of nine batches.
    assert tower.clips == (2 + 9) * BLOCK


class _Forgetful(FeatureStore):
    def __init__(self, folder: Path, **how: Any) -> None:
        super().__init__(folder, **how, memory=0)


def test_claims_are_granted_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Claims(tmp_path / "absent" / "claims").take(3)
    claims = Claims(tmp_path / "claims")

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", none)
    assert claims.take(3)
    claims.release_all()
    assert np.array_equal(list(tmp_path.iterdir()), [tmp_path / "claims"])

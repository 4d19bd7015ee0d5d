"""Epochs are whole and honest, and do not depend on how they are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from mmfuse import FewShotVideoDataModule
from mmfuse.data.batches import EpochBatches
from mmfuse.data.frames import sources
from mmfuse.errors import MmfuseError
from tests.data.official import ANNOTATIONS, needs_official_lists
from tests.data.videos import encode, number_in

LENGTHS = (9, 24, 40, 17)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Six training clips in two classes and four test clips, of different shapes and lengths, 64 pixels high."""
    folder = tmp_path_factory.mktemp("mine")
    for part, count in (("train", 3), ("test", 2)):
        lines = ["path,label,group"]
        for label in ("wave", "jump"):
            for number in range(count):
                name = f"{part}_{label}_{number}.mp4"
                width = 96 if number % 2 else 112
                encode(folder / name, codec="libx264", count=LENGTHS[number], width=width, options={"g": "8"})
                lines.append(f"{name},{label},{part}{label}{number}")
        (folder / f"{part}.csv").write_text("\n".join(lines))
    return {"name": "mine", "root": str(folder), "train": "train.csv", "test": "test.csv"}


def module(mine: dict[str, Any], **how: Any) -> FewShotVideoDataModule:
    data = FewShotVideoDataModule(
        mine, **{"shots": 3, "frames": 4, "size": 56, "batch_size": 4, "flip": False, "views": 0} | how
    )
    data.setup()
    return data


def epoch(data: FewShotVideoDataModule, number: int = 0) -> dict[int, torch.Tensor]:
    """index -> video of a training epoch, after what the device does."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    seen: dict[int, torch.Tensor] = {}
    for batch in loader:
        batch = data.on_after_batch_transfer(batch, 0)
        assert set(batch) == {"video", "label", "index"}
        for video, index in zip(batch["video"], batch["index"].tolist(), strict=True):
            assert index not in seen, "a clip came twice"
            seen[index] = video
    return seen


def test_the_shapes_and_types_of_a_batch(mine: dict[str, Any]) -> None:
    data = module(mine)
    batch = next(iter(data.train_dataloader()))
    assert batch["video"].shape == (4, 4, 3, 56, 56)
    assert {name: value.dtype for name, value in batch.items()} == {
        "video": torch.uint8,
        "label": torch.int64,
        "index": torch.int64,
    }
    labels = data.train_clips["label"].tolist()
    assert batch["label"].tolist() == [labels[index] for index in batch["index"].tolist()]
    assert data.class_names == ["jump", "wave"]


def test_testing_shows_the_centre_frames_and_the_centre_crop(tmp_path: Path) -> None:
    for part, length in (("train", 5), ("test", 30)):
        for label in ("wave", "jump"):
            encode(tmp_path / part / label / f"{label}.mp4", codec="libx264", count=length, width=72)
    data = FewShotVideoDataModule({"name": "mine", "root": str(tmp_path)}, shots=1, frames=4, size=56)
    [batch] = data.test_dataloader()
    assert batch["index"].tolist() == [0, 1]
    for clip in batch["video"].permute(0, 1, 3, 4, 2).numpy():
        whole = np.zeros((4, 64, 72, 3), dtype=np.uint8)
        whole[:, 4:60, 8:64] = clip  # put back where the centre crop was
        assert [number_in(frame) for frame in whole] == [3, 11, 18, 26]


def test_every_clip_once_an_epoch_and_the_last_batch_smaller(mine: dict[str, Any]) -> None:
    data = module(mine)
    assert [len(batch["index"]) for batch in data.train_dataloader()] == [4, 2]
    assert set(epoch(data)) == set(range(6))
    assert len(data.train_dataloader()) == 2
    assert len(list(module(mine, batch_size=100).train_dataloader())) == 1, "fewer clips than a batch are still seen"


def test_epochs_and_seeds_differ_and_repeat(mine: dict[str, Any]) -> None:
    endless = {"views": 0}
    first, again, next_epoch = (epoch(module(mine, **endless), number) for number in (0, 0, 1))
    other_seed = epoch(module(mine, seed=1, **endless))
    for index in range(6):
        assert torch.equal(first[index], again[index])
    assert any(not torch.equal(first[index], next_epoch[index]) for index in range(6))
    assert any(not torch.equal(first[index], other_seed[index]) for index in range(6))


def test_training_goes_round_the_views_whatever_the_seed(mine: dict[str, Any]) -> None:
    data = module(mine, views=3)
    shown = [epoch(data, number) for number in range(4)]
    assert any(not torch.equal(shown[0][index], shown[1][index]) for index in range(6))
    assert all(torch.equal(shown[0][index], shown[3][index]) for index in range(6))
    other_seed = epoch(module(mine, views=3, seed=1))
    assert all(torch.equal(shown[0][index], other_seed[index]) for index in range(6))


def test_a_number_of_views_is_gone_round_whatever_the_seed(mine: dict[str, Any]) -> None:
    first, other_seed = epoch(module(mine, views=2)), epoch(module(mine, views=2, seed=1), 2)
    assert all(torch.equal(first[index], other_seed[index]) for index in range(6))
    second = epoch(module(mine, views=2), 1)
    assert any(not torch.equal(first[index], second[index]) for index in range(6))


def test_the_clip_store_shows_the_same_and_outlives_the_videos(mine: dict[str, Any], tmp_path: Path) -> None:
    copy = shutil.copytree(mine["root"], tmp_path / "videos")
    here = mine | {"root": str(copy)}
    reference, stored = module(here, flip=True), module(here, flip=True, store=tmp_path / "store")
    for number in (0, 1):
        expected, seen = epoch(reference, number), epoch(stored, number)
        assert all(torch.equal(expected[index], seen[index]) for index in range(6))
    expected_tests = [batch["video"] for batch in reference.test_dataloader()]
    assert len(list(stored.test_dataloader())) == len(expected_tests)
    for video in copy.glob("*.mp4"):
        video.unlink()
    later = module(here, flip=True, store=tmp_path / "store", num_workers=1)
    for seen_test, expected_test in zip(later.test_dataloader(), expected_tests, strict=True):
        assert torch.equal(seen_test["video"], expected_test)
    assert all(torch.equal(epoch(reference)[index], video) for index, video in epoch(later).items())
    with pytest.raises(MmfuseError, match="6 of 6 training clips"):
        module(here, frames=5, store=tmp_path / "store")


@pytest.mark.parametrize(
    "how", [{"batch_size": 1}, {"num_workers": 2}, {"memory_budget": 0}, {"num_workers": 1, "memory_budget": 0}]
)
def test_what_a_clip_shows_does_not_depend_on_how_it_is_read(mine: dict[str, Any], how: dict[str, int]) -> None:
    reference, other = module(mine, flip=True), module(mine, flip=True, **how)
    for number in (0, 1):
        expected, seen = epoch(reference, number), epoch(other, number)
        assert all(torch.equal(expected[index], seen[index]) for index in range(6))


def test_a_second_epoch_decodes_nothing(mine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    original = sources.read_counted

    def counting(path, *args, **how):
        decoded.append(str(path))
        return original(path, *args, **how)

    monkeypatch.setattr(sources, "read_counted", counting)
    data = module(mine)
    for number in range(3):
        epoch(data, number)
    assert sorted(decoded) == sorted(data.train_clips["path"])
    decoded.clear()
    small = module(mine, memory_budget=2 * 40 * 64 * 75 * 3)
    for number in range(2):
        epoch(small, number)
    assert 6 < len(decoded) < 12, "what does not fit is decoded again"


def test_half_of_the_clips_are_mirrored_where_the_class_allows(mine: dict[str, Any]) -> None:
    plain, mirrored = module(mine), module(mine, flip=True)
    turned = 0
    for number in range(10):
        for index, video in epoch(plain, number).items():
            other = epoch(mirrored, number)[index] if index == 0 else None
            if other is not None:
                assert torch.equal(video, other) or torch.equal(video.flip(-1), other)
                turned += not torch.equal(video, other)
    assert 1 <= turned <= 9


def test_crops_wander_in_training(mine: dict[str, Any]) -> None:
    data = module(mine, frames=1)
    corners = {tuple(epoch(data, number)[0][0, 0, 0, :3].tolist()) for number in range(12)}
    assert len(corners) > 1


# --- processes ---------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(count=st.integers(1, 70), batch=st.integers(1, 20), processes=st.integers(1, 5), number=st.integers(0, 3))
def test_processes_share_an_epoch_without_loss_or_repetition(
    count: int, batch: int, processes: int, number: int
) -> None:
    if count < processes:
        with pytest.raises(MmfuseError, match=f"{processes} processes cannot share {count} clips"):
            EpochBatches(count, batch_size=batch, shuffle=True, seed=0, processes=processes)
        return
    shares = [
        EpochBatches(count, batch_size=batch, shuffle=True, seed=0, processes=processes, rank=rank)
        for rank in range(processes)
    ]
    for share in shares:
        share.set_epoch(number)
    batches = [list(share) for share in shares]
    assert {len(requests) for requests in batches} == {len(shares[0])}, "all processes make the same number of steps"
    most = batch if processes == 1 or batch > 1 else 2
    assert all(1 <= len(request.rows) <= most for requests in batches for request in requests)
    assert all(request.epoch == number for requests in batches for request in requests)
    rows = [row for requests in batches for request in requests for row in request.rows]
    assert sorted(rows) == list(range(count))
    if processes == 1:
        assert [len(request.rows) for request in batches[0][:-1]] == [batch] * (len(batches[0]) - 1)


class Counter(L.LightningModule):
    """Learns nothing, remembers which clips it saw."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.folder = folder
        self.seen: list[tuple[str, int, int]] = []

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        self.seen += [("train", self.current_epoch, index) for index in batch["index"].tolist()]
        return self.weight * batch["video"].float().mean()

    def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
        self.seen += [("validation", self.current_epoch, index) for index in batch["index"].tolist()]

    def test_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.seen += [("test", 0, index) for index in batch["index"].tolist()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def write(self) -> None:
        torch.save(self.seen, self.folder / f"seen{self.global_rank}.pt")

    def on_fit_end(self) -> None:
        self.write()

    def on_test_end(self) -> None:
        self.write()


def trainer(**how: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **how,
    )  # fmt: skip


def test_a_trainer_sees_every_clip_once_an_epoch(mine: dict[str, Any], tmp_path: Path) -> None:
    data, model = (
        FewShotVideoDataModule(mine, shots=3, frames=2, size=32, batch_size=4, validation=0.34),
        Counter(tmp_path),
    )
    runs = trainer()
    runs.fit(model, data)
    runs.test(model, data, verbose=False)
    assert len(data.validation_clips) == 2
    expected = [("train", number, index) for number in (0, 1) for index in range(4)]
    expected += [("validation", number, index) for number in (0, 1) for index in range(2)]
    expected += [("test", 0, index) for index in range(4)]
    assert sorted(model.seen) == sorted(expected)


def test_two_processes_see_every_clip_once_between_them(mine: dict[str, Any], tmp_path: Path) -> None:
    data, model = FewShotVideoDataModule(mine, shots=3, frames=2, size=32, batch_size=2), Counter(tmp_path)
    runs = trainer(devices=2, strategy="ddp_fork")
    runs.fit(model, data)
    shares = [torch.load(tmp_path / f"seen{rank}.pt") for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == [("train", number, index) for number in (0, 1) for index in range(6)]
    assert len(shares[0]) == len(shares[1])
    runs.test(model, data, verbose=False)
    shares = [torch.load(tmp_path / f"seen{rank}.pt") for rank in (0, 1)]
    tested = [entry for entry in shares[0] + shares[1] if entry[0] == "test"]
    assert sorted(tested) == [("test", 0, index) for index in range(4)]


# --- requests ----------------------------------------------------------------------------------------------------


def test_the_tiny_data_set_works_by_name_alone() -> None:
    data = FewShotVideoDataModule("tiny", shots=4, draw=0)
    assert data.certified
    assert (data.frames, data.size, data.flip) == (data.card.frames, data.card.size, False)
    assert "{}" in data.templates[0]
    assert data.train_clips["label"].value_counts().to_dict() == dict.fromkeys(range(len(data.class_names)), 4)
    batch = next(iter(data.train_dataloader()))
    assert batch["video"].shape == (16, data.frames, 3, data.size, data.size)
    assert batch["video"].float().std() > 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"shots": 4}, "'jump' has 3"),
        ({"shots": None}, "say either shots"),
        ({"frames": 0}, "frames must be at least 1, not 0"),
        ({"size": 0}, "size must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"validation": 1.0}, "validation is a share of the training clips"),
        ({"validation": -0.1}, "validation must be at least 0"),
        ({"draw": -1}, "draw is a whole number from 0"),
    ],
)
def test_wrong_settings(mine: dict[str, Any], how: dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError, match=message):
        module(mine, **how)


def test_missing_videos_are_counted_and_named_before_any_is_decoded(
    mine: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "read_counted", lambda *_, **__: pytest.fail("a video was decoded"))
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text((Path(mine["root"]) / f"{part}.csv").read_text())
    (tmp_path / "train_wave_0.mp4").touch()
    data = FewShotVideoDataModule(mine | {"root": str(tmp_path)}, shots=3, frames=2, size=32)
    message = r"mine: 5 of 6 training clips and 4 of 4 test clips are missing below .*\(train_.*, and 4 more\)"
    with pytest.raises(MmfuseError, match=message):
        data.train_dataloader()


@needs_official_lists
def test_public_data_sets_say_what_is_missing() -> None:
    data = FewShotVideoDataModule("hmdb51", shots=2, annotations=ANNOTATIONS)
    assert data.certified
    with pytest.raises(
        MmfuseError,
        match=r"102 of 102 training clips and 1,530 of 1,530 test clips are missing .*say where the videos are",
    ):
        data.setup()


def test_an_undecodable_video_is_named(mine: dict[str, Any], tmp_path: Path) -> None:
    for path in Path(mine["root"]).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "train_wave_1.mp4").write_bytes(b"no video")
    data = FewShotVideoDataModule(mine | {"root": str(tmp_path)}, shots=3, frames=2, size=32)
    with pytest.raises(MmfuseError, match=r"train_wave_1.mp4: cannot be decoded"):
        list(data.train_dataloader())


def test_a_published_list_takes_the_place_of_a_draw(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("MoveRight_g01_c01.mp4 0\nMoveLeft_g02_c03.mp4 1\n")
    data = FewShotVideoDataModule("tiny", train_list=path)
    assert data.train_clips["clip"].tolist() == ["MoveRight_g01_c01", "MoveLeft_g02_c03"]
    assert not data.certified
    with pytest.raises(MmfuseError, match="say either shots"):
        FewShotVideoDataModule("tiny", shots=2, train_list=path)


# --- loops written by hand, loggers, other people's numbers ------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("anew", [False, True], ids=["one loader", "a new loader each epoch"])
def test_a_loop_by_hand_sees_what_a_trainer_shows(mine: dict[str, Any], anew: bool, workers: int) -> None:
    """Another order and view each epoch, and mirrored clips; without a call of `set_epoch` and without a hook."""
    expected = [epoch(module(mine, flip=True), number) for number in range(3)]
    data = module(mine, flip=True, num_workers=workers)
    loader = data.train_dataloader()
    orders = []
    for number in range(3):
        batches = list(data.train_dataloader() if anew else loader)
        assert all(set(batch) == {"video", "label", "index"} for batch in batches)
        orders.append([index for batch in batches for index in batch["index"].tolist()])
        seen = {i: video for b in batches for i, video in zip(b["index"].tolist(), b["video"], strict=True)}
        assert all(torch.equal(seen[index], video) for index, video in expected[number].items())
    assert len({tuple(order) for order in orders}) > 1
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    assert [index for batch in loader for index in batch["index"].tolist()] == orders[0]


def test_mirrored_clips_are_mirrored(mine: dict[str, Any]) -> None:
    plain, mirrored = epoch(module(mine)), epoch(module(mine, flip=True))
    same = {index for index in plain if torch.equal(plain[index], mirrored[index])}
    turned = {index for index in plain if torch.equal(plain[index].flip(-1), mirrored[index])}
    assert same | turned == set(plain)
    assert turned - same


def test_prediction_goes_over_the_test_list(mine: dict[str, Any]) -> None:
    data = module(mine)
    indices = [index for batch in data.predict_dataloader() for index in batch["index"].tolist()]
    assert indices == list(range(len(data.test_clips)))


def test_numbers_of_numpy_and_pandas_are_numbers(mine: dict[str, Any]) -> None:
    plain = module(mine, draw=1, split=1, validation=0.4)
    table = pd.DataFrame({"shots": [3], "draw": [1], "split": [1], "frames": [4], "size": [56], "views": [0]}).iloc[0]
    other = module(mine, **table, batch_size=np.int32(4), flip=np.False_, validation=np.float32(0.4), seed=np.int8(0))
    assert other.draw_fingerprint == plain.draw_fingerprint
    assert other.validation_clips.equals(plain.validation_clips)
    assert json.dumps(other.hparams["data"] | {"validation": 0.4}) == json.dumps(plain.hparams["data"])


def test_loggers_are_told_which_clips_these_are(mine: dict[str, Any], tmp_path: Path) -> None:
    data = module(mine)
    logger = CSVLogger(tmp_path)

    class Model(L.LightningModule):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = nn.Linear(1, 1)

        def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.layer(batch["label"].float()[:, None]).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = L.Trainer(max_epochs=1, logger=logger, accelerator="cpu", enable_progress_bar=False)
    trainer.fit(Model(seed=5), data)
    logged = (Path(logger.log_dir) / "hparams.yaml").read_text()
    for word in ("seed: 5", "dataset: mine", "shots: 3", "draw: 0", f"draw_fingerprint: {data.draw_fingerprint}"):
        assert word in logged

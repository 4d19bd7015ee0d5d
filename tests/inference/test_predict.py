"""Naming the action in videos from Python: what is seen, what comes back, and which names may be asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.errors import MmfuseError
from mmfuse.inference.predict import Prediction, predict, sampling_of, vocabulary
from mmfuse.model.fusion import FUSIONS
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers
from tests.bench.real import CLASSES, make_clips
from tests.data.videos import encode
from tests.methods.sweep import disturb

SAMPLING = {"frames": 4, "size": towers.SIZE, "short_side": towers.SIZE}


def recognizer(classes: Any = towers.PHRASES, **changes: Any) -> ActionRecognizer:
    """A recogniser whose every trained weight has moved."""
    settings: dict[str, Any] = {
        "image_encoder": towers.image_tower(),
        "text_encoder": towers.text_tower(),
        "image_method": "lora",
        "text_method": "adapter",
        "fusion": {"kind": "joint", "width": 16},
        "frames": 4,
    }
    model = ActionRecognizer(classes, **{**settings, **changes})
    disturb(model, torch.nn.Identity())
    model.sampling = dict(SAMPLING)
    return model.eval()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos at several depths, whose names are not in the order they were made in."""
    folder = tmp_path_factory.mktemp("clips")
    for name, count in (("b/2.mp4", 9), ("c.avi", 30), ("a.mp4", 12), ("b/1.mp4", 21), ("b/.hidden/0.mp4", 5)):
        encode(folder / name, codec="mpeg4", count=count)
    (folder / "notes.txt").write_text("no video")
    return folder


def test_videos_are_seen_as_test_clips_are(tmp_path: Path) -> None:
    data = FewShotVideoDataModule(make_clips(tmp_path), shots=1, frames=4, size=towers.SIZE)
    model = recognizer(CLASSES)
    model.sampling = data.sampling
    told = predict(model, data.test_clips["path"])
    for batch in data.test_dataloader():
        with torch.no_grad():
            expected = model(batch["video"]).softmax(dim=-1)
        for index, row in zip(batch["index"].tolist(), expected, strict=True):
            found = dict(zip(told[index].labels, told[index].probabilities, strict=True))
            assert [found[name] for name in CLASSES] == pytest.approx(row.tolist(), abs=1e-6)


def test_folders_are_read_to_the_bottom_in_name_order(clips: Path) -> None:
    told = predict(recognizer(), [clips / "c.avi", clips, str(clips / "a.mp4")])
    assert [entry.path.relative_to(clips).as_posix() for entry in told] == ["c.avi", "a.mp4", "b/1.mp4", "b/2.mp4"]
    for entry in told:
        assert sorted(entry.labels) == sorted(towers.PHRASES)
        assert sum(entry.probabilities) == pytest.approx(1)
        assert list(entry.probabilities) == sorted(entry.probabilities, reverse=True)
        assert (entry.label, entry.probability) == entry.top(1)[0]
        assert str(entry).startswith(f"{entry.path}: {entry.label} {100 * entry.probability:.1f}%, ")
        assert not entry.zero_shot


def test_one_path_alone(clips: Path) -> None:
    [told] = predict(recognizer(), clips / "a.mp4")
    assert told.path == clips / "a.mp4"


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing(clips: Path, batch_size: int) -> None:
    model = recognizer()
    told, expected = predict(model, clips, batch_size=batch_size), predict(model, clips, batch_size=2)
    assert [(entry.path, entry.labels) for entry in told] == [(entry.path, entry.labels) for entry in expected]
    for entry, other in zip(told, expected, strict=True):
        assert entry.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_what_cannot_be_read_is_named_and_the_others_are_answered(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.mp4").write_text("not a video")
    (tmp_path / "nil.mp4").write_bytes(b"")
    asked = [tmp_path / "no.mp4", tmp_path / "gone.mp4", clips / "a.mp4", tmp_path / "empty", tmp_path / "nil.mp4"]
    told = {entry.path.name: entry for entry in predict(recognizer(), asked, batch_size=2)}
    assert list(told) == ["no.mp4", "gone.mp4", "a.mp4", "empty", "nil.mp4"]
    assert told["a.mp4"].error is None
    for name, reason in (
        ("no.mp4", "cannot be decoded"),
        ("nil.mp4", "the file is empty"),
        ("gone.mp4", "there is no such video"),
        ("empty", "the folder holds no video"),
    ):
        entry = told[name]
        assert entry.error is not None
        assert reason in entry.error
        assert str(tmp_path / name) in entry.error == str(entry)
        assert entry.labels == entry.probabilities == ()
        with pytest.raises(MmfuseError, match=reason):
            _ = entry.label


def test_nothing_to_read_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match="no video is named"):
        predict(recognizer(), [])
    with pytest.raises(MmfuseError, match="there is no such video"):
        predict(recognizer(), tmp_path / "gone.mp4")


def test_a_damaged_video_can_be_kept(clips: Path, tmp_path: Path) -> None:
    content = (clips / "c.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[:-1500])
    model = recognizer()
    [refused] = predict(model, tmp_path)
    assert "damaged" in str(refused.error)
    [kept] = predict(model, tmp_path, damaged="keep")
    assert kept.label in towers.PHRASES


def test_drop_out_plays_no_part_and_the_mode_is_given_back(clips: Path) -> None:
    model = recognizer()
    expected = predict(model, clips)
    model.train()
    assert predict(model, clips) == expected
    assert model.training
    assert model.fusion.training
    assert not model.image_tower.model.training


@pytest.mark.parametrize("text_method", ["frozen", "coop", "deep-prompt", "adapter", "clip-adapter", "lora"])
def test_other_names_are_read_as_if_it_had_been_built_with_them(clips: Path, text_method: str) -> None:
    names = ["playing the cello", "falling down", "a very new thing"]
    model = recognizer(text_method=text_method)
    other = recognizer(names, text_method=text_method)
    told = predict(model, clips, classes=names)
    assert [(entry.path, entry.labels, entry.probabilities) for entry in told] == [
        (entry.path, entry.labels, entry.probabilities) for entry in predict(other, clips)
    ]
    assert all(entry.zero_shot for entry in told)
    assert model.class_names == towers.PHRASES
    turned = predict(model, clips, classes=names[::-1])
    for entry, again in zip(told, turned, strict=True):
        assert dict(entry.top(9)) == pytest.approx(dict(again.top(9)), abs=1e-5)


def test_names_it_was_trained_on_are_not_zero_shot(clips: Path) -> None:
    model = recognizer()
    words = vocabulary(model, towers.PHRASES[:2])
    assert words.new == ()
    [told] = predict(model, clips / "a.mp4", classes=towers.PHRASES[:2])
    assert (sorted(told.labels), told.zero_shot) == (sorted(towers.PHRASES[:2]), False)
    assert vocabulary(model, [*towers.PHRASES[:2], "new"]).new == ("new",)
    assert predict(model, clips, classes=towers.PHRASES) == predict(model, clips)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_takes_new_classes_or_says_why_not(fusion: str, clips: Path) -> None:
    width = {} if fusion in {"linear", "concat"} else {"width": 16}
    model = recognizer(fusion={"kind": fusion, **width}, text_method="frozen")
    names = ["one", "two"]
    if FUSIONS[fusion].open_vocabulary:
        [told] = predict(model, clips / "a.mp4", classes=names)
        assert sorted(told.labels) == names
    else:
        with pytest.raises(MmfuseError, match=f"fusion '{fusion}' reads no text") as refused:
            predict(model, clips / "a.mp4", classes=names)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["one"], "at least two classes"),
        ([], "at least two classes"),
        (["one", "one"], "given twice"),
        (["one", " "], "none of them empty"),
        ("one,two", "must be a list of texts"),
        (["one", "two " * 40], "tokens; the text tower"),
    ],
)
def test_names_that_cannot_be_told_apart(names: Any, reason: str, clips: Path) -> None:
    with pytest.raises(MmfuseError, match=reason):
        predict(recognizer(), clips, classes=names)


def test_a_recogniser_knows_how_frames_are_taken_from_what_it_was_fitted_on(tmp_path: Path) -> None:
    data = FewShotVideoDataModule(make_clips(tmp_path / "clips"), shots=1, frames=4, size=towers.SIZE)
    fresh = {"image_encoder": towers.image_tower(), "text_encoder": towers.text_tower()}
    model = recognizer(CLASSES)
    model.sampling = None
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    told = predict(model, tmp_path / "clips")
    model.save_trained(tmp_path / "model")
    again = ActionRecognizer.from_checkpoint(tmp_path / "model", **fresh)
    assert again.sampling == data.sampling
    assert predict(again, tmp_path / "clips") == told


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [
        (None, "does not know how frames are taken"),
        ({}, "does not know how frames are taken"),
        ({"frames": 4, "size": 16}, "does not fit"),
        ({"frames": 5, "size": 16, "short_side": 16}, "does not fit"),
        ({"frames": 4, "size": 16, "short_side": 8}, "does not fit"),
        ({"frames": 4, "size": 10**9, "short_side": 10**9}, "does not fit"),
        ({"frames": 4, "size": "x", "short_side": []}, "does not fit"),
        ({"frames": 4, "size": 16, "short_side": 16, "test_views": "4x2"}, "does not fit"),
        ({"frames": 4, "size": 17, "short_side": 17}, "pixels cannot be cut into"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(sampling: Any, reason: str) -> None:
    model = recognizer()
    model.sampling = sampling
    with pytest.raises(MmfuseError, match=reason):
        sampling_of(model)


def test_names_that_are_no_utf8(clips: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/-a \xff%s [b].mp4")
    Path(odd).write_bytes((clips / "a.mp4").read_bytes())
    model = recognizer()
    [told] = predict(model, tmp_path)
    [expected] = predict(model, clips / "a.mp4")
    assert (str(told.path), told.probabilities) == (odd, expected.probabilities)


def test_a_prediction_is_short_to_read() -> None:
    told = Prediction(Path("a.mp4"), tuple("abcd"), (0.4, 0.3, 0.2, 0.1))
    assert str(told) == "a.mp4: a 40.0%, b 30.0%, c 20.0%, …"
    assert told.top(2) == [("a", 0.4), ("b", 0.3)]

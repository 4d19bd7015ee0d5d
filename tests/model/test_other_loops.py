"""A stranger's loaders, batches and loops: they work, or say in one line why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset

from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.errors import MmfuseError
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers
from tests.model.test_changed_weights import CLIPS, FRAMES, build, loader, trainer, truth

VIDEO = towers.clips(CLIPS, FRAMES)
LABELS = torch.arange(CLIPS) % len(towers.PHRASES)


def pairs(**changes: Any) -> DataLoader[Any]:
    """Batches [video, label], as torch's own collation gives them."""
    return DataLoader(TensorDataset(VIDEO, LABELS), **{"batch_size": 4, **changes})


def test_predictions_of_any_loader() -> None:
    model = build("dora", "adapter")
    expected = truth(model)
    alone = DataLoader(VIDEO, batch_size=3)  # type: ignore[arg-type]
    for given in (loader(), pairs(), alone):
        found = trainer().predict(model, given)
        assert found is not None
        torch.testing.assert_close(torch.cat(found), expected, rtol=1e-4, atol=1e-5)
    assert model.fingerprints() == build("dora", "adapter").fingerprints(), "what was merged is taken out again"


def test_pairs_of_video_and_label_train_and_test_as_dictionaries_do() -> None:
    metrics, weights = [], []
    for given in (loader(), pairs()):
        model = build("lora", "coop")
        torch.manual_seed(0)
        fitted = trainer(max_epochs=1)
        fitted.fit(model, given, given)
        metrics.append(fitted.test(model, given, verbose=False))
        weights.append(model.trained_state())
        assert model.test_predictions["index"].tolist() == list(range(CLIPS))
    assert metrics[0] == metrics[1]
    assert all(torch.equal(weights[0][name], weight) for name, weight in weights[1].items())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("clips", r"a batch is a dictionary with video \(and label, index\), or \(video, label\); got str"),
        ({"clip": VIDEO}, "got no tensor of clips, but clip"),
        ({"video": VIDEO}, "one whole number a clip for label; got None"),
        ((VIDEO, LABELS[:3]), r"for label; got torch.int64 of shape \(3,\)"),
        ((VIDEO, LABELS.float()), "for label; got torch.float32"),
        ((VIDEO, LABELS > 0), "for label; got torch.bool"),
        ((VIDEO, one_hot(LABELS, len(towers.PHRASES))), r"for one-hot labels give label.argmax\(dim=1\)"),
        ((VIDEO, LABELS.masked_fill(LABELS == 1, -100)), r"labels are class numbers from 0 to \d+; got -100"),
        ((VIDEO, LABELS + 1), f"got {len(towers.PHRASES)}$"),
        ((VIDEO, LABELS, LABELS[:3]), r"for index; got torch.int64 of shape \(3,\)"),
    ],
)
def test_other_batches_are_one_clear_line(batch: Any, message: str) -> None:
    with pytest.raises(MmfuseError, match=message) as raised:
        build().loss(batch)
    assert "\n" not in str(raised.value)


def test_labels_for_a_gpu_are_checked_before_they_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    model, unlabelled = build(), torch.full_like(LABELS, -100)
    model.trainer = trainer(max_epochs=1)
    monkeypatch.setattr(ActionRecognizer, "device", property(lambda _: torch.device("cuda")))
    with pytest.raises(MmfuseError, match="got -100"):
        model.on_before_batch_transfer((VIDEO, unlabelled), 0)
    with pytest.raises(IndexError, match="Target -100 is out of bounds"):  # and never left out of the mean
        model._cross_entropy(torch.zeros(CLIPS, 3), unlabelled)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_pixels_in_floats_are_refused_and_not_guessed(scale: float) -> None:
    model, floats = build(), VIDEO.float() * scale / 255
    for run in (model, model.frame_features, lambda video: model.loss((video, LABELS))):
        with pytest.raises(MmfuseError, match=r"got torch\.float32: for pixels of 0…1 give \(255 \* video\)"):
            run(floats)
    with torch.no_grad():
        assert torch.equal(model((255 * (floats / scale)).round().to(torch.uint8)), model(VIDEO))
        scaled = (VIDEO * model.image_tower.pixel_scale + model.image_tower.pixel_shift).float()
        torch.testing.assert_close(model.frame_features(scaled, normalised=True), model.frame_features(VIDEO))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (VIDEO > 128, r"got torch\.bool: for black and white"),
        (VIDEO.to(torch.int8), r"got torch\.int8 from -\d+ to \d+"),
        (VIDEO.long() * 257, r"got torch\.int64 from \d+ to \d+"),
    ],
    ids=["bool", "int8", "16 bits"],
)
def test_whole_numbers_that_are_no_pixels_are_refused(video: torch.Tensor, message: str) -> None:
    model = build()
    with pytest.raises(MmfuseError, match=message):
        model(video)
    with torch.no_grad():
        assert torch.equal(model(VIDEO.long()), model(VIDEO))


def test_every_epoch_logs_loss_and_accuracy_on_both_lists(tmp_path: Path) -> None:
    model = build("frozen", "coop", fusion="mean")
    model.fusion.dropout.p = 0.0
    fitted = trainer(max_epochs=1, num_sanity_val_steps=0)
    fitted.fit(model, pairs(batch_size=CLIPS), pairs())
    assert {"train/loss", "train/top1", "val/loss", "val/top1"} <= fitted.logged_metrics.keys()
    logits = truth(model).log()
    expected = torch.nn.functional.cross_entropy(logits, LABELS, label_smoothing=0.1)
    torch.testing.assert_close(fitted.logged_metrics["val/loss"], expected, rtol=1e-4, atol=1e-5)
    assert float(fitted.logged_metrics["val/top1"]) == pytest.approx(
        float((logits.argmax(-1) == LABELS).float().mean())
    )
    untrained = build("frozen", "coop", fusion="mean")
    hits = (truth(untrained).argmax(-1) == LABELS).float().mean()
    assert float(fitted.logged_metrics["train/top1"]) == pytest.approx(float(hits)), "before the only step"


def test_loggers_are_told_how_the_model_its_towers_and_the_data_were_made(tmp_path: Path) -> None:
    data = FewShotVideoDataModule("tiny", shots=2, draw=1, seed=3, batch_size=24, size=64)
    model = ActionRecognizer(data.class_names, image_method="lora", fusion="mean", seed=1)
    logger = CSVLogger(tmp_path)
    trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, logger=logger).fit(model, data)
    told = yaml.safe_load((tmp_path / "lightning_logs" / "version_0" / "hparams.yaml").read_text())
    expected = {
        "class_names": data.class_names,
        "image_encoder": "tiny-dinov2",
        "text_encoder": "tiny-clip-text",
        "image_method": "lora",
        "frames": 8,
        "seed": 1,
    }
    assert {name: told[name] for name in expected} == expected
    settings = {"dataset": "tiny", "shots": 2, "draw": 1, "seed": 3, "size": 64}
    assert {name: told["data"][name] for name in settings} == settings
    assert told["recipes"]["image"]["lr"] == model.recipes["image"].lr


def test_overfitting_a_batch_shows_the_same_batch_in_every_epoch() -> None:
    data = FewShotVideoDataModule("tiny", shots=2, batch_size=5, size=64)
    seen: list[list[int]] = []

    class Watched(ActionRecognizer):
        def training_step(self, batch: Any, batch_index: int) -> Tensor:
            seen.append(batch["index"].tolist())
            return super().training_step(batch, batch_index)

    model = Watched(data.class_names, fusion="mean")
    trainer(max_epochs=3, overfit_batches=1).fit(model, data)
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 5


def test_a_data_module_is_predicted_on_its_test_list(tmp_path: Path) -> None:
    data = FewShotVideoDataModule("tiny", shots=2, batch_size=16, size=64)
    model = ActionRecognizer(data.class_names, fusion="mean")
    found = trainer(limit_predict_batches=2, limit_test_batches=2)
    probabilities = found.predict(model, data)
    found.test(model, data, verbose=False)
    assert probabilities is not None
    torch.testing.assert_close(torch.cat(probabilities), model.test_predictions["probabilities"])  # type: ignore[arg-type]


def test_places_that_a_batch_does_not_tell_are_counted_as_they_are_dealt_out() -> None:
    from mmfuse.model.batches import with_index

    batch: dict[str, Tensor] = {"label": torch.zeros(3)}
    assert with_index(batch, seen=4, rank=1, processes=2).tolist() == [9, 11, 13]
    assert with_index({**batch, "index": torch.tensor([7, 8, 9])}, seen=4, rank=1, processes=2).tolist() == [7, 8, 9]

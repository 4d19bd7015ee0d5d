"""Test metrics: accuracies over the classes that are there, and the predictions behind them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmfuse.errors import MmfuseError
from mmfuse.model.metrics import TestMetrics


def one_hot(predicted: list[int], classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float() * 0.9 + 0.1 / classes


def test_a_class_without_clips_counts_neither_as_right_nor_as_wrong() -> None:
    metrics = TestMetrics(classes=3)
    labels = torch.tensor([0, 0, 0, 2])
    metrics.update(one_hot([0, 0, 1, 2], 3), labels, torch.arange(4))  # one clip is taken for the dead class 1
    values = metrics.compute()
    assert values["top1"].item() == pytest.approx(3 / 4)
    assert values["mean_class"].item() == pytest.approx((2 / 3 + 1) / 2)


def test_top5_over_batches_equals_a_direct_count() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(23, 9, generator=generator).softmax(dim=-1)
    labels = torch.randint(9, (23,), generator=generator)
    metrics = TestMetrics(classes=9)
    for rows in torch.arange(23).split(7):
        metrics.update(probabilities[rows], labels[rows], rows)
    rank = (probabilities > probabilities.gather(1, labels.unsqueeze(1))).sum(dim=1)
    values = metrics.compute()
    assert values["top1"].item() == pytest.approx((rank < 1).float().mean().item())
    assert values["top5"].item() == pytest.approx((rank < 5).float().mean().item())


def test_with_fewer_than_five_classes_top5_is_one() -> None:
    metrics = TestMetrics(classes=2)
    metrics.update(one_hot([0, 0], 2), torch.tensor([0, 1]), torch.arange(2))
    assert metrics.compute()["top5"].item() == 1


def test_predictions_come_in_the_order_of_the_test_list_and_once() -> None:
    metrics = TestMetrics(classes=2)
    metrics.update(one_hot([1, 0], 2), torch.tensor([1, 1]), torch.tensor([2, 0]))
    metrics.update(one_hot([0], 2), torch.tensor([0]), torch.tensor([1]))
    predictions = metrics.predictions()
    assert predictions["index"].tolist() == [0, 1, 2]
    assert predictions["label"].tolist() == [1, 0, 1]
    assert predictions["predicted"].tolist() == [0, 0, 1]
    assert predictions["probabilities"].shape == (3, 2)
    metrics.reset()
    metrics.update(one_hot([0], 2), torch.tensor([0]), torch.tensor([0]))
    assert len(metrics.predictions()["index"]) == 1


def test_outputs_that_are_not_finite_are_no_predictions() -> None:
    metrics = TestMetrics(classes=2)
    metrics.update(torch.tensor([[0.2, 0.8], [float("nan"), 0.0]]), torch.tensor([1, 0]), torch.arange(2))
    with pytest.raises(MmfuseError, match="not finite for 1 of 2 test clips"):
        metrics.compute()

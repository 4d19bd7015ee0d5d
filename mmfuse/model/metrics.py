"""Test metrics with torchmetrics, and the predictions behind them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import CatMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix


class TestMetrics(nn.Module):
    """Top-1, top-5 and mean-class accuracy of one pass over a test list.

    Mean-class accuracy is the mean, over the classes that have test clips, of the share recognised. A class without any
    clip (Diving48 has one) counts neither as right nor as wrong; averaging it in as zero, as a plain macro average does
    once something is predicted as it, would lower every number.

    Args:
        classes: C.
    """

    __test__ = False  # not a test, whatever its name says to pytest

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.top1 = MulticlassAccuracy(classes, average="micro")
        self.top5 = MulticlassAccuracy(classes, average="micro", top_k=min(5, classes))
        self.confusion = MulticlassConfusionMatrix(classes)
        self.clips = 0
        """Clips seen since the last reset, in this process."""
        self.index, self.labels, self.probabilities = CatMetric(), CatMetric(), CatMetric()

    def update(self, probabilities: Tensor, labels: Tensor, index: Tensor) -> None:
        """Add a batch: probabilities (B, C), labels (B,), and the clips' places in the test list (B,)."""
        self.clips += len(labels)
        self.top1.update(probabilities, labels)
        self.top5.update(probabilities, labels)
        self.confusion.update(probabilities, labels)
        # Kept in double precision: a place in a long list is not a whole number in bfloat16.
        self.index.update(index.double())
        self.labels.update(labels.double())
        self.probabilities.update(probabilities.double())

    def compute(self) -> dict[str, Tensor]:
        """`top1`, `top5` and `mean_class`, each between 0 and 1."""
        table = self.confusion.compute().double()
        clips = table.sum(dim=1)
        recognised = table.diagonal()[clips > 0] / clips[clips > 0]
        return {"top1": self.top1.compute(), "top5": self.top5.compute(), "mean_class": recognised.mean().float()}

    def predictions(self) -> dict[str, Tensor]:
        """Each clip once, in the order of the test list: `index`, `label`, `predicted` (N,), `probabilities` (N, C)."""
        index = self.index.compute().cpu().reshape(-1)  # a single value comes back without a dimension
        order = torch.argsort(index)
        probabilities = self.probabilities.compute().cpu().view(len(order), -1)[order].float()
        return {
            "index": index[order].long(),
            "label": self.labels.compute().cpu().reshape(-1)[order].long(),
            "predicted": probabilities.argmax(dim=-1),
            "probabilities": probabilities,
        }

    def reset(self) -> None:
        """Forget all batches."""
        self.clips = 0
        for metric in (self.top1, self.top5, self.confusion, self.index, self.labels, self.probabilities):
            metric.reset()

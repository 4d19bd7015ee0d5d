"""Test metrics with torchmetrics, and the predictions behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix
from torchmetrics.utilities import dim_zero_cat

from mmfuse.errors import MmfuseError
from mmfuse.model.batches import check_range


class SeenClips(Metric):
    """What was said of each clip, kept on the device as it comes: nothing is asked of the device until the end."""

    full_state_update = False
    probabilities: list[Tensor]
    labels: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("probabilities", "labels", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, labels: Tensor, index: Tensor) -> None:
        """Add a batch: probabilities (B, C), labels (B,), and the clips' places in the test list (B,)."""
        self.probabilities.append(probabilities.float())
        self.labels.append(labels)
        self.index.append(index)

    def compute(self) -> dict[str, Tensor]:
        """All clips of all processes, in the order in which they came."""
        return {
            "index": dim_zero_cat(self.index),
            "label": dim_zero_cat(self.labels),
            "probabilities": dim_zero_cat(self.probabilities),
        }


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
        self._classes = classes
        self._seen = SeenClips()
        self.clips = 0
        """Clips seen since the last reset, in this process."""

    def update(self, probabilities: Tensor, labels: Tensor, index: Tensor) -> None:
        """Add a batch: probabilities (B, C), labels (B,), and the clips' places in the test list (B,)."""
        self.clips += len(labels)
        self._seen.update(probabilities, labels, index)

    def compute(self) -> dict[str, Tensor]:
        """`top1`, `top5` and `mean_class`, each between 0 and 1."""
        seen = self._in_order()
        given: dict[str, Any] = {"preds": seen["probabilities"], "target": seen["label"], "num_classes": self._classes}
        table = multiclass_confusion_matrix(**given).double()
        clips = table.sum(dim=1)
        recognised = table.diagonal()[clips > 0] / clips[clips > 0]
        return {
            "top1": multiclass_accuracy(**given, average="micro"),
            "top5": multiclass_accuracy(**given, average="micro", top_k=min(5, self._classes)),
            "mean_class": recognised.mean().float(),
        }

    def predictions(self) -> dict[str, Tensor]:
        """Each clip once, in the order of the test list: `index`, `label`, `predicted` (N,), `probabilities` (N, C)."""
        seen = self._in_order()
        return {**seen, "predicted": seen["probabilities"].argmax(dim=-1)}

    def _in_order(self) -> dict[str, Tensor]:
        """All clips in the order of the test list, on the CPU.

        Raises:
            MmfuseError: probabilities that are not finite, among which no class is the largest, or a label of no class.
        """
        seen = {name: value.cpu() for name, value in self._seen.compute().items()}
        index = seen["index"].reshape(-1)  # a single value comes back without a dimension
        shapes = {"index": (-1,), "label": (-1,), "probabilities": (len(index), -1)}
        order = torch.argsort(index)
        ordered = {name: seen[name].reshape(shape)[order] for name, shape in shapes.items()}
        check_range(ordered["label"], classes=self._classes)
        lost = int((~ordered["probabilities"].isfinite()).any(dim=1).sum())
        if lost:
            raise MmfuseError(f"the model's outputs are not finite for {lost} of {len(index)} test clips")
        return ordered

    def reset(self) -> None:
        """Forget all batches."""
        self.clips = 0
        self._seen.reset()

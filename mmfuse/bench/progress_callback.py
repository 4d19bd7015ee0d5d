"""What Lightning's hooks tell of a cell while it is trained and tested."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from mmfuse.bench.job import Progress, Report

EVERY = 0.2


class ProgressCallback(Callback):
    """Reports to a runner how far training and test of a cell are, but not more often than anyone can read.

    A loss that is told is waited for, and on a GPU with it all that was begun.
    """

    def __init__(self, report: Report, *, epochs: int, every: float = EVERY) -> None:
        """Report on one cell.

        Args:
            report: told after the first batch of training and test, and then now and again.
            epochs: of the training.
            every: seconds from one report to the next.
        """
        self._every = every
        self._told = -math.inf
        self._report = report
        self._epochs = epochs
        self._clips = 0
        self._begun = time.monotonic()

    def _is_due(self, clips: int) -> bool:
        """Count a batch; whether it is time for a report."""
        self._clips += clips
        return time.monotonic() - self._told >= self._every

    def _send(self, phase: str, epoch: int, fraction: float, loss: float | None) -> None:
        self._told = time.monotonic()
        rate = self._clips / max(time.monotonic() - self._begun, 1e-6)
        self._report(Progress(phase, epoch, self._epochs, fraction, loss, rate))

    def _restart(self) -> None:
        self._clips, self._begun, self._told = 0, time.monotonic(), -math.inf

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._is_due(len(batch["label"])):
            return
        part = (batch_idx + 1) / max(1, int(trainer.num_training_batches))
        epoch = trainer.current_epoch + 1
        loss = float(outputs["loss"]) if isinstance(outputs, dict) else None
        self._send("training", epoch, (epoch - 1 + part) / self._epochs, loss)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart()

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_due(len(batch["label"])):
            total = max(1, int(sum(trainer.num_test_batches)))
            self._send("testing", self._epochs, (batch_idx + 1) / total, None)

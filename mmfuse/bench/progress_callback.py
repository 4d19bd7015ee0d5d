"""What Lightning's hooks tell of a cell while it is trained and tested."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from mmfuse.bench.job import Progress, Report


class ProgressCallback(Callback):
    """Reports to a runner how far training and test of a cell are."""

    def __init__(self, report: Report, *, epochs: int) -> None:
        """Args:
        report: told after each batch.
        epochs: of the training.
        """
        self._report = report
        self._epochs = epochs
        self._clips = 0
        self._begun = time.monotonic()

    def _send(self, phase: str, epoch: int, fraction: float, clips: int, loss: float | None) -> None:
        self._clips += clips
        rate = self._clips / max(time.monotonic() - self._begun, 1e-6)
        self._report(Progress(phase, epoch, self._epochs, fraction, loss, rate))

    def _restart(self) -> None:
        self._clips, self._begun = 0, time.monotonic()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restart()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        part = (batch_idx + 1) / max(1, int(trainer.num_training_batches))
        epoch = trainer.current_epoch + 1
        loss = float(outputs["loss"]) if isinstance(outputs, dict) else None
        self._send("training", epoch, (epoch - 1 + part) / self._epochs, len(batch["label"]), loss)

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
        total = max(1, int(sum(trainer.num_test_batches)))
        self._send("testing", self._epochs, (batch_idx + 1) / total, len(batch["label"]), None)

"""Test accuracy after each epoch, beside a training that does not notice it: what picking an epoch would be worth.

Several codebases report the best epoch on the test list. Here the last one is the result, always; what is computed here
goes into a table of its own and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.seed import isolate_rng

from mmfuse.bench import environment
from mmfuse.bench.device_faults import out_of_memory
from mmfuse.bench.job import Progress, Report
from mmfuse.model.averaging import AveragedWeights
from mmfuse.model.class_prompts import EmbeddingScopes
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.records.record import TestSelection


class TestAfterEachEpoch(Callback):
    """Tests a model after each epoch as its trainer will after the last one.

    Random states, weights, averages of weights, and which modules are in training mode are afterwards what they were.

    Args:
        report: told after each batch, so that a long test list is not taken for a cell that hangs.
        epochs: of the training.

    Attributes:
        seconds: that the tests took.
    """

    __test__ = False  # not a test, whatever its name says to pytest

    def __init__(self, report: Report, *, epochs: int) -> None:
        self._report = report
        self._epochs = epochs
        self._top1: list[float] = []
        self.seconds = 0.0

    def found(self) -> TestSelection:
        """Accuracies so far."""
        return TestSelection(top1=tuple(self._top1), seconds=self.seconds)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Test, as `ActionRecognizer`'s own hooks do."""
        begun = time.monotonic()
        assert isinstance(pl_module, ActionRecognizer)
        with isolate_rng(), torch.no_grad(), _as_in_a_test(trainer, pl_module):
            self._top1.append(self._test_within_memory(trainer, pl_module))
        self.seconds += time.monotonic() - begun

    def _test_within_memory(self, trainer: L.Trainer, model: ActionRecognizer) -> float:
        """As often as memory runs out, again with batches of half the size: the training must not run into it."""
        data = trainer.datamodule
        whole = data.batch_size
        try:
            while True:
                try:
                    return self._test(trainer, model)
                except Exception as error:
                    if not out_of_memory(error) or data.batch_size == 1 or trainer.world_size > 1:
                        raise
                model.metrics.reset()
                data.batch_size = max(1, data.batch_size // 2)
                environment.free_memory()
        finally:
            data.batch_size = whole

    def _test(self, trainer: L.Trainer, model: ActionRecognizer) -> float:
        epoch = trainer.current_epoch + 1
        for number, batch in enumerate(trainer.datamodule.test_dataloader()):
            placed = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
            with trainer.precision_plugin.test_step_context():
                model.test_step(placed, number)
            self._report(Progress("training", epoch, self._epochs, epoch / self._epochs))
        seen = model.metrics.predictions()
        right = seen["predicted"] == seen["label"]
        return float(right.double().mean())  # exact, where torchmetrics' own top-1 has 32 bits


@contextmanager
def _as_in_a_test(trainer: L.Trainer, model: ActionRecognizer) -> Iterator[None]:
    """Averaged and merged weights, evaluation mode, kept class embeddings; then all as it was in the training."""
    modes = {module: module.training for module in model.modules()}
    with ExitStack() as undone:
        for callback in trainer.callbacks:
            if isinstance(callback, AveragedWeights):
                undone.enter_context(callback.in_place())
            if isinstance(callback, EmbeddingScopes):
                callback.evaluation.open()
                undone.callback(callback.evaluation.close)
        undone.callback(_set_modes, modes)
        undone.callback(model.metrics.reset)
        undone.callback(model.on_test_end)
        model.eval()
        model.on_test_start()
        yield


def _set_modes(modes: dict[torch.nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training

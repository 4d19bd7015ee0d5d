"""An exponential moving average of the trained weights, which takes their place when a training ends.

Lightning's own callback copies the whole model, with both frozen towers, and starts from the initial weights, which at
a decay of 0.999 are most of the average after the few hundred steps of a few-shot training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    from mmfuse.model.recognizer import ActionRecognizer

CURRENT = "current_model_state"
"""Key of a checkpoint with the weights that training goes on from, beside the averaged ones; as Lightning calls it."""


def decay_at(update: int, *, decay: float) -> float:
    """What the average keeps of itself at an update, counted from 0: less in the beginning, min(d, (1 + n)/(10 + n)).

    As TensorFlow's ExponentialMovingAverage does with `num_updates`.

    >>> [round(decay_at(update, decay=0.5), 2) for update in (0, 1, 7, 100)]
    [0.1, 0.18, 0.47, 0.5]
    """
    return min(decay, (1 + update) / (10 + update))


class AveragedWeights(L.Callback):
    """Keeps the average while a model is trained, validates with it, and leaves it in the model at the end.

    What comes after the training, a test, a checkpoint or a merging of weights, finds the averaged weights as the
    model's own. The average is held in at least 32 bits: in bf16 a change of a thousandth is lost.

    Args:
        decay: d, at least 0 and below 1.

    Raises:
        MmfuseError: another decay.
    """

    def __init__(self, decay: float) -> None:
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise MmfuseError(f"ema is a decay from 0 (off) to below 1, such as 0.999; got {decay!r:.80}")
        self.decay = decay
        self._forget()

    def _forget(self) -> None:
        self._updates, self._step, self._swapped = 0, 0, False
        self._weights: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Nothing is left of an earlier training."""
        if stage == "fit":
            self._forget()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with the weights that there are, or go on with the average of a checkpoint."""
        model: ActionRecognizer = pl_module
        self._weights = {name: weight for part in model.trained_parameters().values() for name, weight in part.items()}
        found = self._average or self._weights
        self._average = {
            name: found[name].detach().to(weight.device, _kept_in(weight), copy=True)
            for name, weight in self._weights.items()
        }
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Take the weights in after each step of the optimiser; there may be several batches to one."""
        if trainer.global_step == self._step:
            return
        keep = decay_at(self._updates, decay=self.decay)
        for name, average in self._average.items():
            average.lerp_(self._weights[name].to(average.dtype), 1 - keep)
        self._updates, self._step = self._updates + 1, trainer.global_step

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate with the averaged weights, as a test will."""
        if self._average and not self._swapped:
            self._swap()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the weights of the training."""
        if self._swapped:
            self._swap()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model compute with the averaged weights; after that both are what they were, bit by bit."""
        held = {name: weight.detach().clone() for name, weight in self._weights.items() if name in self._average}
        self._write(self._average)
        try:
            yield
        finally:
            self._write(held)

    @torch.no_grad()
    def _write(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            self._weights[name].copy_(weight)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """See `on_validation_epoch_end`."""
        if self._swapped:
            self._swap()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the averaged weights in the model."""
        self._write(self._average)
        self._forget()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, average in self._average.items():
            weight = self._weights[name]
            held = weight.detach().to(average.dtype, copy=True)
            weight.copy_(average)
            average.copy_(held)
        self._swapped = not self._swapped

    # -- Lightning's checkpoints --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """How many updates the average has seen."""
        return {"updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self._updates = state_dict["updates"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the averaged weights where a checkpoint is read for a test, and those of the training beside them."""
        if not self._average:
            return
        state: Mapping[str, Tensor] = checkpoint["state_dict"]
        checkpoint[CURRENT] = state
        averaged = {name: average.to(state[name].dtype) for name, average in self._average.items()}
        checkpoint["state_dict"] = {**state, **averaged}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with a training: its own weights into the model, the averaged ones into the average."""
        if trainer.state.fn == "fit" and CURRENT in checkpoint:
            names = checkpoint[CURRENT].keys()
            self._average = {name: weight for name, weight in checkpoint["state_dict"].items() if name in names}
            pl_module.load_state_dict(checkpoint[CURRENT])


def _kept_in(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)

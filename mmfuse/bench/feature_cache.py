"""What training never changes of a clip is computed once for all cells, epochs and draws of a grid."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor

from mmfuse.bench import environment
from mmfuse.bench.clip_cache import SHARE
from mmfuse.bench.device_faults import out_of_memory
from mmfuse.data.cache.clip_store import free_bytes
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.model.optimizations import Optimizations
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.utils.files import cache_folder

LARGEST = 32 * 2**30
"""Bytes of tokens that may be kept; also at most the share of the free disk that decoded clips are given."""


def use_cached_prefix(
    data: FewShotVideoDataModule,
    model: ActionRecognizer,
    trainer: L.Trainer,
    *,
    optimizations: Optimizations,
    fingerprint: str,
) -> FrozenPrefix | None:
    """Let the data give kept features, or kept tokens, in the place of video, where that is possible and pays.

    A frozen image tower leaves one feature a frame, which is kept always. An adapted one leaves the tokens before its
    first adapted layer: a thousand times as much, whose reading costs more than a GPU's computing, so they are kept on
    a CPU only. Nothing is kept where training augments its clips, since each look at one is another.

    Args:
        data: training must go round a limited number of views.
        model: the recogniser.
        trainer: whose device and precision are used.
        optimizations: what is switched on.
        fingerprint: of the image tower's weights.

    Returns:
        What computes them; `None` where the data give video.
    """
    width = model.frame_encoder.prefix_width(data.size)
    if not data.views or model.augmentation.on or not _is_worth_keeping(data, model, trainer, optimizations, width):
        return None
    compute = FrozenPrefix(model, trainer)
    # GPUs of several models round differently, and never share what they have computed.
    root = trainer.strategy.root_device
    device = root.type if root.type == "cpu" else environment.device_name(root)
    what = (
        model.feature
        if model.frame_encoder.first_trained_layer is None
        else f"layer {model.frame_encoder.first_trained_layer}"
    )
    key = f"{fingerprint}/{what}/{trainer.precision}/{device}"
    data.use_cached_features(compute, width=width, key=key, steps=model.frame_encoder.steps)
    return compute


class FrozenPrefix:
    """Clips, uint8 (B, T, 3, S, S), to what the frozen prefix gives of them; fewer at a time where memory runs out.

    Args:
        model: the recogniser, on the trainer's device.
        trainer: whose precision is used.
    """

    def __init__(self, model: ActionRecognizer, trainer: L.Trainer) -> None:
        self._model, self._trainer = model, trainer
        self._at_once: int | None = None

    @property
    def note(self) -> str:
        """What is to be remarked of it in a record."""
        return f"out of memory; features computed {self._at_once} clips at a time" if self._at_once else ""

    def __call__(self, video: Tensor) -> Tensor:
        """Compute them on the trainer's device."""
        while True:
            at_once = self._at_once or len(video)
            try:
                return torch.cat([self._of(part) for part in video.split(at_once)])
            except Exception as error:
                if not out_of_memory(error) or at_once == 1:
                    raise
            self._at_once = at_once // 2
            environment.free_memory()

    def _of(self, video: Tensor) -> Tensor:
        with torch.no_grad(), self._trainer.precision_plugin.forward_context():
            return self._model.frame_encoder.frozen_prefix(video.to(self._model.device))


def _is_worth_keeping(
    data: FewShotVideoDataModule, model: ActionRecognizer, trainer: L.Trainer, optimizations: Optimizations, width: int
) -> bool:
    if model.frame_encoder.first_trained_layer is None:
        return optimizations.features
    if (
        not optimizations.frozen_prefix
        or not model.frame_encoder.first_trained_layer
        or trainer.strategy.root_device.type != "cpu"
    ):
        return False
    tested = len(data.validation_clips) + len(data.test_clips) * data.test_views.count
    looks = len(data.train_clips) * (data.views or 0) + tested
    return looks * model.frame_encoder.steps * width * 4 <= min(LARGEST, free_bytes(cache_folder()) // SHARE)

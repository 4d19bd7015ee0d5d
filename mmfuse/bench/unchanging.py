"""What training never changes of a clip is computed once for all cells, epochs and draws of a grid."""

from __future__ import annotations

import shutil

import lightning as L
import torch
from torch import Tensor

from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.files import cache_folder
from mmfuse.recognizer import ActionRecognizer
from mmfuse.speed import Speed

LARGEST = 32 * 2**30
"""Bytes of tokens that may be kept; also at most a quarter of what is free on the disk."""


def serve_unchanging(
    data: FewShotVideoDataModule, model: ActionRecognizer, trainer: L.Trainer, *, speed: Speed, fingerprint: str
) -> None:
    """Let the data give kept features, or kept tokens, in the place of video, where that is possible and pays.

    A frozen image tower leaves one feature a frame, which is kept always. An adapted one leaves the tokens before its
    first adapted layer: a thousand times as much, whose reading costs more than a GPU's computing, so they are kept on
    a CPU only.

    Args:
        data: training must go round a limited number of views.
        model: the recogniser.
        trainer: whose device and precision are used.
        speed: what is switched on.
        fingerprint: of the image tower's weights.
    """
    layer = model.image_tower.untouched_layers if model.trains_image else None
    if not data.views or not _wanted(data, model, trainer, speed):
        return

    def compute(video: Tensor) -> Tensor:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            return model.unchanging(video.to(model.device))

    device = trainer.strategy.root_device.type
    what = model.feature if layer is None else f"layer {layer}"
    key = f"{fingerprint}/{what}/{trainer.precision}/{device}"
    data.serve_features(compute, width=_width(data, model), key=key)


def _wanted(data: FewShotVideoDataModule, model: ActionRecognizer, trainer: L.Trainer, speed: Speed) -> bool:
    if not model.trains_image:
        return speed.features
    if not speed.lower_layers or not model.image_tower.untouched_layers or trainer.strategy.root_device.type != "cpu":
        return False
    assert data.views
    looks = len(data.train_clips) * data.views + len(data.validation_clips) + len(data.test_clips)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    room = min(LARGEST, shutil.disk_usage(folder).free // 4)
    return looks * data.frames * _width(data, model) * 4 <= room


def _width(data: FewShotVideoDataModule, model: ActionRecognizer) -> int:
    """Numbers that are kept of a frame."""
    if not model.trains_image:
        return model.frame_width
    tower = model.image_tower
    return (tower.special_tokens + (data.size // tower.patch_size) ** 2) * tower.width

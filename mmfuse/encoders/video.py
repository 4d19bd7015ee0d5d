"""The frozen video tower: an encoder of whole clips, behind the interface of the image tower.

Its patches reach over some frames, the tubelet, which make one step of time; its attention sees all steps at once. What
it gives is one set of tokens a step, in the place of one a frame.

Shapes: B clips, T frames, T' steps, P patches of a step, S tokens of a clip, D the tower's width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmfuse.encoders.architectures import ClipShape, VideoArchitecture
from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.positions import keep_on_device
from mmfuse.encoders.tower import Context


class VideoTower(ImageTower):
    """A frozen video encoder.

    Args:
        model: of an architecture in `mmfuse.encoders.video_records`.
        name, mean, std, native_size: as in `ImageTower`.
    """

    architecture: VideoArchitecture

    def __init__(self, model: Any, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        keep_on_device(model)
        self.shape: ClipShape = self.architecture.shape(model.config.to_dict())
        """What it was trained on."""
        self.tubelet, self.native_frames = self.shape.tubelet, self.shape.frames

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.shape.patch

    @property
    def native_size(self) -> int:
        """Side of the frames that it was trained on, in pixels; frames of other sizes can be given too."""
        return self._native_size or self.shape.size

    def _units(self, frames: Tensor) -> Tensor:
        """Clips are encoded whole."""
        return frames

    def _read_out(self, tokens: Tensor, context: Context) -> Tensor:
        """Normed tokens (B, S, D) to a summary and the patches of each step, (B·T', 1 + P, D).

        The summary is the clip's CLS token, the same in each step; else the mean of the step's patches.
        """
        patches = tokens[:, self.special_tokens :].unflatten(1, (context.frames, -1))  # (B, T', P, D)
        cls = tokens[:, :1].unsqueeze(1).expand(-1, context.frames, -1, -1)
        first = cls if self.has_summary else patches.mean(dim=2, keepdim=True)
        return torch.cat([first, patches], dim=2).flatten(0, 1)

    def _apart(self, tokens: Tensor, context: Context) -> Tensor:
        """Tokens (B, S, D) by step, (B, T', special + P, D), the special ones again in each."""
        special = tokens[:, : context.special].unsqueeze(1).expand(-1, context.frames, -1, -1)
        return torch.cat([special, tokens[:, context.special :].unflatten(1, (context.frames, -1))], dim=2)

    def _together(self, tokens: Tensor) -> Tensor:
        """The reverse of `_apart`."""
        special = self.special_tokens
        return torch.cat([tokens[:, 0, :special], tokens[:, :, special:].flatten(1, 2)], dim=1)

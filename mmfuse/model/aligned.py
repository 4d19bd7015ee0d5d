"""Zero-shot recognition by two towers that were trained together: no fusion, only their own space.

Shapes: B clips, T frames, F width of a frame feature, C classes, D width of the image tower, E width of a class
embedding.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from mmfuse.encoders import ImageTower, TextTower
from mmfuse.encoders.shared_space import SharedSpace, shared_space
from mmfuse.errors import MmfuseError
from mmfuse.model.fusion import Fusion

ALIGNED = "aligned"
"""Name of this fusion, which has nothing to train and which needs the towers themselves."""


class Aligned(Fusion):
    """The mean over frames of unit image embeddings against the classes: scale · cosine, as the checkpoint has it.

    (Radford et al. 2021, CLIP, section 3.1, with the mean over frames of Rasheed et al. 2023, ViFi-CLIP, section 3.)
    Class embeddings are not centred: the towers were trained on them as they are.

    Args:
        space: of the two towers.
        width: D; a frame feature begins with the pooled token.
    """

    sees_order = False
    projection: Tensor | None
    log_scale: Tensor

    def __init__(self, space: SharedSpace, *, width: int, class_width: int, frames: int, classes: int) -> None:
        super().__init__(frame_width=width, class_width=class_width, frames=frames, classes=classes)
        self._width = width
        # Not persistent: both are of the checkpoint, as the towers' weights are.
        self.register_buffer("projection", space.projection, persistent=False)
        self.register_buffer("log_scale", space.log_scale, persistent=False)

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """See `Fusion.forward`."""
        pooled = frames[..., : self._width]  # (B, T, F) -> (B, T, D)
        embedded = pooled if self.projection is None else functional.linear(pooled, self.projection)  # (B, T, E)
        video = functional.normalize(embedded, dim=-1).mean(dim=1)  # (B, E)
        cosine = functional.linear(functional.normalize(video, dim=-1), functional.normalize(classes, dim=-1))
        return self.log_scale.exp() * cosine  # (B, C)


def is_aligned(spec: str | dict[str, Any]) -> bool:
    """Whether this fusion is meant."""
    return spec in (ALIGNED, {"kind": ALIGNED})


def aligned_fusion(image: ImageTower, text: TextTower, *, feature: str, frames: int, classes: int) -> Aligned:
    """Compare frames with prompts in the space that the towers were trained for.

    Args:
        image, text: both towers of one vision-language checkpoint.
        feature: kind of frame feature, which must hold the pooled token.
        frames: T.
        classes: C.

    Raises:
        MmfuseError: the towers were not trained together, or the frame feature lacks the pooled token.
    """
    if feature == "patch":
        raise MmfuseError("the fusion 'aligned' compares the pooled token of each frame; set feature to cls or both")
    space = shared_space(image, text)
    return Aligned(space, width=image.width, class_width=text.embedding_width, frames=frames, classes=classes)

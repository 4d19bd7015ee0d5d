"""The space that a vision-language checkpoint trained its two towers for, so that frames and prompts can be compared.

Shapes: D width of the image tower, E width of a class embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import transformers
from torch import Tensor

from mmfuse.encoders.hub import apart, find_folder
from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.loading import quiet, read_config
from mmfuse.encoders.text import TextTower
from mmfuse.errors import MmfuseError, one_line

TRAINED_TOGETHER = {"clip": "CLIPModel", "siglip": "SiglipModel"}
"""Kinds of checkpoints that hold both towers: `model_type` and the class of `transformers` that reads it."""


@dataclass(frozen=True)
class SharedSpace:
    """How an image tower's pooled token gets to where the class embeddings are.

    Args:
        projection: (E, D); `None` where the pooled token is there already, as in SigLIP.
        log_scale: (), logarithm of the factor of the cosines.
    """

    projection: Tensor | None
    log_scale: Tensor


def shared_space(image: ImageTower, text: TextTower) -> SharedSpace:
    """The space of two towers that were trained together.

    Args:
        image, text: both towers of one checkpoint, by the same name.

    Raises:
        MmfuseError: the towers are of two checkpoints, or of one that was not trained to compare frames with texts.
    """
    folders = [find_folder(tower.reloadable_name, tower.kind).resolve() for tower in (image, text)]
    if folders[0] != folders[1]:
        raise MmfuseError(apart(image.name, text.name))
    kind = read_config(folders[0], image.name, "image").model_type
    if kind not in TRAINED_TOGETHER:
        known = " or ".join(TRAINED_TOGETHER)
        raise MmfuseError(f"{image.name!r} is a checkpoint of kind {kind!r}; frames are compared with texts by {known}")
    try:
        with quiet():
            model = getattr(transformers, TRAINED_TOGETHER[kind]).from_pretrained(
                folders[0], dtype=torch.float32, weights_only=True, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # broken files raise whatever their reader raises
        raise MmfuseError(f"{image.name!r} cannot be loaded as a whole: {one_line(error)}") from error
    projection = getattr(model, "visual_projection", None)
    return SharedSpace(
        projection=None if projection is None else projection.weight.detach().clone(),
        log_scale=model.logit_scale.detach().reshape(()).clone(),
    )

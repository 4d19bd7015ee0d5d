"""What a method trains and computes at the size of the public towers, on the meta device: exact, and without weights.

Towers: DINOv2 ViT-B/14 at 224 pixels, with 16 clips of 8 frames; CLIP's text encoder (width 512). Operations are matrix
products, convolutions and attention, as torch's own counter counts them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from mmfuse.encoders import ImageTower, TextTower, load_text_tower
from mmfuse.methods import attach
from mmfuse.methods.base import Method

LAYERS = 12
CLIPS, FRAMES, SIDE = 16, 8, 224
EXAMPLE_OF_PEFT = {"method": "peft", "type": "HRA", "r": 8}


def spec_of(method: str) -> str | dict[str, Any]:
    """How a method is asked for; `peft` needs a type."""
    return EXAMPLE_OF_PEFT if method == "peft" else method


@cache
def weights(method: str, kind: str) -> int:
    """How many weights a method trains on a tower of the public size."""
    tower, attached = _adapted(method, kind, LAYERS)
    found = {id(p): p.numel() for p in [*tower.parameters(), *attached.parameters()] if p.requires_grad}
    return sum(found.values())


@cache
def is_mergeable(method: str, kind: str) -> bool:
    """Whether a test can compute with weights into which the method is merged."""
    return _adapted(method, kind, 1)[1].mergeable


@cache
def operations(method: str) -> tuple[float, float]:
    """Of a forward pass of the image tower, and of a forward and backward pass.

    Counted at one and at two layers, since each further one costs the same.
    """
    shallow, deeper = (counted(method, layers) for layers in (1, 2))
    forward, training = (one + (LAYERS - 1) * (two - one) for one, two in zip(shallow, deeper, strict=True))
    return forward, training


def counted(method: str, layers: int) -> tuple[int, int]:
    """The same for an image tower of some layers, counted in full."""
    tower, attached = _adapted(method, "image", layers)
    tower.to("meta")
    attached.to("meta")
    clips = torch.zeros(CLIPS, FRAMES, 3, SIDE, SIDE, dtype=torch.uint8, device="meta")
    with FlopCounterMode(display=False) as counter:
        output = tower(clips)
        forward = counter.get_total_flops()
        if output.requires_grad:
            output.sum().backward()
    return forward, counter.get_total_flops()


def _adapted(method: str, kind: str, layers: int) -> tuple[ImageTower | TextTower, Method]:
    tower = tower_of(kind, layers)
    return tower, attach(tower, spec_of(method), generator=torch.Generator().manual_seed(0))


def tower_of(kind: str, layers: int) -> ImageTower | TextTower:
    """A tower of the public size and the given depth, without weights."""
    with torch.device("meta"):
        if kind == "image":
            vision = transformers.Dinov2Config(image_size=518, patch_size=14, num_hidden_layers=layers)
            return ImageTower(transformers.Dinov2Model(vision), name="ViT-B", mean=(0.5,) * 3, std=(0.5,) * 3)
        words = transformers.CLIPTextConfig(projection_dim=512, num_hidden_layers=layers)
        model = transformers.CLIPTextModelWithProjection(words)
    return TextTower(model, tokenizer=load_text_tower("tiny-clip-text").tokenizer, name="CLIP text")

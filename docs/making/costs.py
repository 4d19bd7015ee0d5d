"""What a method trains and computes at the size of the public towers, on the meta device: exact, and without weights.

Towers: DINOv2 ViT-B/14 at 224 pixels, 16 clips of 8 frames; CLIP's text encoder (width 512), 101 prompts. Computed are
matrix products, convolutions and attention, as torch's own counter counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from mmfuse.encoders import ImageTower, TextTower, load_text_tower
from mmfuse.encoders.tower import Prompts
from mmfuse.methods import attach

LAYERS = 12
CLIPS, FRAMES, SIDE, PROMPTS = 16, 8, 224, 101
EXAMPLE_OF_PEFT = {"method": "peft", "type": "HRA", "r": 8}


@dataclass(frozen=True)
class Cost:
    """What a method costs on one tower.

    Args:
        weights: how many it trains.
        forward: operations of a forward pass.
        training: operations of a forward and a backward pass.
        mergeable: whether its weights fold into the tower's.
    """

    weights: int
    forward: float
    training: float
    mergeable: bool


def spec_of(method: str) -> str | dict[str, Any]:
    """How a method is asked for; `peft` needs a type."""
    return EXAMPLE_OF_PEFT if method == "peft" else method


@cache
def cost(method: str, kind: str) -> Cost:
    """Weights at full depth; operations from towers of one and two layers, since each further layer costs the same."""
    shallow, deeper = (_operations(method, kind, layers) for layers in (1, 2))
    forward, training = (one + (LAYERS - 1) * (two - one) for one, two in zip(shallow, deeper, strict=True))
    whole = tower_of(kind, LAYERS)
    attached = attach(whole, spec_of(method), generator=torch.Generator().manual_seed(0))
    weights = {id(p): p.numel() for p in [*whole.parameters(), *attached.parameters()] if p.requires_grad}
    return Cost(sum(weights.values()), forward, training, attached.mergeable)


def _operations(method: str, kind: str, layers: int) -> tuple[int, int]:
    """Of a forward pass, and of a forward and backward pass."""
    tower = tower_of(kind, layers)
    attached = attach(tower, spec_of(method), generator=torch.Generator().manual_seed(0))
    tower.to("meta")
    attached.to("meta")
    batch = _batch(tower, room=attached.room)
    with FlopCounterMode(display=False) as counter:
        output = tower(batch)
        forward = counter.get_total_flops()
        if output.requires_grad:
            output.sum().backward()
    return forward, counter.get_total_flops()


def tower_of(kind: str, layers: int) -> ImageTower | TextTower:
    """A tower of the public size and the given depth, without weights."""
    with torch.device("meta"):
        if kind == "image":
            vision = transformers.Dinov2Config(image_size=518, patch_size=14, num_hidden_layers=layers)
            return ImageTower(transformers.Dinov2Model(vision), name="ViT-B", mean=(0.5,) * 3, std=(0.5,) * 3)
        words = transformers.CLIPTextConfig(projection_dim=512, num_hidden_layers=layers)
        model = transformers.CLIPTextModelWithProjection(words)
    return TextTower(model, tokenizer=load_text_tower("tiny-clip-text").tokenizer, name="CLIP text")


def _batch(tower: ImageTower | TextTower, *, room: int) -> torch.Tensor | Prompts:
    if isinstance(tower, ImageTower):
        return torch.zeros(CLIPS, FRAMES, 3, SIDE, SIDE, dtype=torch.uint8, device="meta")
    return tower.tokenize(["a video of a person walking."] * PROMPTS, room=room, trim=False).to("meta")

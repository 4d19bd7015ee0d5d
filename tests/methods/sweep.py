"""What the sweeps over the catalogue share: every method on every tower that it claims."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.text import Prompts, TextTower
from mmfuse.methods import METHODS
from mmfuse.methods.base import Method, attach
from mmfuse.methods.registry import MethodInfo
from tests import towers

# Arguments that fit a method to towers of width 32 and depth 2 where the paper's own do not.
SMALL: dict[str, dict[str, Any]] = {"peft": {"type": "HRA", "r": 4}}
Adapted = tuple[ImageTower | TextTower, Method]


def kinds(info: MethodInfo, tower: str) -> list[str]:
    if tower == "text":
        return towers.TEXT_KINDS
    more = towers.MORE_IMAGE_KINDS if info.name in ("ssf", "ln", "vpt-deep", "dora") else []
    return [*towers.IMAGE_KINDS, *more, *([] if info.single_frames else towers.VIDEO_KINDS)]


def combinations(**flags: bool) -> list[Any]:
    """Every (method, tower kind), or those whose catalogue entry has the given flags."""
    return [
        pytest.param(info.name, kind, id=f"{info.name}-{kind}")
        for info in METHODS.values()
        if all(getattr(info, flag) is value for flag, value in flags.items())
        for tower in info.towers
        for kind in kinds(info, tower)
    ]


def build_tower(kind: str) -> ImageTower | TextTower:
    return towers.text_tower(kind) if kind in towers.TEXT_KINDS else towers.image_tower(kind)


def adapt(kind: str, name: str, *, seed: int = 0, **arguments: Any) -> Adapted:
    """A small tower with a method on it."""
    tower = build_tower(kind)
    spec = {"method": name, **SMALL.get(name, {}), **arguments}
    return tower, attach(tower, spec, generator=torch.Generator().manual_seed(seed))


def inputs(tower: ImageTower | TextTower, method: Method | None = None, *, trim: bool = True) -> Tensor | Prompts:
    if isinstance(tower, ImageTower):
        return towers.clips()
    return tower.tokenize(towers.PHRASES, reserved_tokens=method.reserved_tokens if method else 0, trim=trim)


def trained(tower: nn.Module, method: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters of both by name, each once."""
    both = nn.ModuleDict({"tower": tower, "method": method})
    return {name: parameter for name, parameter in both.named_parameters() if parameter.requires_grad}


def disturb(tower: nn.Module, method: nn.Module, *, seed: int = 1, by: float = 0.1) -> None:
    """Stand in for training: move every trained weight, so that no method is a no-op any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained(tower, method).values():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))

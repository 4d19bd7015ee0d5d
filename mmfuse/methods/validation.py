"""Checks of the arguments that methods share.

Each raises `ValueError` with the argument's name; `attach` adds which method it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmfuse.encoders.tower import Tower


def at_least(name: str, value: int, least: int) -> None:
    """Refuse an argument that is not a whole number, or one below its least sensible value.

    Raises:
        ValueError: it is.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def number(name: str, value: float) -> None:
    """Refuse an argument that is not a finite number.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got {value!r}")


def probability(name: str, value: float) -> None:
    """Refuse a probability of dropping outside 0 ≤ p < 1.

    Raises:
        ValueError: it is.
    """
    number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")


def chosen_layers(tower: Tower, layers: Sequence[int] | None) -> list[int]:
    """Numbers of the layers that a method works on, in order.

    Args:
        tower: the tower.
        layers: numbers from 0; negative ones count from the last layer; None for all layers.

    Raises:
        ValueError: none is given, one is given twice, or the tower has no such layer.
    """
    if layers is None:
        return list(range(tower.depth))
    wanted: list[Any] = list(layers) if isinstance(layers, list | tuple | range) else [layers]
    for layer in wanted:
        if isinstance(layer, bool) or not isinstance(layer, int) or not -tower.depth <= layer < tower.depth:
            raise ValueError(f"the tower has layers 0 to {tower.depth - 1}; layers has {layer!r}")
    numbers = sorted(layer % tower.depth for layer in wanted)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"layers must name at least one layer and none twice, got {wanted}")
    return numbers


def chosen_depth(tower: Tower, depth: int | None) -> int:
    """How many layers, from the first, a method works on; all where None.

    Raises:
        ValueError: not a number of layers that the tower has.
    """
    if depth is None:
        return tower.depth
    at_least("depth", depth, 1)
    if depth > tower.depth:
        raise ValueError(f"depth must be between 1 and the tower's {tower.depth} layers, got {depth}")
    return depth


def target_names(tower: Tower, roles: Sequence[str], layers: Sequence[int] | None = None) -> list[str]:
    """Full names of the linear maps with the given roles, in the given layers or in all.

    Raises:
        ValueError: no role is given, one is given twice, or a layer that the tower lacks.
        MmfuseError: the tower has no such role.
    """
    wanted: list[Any] = list(roles) if isinstance(roles, list | tuple) else [roles]
    if not wanted or len(set(map(str, wanted))) < len(wanted):
        raise ValueError(f"targets must name at least one of q, k, v, o, fc1, fc2 and none twice, got {wanted}")
    numbers = chosen_layers(tower, layers)
    return [path for role in wanted for path in tower.linear_paths(role, numbers)]

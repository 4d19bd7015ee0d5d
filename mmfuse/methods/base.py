"""What a method is, how one is built by name, and the baseline that trains nothing."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmfuse.encoders.tower import Tower
from mmfuse.errors import MmfuseError
from mmfuse.methods.names import MethodInfo, add, lookup, split_spec


class Method(nn.Module):
    """One parameter-efficient method on one frozen tower.

    A subclass makes its weights in `__init__(self, tower, *, generator, ...)` from the tower's width and depth, and
    plugs them into the tower's sockets in `attach`. Every keyword argument has the paper's value as its default.

    Attributes:
        replaces_template: the method learns the words around the class name, so prompts hold the bare name.
        room: prompt tokens that the method inserts and that must be kept free.
        mergeable: whether its weights can be folded into the tower's for a faster test (see `folding`).
    """

    replaces_template = False
    room = 0
    mergeable = False

    def attach(self, tower: Tower) -> None:
        """Plug the method into the tower's sockets."""

    def merge(self) -> None:
        """Fold the method into the tower's weights; only where `mergeable`."""

    def unmerge(self) -> None:
        """Undo `merge`."""

    def save_besides(self, folder: Path) -> None:
        """Write the method in a format of its own besides, where it has one; `folder` is not there yet."""


class Frozen(Method):
    """The tower as it was pretrained: the baseline.

    Args:
        tower: any tower.
        generator: not used; every method takes one.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator) -> None:
        super().__init__()


def attach(tower: Tower, spec: str | dict[str, Any], *, generator: torch.Generator) -> Method:
    """Build a method by name and plug it into a tower.

    Args:
        tower: the frozen tower.
        spec: a name ("lora"), or a name with arguments (`{"method": "lora", "rank": 32}`).
        generator: where initial weights come from.

    Raises:
        MmfuseError: no such method on this tower, or an argument it does not take or cannot work with.
    """
    name, arguments = split_spec(spec, tower.kind)
    info = lookup(name, tower.kind)
    build = _implementation(info)
    try:
        method: Method = build(tower, generator=generator, **arguments)
    except (TypeError, ValueError) as error:
        raise MmfuseError(f"method {name!r} on the {tower.kind} tower: {error}") from error
    method.attach(tower)
    return method


def _implementation(info: MethodInfo) -> Callable[..., Method]:
    if not isinstance(info.implementation, str):
        return info.implementation
    module, attribute = info.implementation.split(":")
    return getattr(importlib.import_module(module), attribute)


def register(
    *, name: str, towers: tuple[str, ...], family: str, paper: str, summary: str, starts_as_noop: bool | None = True
) -> Callable[[type[Method]], type[Method]]:
    """Class decorator that adds a method of your own to the catalogue, under a name that grids can use.

    Args: as the fields of `MethodInfo`; the method's arguments and their defaults are read from its signature.
    """

    def put(implementation: type[Method]) -> type[Method]:
        arguments = list(inspect.signature(implementation).parameters.values())[1:]
        add(
            MethodInfo(
                name=name,
                towers=towers,
                family=family,
                paper=paper,
                summary=summary,
                implementation=implementation,
                starts_as_noop=starts_as_noop,
                defaults={a.name: a.default for a in arguments if a.kind is a.KEYWORD_ONLY and a.name != "generator"},
                takes_any=any(a.kind is a.VAR_KEYWORD for a in arguments),
            )
        )
        return implementation

    return put


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
    wanted = [layers] if isinstance(layers, int) else list(layers)
    for layer in wanted:
        if isinstance(layer, bool) or not isinstance(layer, int) or not -tower.depth <= layer < tower.depth:
            raise ValueError(f"the tower has layers 0 to {tower.depth - 1}; layers has {layer!r}")
    numbers = sorted(layer % tower.depth for layer in wanted)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"layers must name at least one layer and none twice, got {wanted}")
    return numbers


def at_least(name: str, value: int, least: int) -> None:
    """Refuse an argument that is not a whole number, or one below its least sensible value.

    Raises:
        ValueError: with the argument's name, so that `attach` can say which method it was.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def share(name: str, value: float) -> None:
    """Refuse a probability outside 0 ≤ p < 1.

    Raises:
        ValueError: with the argument's name.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")

"""What a method is, how one is built by name, and the baseline that trains nothing."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmfuse.encoders.tower import Tower
from mmfuse.encoders.video import VideoTower
from mmfuse.errors import MmfuseError, one_line
from mmfuse.methods.registry import MethodInfo, MethodSpec, add, parse_method, refuse_clips


class Method(nn.Module):
    """One parameter-efficient method on one frozen tower.

    A subclass makes its weights in `__init__(self, tower, *, generator, ...)` from the tower's width and depth, and
    plugs them into the tower's sockets in `attach`. Every keyword argument has the paper's value as its default.

    Attributes:
        replaces_template: the method learns the words around the class name, so prompts hold the bare name.
        reserved_tokens: prompt tokens that the method inserts and that must be kept free.
        mergeable: whether a test may compute with weights into which it is merged (see `merging`).
        first_adapted_layer: the first layer of the tower that it changes, counted from 0, or the tower's depth. What
            enters that layer may be kept over a training, so a method that does not say is taken to change all.
        inserted: modules of its own that it has put into the tower's model.
        keeps_frozen: whether checkpoints also hold what these have frozen, since it cannot be made again everywhere.
    """

    replaces_template = False
    reserved_tokens = 0
    mergeable = False
    first_adapted_layer: int = 0
    inserted: Sequence[nn.Module] = ()
    keeps_frozen = False

    def attach(self, tower: Tower) -> None:
        """Plug the method into the tower's sockets."""

    def switch(self, on: bool) -> None:
        """Compute, or leave the tower as it was pretrained.

        A method that works through the tower's sockets has nothing to do: a disabled tower passes them by. One that
        changes modules of the tower overrides this. It must change neither weights nor what is trained.
        """

    def merge(self) -> None:
        """Compute with merged weights where no gradients are wanted; only where `mergeable`."""

    def unmerge(self) -> None:
        """Undo `merge`."""

    def refresh(self) -> None:
        """Bring up to date what is computed from weights and kept; the tower calls it before each forward pass."""

    def hold(self, on: bool) -> None:
        """Whether no weight can change for now, so that `refresh` need not look: on a GPU, looking means waiting."""

    def compose(self, on: bool) -> None:
        """Compute with weights that are multiplied out once a batch, where the method knows how (see `composed`)."""

    def save_in_peft_format(self, folder: Path) -> None:
        """Write the adapter of a method of peft for `PeftModel.from_pretrained`; `folder` is not there yet."""


class Frozen(Method):
    """The tower as it was pretrained: the baseline.

    Args:
        tower: any tower.
        generator: not used; every method takes one.
    """

    def __init__(self, tower: Tower, *, generator: torch.Generator) -> None:
        super().__init__()
        self.first_adapted_layer = tower.depth


def attach(tower: Tower, spec: str | dict[str, Any] | MethodSpec, *, generator: torch.Generator) -> Method:
    """Build a method by name and plug it into a tower.

    Args:
        tower: the frozen tower.
        spec: a name ("lora"), or a name with arguments (`{"method": "lora", "rank": 32}`); parsed or not.
        generator: where initial weights come from.

    Raises:
        MmfuseError: no such method on this tower, or an argument it does not take or cannot work with.
    """
    parsed = parse_method(spec, tower.kind)
    name = parsed.name
    if isinstance(tower, VideoTower):
        refuse_clips(parsed.info, tower.name)
    # Towers may be shared as long as all that share them leave them as they are.
    if tower.adapted_by is not None and (name, tower.adapted_by) != ("frozen", "frozen"):
        raise MmfuseError(
            f"the {tower.kind} tower {tower.name!r} carries the method {tower.adapted_by!r} already; load it anew, or "
            "take a copy.deepcopy of it before"
        )
    before = _structure(tower)
    try:
        method = _implementation(parsed.info)(tower, generator=generator, **parsed.arguments)
        method.attach(tower)
    except (TypeError, ValueError) as error:
        raise MmfuseError(f"method {name!r} on the {tower.kind} tower: {one_line(error)}") from error
    finally:
        if _structure(tower) != before:
            tower.adapted_by = name  # also where it failed half-way
    tower.adapted_by = name
    tower.adapt(method)
    return method


def _structure(tower: Tower) -> list[object]:
    """What attaching a method changes of a tower: names of weights, which of them are trained, what is plugged in."""
    weights = [(name, weight.requires_grad) for name, weight in tower.named_parameters()]
    return [*weights, *map(bool, tower.sockets), len(tower.enter), len(tower.leave), len(tower.finish)]


def _implementation(info: MethodInfo) -> Callable[..., Method]:
    if not isinstance(info.implementation, str):
        return info.implementation
    module, attribute = info.implementation.split(":")
    return getattr(importlib.import_module(module), attribute)


def register(
    *,
    name: str,
    towers: tuple[str, ...],
    family: str,
    paper: str,
    summary: str,
    starts_as_noop: bool | None = True,
    searched: Mapping[str, tuple[Any, ...]] | None = None,
) -> Callable[[type[Method]], type[Method]]:
    """Class decorator that adds a method of your own to the catalogue, under a name that grids can use.

    The method's arguments and their defaults are read from its signature.

    Args:
        name: the name in grids, which no other method has.
        towers: "image", "text" or both.
        family: the recipe that the method is trained with.
        paper, summary: for `mmfuse list methods`.
        starts_as_noop: whether a tower with the new method gives what the frozen one does.
        searched: the arguments that a search (`mmfuse tune`, `mmfuse best`) tries, each with its values.

    >>> import mmfuse
    >>> from mmfuse.methods.low_rank import LoRA
    >>> about = {"towers": ("image",), "family": "low-rank", "paper": "ours", "summary": "LoRA of a higher rank"}
    >>> @mmfuse.register(name="doctest-lora", **about)
    ... class WideLoRA(LoRA):
    ...     def __init__(self, tower, *, rank: int = 64, generator) -> None:
    ...         super().__init__(tower, rank=rank, generator=generator)
    >>> from mmfuse.methods.registry import METHODS, parse_method
    >>> parse_method("doctest-lora", "image").info.defaults
    {'rank': 64}
    >>> _ = METHODS.pop("doctest-lora")
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
                searched=dict(searched or {}),
            )
        )
        return implementation

    return put

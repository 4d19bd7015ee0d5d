"""The catalogue of methods as a table that needs no torch: what `--help`, `list` and `--dry-run` read.

Each entry names the class that implements it; `mmfuse.methods` imports that class when a model is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mmfuse.errors import MmfuseError, unknown

IMAGE, TEXT = "image", "text"
BOTH = (IMAGE, TEXT)


@dataclass(frozen=True)
class MethodInfo:
    """One parameter-efficient method, as a row of the catalogue.

    Args:
        name: how grids and the command line call it.
        towers: the towers it is defined on.
        family: baseline, prompt, adapter, low-rank, scaling or selective.
        paper: where it comes from.
        summary: what is trained, in one line.
        implementation: `module:attribute` of the `Method` class, or the class itself.
        starts_as_noop: whether an untrained method leaves the tower's output as it was.
        defaults: arguments that this name fixes before the user's own.
    """

    name: str
    towers: tuple[str, ...]
    family: str
    paper: str
    summary: str
    implementation: Any
    starts_as_noop: bool = True
    defaults: tuple[tuple[str, Any], ...] = ()


METHODS: dict[str, MethodInfo] = {}


def add(info: MethodInfo) -> None:
    """Put a method into the catalogue.

    Raises:
        MmfuseError: the name is taken by another implementation.
    """
    known = METHODS.get(info.name)
    if known is not None and known.implementation != info.implementation:
        raise MmfuseError(f"the method name {info.name!r} is taken; choose another")
    METHODS[info.name] = info


def names(tower: str | None = None) -> list[str]:
    """The names of all methods, or of those that one tower ("image" or "text") takes, in catalogue order."""
    return [info.name for info in METHODS.values() if tower is None or tower in info.towers]


def lookup(name: str, tower: str) -> MethodInfo:
    """The catalogue's entry for a method on a tower.

    Raises:
        MmfuseError: no such method, or it is not defined on this tower.
    """
    if name not in METHODS:
        raise unknown(f"{tower} method", name, names(tower))
    info = METHODS[name]
    if tower not in info.towers:
        raise MmfuseError(
            f"method {name!r} is not defined on the {tower} tower; known there: {', '.join(sorted(names(tower)))}"
        )
    return info


def parse_pair(pair: str) -> tuple[str, str]:
    """Split `image+text` into its two method names and check both.

    >>> parse_pair("dora+adapter")
    ('dora', 'adapter')

    Raises:
        MmfuseError: not two names, or an unknown one.
    """
    parts = [part.strip() for part in re.split(r"\+", pair)]
    if len(parts) != 2 or not all(parts):
        raise MmfuseError(f"a pair is written image+text, such as dora+adapter; got {pair!r}")
    image, text = parts
    lookup(image, IMAGE)
    lookup(text, TEXT)
    return image, text


def split_spec(spec: str | dict[str, Any], tower: str) -> tuple[str, dict[str, Any]]:
    """A method as users write it, `"lora"` or `{"method": "lora", "rank": 32}`, as its name and arguments."""
    if isinstance(spec, str):
        name, arguments = spec, {}
    else:
        if "method" not in spec:
            raise MmfuseError(f"a method given by keys needs the key 'method'; got {', '.join(map(repr, spec))}")
        arguments = {key: value for key, value in spec.items() if key != "method"}
        name = spec["method"]
    lookup(name, tower)
    return name, arguments


def _fill(entries: Iterable[MethodInfo]) -> None:
    for entry in entries:
        add(entry)


_fill(
    [
        MethodInfo(
            "frozen", BOTH, "baseline", "", "nothing: the tower as it was pretrained", "mmfuse.methods.base:Frozen"
        ),
        MethodInfo(
            "lora",
            BOTH,
            "low-rank",
            "Hu et al. 2021, LoRA",
            "a product of two thin matrices added to linear layers",
            "mmfuse.methods.low_rank:LoRA",
        ),
        MethodInfo(
            "dora",
            BOTH,
            "low-rank",
            "Liu et al. 2024, DoRA",
            "LoRA on the direction of a weight, and its magnitude as a vector",
            "mmfuse.methods.low_rank:DoRA",
        ),
        MethodInfo(
            "adaptformer",
            (IMAGE,),
            "adapter",
            "Chen et al. 2022, AdaptFormer",
            "a bottleneck parallel to each MLP, scaled by 0.1",
            "mmfuse.methods.bottlenecks:AdaptFormer",
        ),
        MethodInfo(
            "pfeiffer",
            BOTH,
            "adapter",
            "Pfeiffer et al. 2020, AdapterFusion",
            "a bottleneck after each MLP",
            "mmfuse.methods.bottlenecks:Pfeiffer",
        ),
        MethodInfo(
            "adapter",
            BOTH,
            "adapter",
            "Chen et al. 2022 (image), Pfeiffer et al. 2020 (text)",
            "alias: adaptformer on the image tower, pfeiffer on the text tower",
            "mmfuse.methods.bottlenecks:adapter",
        ),
        MethodInfo(
            "vpt-deep",
            (IMAGE,),
            "prompt",
            "Jia et al. 2022, Visual Prompt Tuning",
            "prompt tokens, fresh ones before every layer",
            "mmfuse.methods.prompts:VPTDeep",
            starts_as_noop=False,
        ),
        MethodInfo(
            "coop",
            (TEXT,),
            "prompt",
            "Zhou et al. 2022, Learning to Prompt",
            "context vectors shared by the classes, in place of the template's words",
            "mmfuse.methods.prompts:CoOp",
            starts_as_noop=False,
        ),
    ]
)

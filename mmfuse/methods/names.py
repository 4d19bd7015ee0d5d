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
        family: baseline, prompt, adapter, low-rank, orthogonal, scaling, selective or other.
        paper: where it comes from.
        summary: what is trained, in one line.
        implementation: `module:attribute` of the `Method` class, or the class itself.
        starts_as_noop: whether an untrained method leaves the tower's output as it was; None where arguments decide.
        defaults: arguments that this name fixes before the user's own.
    """

    name: str
    towers: tuple[str, ...]
    family: str
    paper: str
    summary: str
    implementation: Any
    starts_as_noop: bool | None = True
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
            "frozen",
            BOTH,
            "baseline",
            "",
            "nothing: the tower as it was pretrained",
            "mmfuse.methods.base:Frozen",
        ),
        MethodInfo(
            "full",
            BOTH,
            "baseline",
            "",
            "every weight of the tower: the upper reference, not parameter-efficient",
            "mmfuse.methods.selective:Full",
        ),
        MethodInfo(
            "bitfit",
            BOTH,
            "selective",
            "Ben Zaken et al. 2022, BitFit",
            "all biases",
            "mmfuse.methods.selective:BitFit",
        ),
        MethodInfo(
            "ln",
            BOTH,
            "selective",
            "Basu et al. 2024, LayerNorm tuning",
            "weights and biases of all layer norms",
            "mmfuse.methods.selective:LayerNormTuning",
        ),
        MethodInfo(
            "ssf",
            BOTH,
            "scaling",
            "Lian et al. 2022, Scaling and shifting your features",
            "a scale and a shift after each operation",
            "mmfuse.methods.scaling:SSF",
            starts_as_noop=False,
        ),
        MethodInfo(
            "ia3",
            BOTH,
            "scaling",
            "Liu et al. 2022, (IA)3",
            "factors on keys, values and the hidden units of the MLP",
            "mmfuse.methods.scaling:IA3",
        ),
        MethodInfo(
            "vpt-shallow",
            (IMAGE,),
            "prompt",
            "Jia et al. 2022, Visual Prompt Tuning",
            "prompt tokens before the first layer",
            "mmfuse.methods.prompts:VPTShallow",
            starts_as_noop=False,
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
        MethodInfo(
            "deep-prompt",
            (TEXT,),
            "prompt",
            "Rasheed et al. 2023, ViFi-CLIP",
            "context vectors in place of the template's words, fresh ones before every layer",
            "mmfuse.methods.prompts:DeepPrompt",
            starts_as_noop=False,
        ),
        MethodInfo(
            "prefix",
            BOTH,
            "prompt",
            "Li and Liang 2021, Prefix-Tuning",
            "keys and values that all tokens may attend to, in every layer",
            "mmfuse.methods.prompts:Prefix",
            starts_as_noop=False,
        ),
        MethodInfo(
            "houlsby",
            BOTH,
            "adapter",
            "Houlsby et al. 2019, Parameter-Efficient Transfer Learning for NLP",
            "a bottleneck after each attention and each MLP",
            "mmfuse.methods.bottlenecks:Houlsby",
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
            "adaptformer",
            BOTH,
            "adapter",
            "Chen et al. 2022, AdaptFormer",
            "a bottleneck parallel to each MLP, scaled by 0.1",
            "mmfuse.methods.bottlenecks:AdaptFormer",
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
            "clip-adapter",
            BOTH,
            "adapter",
            "Gao et al. 2021, CLIP-Adapter",
            "a two-layer MLP on the final feature, mixed in by 0.2",
            "mmfuse.methods.bottlenecks:CLIPAdapter",
            starts_as_noop=False,
        ),
        MethodInfo(
            "st-adapter",
            (IMAGE,),
            "adapter",
            "Pan et al. 2022, ST-Adapter",
            "bottlenecks with a depth-wise convolution over the frames",
            "mmfuse.methods.temporal:STAdapter",
        ),
        MethodInfo(
            "aim",
            (IMAGE,),
            "adapter",
            "Yang et al. 2023, AIM",
            "spatial, temporal and joint bottlenecks; the frozen attention reused over the frames",
            "mmfuse.methods.temporal:AIM",
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
            "vera",
            BOTH,
            "low-rank",
            "Kopiczko et al. 2024, VeRA",
            "two vectors over random matrices that all layers share",
            "mmfuse.methods.low_rank:VeRA",
        ),
        MethodInfo(
            "loha",
            BOTH,
            "low-rank",
            "Hyeon-Woo et al. 2022, FedPara",
            "the Hadamard product of two low-rank products",
            "mmfuse.methods.low_rank:LoHa",
        ),
        MethodInfo(
            "lokr",
            BOTH,
            "low-rank",
            "Yeh et al. 2024, LyCORIS",
            "a Kronecker product with a low-rank factor",
            "mmfuse.methods.low_rank:LoKr",
        ),
        MethodInfo(
            "oft",
            BOTH,
            "orthogonal",
            "Qiu et al. 2023, OFT",
            "block-diagonal rotations of linear layers",
            "mmfuse.methods.orthogonal:OFT",
        ),
        MethodInfo(
            "boft",
            BOTH,
            "orthogonal",
            "Liu et al. 2024, BOFT",
            "rotations of linear layers in butterfly form",
            "mmfuse.methods.orthogonal:BOFT",
        ),
        MethodInfo(
            "peft",
            BOTH,
            "other",
            "the one that peft names",
            "any configuration of huggingface/peft, by its type and arguments",
            "mmfuse.methods.any_peft:AnyPeft",
            starts_as_noop=None,
        ),
    ]
)

"""The catalogue of methods as a table that needs no torch: what `--help`, `list` and `--dry-run` read.

Each entry names the class that implements it; `mmfuse.methods` imports that class when a model is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from mmfuse.errors import MmfuseError, unknown, unknown_argument

IMAGE, TEXT = "image", "text"
BOTH = (IMAGE, TEXT)
RATES = (1 / 30, 3.0)
"""Factors of a recipe's rate that a search tries: larger towers want smaller rates, and a rate that is ten times too
large costs more than any choice among the good ones."""


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
        defaults: its arguments and what they are where not given.
        takes_any: whether it takes arguments that are not listed here, and checks them itself.
        searched: the arguments that a search tries, each with the values that it may take. The default is tried first.
        rates: how far a search may go below and above the recipe's learning rate, as factors.
        single_frames: why it works only on image towers that read single frames; empty where it does on any.
    """

    name: str
    towers: tuple[str, ...]
    family: str
    paper: str
    summary: str
    implementation: Any
    starts_as_noop: bool | None = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    takes_any: bool = False
    searched: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    rates: tuple[float, float] = RATES
    single_frames: str = ""


@dataclass(frozen=True)
class MethodSpec:
    """A method that was asked for: its row of the catalogue, and the arguments that were given."""

    info: MethodInfo
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The method's name."""
        return self.info.name

    @property
    def resolved(self) -> dict[str, Any]:
        """The method with all its arguments, those that were left to their defaults too."""
        return {"method": self.name, **self.info.defaults, **self.arguments}


METHODS: dict[str, MethodInfo] = {}
PLUGINS = "mmfuse.methods"


def add(info: MethodInfo) -> None:
    """Put a method into the catalogue.

    Raises:
        MmfuseError: the name is taken by another implementation.
    """
    known = METHODS.get(info.name)
    if known is not None and _where(known.implementation) != _where(info.implementation):
        raise MmfuseError(f"the method name {info.name!r} is taken; choose another")
    METHODS[info.name] = info


def _where(implementation: Any) -> Any:
    """Where a method is written, so that the same one defined again, as in a notebook, may take its own place."""
    if isinstance(implementation, str):
        return implementation
    return f"{implementation.__module__}:{implementation.__qualname__}"


def catalogue() -> list[MethodInfo]:
    """All methods, those that installed packages bring included."""
    load_plugins()
    return list(METHODS.values())


@cache
def load_plugins() -> None:
    """Import the methods that other installed packages announce as entry points of the group `mmfuse.methods`.

    Raises:
        MmfuseError: one of them cannot be imported.
    """
    for plugin in entry_points(group=PLUGINS):
        try:
            plugin.load()
        except Exception as error:
            raise MmfuseError(f"the method {plugin.name!r} of {plugin.value} cannot be imported: {error}") from error


def names(tower: str | None = None) -> list[str]:
    """The names of all methods, or of those that one tower ("image" or "text") takes, in catalogue order."""
    return [info.name for info in catalogue() if tower is None or tower in info.towers]


def lookup(name: str, tower: str) -> MethodInfo:
    """The catalogue's entry for a method on a tower.

    Raises:
        MmfuseError: no such method, or it is not defined on this tower.
    """
    if name not in METHODS:
        load_plugins()
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


def parse_method(spec: str | Mapping[str, Any] | MethodSpec, tower: str) -> MethodSpec:
    """A method as users write it, `"lora"` or `{"method": "lora", "rank": 32}`, as its entry and arguments.

    Args:
        spec: the method; one that was parsed already is given back.
        tower: "image" or "text".

    Raises:
        MmfuseError: no such method on this tower, or no such argument.

    >>> parse_method({"method": "lora", "rank": 32}, "image").arguments
    {'rank': 32}
    """
    if isinstance(spec, MethodSpec):
        return spec
    if not isinstance(spec, str | Mapping):
        raise MmfuseError(f"a method is a name or keys such as {{method: lora, rank: 32}}; got {spec!r}")
    given = {"method": spec} if isinstance(spec, str) else dict(spec)
    if "method" not in given:
        raise MmfuseError(f"a method given by keys needs the key 'method'; got {', '.join(map(repr, given))}")
    name = given.pop("method")
    if not isinstance(name, str):
        raise MmfuseError(f"the key 'method' holds the name of a method; got {name!r:.80}")
    info = lookup(name, tower)
    for key in given:
        if key not in info.defaults and not info.takes_any:
            raise unknown_argument("method", name, key, {known.name: known.defaults for known in METHODS.values()})
    return MethodSpec(info, given)


def refuse_clips(info: MethodInfo, tower: str) -> None:
    """Refuse a method of single frames on a video tower.

    Args:
        info: the method.
        tower: the video tower's name.

    Raises:
        MmfuseError: with the reason.
    """
    if info.single_frames:
        raise MmfuseError(
            f"method {info.name!r} is not for the video tower {tower!r}: {info.single_frames}, and this one reads "
            "whole clips; take an image tower, or another method"
        )


def _fill(entries: Iterable[MethodInfo]) -> None:
    for entry in entries:
        add(entry)


QV: dict[str, Any] = {"targets": ("q", "v"), "layers": None}
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
            rates=(1 / 100, 3.0),
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
            defaults={"targets": ("k", "v", "fc2"), "layers": None},
        ),
        MethodInfo(
            "vpt-shallow",
            (IMAGE,),
            "prompt",
            "Jia et al. 2022, Visual Prompt Tuning",
            "prompt tokens before the first layer",
            "mmfuse.methods.prompts:VPTShallow",
            starts_as_noop=False,
            defaults={"length": 10},
            searched={"length": (2, 5, 10, 20)},
        ),
        MethodInfo(
            "vpt-deep",
            (IMAGE,),
            "prompt",
            "Jia et al. 2022, Visual Prompt Tuning",
            "prompt tokens, fresh ones before every layer",
            "mmfuse.methods.prompts:VPTDeep",
            starts_as_noop=False,
            defaults={"length": 10, "depth": None},
            searched={"length": (2, 5, 10, 20)},
        ),
        MethodInfo(
            "coop",
            (TEXT,),
            "prompt",
            "Zhou et al. 2022, Learning to Prompt",
            "context vectors shared by the classes, in place of the template's words",
            "mmfuse.methods.prompts:CoOp",
            starts_as_noop=False,
            defaults={"length": 16, "words": None},
            searched={"length": (4, 8, 16)},
        ),
        MethodInfo(
            "deep-prompt",
            (TEXT,),
            "prompt",
            "Rasheed et al. 2023, ViFi-CLIP",
            "context vectors in place of the template's words, fresh ones before every layer",
            "mmfuse.methods.prompts:DeepPrompt",
            starts_as_noop=False,
            defaults={"length": 10, "depth": None, "words": None},
            searched={"length": (2, 4, 10)},
        ),
        MethodInfo(
            "prefix",
            BOTH,
            "prompt",
            "Li and Liang 2021, Prefix-Tuning",
            "keys and values that all tokens may attend to, in every layer",
            "mmfuse.methods.prompts:Prefix",
            starts_as_noop=False,
            defaults={"length": 10, "layers": None},
            searched={"length": (2, 5, 10, 20)},
        ),
        MethodInfo(
            "houlsby",
            BOTH,
            "adapter",
            "Houlsby et al. 2019, Parameter-Efficient Transfer Learning for NLP",
            "a bottleneck after each attention and each MLP",
            "mmfuse.methods.adapters:Houlsby",
            defaults={"bottleneck": 64, "layers": None},
            searched={"bottleneck": (16, 64, 128)},
        ),
        MethodInfo(
            "pfeiffer",
            BOTH,
            "adapter",
            "Pfeiffer et al. 2020, AdapterFusion",
            "a bottleneck after each MLP",
            "mmfuse.methods.adapters:Pfeiffer",
            defaults={"bottleneck": 64, "layers": None},
            searched={"bottleneck": (16, 64, 128)},
        ),
        MethodInfo(
            "adaptformer",
            BOTH,
            "adapter",
            "Chen et al. 2022, AdaptFormer",
            "a bottleneck parallel to each MLP, scaled by 0.1",
            "mmfuse.methods.adapters:AdaptFormer",
            defaults={"bottleneck": 64, "scale": 0.1, "layers": None},
            searched={"bottleneck": (16, 64, 128)},
        ),
        MethodInfo(
            "adapter",
            BOTH,
            "adapter",
            "Chen et al. 2022 (image), Pfeiffer et al. 2020 (text)",
            "alias: adaptformer on the image tower, pfeiffer on the text tower",
            "mmfuse.methods.adapters:adapter",
            defaults={"bottleneck": 64, "layers": None},
            searched={"bottleneck": (16, 64, 128)},
        ),
        MethodInfo(
            "clip-adapter",
            BOTH,
            "adapter",
            "Gao et al. 2021, CLIP-Adapter",
            "a two-layer MLP on the final feature, mixed in by 0.2",
            "mmfuse.methods.adapters:CLIPAdapter",
            starts_as_noop=False,
            defaults={"reduction": 4, "ratio": 0.2},
            searched={"ratio": (0.2, 0.4, 0.6, 0.8)},
        ),
        MethodInfo(
            "st-adapter",
            (IMAGE,),
            "adapter",
            "Pan et al. 2022, ST-Adapter",
            "bottlenecks with a depth-wise convolution over the frames",
            "mmfuse.methods.temporal:STAdapter",
            defaults={"bottleneck": 384, "kernel": 3, "layers": None},
            searched={"bottleneck": (96, 192, 384)},
            single_frames="it lets frames see each other that the tower reads one by one",
        ),
        MethodInfo(
            "aim",
            (IMAGE,),
            "adapter",
            "Yang et al. 2023, AIM",
            "spatial, temporal and joint bottlenecks; the frozen attention reused over the frames",
            "mmfuse.methods.temporal:AIM",
            defaults={"ratio": 0.25, "scale": 0.5, "layers": None},
            searched={"ratio": (0.125, 0.25, 0.5)},
            single_frames="it lets frames see each other that the tower reads one by one",
        ),
        MethodInfo(
            "lora",
            BOTH,
            "low-rank",
            "Hu et al. 2021, LoRA",
            "a product of two thin matrices added to linear layers",
            "mmfuse.methods.low_rank:LoRA",
            defaults={"rank": 8, "alpha": 16, "dropout": 0.0, **QV},
            searched={"rank": (4, 8, 16, 32)},
        ),
        MethodInfo(
            "dora",
            BOTH,
            "low-rank",
            "Liu et al. 2024, DoRA",
            "LoRA on the direction of a weight, and its magnitude as a vector",
            "mmfuse.methods.low_rank:DoRA",
            defaults={"rank": 8, "alpha": 16, "dropout": 0.0, **QV},
            searched={"rank": (4, 8, 16, 32)},
        ),
        MethodInfo(
            "pissa",
            BOTH,
            "low-rank",
            "Meng et al. 2024, PiSSA",
            "LoRA whose factors start as the largest singular values of a weight, in whose place they are trained",
            "mmfuse.methods.decomposed:PiSSA",
            defaults={"rank": 8, "alpha": 8, "dropout": 0.0, **QV},
            searched={"rank": (4, 8, 16, 32)},
        ),
        MethodInfo(
            "olora",
            BOTH,
            "low-rank",
            "Büyükakyüz 2024, OLoRA",
            "LoRA whose factors start as a part of a weight's QR decomposition, in whose place they are trained",
            "mmfuse.methods.decomposed:OLoRA",
            defaults={"rank": 8, "alpha": 8, "dropout": 0.0, **QV},
            searched={"rank": (4, 8, 16, 32)},
        ),
        MethodInfo(
            "vera",
            BOTH,
            "scaling",  # vectors are trained, at the rates of vectors
            "Kopiczko et al. 2024, VeRA",
            "two vectors over random matrices that all layers share",
            "mmfuse.methods.low_rank:VeRA",
            defaults={"rank": 256, "initial": 0.1, "dropout": 0.0, **QV},
            searched={"rank": (64, 128, 256)},
        ),
        MethodInfo(
            "loha",
            BOTH,
            "low-rank",
            "Hyeon-Woo et al. 2022, FedPara",
            "the Hadamard product of two low-rank products",
            "mmfuse.methods.low_rank:LoHa",
            defaults={"rank": 8, "alpha": 8, **QV},
            searched={"rank": (4, 8, 16)},
        ),
        MethodInfo(
            "lokr",
            BOTH,
            "low-rank",
            "Yeh et al. 2024, LyCORIS",
            "a Kronecker product with a low-rank factor",
            "mmfuse.methods.low_rank:LoKr",
            defaults={"rank": 8, "alpha": 8, **QV},
            searched={"rank": (4, 8, 16)},
        ),
        MethodInfo(
            "oft",
            BOTH,
            "orthogonal",
            "Qiu et al. 2023, OFT",
            "block-diagonal rotations of linear layers",
            "mmfuse.methods.orthogonal:OFT",
            defaults={"block_size": 32, **QV},
            searched={"block_size": (8, 16, 32)},
        ),
        MethodInfo(
            "boft",
            BOTH,
            "orthogonal",
            "Liu et al. 2024, BOFT",
            "rotations of linear layers in butterfly form",
            "mmfuse.methods.orthogonal:BOFT",
            defaults={"block_size": 4, **QV},
            searched={"block_size": (2, 4, 8)},
        ),
        MethodInfo(
            "peft",
            BOTH,
            "other",
            "the one that peft names",
            "any configuration of huggingface/peft, by its type and arguments",
            "mmfuse.methods.any_peft:AnyPeft",
            starts_as_noop=None,
            defaults={"type": "required", **QV},
            takes_any=True,
        ),
    ]
)

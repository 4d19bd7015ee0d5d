"""A wrong argument is one clear error that names the method, what is wrong, and the nearest right name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmfuse.errors import MmfuseError
from mmfuse.methods import attach, parse_pair
from tests.methods.sweep import build_tower

IMAGE: list[tuple[str | dict[str, Any], str]] = [
    ("dorra", "unknown image method 'dorra'; did you mean 'dora'?"),
    ("coop", "method 'coop' is not defined on the image tower; known there: adapter, "),
    ({"method": ["lora"]}, "the key 'method' holds the name of a method; got ['lora']"),
    ({"rank": 3}, "a method given by keys needs the key 'method'; got 'rank'"),
    ({"method": "lora", "rnak": 3}, "unknown argument of method 'lora' 'rnak'; did you mean 'rank'?"),
    ({"method": "lora", "generator": 3}, "unknown argument of method 'lora' 'generator'"),
    ({"method": "lora", "rank": 0}, "method 'lora' on the image tower: rank must be at least 1, got 0"),
    ({"method": "lora", "targets": ["q", "w"]}, "no linear map with role 'w'; it has q, k, v, o, fc1, fc2"),
    (
        {"method": "lora", "targets": []},
        "targets must name at least one of q, k, v, o, fc1, fc2 and none twice, got []",
    ),
    ({"method": "lora", "targets": ["q", "q"]}, "fc2 and none twice, got ['q', 'q']"),
    ({"method": "lora", "targets": None}, "no linear map with role None"),
    ({"method": "lora", "alpha": float("nan")}, "alpha must be a number, got nan"),
    ({"method": "adaptformer", "scale": "x"}, "scale must be a number, got 'x'"),
    ({"method": "vera", "initial": "x"}, "initial must be a number, got 'x'"),
    ({"method": "vpt-deep", "depth": 1.5}, "depth must be a whole number, got 1.5"),
    ({"method": "aim", "ratio": "x"}, "ratio must be a number, got 'x'"),
    (3, "a method is a name or keys such as {method: lora, rank: 32}; got 3"),
    ({"method": "adaptformer", "bottleneck": 0}, "bottleneck must be at least 1, got 0"),
    ({"method": "vpt-deep", "length": 0}, "length must be at least 1, got 0"),
    ({"method": "vpt-deep", "depth": 3}, "depth must be between 1 and the tower's 2 layers, got 3"),
    ({"method": "vpt-shallow", "depth": 1}, "unknown argument of method 'vpt-shallow' 'depth'"),
    ({"method": "pfeiffer", "layers": [2]}, "the tower has layers 0 to 1; layers has 2"),
    ({"method": "pfeiffer", "layers": [True]}, "the tower has layers 0 to 1; layers has True"),
    ({"method": "lora", "layers": [0, -2]}, "layers must name at least one layer and none twice, got [0, -2]"),
    ({"method": "lora", "layers": []}, "layers must name at least one layer and none twice, got []"),
    ({"method": "lora", "rank": "eight"}, "method 'lora' on the image tower: "),
    ({"method": "lora", "rank": 8.5}, "rank must be a whole number, got 8.5"),
    ({"method": "lora", "dropout": 1.5}, "dropout must be at least 0 and below 1, got 1.5"),
    ({"method": "st-adapter", "kernel": 2}, "kernel must be an odd number of frames, got 2"),
    ({"method": "aim", "ratio": 0.01}, "ratio 0.01 of a width of 32 leaves no hidden unit"),
    ({"method": "clip-adapter", "reduction": 33}, "reduction must be between 1 and the feature's width 32, got 33"),
    ({"method": "clip-adapter", "ratio": 0}, "ratio must be above 0 and at most 1, got 0"),
    ({"method": "oft", "block_size": 5}, "block_size 5 does not divide the 32 inputs of encoder.layer.0.attention"),
    ({"method": "boft", "block_size": 3}, "block_size 3 does not divide the 32 inputs of encoder.layer.0.attention"),
    ({"method": "boft", "block_size": 0}, "block_size must be at least 2, got 0"),
    ({"method": "ia3", "targets": "all"}, "no linear map with role 'all'"),
    ({"method": "prefix", "length": 0}, "length must be at least 1, got 0"),
]
TEXT: list[tuple[str | dict[str, Any], str]] = [
    ("vpt-deep", "method 'vpt-deep' is not defined on the text tower"),
    ("st-adapter", "method 'st-adapter' is not defined on the text tower"),
    ({"method": "coop", "length": 0}, "length must be at least 1, got 0"),
    ({"method": "coop", "length": 31}, "length 31 leaves no room for a class name in 32 tokens"),
    ({"method": "coop", "words": 3}, "words must be text, got 3"),
    ({"method": "coop", "words": ""}, "number of tokens in words must be at least 1, got 0"),
    ({"method": "deep-prompt", "length": 40}, "length 40 leaves no room for a class name in 32 tokens"),
]


@pytest.mark.parametrize(
    ("kind", "spec", "message"), [("dinov2", *c) for c in IMAGE] + [("clip-text", *c) for c in TEXT]
)
def test_wrong_argument(kind: str, spec: str | dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError) as caught:
        attach(build_tower(kind), spec, generator=torch.Generator())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("dora", "a pair is written image+text"),
        ("dora+", "a pair is written image+text"),
        ("a+b+c", "a pair is written image+text"),
        ("dora+vpt-deep", "'vpt-deep' is not defined on the text tower"),
        ("coop+dora", "'coop' is not defined on the image tower"),
    ],
)
def test_wrong_pair(pair: str, message: str) -> None:
    with pytest.raises(MmfuseError, match=message.replace("+", r"\+")):
        parse_pair(pair)

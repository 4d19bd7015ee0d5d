"""Small checkpoints: the trained weights, and what is needed to rebuild the recogniser around them.

    trained.safetensors     trained weights by name
    recognizer.json         towers by name and fingerprint, methods, fusion, classes, prompts, sampling
    peft-image, peft-text   where the method comes from huggingface/peft: the same adapter in peft's own format

The towers are not in it. They are loaded by name, and refused if their weights are others than those trained on.
Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmfuse.errors import MmfuseError, one_line
from mmfuse.utils.files import parse_json, sha256_of_file, write_atomically
from mmfuse.version import __version__

WEIGHTS, DESCRIPTION = "trained.safetensors", "recognizer.json"
FORMAT = 1
SIDES = ("image", "text")
METHODS = ("image_method", "text_method")
UNBUILDABLE = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""What building a recogniser of any description may raise."""
SMALL = 4096
"""Numbers up to this one are always believed: some, such as a scale, shape no weight."""


def write(
    folder: Path,
    *,
    weights: Mapping[str, Tensor],
    towers: Mapping[str, Mapping[str, str]],
    arguments: Mapping[str, Any],
    sampling: Mapping[str, Any] | None,
) -> None:
    """Write a checkpoint; the description last, so that a folder with one is whole.

    Args:
        folder: where; made if it is not there.
        weights: trained weights by name.
        towers: name and fingerprint of the tower "image" and of the tower "text".
        arguments: keyword arguments of the recogniser, the towers left out.
        sampling: how frames were taken from videos, for those who predict later.

    Raises:
        MmfuseError: an argument is no plain value that JSON can hold.
    """
    plain = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    content = safetensors.torch.save(plain, metadata={"format": "pt"})
    description = {
        "format": FORMAT,
        "mmfuse": __version__,
        "towers": towers,
        "arguments": arguments,
        "sampling": sampling,
        "trained_weights": sum(weight.numel() for weight in weights.values()),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        text = json.dumps(description, indent=2, ensure_ascii=False)
    except TypeError as error:
        raise MmfuseError(
            f"a recogniser with such arguments cannot be written down: {error}; give plain values"
        ) from error
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / DESCRIPTION, text + "\n")


def read_description(folder: Path, *, accepted: Container[str] | None = None) -> dict[str, Any]:
    """What a checkpoint says of itself: keys `towers`, `arguments`, `sampling`, `mmfuse`.

    Args:
        folder: the checkpoint.
        accepted: arguments that the recogniser takes; where given, others are a fault.

    Raises:
        MmfuseError: the folder holds no checkpoint, a broken one, or one of another version's format.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise MmfuseError(
            f"{folder} holds no checkpoint: it has no {DESCRIPTION}; name a folder that `mmfuse train --out` left, or "
            "one below checkpoints/ of a results folder whose grid keeps them"
        )
    try:
        description = parse_json(path.read_bytes())
        told = [description["towers"][side][key] for side in SIDES for key in ("name", "fingerprint")]
        complete = all(isinstance(text, str) for text in told) and isinstance(description["arguments"], dict)
        complete = complete and isinstance(description["format"], int)
        complete = complete and isinstance(description.get("sampling"), dict | None)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        complete = False
    if not complete:
        raise MmfuseError(
            f"{path} is broken; it does not say which towers and methods the weights belong to: train it again"
        )
    by = f"mmfuse {description.get('mmfuse')!s:.40}"
    if description["format"] > FORMAT:
        raise MmfuseError(f"{folder} was written by {by}; this is {__version__}: update it")
    foreign = [] if accepted is None else [name for name in description["arguments"] if name not in accepted]
    if foreign:
        raise MmfuseError(
            f"{folder} was written by {by}, whose recogniser took {', '.join(foreign)[:200]}; this one ({__version__}) "
            "does not: install that version, or train it again"
        )
    return {"sampling": None, **description}


def refuse_oversized(folder: Path, description: Mapping[str, Any]) -> None:
    """Refuse a description of more than its weights, before anything of that size is made.

    Whatever is trained is in the file of weights: no width, rank, length or number of layers that shapes it can be
    larger than what is in there.

    Raises:
        MmfuseError: naming the argument.
    """
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise MmfuseError(f"{folder / WEIGHTS} cannot be read: {one_line(error)}; train it again") from error
    largest = max([SMALL, *(side for shape in shapes for side in shape)])
    arguments = description["arguments"]
    sizes = [pair for name in ("frames", "fusion", *METHODS) for pair in _numbers(name, arguments.get(name))]
    for key, value in sizes:
        if value > largest:
            raise MmfuseError(f"{folder / DESCRIPTION}: its weights do not bear out its {key}; train it again")
    fusion = dict(sizes)
    # A layer of a transformer has more than width² weights.
    layers = fusion.get("fusion.layers", 0) * fusion.get("fusion.width", 1) ** 2
    if layers > max(SMALL, sum(math.prod(shape) for shape in shapes)):
        raise MmfuseError(f"{folder / DESCRIPTION}: its weights do not bear out its fusion.layers; train it again")


def _numbers(key: str, value: Any) -> Iterator[tuple[str, float]]:
    """All numbers in an argument, with their places."""
    if isinstance(value, int | float):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _numbers(f"{key}.{name}", part)


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Say of a description that no recogniser can be built of it, whatever Python says of it.

    Raises:
        MmfuseError: naming the file.
    """
    try:
        yield
    except UNBUILDABLE as error:
        raise MmfuseError(
            f"{folder / DESCRIPTION} describes no recogniser that could be built ({one_line(error)}); train it again"
        ) from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The trained weights of a checkpoint by name, on the CPU.

    Raises:
        MmfuseError: the file is missing or broken.
    """
    try:
        return safetensors.torch.load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise MmfuseError(f"{folder / WEIGHTS} cannot be read: {one_line(error)}; train it again") from error


def refuse_damaged(folder: Path) -> None:
    """Refuse weights that are not those that the description was written for, such as after a flipped bit.

    Raises:
        MmfuseError: naming the file.
    """
    expected = read_description(folder).get("sha256")
    if expected is not None and sha256_of_file(folder / WEIGHTS) != expected:
        raise MmfuseError(f"{folder / WEIGHTS} was damaged or changed since it was written; train it again")


def put(weights: Mapping[str, Tensor], into: Mapping[str, Tensor], *, folder: Path) -> None:
    """Copy weights into the trained ones of a model that was built alike.

    Raises:
        MmfuseError: a weight is missing, left over, of another shape or damaged; nothing is copied then.
    """
    shapes = [name for name in into.keys() & weights.keys() if into[name].shape != weights[name].shape]
    faults = {
        "lacks": into.keys() - weights.keys(),
        "has, beyond what its description asks for,": weights.keys() - into.keys(),
        "has another shape for": shapes,
    }
    for fault, names in faults.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise MmfuseError(f"the checkpoint {folder} {fault} {', '.join(sorted(names)[:3])}{more}")
    refuse_damaged(folder)
    with torch.no_grad():
        for name, weight in into.items():
            weight.copy_(weights[name])


def refuse_other_towers(
    trained_on: Mapping[str, Mapping[str, str]], loaded: Mapping[str, str], *, folder: Path
) -> None:
    """Refuse towers whose weights are not those that a checkpoint was trained on.

    Args:
        trained_on: `towers` of the description.
        loaded: fingerprints of the towers at hand, by side.
        folder: the checkpoint's.

    Raises:
        MmfuseError: naming the tower.
    """
    for side in SIDES:
        if loaded[side] != trained_on[side]["fingerprint"]:
            raise MmfuseError(
                f"the checkpoint {folder} was trained on other weights of the {side} tower: on those of "
                f"{trained_on[side]['name']!r} with fingerprint {trained_on[side]['fingerprint'][:12]}, while these "
                f"have {loaded[side][:12]}"
            )

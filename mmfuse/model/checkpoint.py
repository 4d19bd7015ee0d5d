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
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmfuse.errors import MmfuseError, one_line
from mmfuse.model.description import (
    DESCRIPTION,
    FORMAT,
    SIDES,
    WEIGHTS,
    digest_of_arguments,
    read_description,
    refuse_damaged,
    writer_of,
)
from mmfuse.model.rebuilding import accepted_arguments, accepted_towers, refuse_other_towers, towers_of
from mmfuse.utils.files import parse_json, write_atomically
from mmfuse.utils.portable import is_hub_id
from mmfuse.version import __version__

if TYPE_CHECKING:
    from mmfuse.model.recognizer import ActionRecognizer

Model = TypeVar("Model", bound="ActionRecognizer")
ADAPTER = "adapter_config.json"
METHODS = ("image_method", "text_method")
UNBUILDABLE = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""What building a recogniser of any description may raise."""
SMALL = 4096
"""Numbers up to this one are always believed: some, such as a scale, shape no weight."""


def write(
    folder: Path,
    *,
    kind: str,
    weights: Mapping[str, Tensor],
    towers: Mapping[str, Mapping[str, str]],
    arguments: Mapping[str, Any],
    sampling: Mapping[str, Any] | None,
) -> None:
    """Write a checkpoint; the description last, so that a folder with one is whole.

    Args:
        folder: where; made if it is not there.
        kind: name of the model's class.
        weights: trained weights by name.
        towers: name, fingerprint and type of numbers of the tower "image" and of the tower "text".
        arguments: keyword arguments of the class, the towers left out.
        sampling: how frames were taken from videos, for those who predict later.

    Raises:
        MmfuseError: an argument is no plain value that JSON can hold.
    """
    plain = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    content = safetensors.torch.save(plain, metadata={"format": "pt"})
    description = {
        "format": FORMAT,
        "mmfuse": __version__,
        "class": kind,
        "towers": towers,
        "arguments": arguments,
        "arguments_sha256": None,
        "sampling": sampling,
        "trained_weights": sum(weight.numel() for weight in weights.values()),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        description["arguments_sha256"] = digest_of_arguments(arguments)
        text = json.dumps(description, indent=2, ensure_ascii=False)
    except TypeError as error:
        raise MmfuseError(
            f"a recogniser with such arguments cannot be written down: {error}; give plain values"
        ) from error
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / DESCRIPTION, text + "\n")


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


def save(model: ActionRecognizer, folder: Path, *, sampling: Mapping[str, Any] | None) -> None:
    """Write a model's checkpoint, with the adapters of peft beside it in their own format.

    Args:
        model: a recogniser whose towers hold their own weights, with no method merged into them.
        folder: where; made if it is not there.
        sampling: how frames are taken from videos.

    Raises:
        MmfuseError: an argument that the model was built with is no plain value.
    """
    write(
        folder,
        kind=type(model).__qualname__,
        weights=model.trained_state(),
        towers=towers_of(model),
        arguments=model.arguments,
        sampling=sampling,
    )
    for side, method in (("image", model.image_method), ("text", model.text_method)):
        besides = folder / f"peft-{side}"
        shutil.rmtree(besides, ignore_errors=True)  # of an earlier checkpoint in the same folder
        method.save_in_peft_format(besides)
        if (besides / ADAPTER).is_file():
            _settle_adapter(besides / ADAPTER, base=towers_of(model)[side]["name"])


def _settle_adapter(path: Path, *, base: str) -> None:
    """Make an adapter's configuration the same for the same adapter, on any machine.

    peft writes the path that the tower was read from, and sets in the order of this process's hashes.
    """
    told = parse_json(path.read_bytes())
    told["base_model_name_or_path"] = base if is_hub_id(base) else None
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(told.get(key), list):
            told[key] = sorted(told[key])
    write_atomically(path, json.dumps(told, indent=2, sort_keys=True) + "\n")


def load(kind: type[Model], folder: Path, *, towers: Mapping[str, Any]) -> Model:
    """Build a model again from its checkpoint, in evaluation mode.

    Args:
        kind: the class that wrote it.
        folder: the checkpoint.
        towers: towers or names of towers by argument ("image_encoder", "text_encoder"), in the place of those that the
            checkpoint names; None where it names the right one.

    Raises:
        MmfuseError: no or a broken checkpoint, a tower that is not found, or one with other weights.
    """
    description = read_description(folder)
    refuse_foreign_arguments(folder, description, kind)
    refuse_oversized(folder, description)
    said = {f"{side}_encoder": description["towers"][side]["name"] for side in SIDES}
    given = {name: tower for name, tower in towers.items() if tower is not None}
    with building(folder):
        model = kind(**description["arguments"], **accepted_towers(kind, {**said, **given}))
    refuse_other_towers(description["towers"], model, checkpoint=str(folder))
    put(read_weights(folder), model.trained_state(), folder=folder)
    model.sampling = description["sampling"]
    return model.eval()


def refuse_foreign_arguments(folder: Path, description: Mapping[str, Any], kind: type) -> None:
    """Refuse a description with arguments that a class does not take.

    Raises:
        MmfuseError: another class, or another version of it, wrote the checkpoint.
    """
    accepted = accepted_arguments(kind)
    foreign = [] if accepted is None else [name for name in description["arguments"] if name not in accepted]
    if not foreign:
        return
    names, wrote = ", ".join(foreign)[:200], str(description["class"])[:80]
    if wrote != kind.__qualname__:
        raise MmfuseError(
            f"{folder} was written by a {wrote}, which takes {names}; load it with {wrote}.from_checkpoint"
        )
    raise MmfuseError(
        f"{folder} was written by {writer_of(description)}, whose {wrote} took {names}; this one ({__version__}) does "
        "not: install that version, or train it again"
    )

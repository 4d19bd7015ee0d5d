"""What a checkpoint says of itself, read without torch: towers, methods, classes, and a digest of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmfuse.errors import MmfuseError
from mmfuse.utils.files import parse_json, sha256_of_file, sha256_of_json
from mmfuse.version import __version__

WEIGHTS, DESCRIPTION = "trained.safetensors", "recognizer.json"
FORMAT = 1
SIDES = ("image", "text")


def read_description(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: keys `towers`, `arguments`, `class`, `sampling`, `mmfuse`.

    Args:
        folder: the checkpoint.

    Raises:
        MmfuseError: the folder holds no checkpoint, a broken one, or one of another version's format.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise MmfuseError(
            f"{folder} holds no checkpoint: it has no {DESCRIPTION}; name a folder that `mmfuse train --out` left, "
            "one below checkpoints/ of a results folder whose grid keeps them, or owner/name of a model on the hub"
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
    if description["format"] > FORMAT:
        raise MmfuseError(f"{folder} was written by {writer_of(description)}; this is {__version__}: update it")
    return {"class": "ActionRecognizer", "sampling": None, **description}


def refuse_damaged(folder: Path) -> None:
    """Refuse weights and arguments that are not those that were written together, such as after a flipped bit.

    The names of the classes are among the arguments: in another order, a fusion that reads no text would give each
    answer under a wrong name, and nothing else would show it.

    Raises:
        MmfuseError: naming the file.
    """
    description = read_description(folder)
    expected = description.get("sha256")
    if expected is not None and sha256_of_file(folder / WEIGHTS) != expected:
        raise MmfuseError(f"{folder / WEIGHTS} was damaged or changed since it was written; train it again")
    written = description.get("arguments_sha256")
    if written is not None and digest_of_arguments(description["arguments"]) != written:
        raise MmfuseError(
            f"{folder / DESCRIPTION}: its classes or other arguments were changed since they were written, and its "
            "weights belong to those; restore it, or train it again"
        )


def digest_of_arguments(arguments: Mapping[str, Any]) -> str | None:
    """Digest of what a model was built with; `None` where that holds what is no number of JSON."""
    try:
        return sha256_of_json(arguments)
    except ValueError:
        return None


def writer_of(description: Mapping[str, Any]) -> str:
    """Which version wrote a checkpoint, as messages name it."""
    return f"mmfuse {description.get('mmfuse')!s:.40}"

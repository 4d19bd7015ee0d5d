"""Files with class prompts: YAML or JSON, a list of sentences for each class."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmfuse.bench.yaml_source import YamlSource
from mmfuse.errors import MmfuseError, one_line
from mmfuse.methods.sentences import Sentences, by_class, check_sentences
from mmfuse.records.cell import Cell
from mmfuse.utils.files import sha256_of_json

if TYPE_CHECKING:
    from mmfuse.data.catalogue.load import Catalogue


def read_prompts(path: Path) -> Sentences:
    """Sentences by class from a file in UTF-8, with or without a byte-order mark.

    Args:
        path: a file of JSON where it ends in `.json`, else of YAML.

    Raises:
        MmfuseError: it cannot be read, is in another encoding, holds a class twice or what is no sentence; one line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MmfuseError(f"prompts {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise MmfuseError(f"prompts {path} are not in UTF-8; save the file in that encoding") from None
    if path.suffix.lower() == ".json":
        content = _read_json(path, text)
    else:
        content = YamlSource(path, text).value
    try:
        return check_sentences(content)
    except MmfuseError as error:
        raise MmfuseError(f"{path}: {error}") from None


def _read_json(path: Path, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise MmfuseError(f"{path}: the key {key!r:.80} stands there twice; take one away")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise MmfuseError(f"{path}: nested too deeply; write it flatter") from None
    except ValueError as error:
        raise MmfuseError(f"{path}: not JSON: {one_line(error)}") from None


def given_prompts(given: Any, beside: Path) -> Sentences:
    """What a grid says under `prompts`: the sentences themselves, or a file with them.

    Args:
        given: a mapping, or the name of a file.
        beside: the folder that the file is looked for in first; then in the current one.

    Raises:
        MmfuseError: see `read_prompts`.
    """
    if not isinstance(given, str):
        return check_sentences(given)
    path = Path(given).expanduser()
    near = beside / path
    return read_prompts(near if near.exists() else path)


def prompts_of(cell: Cell, catalogue: Catalogue) -> Sentences | None:
    """The sentences of some of a cell's classes, by phrase and in label order; `None` where templates are used.

    Args:
        cell: the cell.
        catalogue: the classes: all of its data set, or the half that is trained or tested.

    Raises:
        MmfuseError: a class that the data set does not have, or one that is left out.
    """
    if cell.prompts is None:
        return None
    half = cell.setting == "base-to-novel"
    return by_class(cell.prompts, names=catalogue.class_names, phrases=catalogue.phrases, beyond=half)


def check_classes(cells: Iterable[tuple[Cell, Catalogue]]) -> None:
    """Refuse sentences of other classes than those of the whole data set that they are used with.

    Raises:
        MmfuseError: naming the class.
    """
    seen: set[tuple[int, str]] = set()
    for cell, catalogue in cells:
        key = (id(cell.prompts), catalogue.name)
        if cell.prompts is not None and key not in seen:
            seen.add(key)
            by_class(cell.prompts, names=catalogue.class_names, phrases=catalogue.phrases)


def check_lengths(cells: Iterable[Cell]) -> None:
    """Refuse sentences that a cell's text tower cannot read: before the first cell, not when its turn comes.

    Raises:
        MmfuseError: naming the sentence.
    """
    asked: dict[str, Cell] = {}
    for cell in cells:
        if cell.prompts is not None:
            key = sha256_of_json([cell.encoders.text, cell.pair.text, cell.prompts])
            asked.setdefault(key, cell)
    for cell in asked.values():
        _tokenize(cell)


def _tokenize(cell: Cell) -> None:
    """Make the prompts of a cell with its own text method, which may leave less room for words."""
    import torch

    from mmfuse.bench.tower_cache import text_tower
    from mmfuse.methods.base import attach
    from mmfuse.model.class_prompts import ClassPrompts

    assert cell.prompts is not None
    tower = text_tower(cell.encoders.text).fresh()
    method = attach(tower, cell.pair.text, generator=torch.Generator())
    ClassPrompts(list(cell.prompts), tower=tower, method=method, templates=["{}"], trim=True, sentences=cell.prompts)

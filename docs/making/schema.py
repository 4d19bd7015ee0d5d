"""Keys of records and grids, from their pydantic models; what each means stands in `meanings.yaml`."""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

MEANINGS = Path(__file__).with_name("meanings.yaml")
SETTINGS = ("Clip", "Dataset", "Encoders", "Fusion", "Train")  # explained on the page of grids
PLAIN = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}


def fields(where: str) -> str:
    """The keys of a model that is read: `records.record.Cost`."""
    rows = [f"| `{name}` | {type_of(field)} | {meaning} |" for name, field, meaning in _described(where)]
    return "\n".join(["| key | type | meaning |", "|:--|:--|:--|", *rows])


def keys(where: str) -> str:
    """The keys of a model that is written by hand, with their defaults: `records.training.Train`."""
    rows = [
        f"| `{name}` | {type_of(field)} | {_default(field)} | {meaning} |" for name, field, meaning in _described(where)
    ]
    return "\n".join(["| key | type | default | meaning |", "|:--|:--|:--|:--|", *rows])


def model_of(where: str) -> type[BaseModel]:
    """A pydantic model of the package by module and name."""
    module, _, name = where.rpartition(".")
    found: type[BaseModel] = getattr(importlib.import_module(f"mmfuse.{module}"), name)
    return found


def _described(where: str) -> list[tuple[str, FieldInfo, str]]:
    model = model_of(where)
    meanings = yaml.safe_load(MEANINGS.read_text(encoding="utf-8"))[model.__name__]
    # What a class says of a key in its own docstring, as "`key`: words.", need not be said again.
    said = re.findall(r"`(\w+)`: (.+?)(?:\.\n|\.$)", f"{inspect.getdoc(model)}\n", flags=re.DOTALL)
    keys = {field.alias or name: field for name, field in model.model_fields.items()}
    meanings = {key: " ".join(words.split()) for key, words in said if key in keys} | meanings
    unsaid = keys.keys() - meanings.keys()
    surplus = meanings.keys() - keys.keys()
    if unsaid or surplus:
        raise ValueError(
            f"{MEANINGS.name} and {where} differ; not explained: {sorted(unsaid)}, not there: {sorted(surplus)}"
        )
    return [(name, field, meanings[name]) for name, field in keys.items()]


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "must be given"
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return ""
    return f"`{list(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else value}`"


def type_of(field: FieldInfo) -> str:
    """A field's type in words."""
    return _type(field.annotation)


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        kinds = [_type(part) for part in arguments if part is not type(None)]
        return " or ".join([*dict.fromkeys(kinds), *(["null"] if type(None) in arguments else [])])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (tuple, list):
        return f"list of {_plural(arguments[0])}"
    if origin is dict:
        return (
            "keys"
            if arguments[1] is Any or typing.get_origin(arguments[1]) is dict
            else f"{_type(arguments[1])} by key"
        )
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        page = "grids.md" if annotation.__name__ in SETTINGS else ""
        return f"[{annotation.__name__}]({page}#{annotation.__name__.lower()})"
    return PLAIN.get(getattr(annotation, "__name__", ""), "any")


def _plural(annotation: Any) -> str:
    shown = _type(annotation)
    return {"text": "texts", "whole number": "numbers", "number": "numbers"}.get(shown, shown)

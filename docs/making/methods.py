"""The page of methods, from the catalogue, the docstrings of the classes, and counts on the meta device."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from making.costs import is_mergeable, operations, weights
from mmfuse.methods import MethodInfo, catalogue

FIXED = ("tower", "generator")
START = {True: "unchanged", False: "changed", None: "depends"}


def overview() -> str:
    """Every method in one table."""
    lines = [
        "| method | family | paper | trained, image | trained, text | training, image | test, image | merges |",
        "|:--|:--|:--|--:|--:|--:|--:|:-:|",
    ]
    for info in catalogue():
        trained = [_weights(info, kind) for kind in ("image", "text")]
        link = f"[`{info.name}`](#{info.name})"
        costs = _cost_columns(info)
        paper = "–" if info.family in ("baseline", "other") else info.paper.split(",")[0].split(" (")[0]
        paper = paper.replace(" ", "\N{NO-BREAK SPACE}")
        lines.append(f"| {link} | {info.family} | {' | '.join([paper, *trained, *costs])} |")
    return "\n".join(lines)


def _weights(info: MethodInfo, kind: str) -> str:
    if kind not in info.towers:
        return "–"
    return f"{weights(info.name, kind):,}"


def _cost_columns(info: MethodInfo) -> list[str]:
    """Training and test on the image tower, as multiples of a frozen forward pass, and whether the method merges."""
    if "image" not in info.towers:
        return ["–", "–", "yes" if is_mergeable(info.name, "text") else "no"]
    base, _ = operations("frozen")
    if info.name == "frozen":
        return ["once", "1.00", "–"]
    forward, training = operations(info.name)
    mergeable = is_mergeable(info.name, "image")
    return [f"{training / base:.2f}", f"{1.0 if mergeable else forward / base:.2f}", "yes" if mergeable else "no"]


def detail(family: str) -> str:
    """The methods of a family, one section each.

    Raises:
        ValueError: the catalogue has no such family.
    """
    members = [info for info in catalogue() if info.family == family]
    if not members:
        raise ValueError(f"no method is of the family {family!r}")
    return "\n\n".join(_section(info) for info in members)


def _section(info: MethodInfo) -> str:
    trained = " · ".join(f"{kind} {_weights(info, kind)}" for kind in info.towers)
    trained += " (HRA with r = 8)" if info.name == "peft" else ""
    facts = [
        f"Trains: {info.summary}.",
        f"Source: {info.paper}." if info.paper and info.family != "other" else "",
        f"Weights: {trained}. Output before training: {START[info.starts_as_noop]}.",
    ]
    parts = [f"### `{info.name}` {{ #{info.name} }}", *[fact for fact in facts if fact]]
    if info.defaults:
        parts.append(_arguments(info))
    return "\n\n".join(parts)


def meanings_for(info: MethodInfo) -> dict[str, str]:
    """What the arguments of a method mean; of an alias, what they mean to the methods that it stands for."""
    known = {other.name: other for other in catalogue()}
    others = re.findall(r"[\w-]+", info.summary) if info.summary.startswith("alias") else []
    meanings: dict[str, str] = {}
    for other in [known[name] for name in others if name in known]:
        meanings |= meanings_of(_class(other))
    return meanings | meanings_of(_class(info))


def _arguments(info: MethodInfo) -> str:
    meanings = meanings_for(info)
    lines = ["| argument | default | meaning |", "|:--|:--|:--|"]
    for name, value in info.defaults.items():
        lines.append(f"| `{name}` | {_default(value)} | {meanings.get(name, '')} |")
    if info.takes_any:
        lines.append(f"| any other | | {meanings.get('arguments', '')} |")
    return "\n".join(lines)


def _default(value: Any) -> str:
    if value == "required":
        return "must be given"
    shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
    return "`null`" if value is None else f"`{shown}`"


def _class(info: MethodInfo) -> Any:
    if not isinstance(info.implementation, str):
        return info.implementation
    module, name = info.implementation.split(":")
    return getattr(importlib.import_module(module), name)


def meanings_of(implementation: Any) -> dict[str, str]:
    """What a method's docstring says of its arguments; `Args: as X` refers to another one of its module."""
    text = inspect.getdoc(implementation) or ""
    module = inspect.getmodule(implementation)
    meanings: dict[str, str] = {}
    for name in re.findall(r"Args: [Aa]s (?:in )?`(\w+)`", text):
        meanings |= meanings_of(getattr(module, name))
    _, found, after = text.partition("Args:\n")
    if found:
        block = re.split(r"\n\S", after, maxsplit=1)[0]
        for entry in re.split(r"\n(?=    \S)", f"\n{block}")[1:]:
            names, _, meaning = entry.strip().partition(":")
            meanings |= {name.strip(): _sentence(meaning) for name in names.split(",")}
    return {name: meaning for name, meaning in meanings.items() if name not in FIXED}


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".").replace("|", "\\|")

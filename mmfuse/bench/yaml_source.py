"""YAML that remembers its lines, so that a fault can name the file, the line and the key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mmfuse.errors import MmfuseError, one_line
from mmfuse.utils.yaml12 import SafeLoader12, parse_yaml

LARGEST = 100_000
"""Values in a file, aliases written out."""


class YamlSource:
    """A YAML file read safely, with the line of each key.

    Raises:
        MmfuseError: the file cannot be read, is not YAML, or holds a key twice.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        """Read the file, or the text in its place.

        Args:
            path: the file.
            text: its content, where it is not to be read; the path is then its name in messages.
        """
        self.path = path
        try:
            text = path.read_text(encoding="utf-8") if text is None else text
            self._root = yaml.compose(text, Loader=SafeLoader12)
            self._refuse_endless(self._root)
            self.value: Any = parse_yaml(text)
        except (OSError, UnicodeDecodeError) as error:
            raise MmfuseError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or one_line(error)
            what = "" if isinstance(error, yaml.constructor.ConstructorError) else "not YAML: "
            raise MmfuseError(f"{path}{line}: {what}{problem}") from None
        except RecursionError:
            raise MmfuseError(f"{path}: nested too deeply; write it flatter") from None
        self._refuse_doubles(self._root, set())

    def _refuse_endless(self, root: yaml.Node | None) -> None:
        """Refuse what a few aliases can blow up: each stands for a copy once a value is written out."""
        sizes: dict[int, int] = {}

        def size(node: yaml.Node | None) -> int:
            if not isinstance(node, yaml.CollectionNode):
                return 1
            if id(node) not in sizes:
                sizes[id(node)] = LARGEST + 1  # what holds itself never ends
                parts = (part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,)))
                sizes[id(node)] = min(1 + sum(map(size, parts)), LARGEST + 1)
            return sizes[id(node)]

        if size(root) > LARGEST:
            raise MmfuseError(
                f"{self.path}: written out, its aliases stand for more than {LARGEST:,} values; use fewer"
            )

    def _refuse_doubles(self, node: yaml.Node | None, seen: set[int]) -> None:
        if node is None or id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if key.value in keys:
                    raise MmfuseError(
                        f"{self.path}:{key.start_mark.line + 1}: the key {key.value!r} stands here twice; take one away"
                    )
                keys.add(str(key.value))
                self._refuse_doubles(value, seen)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self._refuse_doubles(value, seen)

    def line(self, place: Sequence[str | int]) -> int:
        """The line of a key given as the way to it; of the nearest thing around it where it is not in the file."""
        node, line = self._root, 1
        for step in place:
            found = _step(node, step)
            if found is None:
                continue  # a step of the model that the file does not have, such as a default
            line, node = found
        return line

    def error(self, place: Sequence[str | int], message: str) -> MmfuseError:
        """A fault at one place of the file."""
        return MmfuseError(f"{self.path}:{self.line(place)}: {_written(place)}{message}")

    def first_error(self, fault: ValidationError, *, within: Sequence[str | int] = ()) -> MmfuseError:
        """The first fault that pydantic found, at its line. `within`: the place of the value that it looked at."""
        details = fault.errors()[0]
        # Pydantic adds the name of the chosen kind to the way, where a value may be of several; those are in brackets.
        place = [*within, *(step for step in details["loc"] if not str(step).startswith("("))]
        context = details.get("ctx", {})
        if details["type"] == "unknown_key":
            place.append(context["key"])
            return self.error(place, details["msg"])
        message = details["msg"].removeprefix("Value error, ")
        if details["type"] == "missing":
            message = "this key is needed"
        elif "input" in details and not details["type"].startswith("value_error"):
            message = f"{message[:1].lower()}{message[1:]}; got {details['input']!r:.200}"
        return self.error(place, message)


def _step(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and 0 <= step < len(node.value):
        value = node.value[step]
        return value.start_mark.line + 1, value
    return None


def _written(place: Sequence[str | int]) -> str:
    """A place as users read it: `pairs[1].image.rank: `."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
    return f"{text}: " if text else ""

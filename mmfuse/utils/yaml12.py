"""YAML as its version 1.2 reads it (the core schema), for what users write by hand.

PyYAML reads version 1.1, in which `yes`, `no`, `on` and `off` are truth values, `010` is eight, `1:30` is ninety and
`2024-01-01` a date: traps for whoever lists the names of classes. Here they are the texts, or the decimal number, that
they look like.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_DIGITS = 100
"""A number with more is a slip of the pen; Python refuses to read or show one of some thousands."""


class SafeLoader12(yaml.SafeLoader):
    """`yaml.SafeLoader` with the types of the core schema, and merge keys (`<<`)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML has it

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """A decimal number, or one in base 8 or 16 as `0o17` and `0xF`."""
        self._refuse_endless(node)
        text = str(node.value)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """A decimal fraction, with or without an exponent; `.inf` and `.nan` are for others to refuse."""
        self._refuse_endless(node)
        return float(re.sub(r"\.(?=(inf|nan)$)", "", str(node.value).lower()))

    def _refuse_endless(self, node: yaml.ScalarNode) -> None:
        if len(node.value) > MOST_DIGITS:
            problem = f"a number of {len(node.value):,} digits is beyond all bounds"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_TYPES = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
for _name, _pattern, _first in _TYPES:
    SafeLoader12.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), list(_first))
SafeLoader12.add_constructor("tag:yaml.org,2002:int", SafeLoader12.construct_whole_number)
SafeLoader12.add_constructor("tag:yaml.org,2002:float", SafeLoader12.construct_number)


def parse_yaml(text: str) -> Any:
    """Read a YAML document safely.

    >>> parse_yaml("classes: [yes, no]\\nrate: 1e-3\\nnumber: 010")
    {'classes': ['yes', 'no'], 'rate': 0.001, 'number': 10}

    Raises:
        yaml.YAMLError: it is none, or holds a number of more than `MOST_DIGITS` digits.
    """
    return yaml.load(text, Loader=SafeLoader12)

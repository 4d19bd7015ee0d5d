"""Faults that a user can mend: one clear line each, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MmfuseError(Exception):
    """A request that cannot be carried out. Its text is one line that says what is wrong and what to do."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> MmfuseError:
    """The error for a name that is not among `choices`, naming the nearest right one.

    Args:
        kind: what the name stands for, in the user's words ("pair", "data set", "key of the grid").
        name: what was given.
        choices: the names that would have been right.

    >>> str(unknown("method", "dorra", ["dora", "lora"]))
    "unknown method 'dorra'; did you mean 'dora'? known: dora, lora"
    """
    known = sorted(set(choices))
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    return MmfuseError(f"unknown {kind} {str(name)!r}{hint} known: {', '.join(known)}")


def one_line(reason: object, *, most: int = 300) -> str:
    """What another library says, short and on one line."""
    text = " ".join(str(reason).split()) or repr(reason)
    return text if len(text) <= most else text[: most - 3] + "..."

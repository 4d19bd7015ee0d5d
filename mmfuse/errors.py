"""Faults that a user can mend: one clear line each, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping


class MmfuseError(Exception):
    """A request that cannot be carried out. Its text is one line that says what is wrong and what to do.

    >>> import mmfuse
    >>> try:
    ...     mmfuse.FewShotVideoDataModule("tinny")
    ... except mmfuse.MmfuseError as error:
    ...     print(str(error).partition(";")[0])
    unknown data set 'tinny'
    """


class MmfuseWarning(UserWarning):
    """A request that is carried out, though something about it may spoil its numbers. One line, like an error."""


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


def unknown_argument(what: str, owner: str, key: object, arguments: Mapping[str, Collection[str]]) -> MmfuseError:
    """The error for an argument that one of several things does not take, naming those that do.

    Args:
        what: what they are ("fusion", "method").
        owner: the one that was chosen.
        key: the argument that was given.
        arguments: by each of the things, the arguments that it takes.

    >>> str(unknown_argument("fusion", "linear", "width", {"linear": [], "joint": ["width"], "pool": ["width"]}))
    "unknown argument of fusion 'linear' 'width'; it takes none; 'width' belongs to joint, pool"
    """
    own = list(arguments[owner])
    text = str(unknown(f"argument of {what} {owner!r}", key, own))
    if not own:
        text = text.removesuffix("known: ") + "it takes none"
    others = sorted(name for name, taken in arguments.items() if key in taken)
    return MmfuseError(f"{text}; {str(key)!r} belongs to {', '.join(others)}" if others else text)


def one_line(reason: object, *, most: int = 300) -> str:
    """What another library says, short and on one line."""
    text = " ".join(str(reason).split()) or repr(reason)
    return text if len(text) <= most else text[: most - 3] + "..."

"""A data set with some of its classes only: the halves of the base-to-novel setting, and classes never trained on.

The names and the labels of a part are its own, from 0, in the order of the whole. Clips, groups and the name of the
data set stay, so that a draw of the part holds the clips which the same draw of the whole holds of these classes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:  # names of classes are compared where a grid is read, before pandas is loaded
    from mmfuse.data.catalogue.load import Catalogue

Half = Literal["base", "novel"]
HALVES: tuple[Half, ...] = get_args(Half)


def with_classes(catalogue: Catalogue, names: Collection[str]) -> Catalogue:
    """The clips of some classes.

    Args:
        catalogue: the whole data set.
        names: official names of the classes to keep.

    Raises:
        MmfuseError: fewer than two classes are left, or one of the names is no class of the data set.
    """
    card = catalogue.card
    if strangers := [name for name in names if name not in card.class_names]:
        raise MmfuseError(f"{card.title} has no class {strangers[0]!r}")
    kept = [label for label, name in enumerate(card.class_names) if name in names]
    if len(kept) < 2:
        raise MmfuseError(f"at least two classes are needed to tell apart; of {card.title} {len(kept)} would be left")
    renumbered = {label: number for number, label in enumerate(kept)}
    table = catalogue.table[catalogue.table["label"].isin(kept)].reset_index(drop=True)
    part = replace(
        card,
        class_names=tuple(card.class_names[label] for label in kept),
        phrases=tuple(card.phrases[label] for label in kept),
        dead_classes=tuple(name for name in card.dead_classes if name in names),
        subsets={},
    )
    return replace(catalogue, card=part, table=table.assign(label=table["label"].map(renumbered).astype("int64")))


def half_of(catalogue: Catalogue, half: Half) -> list[str]:
    """Official names of the classes of one half, in label order.

    The classes that have clips are put in the order of SHA-256 of (data set, class); the first half of them, and the
    one in the middle, are base classes. So the halves depend neither on the order of labels nor on split, K or draw.

    Args:
        catalogue: the whole data set.
        half: "base", whose classes are trained on, or "novel".
    """
    live = [name for name in catalogue.class_names if name not in catalogue.card.dead_classes]
    by_hash = sorted(live, key=lambda name: hashlib.sha256(f"{catalogue.name}\0{name}".encode()).hexdigest())
    base = set(by_hash[: (len(live) + 1) // 2])
    return [name for name in live if (name in base) == (half == "base")]


_STOP_WORDS = frozenset({"a", "an", "the", "of", "on", "in", "at", "to", "with", "and", "into", "up", "down", "off"})


def same_classes(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of classes of two data sets that may mean the same by their names.

    Compared are the stems of the words, whatever their order, case and spelling: "HorseRiding" and "ride_horse" are
    one class, as are "PullUps" and "pullup". A name whose words another one contains counts as well, since "golf" shows
    what "GolfSwing" does. One action under unlike names ("Archery", "shoot_bow") is not seen.

    Returns:
        For each of `ours` that has any, the one of `theirs` that is nearest.

    >>> same_classes(["HorseRiding", "PullUps", "GolfSwing", "Archery"], ["golf", "ride_horse", "pullup", "draw_sword"])
    [('HorseRiding', 'ride_horse'), ('PullUps', 'pullup'), ('GolfSwing', 'golf')]
    """
    others = [(name, _joined_words(name), _content(name)) for name in theirs]
    found = []
    for name in ours:
        joined, content = _joined_words(name), _content(name)
        alike = [
            (text != joined, words != content, other)
            for other, text, words in others
            if text == joined or content <= words or words <= content
        ]
        if alike:
            found.append((name, min(alike, key=lambda one: one[:2])[2]))
    return found


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W_a-zA-Z]+", name)]


def _joined_words(name: str) -> str:
    return _stem("".join(_words(name)))


def _content(name: str) -> frozenset[str]:
    """The stems of the words that carry meaning; of all words, where none does."""
    words = _words(name)
    return frozenset(_stem(word) for word in words if word not in _STOP_WORDS) or frozenset(words)


def _stem(word: str) -> str:
    """An English word without the endings of verbs and plurals, as far as classes of actions need it."""
    if word.endswith("ing") and len(word) > 5:
        word = word[:-3]
        if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
            word = word[:-1]
    elif word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word

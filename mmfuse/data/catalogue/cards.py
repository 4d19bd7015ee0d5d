"""What is known of a data set before any of its files is opened: classes, prompts, official counts, sources.

The cards are the files `data_splits/<name>.yaml`; a user's own data set gets a card that is made from its lists.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmfuse.errors import MmfuseError, unknown
from mmfuse.utils.resources import cards_folder
from mmfuse.utils.templates import DEFAULT_TEMPLATE
from mmfuse.utils.yaml12 import parse_yaml

USUAL_SIZE = 224


@dataclass(frozen=True)
class Source:
    """A file that its authors publish, and where."""

    file: str
    address: str
    holds: str = ""


@dataclass(frozen=True)
class DataCard:
    """The facts of one data set, and how its clips are looked at unless a run says otherwise."""

    name: str
    title: str
    class_names: tuple[str, ...]
    """Official names in official label order; none where only the official lists hold them."""
    phrases: tuple[str, ...]
    """The same classes in words that complete a template."""
    classes_in_lists: int = 0
    """How many classes there are, where the official lists alone hold their names."""
    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)
    splits: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """Official number of clips: split -> {"train": n, "test": n}; empty for a user's own clips."""
    size: int | None = None
    """Side of the square that a model sees; None: whatever the model was trained on."""
    short_side: int | None = None
    """Shorter side that clips are scaled to before they are cropped to the size (`USUAL_SIZE` where none is given); in
    proportion for other sizes. None: the size, so that squares stay whole."""
    frames: int = 8
    candidates: int | None = None
    """Training looks at one of this many evenly placed frames of each segment (an odd number); None: at any."""
    views: int | None = 8
    """Training goes round this many views of a clip (frames, crop, mirror); None: a new one every epoch."""
    generated: bool = False
    """Whether `mmfuse.data.tiny` makes the clips where they are first looked at, so that none can be missing."""
    flip: bool = True
    """Whether a mirrored clip still shows its class."""
    max_shots: int | None = None
    """Training clips of the smallest class that has any."""
    clips: int | None = None
    """Videos in the official archive."""
    subsets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Named sets of classes that are reported apart, by label."""
    dead_classes: tuple[str, ...] = ()
    """Classes without a single clip, which keep their label."""
    layout: str = ""
    unpack: str = ""
    """A command that unpacks its archives, where `mmfuse data get --unpack` does not."""
    annotations: str = ""
    sources: tuple[Source | str, ...] = ()
    licence: str = ""

    def scale_for(self, size: int) -> int:
        """The shorter side that clips are scaled to where a model sees squares of `size`."""
        return size if self.short_side is None else max(size, round(self.short_side * size / self.usual_size))

    @property
    def class_count(self) -> int:
        """C, the number of classes."""
        return len(self.class_names) or self.classes_in_lists

    @property
    def usual_size(self) -> int:
        """The size for a model that does not say what it was trained on."""
        return self.size or USUAL_SIZE


def card_names() -> list[str]:
    """The data sets that are known by name."""
    return sorted(path.stem for path in cards_folder().glob("*.yaml"))


@functools.cache
def load_card(name: str) -> DataCard:
    """Read the card of a data set.

    Raises:
        MmfuseError: there is no such card, or it does not say what a card must say.
    """
    path = cards_folder() / f"{name}.yaml"
    if name not in card_names():
        raise unknown("data set", name, card_names())
    return parse_card(parse_yaml(path.read_text(encoding="utf-8")), path)


def parse_card(content: Any, path: Path) -> DataCard:
    """Make a card of what its file says.

    Raises:
        MmfuseError: a key is unknown or missing.
    """
    if not isinstance(content, dict):
        raise MmfuseError(f"{path}: a card is a mapping of keys")
    known = {f.name for f in dataclasses.fields(DataCard)} - {"class_names", "phrases"} | {"classes"}
    for key in content:
        if key not in known:
            raise MmfuseError(f"{path}: {unknown('key', key, known)}")
    needed = {"name", "title"} if "classes_in_lists" in content else {"name", "title", "classes"}
    if missing := needed - set(content):
        raise MmfuseError(f"{path}: the key {sorted(missing)[0]!r} is missing")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    values["sources"] = tuple(Source(**s) if isinstance(s, dict) else s for s in values.get("sources", ()))
    values["subsets"] = {name: tuple(labels) for name, labels in values.get("subsets", {}).items()}
    if "classes_in_lists" in values:
        return DataCard(class_names=(), phrases=(), **values)
    classes = parse_classes(values.pop("classes"), where=str(path))
    return DataCard(class_names=tuple(classes), phrases=tuple(classes.values()), **values)


def parse_classes(given: Any, *, where: str) -> dict[str, str]:
    """Class name -> phrase, in label order.

    Args:
        given: names, or {name, phrase} each, or a mapping from name to phrase.
        where: what to name in an error.

    Raises:
        MmfuseError: anything else, or a name twice.
    """
    if isinstance(given, Mapping):
        given = [{"name": name, "phrase": phrase} for name, phrase in given.items()]
    if isinstance(given, str):
        raise MmfuseError(
            f"{where}: classes are listed one by one, such as ['{given}', ...] with quotes, not {given!r}"
        )
    classes: dict[str, str] = {}
    for entry in given or ():
        name, phrase = _class(entry, where)
        if name in classes:
            raise MmfuseError(f"{where}: the class {name!r} is listed twice")
        classes[name] = phrase
    if not classes:
        raise MmfuseError(f"{where}: no classes are listed")
    return classes


def _class(entry: Any, where: str) -> tuple[str, str]:
    """Name and phrase of one class as users write it."""
    whole = entry if isinstance(entry, Mapping) else {"name": entry}
    name, phrase = whole.get("name"), whole.get("phrase")
    # A number is a name; True is what YAML makes of an unquoted yes.
    words = [word for word in (name, phrase) if isinstance(word, str | int) and not isinstance(word, bool)]
    if set(whole) - {"name", "phrase"} or name in (None, "") or len(words) != 2 - (phrase is None):
        raise MmfuseError(
            f"{where}: a class is a name or {{name: ..., phrase: ...}}, not {entry!r}; in YAML, words such as yes, no, "
            "on, off and null stand in quotes"
        )
    return str(name), str(phrase or in_words(str(name)))


def in_words(name: str) -> str:
    """A class name as words.

    >>> in_words("ApplyEyeMakeup"), in_words("shoot_ball"), in_words("TV on")
    ('apply eye makeup', 'shoot ball', 'tv on')
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.sub(r"[\s_-]+", " ", spaced).strip().lower()

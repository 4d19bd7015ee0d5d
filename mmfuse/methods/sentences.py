"""Sentences that describe the classes, in the place of a template: what may be given, and to which class it belongs.

No torch here: grids are checked without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmfuse.errors import MmfuseError, unknown

Sentences = dict[str, tuple[str, ...]]
"""Class to sentences."""


def check_sentences(given: Any) -> Sentences:
    """Sentences by class, as plain texts.

    Args:
        given: a mapping of classes to lists of sentences; one sentence alone stands for a list of one.

    Raises:
        MmfuseError: no mapping, a class that is called by no text or whole number, a class without a sentence, or a
            sentence that is no text, empty, or none that could be written down.

    >>> check_sentences({"Grow": "a shape that grows", "Spin": ["it spins", "a turning shape"]})
    {'Grow': ('a shape that grows',), 'Spin': ('it spins', 'a turning shape')}
    """
    if not isinstance(given, Mapping) or not given:
        raise MmfuseError(
            f"prompts are classes with sentences, such as {{running: [a person runs]}}; got {given!r:.80}"
        )
    found: Sentences = {}
    for key, value in given.items():
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise MmfuseError(f"prompts: a class is called by a text; put {key!r:.80} in quotes")
        name = str(key)
        if name in found:
            raise MmfuseError(f"prompts: the class {name!r:.80} stands there twice; take one away")
        found[name] = _checked(name, [value] if isinstance(value, str) else value)
    return found


def _checked(name: str, sentences: Any) -> tuple[str, ...]:
    if not isinstance(sentences, Sequence):
        raise MmfuseError(f"prompts of {name!r:.80}: a list of sentences is meant; got {sentences!r:.80}")
    if not sentences:
        raise MmfuseError(f"prompts of {name!r:.80}: there is no sentence; write at least one")
    for number, sentence in enumerate(sentences, start=1):
        what = f"prompts of {name!r:.80}: sentence {number}"
        if not isinstance(sentence, str):
            raise MmfuseError(f"{what} is no text: {sentence!r:.80}; put it in quotes")
        if not sentence.strip():
            raise MmfuseError(f"{what} is empty; write it, or take it away")
        try:
            sentence.encode()
        except UnicodeEncodeError:
            raise MmfuseError(f"{what} holds half a character (a lone surrogate): {sentence!r:.80}") from None
    return tuple(str(sentence) for sentence in sentences)


def by_class(sentences: Sentences, *, names: Sequence[str], phrases: Sequence[str], beyond: bool = False) -> Sentences:
    """The sentences of each class, by its phrase and in label order.

    Args:
        sentences: by the name of a class or by its phrase.
        names: of the classes in the lists of the data set, such as "ApplyEyeMakeup".
        phrases: the same in words, such as "applying eye makeup".
        beyond: there may be sentences of more classes, which are left out: those of the other half of a data set.

    Raises:
        MmfuseError: a class that there is not, one that is left out or named twice, or two that are told alike.
    """
    known = {**dict(zip(phrases, phrases, strict=True)), **dict(zip(names, phrases, strict=True))}
    found: Sentences = {}
    for key, texts in sentences.items():
        if key not in known and beyond:
            continue
        if key not in known:
            raise unknown("class of prompts", key, names)
        if known[key] in found:
            raise MmfuseError(f"prompts: {key!r} names a class that is named by another word too; take one away")
        found[known[key]] = texts
    missing = [name for name, phrase in zip(names, phrases, strict=True) if phrase not in found]
    if missing:
        more = f" and for {len(missing) - 1} more" if len(missing) > 1 else ""
        raise MmfuseError(f"prompts: there is no sentence for the class {missing[0]!r}{more}; write one for each class")
    refuse_alike(found)
    return {phrase: found[phrase] for phrase in phrases}


def refuse_alike(sentences: Sentences) -> None:
    """Refuse two classes with the same sentences, which no model could tell apart.

    Raises:
        MmfuseError: naming both.
    """
    seen: dict[tuple[str, ...], str] = {}
    for name, texts in sentences.items():
        before = seen.setdefault(tuple(sorted(texts)), name)
        if before != name:
            raise MmfuseError(
                f"prompts: {before!r} and {name!r} have the same sentences; nothing could tell them apart"
            )


def of_model(sentences: Mapping[str, Sequence[str]] | None, names: Iterable[str]) -> Sentences | None:
    """Sentences that a model is given by the very names of its classes.

    Raises:
        MmfuseError: see `check_sentences` and `by_class`.
    """
    if sentences is None:
        return None
    known = list(names)
    return by_class(check_sentences(sentences), names=known, phrases=known)

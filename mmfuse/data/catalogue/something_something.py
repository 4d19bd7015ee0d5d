"""Reader of Something-Something V2's official lists, whose class names are templates that the lists bring along.

`labels.json` maps each template to its number, as text; `train.json` and `validation.json` are lists of
{"id": "78687", "label": "holding potato next to bottle", "template": "Holding [something] next to [something]",
"placeholders": […]}. Older copies put `something-something-v2-` before each name. What a clip shows is its template
without the brackets; the placeholders differ from clip to clip and are no part of the class.
"""

from __future__ import annotations

from pathlib import Path

from mmfuse.data.catalogue.cards import DataCard
from mmfuse.data.catalogue.official_lists import Row, find_folder, read_json
from mmfuse.errors import MmfuseError

PREFIX = "something-something-v2-"
PARTS = {"train": "train.json", "test": "validation.json"}
"""The official test list has no labels; the field tests on the validation list."""


def read_something_something(card: DataCard, split: int, places: list[Path]) -> list[Row]:
    """The rows of both parts; every clip is a group of its own, since the lists do not tell who filmed it.

    Raises:
        MmfuseError: a list is missing or is not Something-Something V2's.
    """
    folder, prefix = _folder(card, places)
    label_of = _labels(card, folder / f"{prefix}labels.json")
    rows = []
    for part, file in PARTS.items():
        path = folder / f"{prefix}{file}"
        for number, entry in enumerate(read_json(path, list), start=1):
            identifier, template = (entry.get("id"), entry.get("template")) if isinstance(entry, dict) else (None, None)
            name = without_brackets(template) if isinstance(template, str) else ""
            if not isinstance(identifier, str) or name not in label_of:
                raise MmfuseError(f"{path}: entry {number} is not a clip of {card.title}: {str(entry)[:120]}")
            place = f"20bn-something-something-v2/{identifier}.webm"
            rows.append(Row(identifier, label_of[name], name, identifier, part, place))
    return rows


def without_brackets(template: str) -> str:
    """A template as its class is called.

    >>> without_brackets("Holding [something] next to [something]")
    'Holding something next to something'
    """
    return template.replace("[", "").replace("]", "")


def _folder(card: DataCard, places: list[Path]) -> tuple[Path, str]:
    """The folder of the lists, and what stands before their names there."""
    try:
        return find_folder(card, places, "annotations", "labels.json"), ""
    except MmfuseError as missing:
        try:
            return find_folder(card, places, "annotations", f"{PREFIX}labels.json"), PREFIX
        except MmfuseError:
            raise missing from None


def _labels(card: DataCard, path: Path) -> dict[str, int]:
    """Class name -> label."""
    numbered = read_json(path, dict)
    try:
        labels = {without_brackets(template): int(number) for template, number in numbered.items()}
    except (TypeError, ValueError):
        labels = {}
    if sorted(labels.values()) != list(range(card.class_count)):
        raise MmfuseError(
            f"{path}: not the labels of {card.title}: {len(numbered)} entries, where {card.class_count} names numbered "
            "from 0 are expected; fetch the official lists again"
        )
    return labels

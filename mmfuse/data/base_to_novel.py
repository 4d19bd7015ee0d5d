"""The base-to-novel setting: trained on K clips of each base class, tested on base and on novel classes apart.

Which classes are base ones is decided here (see `mmfuse.data.class_subsets.half_of`), or by the lists of a published
protocol, which the user brings.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.class_subsets import HALVES, Half, half_of, with_classes
from mmfuse.data.few_shot import Shots
from mmfuse.data.protocols import BaseToNovel, ListFile, find_list, load_protocol
from mmfuse.data.published_lists import read_list
from mmfuse.errors import MmfuseError


def part_of(catalogue: Catalogue, classes: Half | Sequence[str] | None, *, protocol: str | None = None) -> Catalogue:
    """A data set with some of its classes.

    Args:
        catalogue: the whole data set.
        classes: official names, "base" or "novel"; `None` for all.
        protocol: whose halves are meant; by default ours.

    Raises:
        MmfuseError: as `with_classes`; the protocol has no halves of this data set, or its lists are not found, or are
            not of whole classes.
    """
    if classes is None:
        return catalogue
    if not isinstance(classes, str):
        return with_classes(catalogue, set(classes))
    half = next((half for half in HALVES if half == classes), None)
    if half is None:
        raise MmfuseError(f"classes are a list of names, 'base' or 'novel'; got {classes!r}")
    names = half_of(catalogue, half) if protocol is None else _published_half(catalogue, half, protocol)
    return with_classes(catalogue, set(names))


def base_clips(catalogue: Catalogue, part: Catalogue, *, shots: Shots, draw: int, protocol: str) -> pd.DataFrame:
    """The training clips of a published list, which draws from base classes.

    Args:
        catalogue: the whole data set.
        part: its base classes.
        shots: clips a class.
        draw: which of the lists.
        protocol: whose lists.

    Raises:
        MmfuseError: there is no such list, it is not found, or it is not K clips of each base class.
    """
    published = load_protocol(protocol)
    wanted = published.base_list(catalogue.name, shots=shots, draw=draw, split=catalogue.split)
    rows = read_list(part, find_list(wanted, catalogue.places, protocol=published), renumbered=True)
    counts = rows["class"].value_counts()
    if set(counts) != {shots} or len(counts) != len(part.class_names):
        raise MmfuseError(f"{wanted.name} is not {shots} clips of each of the {len(part.class_names)} base classes")
    return rows


def _published_half(catalogue: Catalogue, half: Half, name: str) -> list[str]:
    """The classes of a published test list, which holds all test clips of each."""
    protocol = load_protocol(name)
    lists: BaseToNovel = protocol.halves(catalogue.name, split=catalogue.split)
    wanted: ListFile = getattr(lists, half)
    path = find_list(wanted, catalogue.places, protocol=protocol)
    rows = read_list(catalogue, path, part="test", renumbered=True)
    names = set(rows["class"])
    test = catalogue.part("test")
    if set(test["clip"][test["class"].isin(names)]) != set(rows["clip"]):
        raise MmfuseError(f"{wanted.name} does not hold all test clips of its {len(names)} classes")
    return [label for label in catalogue.class_names if label in names]

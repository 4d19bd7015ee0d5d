"""Which training clips a K-shot run sees: certified, nested, group-aware draws, and others' published lists.

A draw is an order of the training clips of each class; K shots are its first K. The order comes from SHA-256 of (data
set, split, draw, clip) alone, so it does not depend on the order of files, on K or on any library. Clips of one source
are near-duplicates, so the order goes round the sources: first the foremost clip of every source, then the second ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mmfuse.data.catalogue.load import Catalogue
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import parse_json, sha256_of_json
from mmfuse.utils.resources import cards_folder

Shots = int | Literal["all"]
CERTIFIED_SHOTS: tuple[Shots, ...] = (1, 2, 4, 5, 8, 16, 32, "all")
CERTIFIED_DRAWS = 10
ORDERS_KEPT = 32
"""Draws whose order of clips a catalogue keeps."""


def draw_clips(catalogue: Catalogue, *, shots: Shots, draw: int) -> pd.DataFrame:
    """The training clips of one draw.

    Args:
        shots: clips a class, or "all" of them.
        draw: which draw, from 0. At "all" every draw is the same clips.

    Returns:
        Rows of the catalogue's training part, by label and then in the draw's order, counted from 0.

    Raises:
        MmfuseError: `shots` is not a number of clips, or a class has fewer; the class is named.
    """
    shots, draw = plain_number(shots), plain_number(draw)
    if shots != "all" and (not isinstance(shots, int) or isinstance(shots, bool) or shots < 1):
        raise MmfuseError(f"shots is a whole number from 1, or 'all'; not {shots!r}")
    if not isinstance(draw, int) or isinstance(draw, bool) or draw < 0:
        raise MmfuseError(f"draw is a whole number from 0; not {draw!r}")
    return _take_shots(catalogue, _clip_order(catalogue, draw), shots)


def plain_number(value: Any) -> Any:
    """Whole numbers of numpy and pandas as Python's, which can be hashed, logged and written; others as they are."""
    return value if isinstance(value, bool) or not isinstance(value, Integral) else int(value)


def _take_shots(catalogue: Catalogue, order: dict[int, list[int]], shots: Shots) -> pd.DataFrame:
    chosen: list[int] = []
    for label, name in enumerate(catalogue.class_names):
        rows = order.get(label, [])
        if shots != "all" and len(rows) < shots and name not in catalogue.card.dead_classes:
            raise MmfuseError(_too_few(catalogue, order, shots))
        chosen += rows if shots == "all" else rows[:shots]
    return catalogue.part("train").iloc[chosen].reset_index(drop=True)


def _clip_order(catalogue: Catalogue, draw: int) -> dict[int, list[int]]:
    """label -> row numbers in the training part, in the draw's order."""
    if draw not in catalogue.orders:
        if len(catalogue.orders) >= ORDERS_KEPT:
            catalogue.orders.clear()
        catalogue.orders[draw] = _ordered(catalogue, draw)
    return catalogue.orders[draw]


def _ordered(catalogue: Catalogue, draw: int) -> dict[int, list[int]]:
    train = catalogue.part("train")
    clips, labels, groups = train["clip"].tolist(), train["label"].tolist(), train["group"].tolist()
    keys = [_key(catalogue, draw, clip) for clip in clips]
    before: Counter[tuple[int, str]] = Counter()
    places: list[tuple[int, str, int]] = []
    for row in sorted(range(len(keys)), key=keys.__getitem__):
        source = (labels[row], groups[row])
        places.append((before[source], keys[row], row))
        before[source] += 1
    order: dict[int, list[int]] = defaultdict(list)
    for _, _, row in sorted(places):
        order[labels[row]].append(row)
    return order


def _key(catalogue: Catalogue, draw: int, clip: str) -> str:
    return hashlib.sha256(f"{catalogue.name}\0{catalogue.split}\0{draw}\0{clip}".encode()).hexdigest()


def _too_few(catalogue: Catalogue, order: dict[int, list[int]], shots: int) -> str:
    live = [name for name in catalogue.class_names if name not in catalogue.card.dead_classes]
    counts = {name: len(order.get(catalogue.class_names.index(name), [])) for name in live}
    short = min(counts, key=lambda name: counts[name])
    others = sum(count < shots for count in counts.values()) - 1
    more = f" ({others} more classes have too few)" if others else ""
    return (
        f"{catalogue.card.title} has no {shots} training clips of every class: {short!r} has {counts[short]}{more}; "
        f"shots can be at most {counts[short]}, or 'all'"
    )


def fingerprint(rows: pd.DataFrame) -> str:
    """Digest of which clips with which labels, whatever their order and place on the disk."""
    return sha256_of_json(sorted([clip, int(label)] for clip, label in zip(rows["clip"], rows["label"], strict=True)))


def hold_out(catalogue: Catalogue, rows: pd.DataFrame, *, share: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut a validation part from training rows: (the rest, the validation part).

    Whole source groups are moved, the last ones of the draw first, so that near-duplicates never stand on both sides.

    Args:
        rows: what `draw_clips` returned.
        share: of each class's clips, 0 to below 1; the part is the largest that does not exceed it, but at least
            one group.

    Raises:
        MmfuseError: a class has one source group only, and nothing would be left to learn from.
    """
    if not share:
        return rows, rows.iloc[:0].reset_index(drop=True)
    held: list[int] = []
    for label, members in rows.groupby("label", sort=True):
        groups = members.groupby("group", sort=False).indices  # in the draw's order
        if len(groups) < 2:
            raise MmfuseError(
                f"no validation part can be cut from {catalogue.class_names[int(str(label))]!r}: its {len(members)} "
                "training clips are of one source; take more shots or leave validation out"
            )
        taken: list[int] = []
        for places in reversed(list(groups.values())[1:]):
            if not taken or len(taken) + len(places) <= share * len(members):
                taken += members.index[places].tolist()
        held += taken
    kept = rows.drop(index=held)
    return kept.reset_index(drop=True), rows.loc[sorted(held)].reset_index(drop=True)


# --- certified fingerprints --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """The fingerprints that every machine must find for one data set and split."""

    test: str
    draws: dict[str, list[str]]
    """shots -> fingerprint of draws 0, 1, …"""


@cache
def certificates(name: str) -> dict[int, Certificate]:
    """The certified splits of a data set; empty where there are none, as for clips of one's own."""
    path = fingerprints_file(name)
    if not path.is_file():
        return {}
    content = parse_json(path.read_text(encoding="utf-8"))
    return {int(split): Certificate(**entry) for split, entry in content.items()}


def fingerprints_file(name: str) -> Path:
    """Where the certified fingerprints of a data set are kept."""
    return cards_folder() / "fingerprints" / f"{name}.json"


def certify(catalogue: Catalogue, rows: pd.DataFrame, *, shots: Shots, draw: int) -> bool:
    """Compare a draw and the test list with the certified ones.

    Returns:
        True where both are certified; False where no fingerprint is on record for this split, K or draw.

    Raises:
        MmfuseError: another fingerprint than the certified one.
    """
    if not certify_test_list(catalogue):
        return False
    expected = certificates(catalogue.name)[catalogue.split].draws.get(str(shots), [])
    known = expected[draw] if draw < len(expected) else None
    if known is not None and fingerprint(rows) != known:
        where = f"{catalogue.card.title} split {catalogue.split}"
        raise MmfuseError(_not_certified(f"draw {draw} at {shots} shots of {where}", catalogue))
    return known is not None


def certify_test_list(catalogue: Catalogue) -> bool:
    """Compare the test list with the certified one.

    Returns:
        Whether it is certified; False where no fingerprint is on record for this split.

    Raises:
        MmfuseError: another fingerprint than the certified one.
    """
    certificate = certificates(catalogue.name).get(catalogue.split)
    if certificate is None:
        return False
    if fingerprint(catalogue.part("test")) != certificate.test:
        raise MmfuseError(_not_certified(f"the test list of {catalogue.card.title} split {catalogue.split}", catalogue))
    return True


def _not_certified(what: str, catalogue: Catalogue) -> str:
    return (
        f"{what} is not the certified one: the annotation files are of another version, or clips were added, removed "
        f"or relabelled; fetch the official lists again (mmfuse data get {catalogue.name})"
    )


def certificate_of(catalogue: Catalogue) -> dict[str, Any]:
    """What `data_splits/fingerprints/<name>.json` holds for one split."""
    most = catalogue.card.max_shots
    certified = [shots for shots in CERTIFIED_SHOTS if shots == "all" or most is None or shots <= most]
    draws: dict[str, list[str]] = {str(shots): [] for shots in certified}
    for number in range(CERTIFIED_DRAWS):
        order = _clip_order(catalogue, number)
        for shots in certified:
            draws[str(shots)].append(fingerprint(_take_shots(catalogue, order, shots)))
    return {"test": fingerprint(catalogue.part("test")), "draws": draws}

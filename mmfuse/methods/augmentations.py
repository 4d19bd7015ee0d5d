"""Which augmentations there are, with the bounds of their settings. No torch here: grids are checked without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfuse.errors import MmfuseError, unknown

STRENGTHS: dict[str, float] = {"mixup": 100.0, "cutmix": 100.0, "color_jitter": 1.0, "random_erasing": 1.0}
"""Augmentations that take one number, with the largest; 0 is off."""

RAND_AUGMENT: dict[str, float] = {"operations": 2, "magnitude": 9}
"""Settings of `rand_augment`, with their defaults."""
MOST_OPERATIONS, LARGEST_MAGNITUDE = 14, 30


def check_augmentation(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of the augmentations that are on, with all their settings.

    Args:
        given: numbers by the names of `STRENGTHS`, and settings of `rand_augment`.

    Raises:
        MmfuseError: an unknown name, or a number out of its bounds.

    >>> check_augmentation({"mixup": 0.8, "cutmix": 0, "rand_augment": {"magnitude": 5}})
    {'mixup': 0.8, 'rand_augment': {'operations': 2, 'magnitude': 5}}
    """
    if given is not None and not isinstance(given, Mapping):
        raise MmfuseError(f"augmentation is keys such as {{'mixup': 0.8}}; got {given!r:.80}")
    found: dict[str, Any] = {}
    for name, value in (given or {}).items():
        if name == "rand_augment":
            if value is not None:
                found[name] = check_rand_augment(value)
        elif name not in STRENGTHS:
            raise unknown("augmentation", name, [*STRENGTHS, "rand_augment"])
        elif not _number(value) or not 0 <= value <= STRENGTHS[name]:
            raise MmfuseError(f"{name} is a number from 0 (off) to {STRENGTHS[name]:g}; got {value!r:.80}")
        elif value:
            found[name] = float(value)
    return found


def check_rand_augment(given: Any) -> dict[str, Any]:
    """The settings of `rand_augment`, those that are not said filled in.

    Raises:
        MmfuseError: no mapping, an unknown key, or a number out of its bounds.
    """
    if not isinstance(given, Mapping):
        raise MmfuseError(f"rand_augment is keys, such as {{operations: 2, magnitude: 9}}; got {given!r:.80}")
    for key in given:
        if key not in RAND_AUGMENT:
            raise unknown("key of rand_augment", key, RAND_AUGMENT)
    found = {**RAND_AUGMENT, **given}
    count, magnitude = found["operations"], found["magnitude"]
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_OPERATIONS:
        raise MmfuseError(f"operations is a whole number from 1 to {MOST_OPERATIONS}; got {count!r:.80}")
    if not _number(magnitude) or not 0 <= magnitude <= LARGEST_MAGNITUDE:
        raise MmfuseError(f"magnitude is a number from 0 to {LARGEST_MAGNITUDE}; got {magnitude!r:.80}")
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

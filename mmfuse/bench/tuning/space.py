"""What a search may change of a cell: learning rates, epochs, and what the methods of its pair declare.

Nothing is listed here by hand: the arguments of a method and how far its rate may go stand in the catalogue
(`mmfuse.methods.registry`), the rates to start from in the recipes. No torch and no Optuna here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mmfuse.methods.recipes import FUSION, FUSION_RATES
from mmfuse.methods.registry import IMAGE, TEXT, lookup
from mmfuse.records.cell import Cell, Pair
from mmfuse.records.training import Train

METHOD_LR, FUSION_LR, EPOCHS = "train.method_lr", "train.fusion_lr", "train.epochs"
EPOCH_FACTORS = (0.5, 1, 2)
"""Passes over the training clips that are tried, by those that the cell asks for."""
DIGITS = 4
"""Significant digits of a learning rate, so that what is written is what was tried."""


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched.

    Args:
        key: where it stands, such as `train.method_lr` or `image.rank`.
        default: what the cell has without a search; of a rate that differs by tower, the geometric mean.
        choices: the values to choose from; `None` for a rate.
        low, high: bounds of a rate, which is searched on a logarithmic scale.
    """

    key: str
    default: Any
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0

    def document(self) -> dict[str, Any]:
        """The dimension as plain values, for files that tell what was searched."""
        if self.choices is None:
            return {"default": self.default, "from": self.low, "to": self.high}
        return {"default": self.default, "choices": list(self.choices)}


@dataclass(frozen=True)
class Space:
    """All that is searched for one cell.

    Args:
        cell: with the settings that nothing was searched for.
        dimensions: what may change.
    """

    cell: Cell
    dimensions: tuple[Dimension, ...]

    @property
    def defaults(self) -> dict[str, Any]:
        """The cell's own settings, as a point of the space."""
        return {one.key: one.default for one in self.dimensions}

    def document(self) -> dict[str, Any]:
        """The space as plain values."""
        return {one.key: one.document() for one in self.dimensions}

    def settings(self, point: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """A point as settings by group (`train`, `image`, `text`); without what is left as it was."""
        found: dict[str, dict[str, Any]] = {}
        for one in self.dimensions:
            if one.key in point and point[one.key] != one.default:
                group, _, name = one.key.partition(".")
                found.setdefault(group, {})[name] = point[one.key]
        return found


def space_of(cell: Cell, *, fixed: Collection[str] = ()) -> Space:
    """What may be searched for a cell.

    What the pair itself says of its methods' arguments stays: a pair that asks for rank 32 is about rank 32.

    Args:
        cell: the cell, without searched settings.
        fixed: keys that stay as they are, such as `train.epochs`.
    """
    found = [*_rates(cell), *_epochs(cell), *_arguments(cell)]
    return Space(cell, tuple(one for one in found if one.key not in fixed))


def _rates(cell: Cell) -> list[Dimension]:
    """The rates of the methods, which a cell has as one, and of the fusion."""
    recipes = cell.recipes
    bounds = {}
    for tower in (IMAGE, TEXT):
        if tower in recipes:
            low, high = lookup(getattr(cell.pair, tower)["method"], tower).rates
            bounds[tower] = (recipes[tower].lr, recipes[tower].lr * low, recipes[tower].lr * high)
    found = []
    if bounds:
        middle = math.prod(rate for rate, _, _ in bounds.values()) ** (1 / len(bounds))
        lowest, highest = min(low for _, low, _ in bounds.values()), max(high for _, _, high in bounds.values())
        found.append(_rate(METHOD_LR, middle, lowest, highest))
    lr = recipes[FUSION].lr
    return [*found, _rate(FUSION_LR, lr, lr * FUSION_RATES[0], lr * FUSION_RATES[1])]


def _rate(key: str, default: float, low: float, high: float) -> Dimension:
    return Dimension(key, rounded(default), low=rounded(low), high=rounded(high))


def rounded(rate: float) -> float:
    """A learning rate as it is tried and written.

    >>> rounded(0.00123456)
    0.001235
    """
    return float(f"{rate:.{DIGITS}g}")


def _epochs(cell: Cell) -> list[Dimension]:
    epochs = cell.train.epochs
    choices = sorted({max(1, round(factor * epochs)) for factor in EPOCH_FACTORS})
    return [Dimension(EPOCHS, epochs, tuple(choices))] if len(choices) > 1 else []


def _arguments(cell: Cell) -> list[Dimension]:
    """What the methods of the pair declare, but for what the pair says itself."""
    found = []
    for tower in (IMAGE, TEXT):
        said = getattr(cell.pair, tower)
        info = lookup(said["method"], tower)
        for name, values in info.searched.items():
            if name not in said:
                default = info.defaults[name]
                choices = values if default in values else (default, *values)
                found.append(Dimension(f"{tower}.{name}", default, choices))
    return found


def with_settings(cell: Cell, settings: Mapping[str, Mapping[str, Any]]) -> Cell:
    """A cell with searched settings, `{"train": {"method_lr": 3e-4}, "image": {"rank": 16}}`.

    Raises:
        pydantic.ValidationError: a setting that the cell or a method does not take.
    """
    train = {**cell.train.model_dump(exclude_unset=True), **settings.get("train", {})}
    methods = {tower: {**getattr(cell.pair, tower), **settings.get(tower, {})} for tower in (IMAGE, TEXT)}
    update = {"train": Train.model_validate(train), "pair": Pair.model_validate({"name": cell.pair.name, **methods})}
    # The hashes of a cell are kept with it once computed, and a plain copy would take them along.
    return type(cell).model_construct(**{**{name: getattr(cell, name) for name in type(cell).model_fields}, **update})

"""How methods are trained where nothing else is said: one recipe a family, and one for every fusion. No torch here.

The numbers were chosen by one small search with the same budget for every family, on clips held out of the training
lists of two generated sets, with the embedded towers (`benchmarks/recipes/` holds the search and its table). A recipe
is part of what a cell asks for: change a number here, and records made with the old one show as stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmfuse.errors import MmfuseError, unknown
from mmfuse.methods.registry import IMAGE, RATES, TEXT, MethodSpec, parse_method

FUSION = "fusion"
OPTIMIZERS = ("adamw", "sgd")
MOMENTUM = 0.9
"""Of SGD, where nothing else is said."""


@dataclass(frozen=True)
class Recipe:
    """How one part of a model is trained.

    Args:
        lr: highest learning rate.
        weight_decay: on matrices only; AdamW's, or for SGD that which is added to the gradient.
        warmup: share of the steps in which the rate rises to `lr`, before it falls as a cosine.
    """

    lr: float
    weight_decay: float
    warmup: float


# The search found no gain in weight decay; these two are shared by all.
_STEADY = {"weight_decay": 0.0, "warmup": 0.1}
FUSION_RECIPE = Recipe(lr=4e-3, **_STEADY)

FUSION_RATES = RATES
"""Factors of the fusion's learning rate that a search tries."""

RECIPES: dict[str, Recipe] = {
    "baseline": Recipe(lr=1e-4, **_STEADY),  # of the baselines only `full` trains anything
    "selective": Recipe(lr=1e-2, **_STEADY),
    "scaling": Recipe(lr=1e-2, **_STEADY),
    "prompt": Recipe(lr=1e-2, **_STEADY),
    "adapter": Recipe(lr=3e-3, **_STEADY),
    "low-rank": Recipe(lr=1e-3, **_STEADY),
    "orthogonal": Recipe(lr=3e-3, **_STEADY),
    "other": Recipe(lr=1e-3, **_STEADY),  # most types of peft are low-rank methods
}
"""By the family of a method in the catalogue."""


def recipe_of_family(family: str) -> Recipe:
    """The recipe of a family; one that is unknown here, of another package, takes that of `other`."""
    return RECIPES.get(family, RECIPES["other"])


def recipe_of(method: str | dict[str, Any] | MethodSpec, tower: str) -> Recipe | None:
    """The recipe of a method's family; `None` for `frozen`, which trains nothing.

    Args:
        method: by name, or with arguments as `{"method": "lora", "rank": 32}`.
        tower: "image" or "text".

    Raises:
        MmfuseError: no such method on this tower.
    """
    info = parse_method(method, tower).info
    return None if info.name == "frozen" else recipe_of_family(info.family)


def recipes_of(
    image: str | dict[str, Any] | MethodSpec,
    text: str | dict[str, Any] | MethodSpec,
    *,
    method_lr: float | None = None,
    fusion_lr: float | None = None,
    weight_decay: float | None = None,
    warmup: float | None = None,
) -> Mapping[str, Recipe]:
    """How each part of a model is trained: "image" and "text", where a method trains there, and "fusion".

    Args:
        image: the method on the image tower.
        text: the method on the text tower.
        method_lr: takes the place of both methods' learning rates.
        fusion_lr: takes the place of the fusion's.
        weight_decay: takes the place of the weight decay everywhere.
        warmup: takes the place of the warm-up everywhere.

    Raises:
        MmfuseError: no such method.

    >>> recipes_of("frozen", "coop", method_lr=0.1)["text"].lr
    0.1
    """
    found = {IMAGE: recipe_of(image, IMAGE), TEXT: recipe_of(text, TEXT), FUSION: FUSION_RECIPE}
    shared = {"weight_decay": weight_decay, "warmup": warmup}
    recipes = {}
    for part, recipe in found.items():
        if recipe is not None:
            said = {"lr": fusion_lr if part == FUSION else method_lr, **shared}
            recipes[part] = replace(recipe, **{key: value for key, value in said.items() if value is not None})
    return recipes


def momentum_of(optimizer: str, momentum: float | None) -> float | None:
    """The momentum that an optimiser has; `None` for AdamW, whose first beta is fixed.

    Raises:
        MmfuseError: no such optimiser, or a momentum that it has no use for.

    >>> momentum_of("sgd", None)
    0.9
    """
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    if optimizer == "sgd":
        momentum = MOMENTUM if momentum is None else momentum
        if isinstance(momentum, bool) or not isinstance(momentum, int | float) or not 0 <= momentum < 1:
            raise MmfuseError(f"momentum is a number from 0 to below 1; got {momentum!r:.80}")
    elif momentum is not None:
        raise MmfuseError("momentum is SGD's: say optimizer: sgd beside it, or leave it out")
    return momentum


def with_rate(recipes: Mapping[str, Recipe], lr: float, parts: Iterable[str]) -> Mapping[str, Recipe]:
    """Recipes with another learning rate for some parts.

    >>> with_rate(recipes_of("frozen", "coop"), 0.1, ["text"])["text"].lr
    0.1
    """
    return {**recipes, **{part: replace(recipes[part], lr=lr) for part in parts}}

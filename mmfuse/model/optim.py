"""The optimiser and its schedule: AdamW or SGD in named groups, warm-up and cosine.

Each part of a model ("image" and "text" method, "fusion") is trained by its own recipe (`mmfuse.methods.recipes`), in
one group of weights that decay and one of those that do not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler, Timer
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmfuse.errors import MmfuseError
from mmfuse.methods.recipes import Recipe

NOT_DECAYED = (
    "prompts",
    "context",
    "time",
    "modality",
    "pooling",
    "video",
    "position_embedding",
    "position_embeddings",
)
"""Names of matrices that are sets of vectors, and do not decay."""

TICKS = 1000
"""Into which a training of limited time is divided."""


@dataclass(frozen=True)
class Span:
    """How long a training is.

    Args:
        total: how many units it has.
        unit: in which it is counted: "step" (of the optimiser), "epoch", or "tick" (of the time that it may take).
        elapsed: units that have passed; by default as often as the schedule was stepped.
    """

    total: int
    unit: Literal["step", "epoch", "tick"] = "step"
    elapsed: Callable[[], float] | None = None


def parameter_groups(
    trained: Mapping[str, Mapping[str, nn.Parameter]], recipes: Mapping[str, Recipe]
) -> list[dict[str, Any]]:
    """The optimiser's groups, each with a `name` such as "image" or "fusion/no_decay", and its `part`.

    Args:
        trained: weights by part and by name.
        recipes: how each part is trained.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for part, weights in trained.items():
        for name, parameter in weights.items():
            groups.setdefault((part, _decays(name, parameter)), []).append(parameter)
    return [
        {
            "params": parameters,
            "name": part if decays else f"{part}/no_decay",
            "part": part,
            "lr": recipes[part].lr,
            "weight_decay": recipes[part].weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]


def _decays(name: str, parameter: nn.Parameter) -> bool:
    # Factors that a library keeps as a matrix of one row or column are vectors all the same; decay would pull factors
    # that start at one towards zero.
    return parameter.squeeze().ndim >= 2 and not any(word in NOT_DECAYED for word in name.split("."))


def build_optimizer(
    trained: Mapping[str, Mapping[str, nn.Parameter]],
    recipes: Mapping[str, Recipe],
    *,
    fused: bool,
    momentum: float | None = None,
) -> Optimizer:
    """The optimiser over the groups of `parameter_groups`.

    Args:
        trained: weights by part and by name.
        recipes: how each part is trained.
        fused: update all weights in one kernel.
        momentum: of SGD; `None` for AdamW.

    Raises:
        MmfuseError: there is nothing to train.
    """
    groups = parameter_groups(trained, recipes)
    if not groups:
        raise MmfuseError("nothing of this model is trained: the towers are frozen, the fusion has no weights; test it")
    if momentum is not None:
        return SGD(groups, momentum=momentum, fused=fused)
    return AdamW(groups, betas=(0.9, 0.999), fused=fused)


def build_schedule(optimizer: Optimizer, recipes: Mapping[str, Recipe], *, span: Span | None) -> LambdaLR:
    """Warm-up and cosine for each group by the recipe of its part, over the whole training; constant without a span."""

    def factor(recipe: Recipe, stepped: int) -> float:
        if span is None:
            return 1.0
        return rate_factor(stepped if span.elapsed is None else span.elapsed(), span.total, warmup=recipe.warmup)

    return LambdaLR(optimizer, [partial(factor, recipes[group["part"]]) for group in optimizer.param_groups])


def rate_factor(done: float, total: int, *, warmup: float) -> float:
    """What a learning rate is multiplied by: it rises to 1, falls as half a cosine, and stays at 0 after the end.

    Args:
        done: steps that have been made.
        total: steps of the whole training.
        warmup: share of them in which the rate rises; there is always a first step at which it is not 0.

    >>> [round(rate_factor(step, 4, warmup=0.25), 2) for step in range(6)]
    [1.0, 1.0, 0.75, 0.25, 0.0, 0.0]
    """
    rising = max(round(warmup * total), 1)
    if done < rising:
        return min((done + 1) / rising, 1.0)
    fallen = (done - rising) / max(total - rising, 1)
    return 0.5 * (1 + math.cos(math.pi * min(fallen, 1.0)))


def optimizer_for_trainer(
    trained: Mapping[str, Mapping[str, nn.Parameter]],
    recipes: Mapping[str, Recipe],
    trainer: Trainer,
    *,
    device: torch.device,
    momentum: float | None = None,
) -> dict[str, Any]:
    """What Lightning's `configure_optimizers` returns."""
    # One kernel for all weights where there is one. In mixed precision Lightning cannot clip gradients beside it.
    clipped = bool(trainer.gradient_clip_val) and "mixed" in str(trainer.precision)
    fused = device.type in ("cpu", "cuda") and not clipped
    optimizer = build_optimizer(trained, recipes, fused=fused, momentum=momentum)
    span = span_of(trainer)
    schedule = build_schedule(optimizer, recipes, span=span)
    interval = "epoch" if span is not None and span.unit == "epoch" else "step"
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}


def span_of(trainer: Trainer) -> Span | None:
    """How long a trainer will train: in steps where their number is known, else in epochs, else in time.

    Warns:
        UserWarning: there is no end to be seen, so that the learning rates stay constant.
    """
    steps = trainer.estimated_stepping_batches  # -1 or infinite where it is not known
    if 0 < steps < math.inf and not any(map(_changes_steps, trainer.callbacks)):
        return Span(int(steps))
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        return Span(trainer.max_epochs, unit="epoch")
    for timer in trainer.callbacks:
        if isinstance(timer, Timer) and timer.time_remaining() is not None:
            return Span(TICKS, unit="tick", elapsed=partial(_ticks, timer))
    warnings.warn(
        "the trainer has no end (neither max_steps, max_epochs nor max_time), so the learning rates stay constant",
        stacklevel=2,
    )
    return None


def _changes_steps(callback: Callback) -> bool:
    """Whether a callback accumulates over other numbers of batches later on, which Lightning's estimate leaves out."""
    return isinstance(callback, GradientAccumulationScheduler) and len(set(callback.scheduling.values())) > 1


def _ticks(timer: Timer) -> float:
    """How much of its time has passed, of `TICKS`."""
    elapsed, remaining = timer.time_elapsed(), timer.time_remaining()
    assert remaining is not None
    return TICKS * elapsed / max(elapsed + remaining, 1e-9)

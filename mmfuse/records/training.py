"""How a cell trains its model: the keys of `train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mmfuse.errors import MmfuseError
from mmfuse.methods.augmentations import STRENGTHS, check_augmentation, check_rand_augment
from mmfuse.methods.recipes import momentum_of
from mmfuse.records.fields import NUMBER, Count, Number, Rate, Share, Strict, misnamed


def _rand_augment(given: Any) -> Any:
    """The settings of `rand_augment` with all of them filled in, so that writing a default changes no identity."""
    try:
        return None if given is None else check_rand_augment(given)
    except MmfuseError as error:
        raise ValueError(str(error)) from None


class Train(Strict):
    """How a model is trained. `None` stands for what the recipes of the methods and the fusion say."""

    epochs: Count = 20
    batch_size: Count = 16
    method_lr: Rate | None = None
    fusion_lr: Rate | None = None
    weight_decay: Number | None = None
    warmup: Share | None = None
    label_smoothing: Share = 0.1
    validation: Share = 0.0
    mixup: Annotated[float, NUMBER, Field(ge=0, le=STRENGTHS["mixup"], allow_inf_nan=False)] = 0.0
    cutmix: Annotated[float, NUMBER, Field(ge=0, le=STRENGTHS["cutmix"], allow_inf_nan=False)] = 0.0
    color_jitter: Annotated[float, NUMBER, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    random_erasing: Annotated[float, NUMBER, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    rand_augment: Annotated[dict[str, Any] | None, BeforeValidator(_rand_augment)] = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Share | None = None
    ema: Share = 0.0

    @model_validator(mode="after")
    def _momentum_of_sgd(self) -> Train:
        try:
            momentum_of(self.optimizer, self.momentum)
        except MmfuseError as error:
            raise misnamed("momentum", error) from None
        return self

    @property
    def augmentation(self) -> dict[str, Any]:
        """The augmentations that are on, with their settings."""
        return check_augmentation({name: getattr(self, name) for name in (*STRENGTHS, "rand_augment")})

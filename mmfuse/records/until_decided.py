"""`draws: {at_least: 3, at_most: 10, until: decided}`: draws that are added where a comparison is still open."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mmfuse.records.fields import Strict, no_boolean

FEWEST = 3
"""With fewer draws nothing is decided."""
MOST = 1000

Count = Annotated[int, BeforeValidator(no_boolean), Field(ge=1, le=MOST)]


class UntilDecided(Strict):
    """Draws from 0 on, as many as the comparisons of a pair and K need."""

    at_least: Count = FEWEST
    at_most: Count = 10
    until: Literal["decided"]
    margin: Annotated[float, BeforeValidator(no_boolean), Field(ge=0, le=100, allow_inf_nan=False)] = 0.5
    reference: Literal["baseline", "best"] = Field(default="baseline", alias="for")
    looks: tuple[Count, ...] | None = None

    @model_validator(mode="after")
    def _can_be_met(self) -> UntilDecided:
        if self.at_least < FEWEST:
            raise ValueError(f"at_least is {FEWEST} or more, since fewer draws decide nothing; got {self.at_least}")
        if self.at_most < self.at_least:
            raise ValueError(f"at_most is at least at_least; got at_least {self.at_least} and at_most {self.at_most}")
        if self.looks is not None:
            self._check(self.looks)
        return self

    def _check(self, looks: tuple[int, ...]) -> None:
        if not looks or list(looks) != sorted(set(looks)):
            raise ValueError(f"looks are numbers of draws, each above the one before; got {list(looks)}")
        if (looks[0], looks[-1]) != (self.at_least, self.at_most):
            raise ValueError(
                f"looks begin with at_least and end with at_most ({self.at_least} and {self.at_most}), "
                f"or they cannot be met; got {list(looks)}"
            )

    def to_json(self) -> dict[str, Any]:
        """As it is written in a grid."""
        return self.model_dump(mode="json", by_alias=True)

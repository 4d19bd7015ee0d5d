"""What the keys of cells and grids are made of: numbers with bounds, and models that refuse unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mmfuse.errors import MmfuseError, unknown


def no_boolean(value: Any) -> Any:
    """A boolean is no number, although Python takes it for one."""
    if isinstance(value, bool):
        raise ValueError(f"a number is meant, not {str(value).lower()}")
    return value


# Every number has bounds, far beyond what anybody needs: what lies outside is a slip of the pen, and would cost hours
# or end in a traceback.
NUMBER = BeforeValidator(no_boolean)
MOST_SHOTS = 1_000_000
Split: TypeAlias = Annotated[int, NUMBER, Field(ge=1, le=1000)]
Shots: TypeAlias = Annotated[int, NUMBER, Field(ge=1, le=MOST_SHOTS)] | Literal["all"]
ShotsOrNone: TypeAlias = Annotated[int, NUMBER, Field(ge=0, le=MOST_SHOTS)] | Literal["all"]  # 0: as pretrained
Seed: TypeAlias = Annotated[int, NUMBER, Field(ge=0, le=2**32 - 1)]
"""The number of a draw, or a seed."""
Count: TypeAlias = Annotated[int, NUMBER, Field(ge=1, le=100_000)]
Number: TypeAlias = Annotated[float, NUMBER, Field(ge=0, le=1e6, allow_inf_nan=False)]
Rate: TypeAlias = Annotated[float, NUMBER, Field(gt=0, le=1e6, allow_inf_nan=False)]
Share: TypeAlias = Annotated[float, NUMBER, Field(ge=0, lt=1, allow_inf_nan=False)]


def misnamed(key: str, error: MmfuseError) -> PydanticCustomError:
    """A fault of one key; the key goes along so that a grid file can name its line."""
    return PydanticCustomError("unknown_key", "{text}", {"text": str(error), "key": key})


class Strict(BaseModel):
    """A frozen pydantic model that refuses unknown keys and names the nearest right one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in value:
                if key not in known:
                    raise misnamed(str(key), unknown("key", key, known))
        return value

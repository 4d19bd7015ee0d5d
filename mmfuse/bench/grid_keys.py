"""What a grid file may hold: its keys, their types and what each refuses by itself."""

from __future__ import annotations

import itertools
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from mmfuse.bench.logger_names import LOGGERS
from mmfuse.errors import MmfuseError, unknown
from mmfuse.methods.registry import IMAGE, METHODS, TEXT, names, parse_pair
from mmfuse.records.cell import AXES, Axes, Clip, Dataset, Encoders, Fusion, Pair, Setting, Target, Train
from mmfuse.records.fields import MOST_SHOTS, Seed, ShotsOrNone, Split, Strict, no_boolean
from mmfuse.records.selection import Shard
from mmfuse.records.until_decided import UntilDecided

SETTINGS = ("encoders", "clip", "fusion", "train")
"""Groups of keys that stand at the top of a grid, and that a pair or an override may change."""

PLURALS = {axis: axis if axis == "shots" else f"{axis}s" for axis in AXES}
"""The key that lists the values of an axis, in a grid and in the `where` of its overrides."""

MOST_CELLS = 50_000
"""Cells of a grid: more than the largest study, and few enough to be listed within seconds."""

"""Loggers of Lightning that a grid may ask for; all but `csv` need their own package."""

DIAGNOSES = ("test_selection",)
"""What a grid may have looked at beside its trainings."""

PRECISIONS = ("auto", "32-true", "16-mixed", "bf16-mixed", "bf16-true", "16-true", "64-true")


def _as_list(value: Any) -> Any:
    """One value where a list is meant stands for a list of one."""
    return value if isinstance(value, list) else [value]


def _no_doubles(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a value that stands twice: it would run no cell, and is a slip of the pen."""
    seen: set[Any] = set()
    for value in values:
        name = getattr(value, "name", value)
        if name in seen:
            raise ValueError(f"{name!r} stands here twice")
        seen.add(name)
    return values


def _count(value: Any) -> Any:
    """Shots as grids write them. A boolean is no count, although Python takes it for one."""
    if value != "all" and (isinstance(value, bool) or not str(value).isdecimal() or not 0 <= int(value) <= MOST_SHOTS):
        raise ValueError(f"shots are a number from 1 to {MOST_SHOTS:,}, or all; got {value!r:.80}")
    return value


def _precision(value: Any) -> str:
    name = f"{value}-true" if str(value) in ("16", "32", "64") else str(value)
    if name not in PRECISIONS:
        raise ValueError(str(unknown("precision", name, PRECISIONS)))
    return name


def _diagnosis(value: Any) -> str:
    if value not in DIAGNOSES:
        raise ValueError(str(unknown("diagnosis", value, DIAGNOSES)))
    return str(value)


def _logger(value: Any) -> str:
    if value not in LOGGERS:
        raise ValueError(str(unknown("logger", value, LOGGERS)))
    return str(value)


def _shard(value: Any) -> Any:
    try:
        return value if isinstance(value, Shard | None) else Shard.parse(str(value))
    except MmfuseError as error:
        raise ValueError(str(error)) from None


Diagnosis = Annotated[str, BeforeValidator(_diagnosis)]
Logger = Annotated[str, BeforeValidator(_logger)]
ShotCount = Annotated[ShotsOrNone, BeforeValidator(_count)]
Precision = Annotated[str, BeforeValidator(_precision)]
Seconds = Annotated[float, BeforeValidator(no_boolean), Field(gt=0, le=1e9, allow_inf_nan=False)]
Workers = Annotated[int, BeforeValidator(no_boolean), Field(ge=0, le=1024)]
Devices = Annotated[int, BeforeValidator(no_boolean), Field(ge=1, le=1024)]
Axis = (BeforeValidator(_as_list), AfterValidator(_no_doubles), Field(min_length=1))


class GridPair(Pair):
    """A pair in a grid, which may change the grid's settings for itself (ablations)."""

    encoders: dict[str, Any] | None = None
    clip: dict[str, Any] | None = None
    fusion: dict[str, Any] | None = None
    train: dict[str, Any] | None = None
    prompts: str | dict[Any, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            if isinstance(value, dict) and "*" in str(value.get("name", "")):
                raise ValueError("a pair with keys stands for itself; '*' has no meaning in its name")
            return value
        try:
            if "*" in value:
                _matching(value)
                return {"name": value.replace(" ", ""), "image": "frozen", "text": "frozen"}
            image, text = parse_pair(value)
        except MmfuseError as error:
            raise ValueError(str(error)) from None
        return {"name": value.replace(" ", ""), "image": image, "text": text}

    def plain(self) -> list[Pair]:
        """The pair without its settings, as a cell holds it; all pairs of the catalogue that a wildcard stands for."""
        if "*" in self.name:
            return [
                Pair.model_validate({"name": f"{image}+{text}", "image": image, "text": text})
                for image, text in _matching(self.name)
            ]
        return [Pair(name=self.name, image=self.image, text=self.text)]


def _matching(pattern: str) -> list[tuple[str, str]]:
    """The pairs of the catalogue that `lora+*` stands for.

    Left out are aliases, which would run twice, and `peft`, which means nothing without arguments.

    Raises:
        MmfuseError: not a pair, or nothing fits.
    """
    parts = [part.strip() for part in pattern.split("+")]
    if len(parts) != 2:
        raise MmfuseError(f"a pair is written image+text, such as dora+adapter or dora+*; got {pattern!r}")
    sides = []
    for tower, part in zip((IMAGE, TEXT), parts, strict=True):
        found = [name for name in names(tower) if name == part or (fnmatchcase(name, part) and _stands_alone(name))]
        if not found:
            raise unknown(f"{tower} method", part, names(tower))
        sides.append(found)
    return list(itertools.product(sides[0], sides[1]))


def _stands_alone(method: str) -> bool:
    info = METHODS[method]
    return not info.summary.startswith("alias") and info.family != "other"


class Where(Strict):
    """Which cells an override is for; every key that is given must fit. Names may hold wildcards (`lora+*`)."""

    datasets: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
    splits: Annotated[list[Split] | None, BeforeValidator(_as_list)] = None
    shots: Annotated[list[ShotCount] | None, BeforeValidator(_as_list)] = None
    draws: Annotated[list[Seed] | None, BeforeValidator(_as_list)] = None
    seeds: Annotated[list[Seed] | None, BeforeValidator(_as_list)] = None
    pairs: Annotated[list[str] | None, BeforeValidator(_as_list)] = None

    def fits(self, axes: Axes) -> bool:
        """Whether a cell is meant."""
        patterns = {axis: getattr(self, PLURALS[axis]) for axis in AXES}
        return all(
            wanted is None or any(matches(value, pattern) for pattern in wanted)
            for value, wanted in zip(axes, patterns.values(), strict=True)
        )


def matches(value: Any, pattern: Any) -> bool:
    """Whether a value of an axis is meant by a name that may hold wildcards."""
    return fnmatchcase(str(value), str(pattern))


class Override(Strict):
    """Settings for some of the cells; the later override wins."""

    where: Where
    encoders: dict[str, Any] | None = None
    clip: dict[str, Any] | None = None
    fusion: dict[str, Any] | None = None
    train: dict[str, Any] | None = None
    prompts: str | dict[Any, Any] | None = None
    precision: Precision | None = None


class RunSettings(Strict):
    """How cells are run: not part of their identity, but for `devices`, each of which draws its own drop-out."""

    time_limit: Seconds | None = None
    silence_limit: Seconds | None = 1800.0
    keep_checkpoints: bool = False
    loader_workers: Workers | None = None
    devices: Devices = 1
    gpu_share: Annotated[float, BeforeValidator(no_boolean), Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    threads: Devices | None = None
    loggers: Annotated[tuple[Logger, ...], BeforeValidator(_as_list)] = ()
    shard: Annotated[Shard | None, BeforeValidator(_shard)] = None
    slurm: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole_devices(self) -> RunSettings:
        if self.devices > 1 and self.gpu_share < 1:
            raise ValueError("a cell on several devices takes them whole; leave gpu_share or devices out")
        return self


def _kind_of_draws(value: Any) -> str:
    return "(decided)" if isinstance(value, dict | UntilDecided) else "(listed)"


Draws = Annotated[
    Annotated[tuple[Seed, ...], *Axis, Tag("(listed)")] | Annotated[UntilDecided, Tag("(decided)")],
    Discriminator(_kind_of_draws),
]


class Grid(Strict):
    """A grid file, checked."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")
    description: str = ""
    datasets: Annotated[tuple[Dataset, ...], *Axis]
    splits: Annotated[tuple[Split, ...], *Axis] = (1,)
    shots: Annotated[tuple[ShotCount, ...], *Axis]
    draws: Draws = (0,)
    seeds: Annotated[tuple[Seed, ...], *Axis] = (0,)
    pairs: Annotated[tuple[GridPair, ...], *Axis]
    encoders: Encoders = Encoders()
    clip: Clip = Clip()
    fusion: Fusion = Fusion()
    train: Train = Train()
    templates: tuple[str, ...] | None = None
    prompts: str | dict[Any, Any] | None = None
    protocol: str | None = None
    setting: Setting = "few-shot"
    test_on: Annotated[tuple[Target, ...], BeforeValidator(_as_list), AfterValidator(_no_doubles)] = ()
    precision: Precision = "auto"
    diagnose: Annotated[tuple[Diagnosis, ...], BeforeValidator(_as_list), AfterValidator(_no_doubles)] = ()
    overrides: tuple[Override, ...] = ()
    tuned: Annotated[str, Field(min_length=1)] | None = None
    run: RunSettings = RunSettings()

    @property
    def until_decided(self) -> UntilDecided | None:
        """The rule by which draws are added, where they are not listed."""
        return self.draws if isinstance(self.draws, UntilDecided) else None

    def values(self, axis: str) -> tuple[Any, ...]:
        """What is listed for an axis, by its key; all draws that there may be, where they are added."""
        if axis == "draws" and self.until_decided is not None:
            return tuple(range(self.until_decided.at_most))
        return tuple(getattr(self, axis))

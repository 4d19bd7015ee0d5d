"""A cell: one training run of the benchmark with everything resolved, and the hash that says whether two are the same.

No torch here: grids of ten thousand cells are expanded, listed and compared on any machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mmfuse.errors import MmfuseError, unknown
from mmfuse.methods.recipes import Recipe, recipes_of
from mmfuse.methods.registry import IMAGE, METHODS, TEXT, split_spec
from mmfuse.utils.files import refuse_name, refuse_unprintable, sha256_of_json

PROTOCOL = 1
"""Version of everything that turns a cell into numbers and has no key of its own (loss, sampling, defaults of methods).

Raise it when a change of the code changes the numbers: old records then show as stale.
"""

Shots: TypeAlias = int | Literal["all"]


def _misnamed(key: str, error: MmfuseError) -> PydanticCustomError:
    """A fault of one key; the key goes along so that a grid file can name its line."""
    return PydanticCustomError("unknown_key", "{text}", {"text": str(error), "key": key})


class Strict(BaseModel):
    """A frozen pydantic model that refuses unknown keys and names the nearest right one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for key in value:
                if key not in cls.model_fields:
                    raise _misnamed(str(key), unknown("key", key, cls.model_fields))
        return value


def _named(what: str, refuse: Callable[..., None]) -> AfterValidator:
    """A validator of names."""

    def check(name: str) -> str:
        try:
            refuse(name, what=what)
        except MmfuseError as error:
            raise ValueError(str(error)) from None
        return name

    return AfterValidator(check)


class Dataset(Strict):
    """A data set by name, or a user's own clips: two CSV files, or folders train/<class> and test/<class>.

    `damaged: keep` shows the frames that can be read of a damaged video, which otherwise fails its cells. `train_lists`
    gives published lists of training clips by K, in place of the draws.
    """

    name: Annotated[str, Field(min_length=1, max_length=80), _named("data set", refuse_name)]
    root: str | None = None
    train: str | None = None
    test: str | None = None
    classes: list[Any] | None = None
    damaged: Literal["error", "keep"] = "error"
    train_lists: dict[Shots, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _both_lists(self) -> Dataset:
        if (self.train is None) != (self.test is None):
            raise ValueError("a data set of your own needs both CSV files, 'train' and 'test'")
        return self

    @property
    def own(self) -> bool:
        """Whether the user's own files define it, and not a card that ships with the package."""
        return self.train is not None or self.root is not None

    def request(self) -> str | dict[str, Any]:
        """What the data floor takes: a known name, or the keys of an own data set."""
        return self.model_dump(exclude_none=True, exclude={"damaged", "train_lists"}) if self.own else self.name


class Encoders(Strict):
    """The two towers by name (embedded, hub id or folder), and which frame feature is used."""

    image: str = "tiny-dinov2"
    text: str = "tiny-clip-text"
    feature: Literal["both", "cls", "patch", "grid"] = "both"


class Clip(Strict):
    """How a video becomes a tensor. `None` means what the data set's card says."""

    frames: int | None = Field(default=None, ge=1, le=1024)
    size: int | None = Field(default=None, ge=8, le=2048)
    flip: bool | None = None
    views: int | None = Field(default=None, ge=0)


class Train(Strict):
    """How a model is trained. `None` stands for what the recipes of the methods and the fusion say."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=16, ge=1)
    method_lr: float | None = Field(default=None, gt=0)
    fusion_lr: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)
    warmup: float | None = Field(default=None, ge=0, lt=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    validation: float = Field(default=0.0, ge=0, lt=1)


RECIPE_KEYS = ("method_lr", "fusion_lr", "weight_decay", "warmup")
"""What of `Train` stands in for the recipes."""

_SHALLOW: dict[str, Any] = {"width": 256, "dropout": 0.1}
_DEEP: dict[str, Any] = {"width": 256, "layers": 2, "heads": 4, "dropout": 0.1}
FUSIONS: dict[str, dict[str, Any]] = {
    "joint": _DEEP,
    "cross": _DEEP,
    "late": _DEEP,
    "plain": _DEEP,
    "pool": _SHALLOW,
    "mean": _SHALLOW,
    "linear": _SHALLOW,
    "concat": _SHALLOW,
}
"""The fusions of `mmfuse.model.fusion` with their arguments, as a table that needs no torch."""


class Fusion(Strict):
    """The fusion's kind; every other key is an argument of that kind."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str = "joint"

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        given = {"kind": value} if isinstance(value, str) else value
        if isinstance(given, dict):
            kind = given.get("kind", "joint")
            if kind not in FUSIONS:
                raise _misnamed("kind", unknown("fusion", kind, FUSIONS))
            for key in given:
                if key != "kind" and key not in FUSIONS[kind]:
                    raise _misnamed(str(key), unknown(f"argument of fusion {kind!r}", key, FUSIONS[kind]))
        return given

    def resolved(self) -> dict[str, Any]:
        """The fusion with all its arguments."""
        return {**FUSIONS[self.kind], **self.model_dump()}


def _method(tower: str) -> BeforeValidator:
    def normalise(value: Any) -> dict[str, Any]:
        if not isinstance(value, str | dict):
            raise ValueError(f"a method is a name or keys such as {{method: lora, rank: 32}}; got {value!r}")
        try:
            name, arguments = split_spec(value, tower)
        except MmfuseError as error:
            raise ValueError(str(error)) from None
        return {"method": name, **arguments}

    return BeforeValidator(normalise)


class Pair(Strict):
    """A method for each tower under the name that tables show."""

    name: Annotated[str, Field(min_length=1, max_length=80), _named("pair", refuse_unprintable)]
    image: Annotated[dict[str, Any], _method(IMAGE)]
    text: Annotated[dict[str, Any], _method(TEXT)]

    @property
    def frozen(self) -> bool:
        """Whether both towers stay as they were pretrained."""
        return self.image["method"] == "frozen" and self.text["method"] == "frozen"


class Axes(NamedTuple):
    """The coordinates of a cell: what grids list, `--only` filters by, and tables are laid out along."""

    dataset: str
    split: int
    pair: str
    shots: Shots
    draw: int
    seed: int

    def __str__(self) -> str:
        """For example `ucf101-split1-dora+adapter-k4-draw0-seed0`."""
        return f"{self.dataset}-split{self.split}-{self.pair}-k{self.shots}-draw{self.draw}-seed{self.seed}"


AXES = Axes._fields


class Cell(Strict):
    """One training run: its axes with all settings that change its numbers."""

    dataset: Dataset
    split: int = Field(default=1, ge=1)
    pair: Pair
    shots: Annotated[Shots, Field(union_mode="left_to_right")]
    draw: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)
    encoders: Encoders = Encoders()
    clip: Clip = Clip()
    fusion: Fusion = Fusion()
    train: Train = Train()
    templates: tuple[str, ...] | None = None
    precision: str = "auto"

    @property
    def train_list(self) -> str | None:
        """The published list that takes the place of a draw, where there is one for this number of shots."""
        return (self.dataset.train_lists or {}).get(self.shots)

    @property
    def axes(self) -> Axes:
        """Where the cell stands among the others of a grid."""
        return Axes(self.dataset.name, self.split, self.pair.name, self.shots, self.draw, self.seed)

    @property
    def name(self) -> str:
        """The axes as one readable text. Records of several identities may bear one name over time."""
        return str(self.axes)

    @property
    def file_stem(self) -> str:
        """The name as part of a file name that every file system takes."""
        return re.sub(r"[^A-Za-z0-9+._-]", "_", self.name).lstrip(".")[:150]

    @property
    def training_seed(self) -> int:
        """Seed of initialisation and shuffling.

        Derived from the cell's seed and its draw, so that the draws at `all`, which hold the same clips, still repeat
        the training.
        """
        digest = hashlib.sha256(f"{self.seed}/{self.draw}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    @property
    def recipes(self) -> Mapping[str, Recipe]:
        """How "image" and "text", where a method trains there, and "fusion" are trained, with all numbers filled in."""
        said = {key: getattr(self.train, key) for key in RECIPE_KEYS}
        return recipes_of(self.pair.image, self.pair.text, **said)

    def config(self) -> dict[str, Any]:
        """Every setting of the cell that changes its numbers, as JSON values: no paths, and not the pair's name."""
        config: dict[str, Any] = self.model_dump(mode="json")
        config["dataset"] = {"name": self.dataset.name, "classes": self.dataset.classes, "own": self.dataset.own}
        if self.dataset.damaged != "error":
            config["dataset"]["damaged"] = self.dataset.damaged
        if self.train_list is not None:
            config["dataset"]["train_list"] = "given"  # its clips' digest is among the inputs
        config["pair"] = {"image": resolved(self.pair.image), "text": resolved(self.pair.text)}
        config["fusion"] = self.fusion.resolved()
        config["train"] = {key: value for key, value in config["train"].items() if key not in RECIPE_KEYS}
        config["train"]["recipes"] = {part: dataclasses.asdict(recipe) for part, recipe in self.recipes.items()}
        for tower in (IMAGE, TEXT):
            if is_folder(config["encoders"][tower]):
                config["encoders"][tower] = "folder"  # its weights' digest is among the inputs
        config["protocol"] = PROTOCOL
        return config

    @cached_property
    def config_hash(self) -> str:
        """Hash of `config`. With the digests of the inputs it makes the identity of a record."""
        return sha256_of_json(self.config())

    @cached_property
    def replicate_settings(self) -> dict[str, Any]:
        """All settings but draw and seed. Cells that differ in any of these must never be averaged."""
        return {key: value for key, value in self.config().items() if key not in ("draw", "seed")}

    @cached_property
    def replicate_key(self) -> str:
        """Hash of `replicate_settings`: cells with equal keys differ in draw and seed alone.

        What a cell read counts as well: see `mmfuse.records.replicates`, which sorts the cells of a table into rows.
        """
        return sha256_of_json(self.replicate_settings)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of keys.

    >>> flattened({"train": {"epochs": 3}, "split": 1})
    {'train.epochs': 3, 'split': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def resolved(method: dict[str, Any]) -> dict[str, Any]:
    """A method with all its arguments, so that writing a default changes no identity and changing one does."""
    return {**METHODS[method["method"]].defaults, **method}


def is_folder(encoder: str) -> bool:
    """Whether a tower is a local folder (grids make their paths absolute) and not an embedded name or a hub id."""
    return Path(encoder).is_absolute()


class Inputs(Strict):
    """Digests of what a cell reads. `None`: not known (yet); unknown ones are not compared."""

    dataset: str | None = None
    train_clips: str | None = None
    test_clips: str | None = None
    videos: str | None = None
    image_tower: str | None = None
    text_tower: str | None = None

    def agrees_with(self, other: Inputs) -> bool:
        """Whether no digest that both know differs."""
        return not self.changes(other)

    def changes(self, other: Inputs) -> list[str]:
        """The names of the inputs whose digests are known on both sides and differ."""
        return [
            name
            for name in Inputs.model_fields
            if None not in (getattr(self, name), getattr(other, name)) and getattr(self, name) != getattr(other, name)
        ]


def identity(config_hash: str, inputs: Inputs) -> str:
    """Hash over all that changes a cell's numbers: its settings, and what it read."""
    return sha256_of_json({"config": config_hash, "inputs": inputs.model_dump(mode="json", exclude_none=True)})

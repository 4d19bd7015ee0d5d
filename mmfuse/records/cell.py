"""A cell: one training run of the benchmark with everything resolved, and the hash that says whether two are the same.

No torch here: grids of ten thousand cells are expanded, listed and compared on any machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mmfuse.errors import MmfuseError, unknown, unknown_argument
from mmfuse.methods.recipes import Recipe, momentum_of, recipes_of
from mmfuse.methods.registry import IMAGE, METHODS, TEXT, parse_method
from mmfuse.methods.sentences import check_sentences
from mmfuse.records import protocol
from mmfuse.records.fields import NUMBER, Seed, Shots, ShotsOrNone, Split, Strict, misnamed
from mmfuse.records.training import Train
from mmfuse.utils.files import refuse_name, refuse_unprintable, sha256_of_json

VIEWS = r"([1-9]|[1-5]\d|6[0-4])x[13]"
"""Clips × crops of a test video as they are written, within the bounds of `mmfuse.data.frames.views`."""
LARGEST_ARGUMENT = 1e9
"""Of the numbers among the arguments of methods and fusions, which say themselves what they can work with."""


def _name_validator(what: str, refuse: Callable[..., None]) -> AfterValidator:
    """A validator of names."""

    def check(name: str) -> str:
        try:
            refuse(name, what=what)
        except MmfuseError as error:
            raise ValueError(str(error)) from None
        return name

    return AfterValidator(check)


def _called_by_texts(classes: list[Any] | None) -> list[Any] | None:
    """Refuse names of classes that YAML takes for something else than a text or a whole number."""
    for entry in classes or ():
        named = entry.get("name", "") if isinstance(entry, Mapping) else entry
        if isinstance(named, bool) or not isinstance(named, str | int):
            raise ValueError(f"a class is called by a text; put {_as_written(named)} in quotes")
    return classes


def _as_written(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or value in (True, False) else str(value)
    )


class Source(Strict):
    """A data set by name, or a user's own clips: two CSV files, or a folder (which may be named by its path alone).

    `damaged: keep` shows the frames that can be read of a damaged video, which otherwise fails its cells.
    """

    name: Annotated[str, Field(min_length=1, max_length=80), _name_validator("data set", refuse_name)]
    root: str | None = None
    train: str | None = None
    test: str | None = None
    classes: Annotated[list[Any] | None, AfterValidator(_called_by_texts)] = None
    damaged: Literal["error", "keep"] = "error"

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        # A path names a folder of one's own; a bare word may, which whoever knows the cards finds out.
        path = value.rstrip("/")
        return {"name": path.rpartition("/")[2] or value, "root": value} if "/" in value else {"name": value}

    @model_validator(mode="after")
    def _both_lists(self) -> Self:
        if (self.train is None) != (self.test is None):
            raise ValueError("a data set of your own needs both CSV files, 'train' and 'test'")
        return self

    @property
    def own(self) -> bool:
        """Whether the user's own files define it, and not a card that ships with the package."""
        return self.train is not None or self.root is not None

    def request(self) -> str | dict[str, Any]:
        """What the data floor takes: a known name, or the keys of an own data set."""
        if not self.own:
            return self.name
        return self.model_dump(exclude_none=True, include={"name", "root", "train", "test", "classes"})

    def settings(self) -> dict[str, Any]:
        """What of it changes numbers and is no digest among the inputs, as JSON values: no paths."""
        settings: dict[str, Any] = self.model_dump(mode="json", exclude={"root", "train", "test", "train_lists"})
        return {**settings, "own": self.own}


class Dataset(Source):
    """A data set to train on, and to test on.

    In place of draws made here, training clips come from lists that others have published: `protocol` names them,
    `train_lists` gives files by K.
    """

    train_lists: dict[Shots, str] | None = None
    protocol: str | None = None

    @model_validator(mode="after")
    def _one_kind_of_lists(self) -> Self:
        if self.protocol is not None and self.train_lists:
            raise ValueError("training clips come from 'train_lists' or from the lists of a 'protocol', not both")
        if self.protocol is not None and self.own:
            raise ValueError("a protocol has lists of published data sets, not of clips of your own")
        return self


class Target(Source):
    """Another data set to test on after training, by its class names alone.

    `splits`: whose test lists are read; by default all official ones where the setting is zero-shot, as the field
    reports it, and else the first. `drop_overlap` leaves classes out that the training has seen under some name.
    """

    splits: Annotated[tuple[Split, ...], Field(min_length=1)] | None = None
    drop_overlap: bool = False


class Encoders(Strict):
    """The two towers by name (embedded, hub id or folder), and which frame feature is used."""

    image: str = "tiny-dinov2"
    text: str = "tiny-clip-text"
    feature: Literal["both", "cls", "patch", "grid"] = "both"


def _views(text: Any) -> Any:
    """Refuse what is no number of views; 0x3 is a number of another kind to YAML."""
    if not isinstance(text, str) or not re.fullmatch(VIEWS, text):
        raise ValueError(f"clips × crops of a test video: 1 to 64 clips, 1 or 3 crops, such as 4x3; got {text!r:.80}")
    return text


class Clip(Strict):
    """How a video becomes a tensor. `None` means what the data set's card says."""

    frames: Annotated[int, NUMBER, Field(ge=1, le=1024)] | None = None
    size: Annotated[int, NUMBER, Field(ge=8, le=2048)] | None = None
    flip: bool | None = None
    views: Annotated[int, NUMBER, Field(ge=0, le=100_000)] | None = None
    test_views: Annotated[str, BeforeValidator(_views)] = "1x1"

    @property
    def test_clips_and_crops(self) -> tuple[int, int]:
        """How many clips of a test video are looked at, each in how many crops."""
        clips, crops = self.test_views.split("x")
        return int(clips), int(crops)

    @property
    def looks_at_test(self) -> int:
        """How many views of a test video go through the towers."""
        clips, crops = self.test_clips_and_crops
        return clips * crops


Setting: TypeAlias = Literal["few-shot", "base-to-novel", "zero-shot"]
"""What is tested: the classes that were trained on, these and others apart, or classes of other data sets."""

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
    "linear": {},
    "concat": {},
}
"""The fusions of `mmfuse.model.fusion` with their arguments, as a table that needs no torch."""
WITHOUT_TEXT = ("linear", "concat")
"""Fusions that read no text, and so know the classes alone that they were trained on."""


def _check_argument(key: str, value: Any, default: Any) -> None:
    """Refuse an argument of a fusion of another kind than its default, or beyond all bounds."""
    try:
        refuse_endless(value)
        if isinstance(default, bool) is not isinstance(value, bool):
            raise ValueError(f"such as {str(default).lower()}; got {value!r:.80}")
        if isinstance(default, int) and (not isinstance(value, int) or (value < 1 and not isinstance(default, bool))):
            raise ValueError(f"a whole number from 1 on; got {value!r:.80}")
        if isinstance(default, float) and not isinstance(value, int | float):
            raise ValueError(f"a number; got {value!r:.80}")
    except ValueError as fault:
        raise PydanticCustomError("unknown_key", "{text}", {"text": str(fault), "key": key}) from None


def _check_together(fusion: Mapping[str, Any]) -> None:
    """Refuse a fusion, all arguments filled in, that cannot be built, before any cell runs."""
    width, heads, dropout = fusion.get("width", 1), fusion.get("heads", 1), fusion.get("dropout", 0.0)
    if width % heads:
        raise misnamed("heads", MmfuseError(f"a width of {width} cannot be shared by {heads} heads"))
    if not 0 <= dropout <= 1:
        raise misnamed("dropout", MmfuseError(f"dropout is a share from 0 to 1; got {dropout}"))


def _check_kind(key: str, value: Any, default: Any) -> None:
    """Refuse an argument of a method whose kind is not that of its default; the method itself knows its range.

    Raises:
        ValueError: naming the argument.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{key} is true or false; got {value!r:.80}")
    elif isinstance(default, int | float):
        if not number:
            raise ValueError(f"{key} is a number; got {value!r:.80}")
    elif isinstance(value, bool | Mapping):
        raise ValueError(f"{key} is no {type(value).__name__}; got {value!r:.80}")
    elif default is None and isinstance(value, list) and not all(type(part) is int for part in value):
        raise ValueError(f"{key} is a list of whole numbers; got {value!r:.80}")


def refuse_endless(value: Any) -> None:
    """Refuse a number that is not finite or beyond all bounds, also deep inside lists and keys.

    Raises:
        ValueError: naming it.
    """
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for part in value:
            refuse_endless(part)
    elif isinstance(value, int | float) and not -LARGEST_ARGUMENT <= value <= LARGEST_ARGUMENT:
        raise ValueError(f"a number between -1e9 and 1e9 is meant; got {value if isinstance(value, float) else 'more'}")


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
                raise misnamed("kind", unknown("fusion", kind, FUSIONS))
            for key in given:
                if key != "kind" and key not in FUSIONS[kind]:
                    raise misnamed(str(key), unknown_argument("fusion", kind, key, FUSIONS))
                if key != "kind":
                    _check_argument(key, given[key], FUSIONS[kind][key])
            _check_together({**FUSIONS[kind], **given})
        return given

    def resolved(self) -> dict[str, Any]:
        """The fusion with all its arguments."""
        return {**FUSIONS[self.kind], **self.model_dump()}


def _method(tower: str) -> BeforeValidator:
    def normalise(value: Any) -> dict[str, Any]:
        if not isinstance(value, str | dict):
            raise ValueError(f"a method is a name or keys such as {{method: lora, rank: 32}}; got {value!r}")
        refuse_endless(value if isinstance(value, dict) else None)
        try:
            parsed = parse_method(value, tower)
        except MmfuseError as error:
            raise ValueError(str(error)) from None
        for key in parsed.arguments.keys() & parsed.info.defaults.keys():
            _check_kind(key, parsed.arguments[key], parsed.info.defaults[key])
        return {"method": parsed.name, **parsed.arguments}

    return BeforeValidator(normalise)


class Pair(Strict):
    """A method for each tower under the name that tables show."""

    name: Annotated[str, Field(min_length=1, max_length=80), _name_validator("pair", refuse_unprintable)]
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


def _sentences(given: Any) -> Any:
    try:
        return None if given is None else check_sentences(given)
    except MmfuseError as error:
        raise ValueError(str(error)) from None


class Cell(Strict):
    """One training run: its axes with all settings that change its numbers."""

    dataset: Dataset
    split: Split = 1
    pair: Pair
    shots: Annotated[ShotsOrNone, Field(union_mode="left_to_right")]
    draw: Seed = 0
    seed: Seed = 0
    encoders: Encoders = Encoders()
    clip: Clip = Clip()
    fusion: Fusion = Fusion()
    train: Train = Train()
    templates: tuple[str, ...] | None = None
    prompts: Annotated[dict[str, tuple[str, ...]] | None, BeforeValidator(_sentences)] = None
    precision: str = "auto"
    devices: Annotated[int, NUMBER, Field(ge=1, le=1024)] = 1
    setting: Setting = "few-shot"
    test_on: tuple[Target, ...] = ()

    @model_validator(mode="after")
    def _text_is_read(self) -> Cell:
        refuse_unread_prompts(self.prompts, self.fusion, self.test_on)
        return self

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
        config["dataset"] = self.dataset.settings()
        config["test_on"] = [target.settings() for target in self.test_on]
        # The clips of a list are digested among the inputs.
        config["dataset"]["train_list"] = None if self.train_list is None else "given"
        del config["pair"]["name"]
        for tower in (IMAGE, TEXT):
            config["pair"][tower] = resolved(config["pair"][tower])
        config["fusion"] = self.fusion.resolved()
        config["prompts"] = None if self.prompts is None else sha256_of_json(config["prompts"])
        for key in RECIPE_KEYS:
            del config["train"][key]
        config["train"]["momentum"] = momentum_of(self.train.optimizer, self.train.momentum)
        config["train"]["recipes"] = {part: dataclasses.asdict(recipe) for part, recipe in self.recipes.items()}
        for tower in (IMAGE, TEXT):
            if is_folder(config["encoders"][tower]):
                config["encoders"][tower] = "folder"  # its files are digested among the inputs
        if self.shots == 0:  # these have no meaning then, and a default that changes must not count
            del config["fusion"], config["train"], config["encoders"]["feature"]
        return config

    @cached_property
    def config_hash(self) -> str:
        """Hash of what differs from the defaults of the protocol.

        With the digests of the inputs it makes the identity of a record. See `mmfuse.records.protocol`.
        """
        pinned = {**_defaults_of(type(self)), **self._pinned()}
        differing = {
            key: value
            for key, value in flattened(self.config()).items()
            if key not in pinned or not _is_default(value, pinned[key])
        }
        return sha256_of_json({"protocol": protocol.PROTOCOL, **differing})

    def _pinned(self) -> dict[str, Any]:
        """The defaults that the settings of this cell's fusion and methods are compared with, flat."""
        methods = {tower: getattr(self.pair, tower)["method"] for tower in (IMAGE, TEXT)}
        pinned = dict(protocol.CELL)
        pinned |= _arguments("fusion", now=FUSIONS[self.fusion.kind], then=protocol.FUSIONS.get(self.fusion.kind))
        pinned |= _recipe("fusion", protocol.FUSION_RECIPE)
        for tower, name in methods.items():
            pinned |= _arguments(f"pair.{tower}", now=METHODS[name].defaults, then=protocol.METHODS.get(name))
            pinned |= _recipe(tower, protocol.RECIPES.get(name))
        return pinned

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


def refuse_unread_prompts(prompts: Any, fusion: Fusion, test_on: tuple[Target, ...]) -> None:
    """Refuse sentences for a fusion that reads no text, and beside tests on data sets whose classes have none.

    Raises:
        ValueError: naming it.
    """
    if prompts is not None and test_on:
        raise ValueError(f"prompts tell of one data set, and test_on names another, {test_on[0].name}; use 'templates'")
    if prompts is not None and fusion.kind in WITHOUT_TEXT:
        raise ValueError(f"prompts have no meaning for the fusion {fusion.kind!r}, which reads no text; take one away")


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


def _arguments(place: str, *, now: Mapping[str, Any], then: Mapping[str, Any] | None) -> dict[str, Any]:
    """Pinned arguments of a fusion or method.

    An argument that is younger than the protocol is pinned at its default. A fusion or method that is not pinned at
    all, such as one of another package, has no pinned arguments: all of them count.
    """
    return {} if then is None else {f"{place}.{key}": value for key, value in {**now, **then}.items()}


def _recipe(part: str, then: Mapping[str, float] | None) -> dict[str, Any]:
    if then is None:
        return {}
    younger = {key.name: key.default for key in dataclasses.fields(Recipe) if key.default is not dataclasses.MISSING}
    return {f"train.recipes.{part}.{key}": value for key, value in {**younger, **then}.items()}


@lru_cache
def _defaults_of(settings: type[BaseModel], prefix: str = "") -> Mapping[str, Any]:
    """The defaults of a model's own keys, flat: what a key that is younger than the protocol is compared with."""
    defaults: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):  # also of keys that may be left out
            if isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, Fusion):
                defaults |= _defaults_of(kind, f"{prefix}{name}.")
        if not field.is_required():
            defaults[f"{prefix}{name}"] = field.get_default(call_default_factory=True)
    return defaults


def _is_default(value: Any, default: Any) -> bool:
    """Whether a setting is its default; `True` is not 1, and a list of the same values is the same as a tuple."""
    if isinstance(value, list | tuple) and isinstance(default, list | tuple):
        return len(value) == len(default) and all(map(_is_default, value, default))
    return isinstance(value, bool) is isinstance(default, bool) and bool(value == default)


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
    other_tests: str | None = None
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

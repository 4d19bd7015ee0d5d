"""The file that a search over a grid leaves, with its winners; grids name it by the key `tuned`. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from mmfuse.bench.tuning.space import with_settings
from mmfuse.bench.yaml_source import YamlSource
from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.cell import Cell
from mmfuse.records.fields import Shots, Strict
from mmfuse.records.record import Tuned
from mmfuse.utils.files import sha256_of_file, sha256_of_json

GROUPS = ("train", "image", "text")
"""What is searched: keys of `train`, and arguments of the methods on the two towers."""
HEAD = """\
# Settings that were searched on validation clips cut from the training clips; no test clip was read.
# A grid takes them by the key `tuned: <this file>`.
"""


def _known_groups(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for group in settings:
        if group not in GROUPS:
            raise ValueError(str(unknown("group of settings", group, GROUPS)))
    return settings


class Validation(Strict):
    """How the settings were judged. Accuracies are shares of the held-out clips."""

    top1: float
    default: float | None = None
    gain: float | None = None
    error: float | None = None
    clips: int
    sources: int
    folds: int


class Winner(Strict):
    """The settings of one pair on one data set and split, for some numbers of shots.

    `base`: digest of the settings that were not searched. `read`: digests of the clips and towers behind the search.
    `default`: nothing was better than the default by more than chance, which therefore stays.
    """

    dataset: str
    split: int
    pair: str
    shots: tuple[Shots, ...]
    settings: Annotated[dict[str, dict[str, Any]], AfterValidator(_known_groups)] = Field(default_factory=dict)
    default: bool
    trials: int
    validation: Validation
    searched: dict[str, Any] = Field(default_factory=dict)
    base: str
    read: dict[str, str] = Field(default_factory=dict)


class TunedFile(Strict):
    """The whole file. `margin`: standard errors by which settings must be better than the default."""

    format: Literal[1] = 1
    grid: str
    command: str
    budget: dict[str, float]
    seed: int
    margin: float
    versions: dict[str, str]
    written: str
    winners: tuple[Winner, ...]

    def text(self) -> str:
        """The file's content."""
        return HEAD + yaml.safe_dump(
            self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True, width=120
        )


def base_digest(cell: Cell) -> str:
    """Digest of what is not searched: all settings of a cell but its place in the grid."""
    left_out = ("draw", "seed", "shots", "split", "test_on", "devices")
    config = {key: value for key, value in cell.config().items() if key not in left_out}
    config["dataset"] = {key: value for key, value in config["dataset"].items() if key != "train_list"}
    config["clip"] = {key: value for key, value in config["clip"].items() if key != "test_views"}
    return sha256_of_json(config)[:16]


class TunedSettings:
    """The winners of a file, by where they belong.

    Args:
        path: the file.

    Raises:
        MmfuseError: it is not there, or none.
    """

    def __init__(self, path: Path) -> None:
        source = YamlSource(path)
        try:
            self.file = TunedFile.model_validate(source.value)
        except ValidationError as fault:
            raise source.first_error(fault) from None
        self.digest = sha256_of_file(path)

    @cached_property
    def _winners(self) -> Mapping[tuple[str, int, str, Any], Winner]:
        return {(one.dataset, one.split, one.pair, shots): one for one in self.file.winners for shots in one.shots}

    def winner(self, cell: Cell) -> Winner | None:
        """What was found for a cell; `None` for one that trains nothing.

        Raises:
            MmfuseError: nothing was searched for it, or other settings than those it has now were not searched.
        """
        if cell.shots == 0:
            return None
        found = self._winners.get((cell.dataset.name, cell.split, cell.pair.name, cell.shots))
        if found is None:
            raise MmfuseError(
                f"it has no settings for {cell.pair.name} on {cell.dataset.name} split {cell.split} at K={cell.shots}; "
                "beside tuned pairs an untuned one is at a disadvantage: search for it too (mmfuse-bench tune), or "
                "take the key away"
            )
        if found.base != base_digest(cell):
            raise MmfuseError(
                f"its settings for {cell.pair.name} on {cell.dataset.name} were searched beside other ones than the "
                "grid has now (encoders, clip, fusion, train, prompts or overrides); search again (mmfuse-bench tune)"
            )
        return found

    def applied(self, cell: Cell) -> Cell:
        """A cell with what was found for it.

        Raises:
            MmfuseError: as `winner`, or the settings are none that the cell takes.
        """
        found = self.winner(cell)
        if found is None or not found.settings:
            return cell
        try:
            return with_settings(cell, found.settings)
        except ValidationError as fault:
            told = fault.errors()[0]["msg"].removeprefix("Value error, ")
            raise MmfuseError(f"its settings for {cell.pair.name} cannot be taken: {told}") from None

    def told(self, cell: Cell) -> Tuned | None:
        """What a record says of it. The cell may carry the settings already."""
        found = self._winners.get((cell.dataset.name, cell.split, cell.pair.name, cell.shots))
        return None if found is None else Tuned(file=self.digest, trials=found.trials, default=found.default)

    def outdated(self, known: Iterable[tuple[Cell, Mapping[str, str]]]) -> list[str]:
        """Inputs that have changed since the search, in words.

        Args:
            known: cells with the digests of their inputs as they are now.
        """
        changed: dict[str, None] = {}
        for cell, digests in known:
            found = self._winners.get((cell.dataset.name, cell.split, cell.pair.name, cell.shots))
            for name, digest in () if found is None else found.read.items():
                # The training clips differ from draw to draw.
                if name != "train_clips" and digests.get(name, digest) != digest:
                    changed[f"the {name.replace('_', ' ')} of {cell.dataset.name}"] = None
        return list(changed)

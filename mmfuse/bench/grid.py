"""Grid files: a short YAML file that expands to cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mmfuse.bench.grid_keys import MOST_CELLS, PLURALS, SETTINGS, Grid, matches
from mmfuse.bench.grid_tests import GridTests
from mmfuse.bench.prompt_files import given_prompts
from mmfuse.bench.tuning.tuned import TunedSettings
from mmfuse.bench.yaml_source import YamlSource
from mmfuse.data.catalogue.cards import load_card
from mmfuse.data.catalogue.custom import lists_in, named
from mmfuse.data.protocols import load_protocol
from mmfuse.errors import MmfuseError, unknown
from mmfuse.methods.sentences import Sentences, by_class
from mmfuse.records.cell import Axes, Cell, Dataset, Encoders, Pair, Source, refuse_unread_prompts
from mmfuse.records.fields import Strict
from mmfuse.utils.files import user_path
from mmfuse.utils.resources import cards_folder, grids_folder

SourceKind = TypeVar("SourceKind", bound=Source)


class LoadedGrid:
    """A grid with the file that it was read from, so that faults found on expansion name their line."""

    def __init__(self, source: YamlSource) -> None:
        self.source = source
        if not isinstance(source.value, dict):
            raise source.error([], f"a grid file holds keys ({', '.join(Grid.model_fields)})")
        try:
            self.grid = Grid.model_validate(source.value)
        except ValidationError as fault:
            raise source.first_error(fault) from None
        self._find_own()
        self._prompts: dict[str, Sentences] = {}
        self._check_size()
        self._check_names()
        self._check_protocols()
        self.tests = GridTests(
            source,
            setting=self.grid.setting,
            shots=self.grid.shots,
            repeats=[key for key in ("draws", "seeds") if len(self.grid.values(key)) > 1],
            targets=self.grid.test_on,
            datasets=tuple(self._located(dataset) for dataset in self.grid.datasets),
            located=self._located,
        )
        self._check_overrides()
        self._check_draws()
        self.tuned = self._read_tuned()
        """Settings that were searched, where the grid names a file of them."""

    def _read_tuned(self) -> TunedSettings | None:
        if self.grid.tuned is None:
            return None
        path = Path(_absolute(self.grid.tuned, self.source.path.parent))
        if not path.is_file():
            problem = f"there is no file {path}; mmfuse-bench tune {self.source.path} writes one"
            raise self.source.error(["tuned"], problem)
        return TunedSettings(path)

    def _find_own(self) -> None:
        """Let data sets that no card knows be folders of clips of that name."""
        update: dict[str, Any] = {}
        for key, sources in (("datasets", self.grid.datasets), ("test_on", self.grid.test_on)):
            found: list[Source] = []
            for position, dataset in enumerate(sources):
                try:
                    own = dataset.name if dataset.own else named(dataset.name, beside=self.source.path.parent)
                except MmfuseError as fault:
                    raise self.source.error([key, position], str(fault)) from None
                found.append(dataset if isinstance(own, str) else dataset.model_copy(update=own))
            update[key] = tuple(found)
        self.grid = self.grid.model_copy(update=update)

    def _check_draws(self) -> None:
        """Draws can be added only where there is something to decide."""
        rule = self.grid.until_decided
        if rule is None:
            return
        pairs = [pair for _, pair in self.pairs()]
        if len(pairs) < 2:
            raise self.source.error(["draws"], "one pair alone has nothing to be compared with; list its draws")
        if rule.reference == "baseline" and not any(pair.frozen for pair in pairs):
            problem = "there is no baseline among the pairs; add frozen+frozen, or compare with the best by 'for: best'"
            raise self.source.error(["draws", "for"], problem)
        for position, override in enumerate(self.grid.overrides):
            if override.where.draws is not None:
                problem = "draws that are added until all is decided must not differ in their settings"
                raise self.source.error(["overrides", position, "where", "draws"], problem)

    def _check_size(self) -> None:
        """Count the cells before any is made."""
        numbers = {key: len(self.grid.values(key)) for key in PLURALS.values()}
        numbers["pairs"] = len(self.pairs())
        if (cells := math.prod(numbers.values())) > MOST_CELLS:
            factors = " × ".join(f"{number:,} {key}" for key, number in numbers.items() if number > 1)
            problem = f"{factors} are {cells:,} cells, and a grid may have {MOST_CELLS:,}; part it into several grids"
            raise self.source.error([max(numbers, key=lambda key: numbers[key])], problem)

    def _check_names(self) -> None:
        known = dataset_names()
        for position, dataset in enumerate(self.grid.datasets):
            if not dataset.own and known and dataset.name not in known:
                raise self.source.error(["datasets", position], str(unknown("data set", dataset.name, known)))
            for shots in dataset.train_lists or ():
                if shots not in self.grid.shots:
                    problem = unknown("number of shots in train_lists", str(shots), map(str, self.grid.shots))
                    raise self.source.error(["datasets", position, "train_lists", str(shots)], str(problem))
        for position, template in enumerate(self.grid.templates or ()):
            if template.count("{}") != 1:
                raise self.source.error(["templates", position], f"a template holds {{}} once; got {template!r}")
        if self.grid.templates and self.grid.prompts is not None:
            raise self.source.error(["prompts"], "sentences take the place of 'templates'; say one of them")

    def _check_protocols(self) -> None:
        """Refuse whatever a published protocol has no list for, before any data are looked at."""
        base = self.grid.setting == "base-to-novel"
        for position, dataset in enumerate(self.grid.datasets):
            try:
                shown = self._with_protocol(dataset)
                if shown.protocol is None:
                    continue
                protocol = load_protocol(shown.protocol)
                find = protocol.base_list if base else protocol.training_list
                for split, shots, draw in itertools.product(*map(self.grid.values, ("splits", "shots", "draws"))):
                    find(dataset.name, shots=shots, draw=draw, split=split)
            except MmfuseError as fault:
                own: list[str | int] = [] if dataset.protocol is None else ["datasets", position]
                raise self.source.error([*own, "protocol"], str(fault)) from None

    def _with_protocol(self, dataset: Dataset) -> Dataset:
        """A data set with the grid's protocol, where it names none itself.

        Raises:
            MmfuseError: it cannot have one.
        """
        if self.grid.protocol is None or dataset.protocol is not None:
            return dataset
        try:
            return Dataset.model_validate({**dataset.model_dump(exclude_unset=True), "protocol": self.grid.protocol})
        except ValidationError as fault:
            raise MmfuseError(fault.errors()[0]["msg"].removeprefix("Value error, ")) from None

    def _check_overrides(self) -> None:
        """An override that fits no cell is a slip of the pen."""
        grid = self.grid
        values: dict[str, Sequence[Any]] = {key: grid.values(key) for key in PLURALS.values()}
        values["datasets"] = [dataset.name for dataset in grid.datasets]
        values["pairs"] = [pair.name for _, pair in self.pairs()]
        for position, override in enumerate(grid.overrides):
            for key, known in values.items():
                exact = set(map(str, known))
                for pattern in getattr(override.where, key) or ():
                    if str(pattern) not in exact and not any(matches(value, pattern) for value in known):
                        problem = unknown(f"value of {key}", pattern, map(str, known))
                        raise self.source.error(["overrides", position, "where", key], str(problem))

    def pairs(self) -> list[tuple[int, Pair]]:
        """All pairs, wildcards written out, each with its place in the file. The first of a name stands."""
        found: dict[str, tuple[int, Pair]] = {}
        for place, pair in enumerate(self.grid.pairs):
            for plain in pair.plain():
                found.setdefault(plain.name, (place, plain))
        return list(found.values())

    def cells(self) -> list[Cell]:
        """All cells in table order: data set, split, pair, shots, seed, draw.

        Raises:
            MmfuseError: settings of a pair or an override that are wrong, with their line.
        """
        cells = self._expand()
        return list(cells if self.tuned is None else self._with_tuned(self.tuned, cells))

    def untuned_cells(self) -> list[Cell]:
        """The same cells without settings that were searched, as a search begins from them.

        Raises:
            MmfuseError: as `cells`.
        """
        return list(self._expand())

    def _with_tuned(self, tuned: TunedSettings, cells: Iterator[Cell]) -> Iterator[Cell]:
        """Put in what was searched, last: it was found beside all other settings, overrides included."""
        found: dict[tuple[Any, ...], Cell] = {}
        for cell in cells:
            # Cells that differ in draw and seed alone share their settings, as long as the expansion goes on.
            groups = (cell.train, cell.clip, cell.fusion, cell.encoders, cell.prompts, cell.templates)
            key = (cell.dataset.name, cell.split, cell.pair.name, cell.shots, cell.precision, *map(id, groups))
            if key not in found:
                try:
                    found[key] = tuned.applied(cell)
                except MmfuseError as fault:
                    raise self.source.error(["tuned"], f"{self.grid.tuned}: {fault}") from None
            searched = {"train": found[key].train, "pair": found[key].pair}
            yield Cell.model_construct(**{**{name: getattr(cell, name) for name in Cell.model_fields}, **searched})

    def _expand(self) -> Iterator[Cell]:
        grid = self.grid
        datasets = [self._located(self._with_protocol(dataset)) for dataset in grid.datasets]
        settled: dict[str, dict[str, Any]] = {}
        described: set[tuple[str, str]] = set()
        for dataset, split, (number, pair), shots, seed, draw in itertools.product(
            datasets, grid.splits, self.pairs(), grid.shots, grid.seeds, grid.values("draws")
        ):
            axes = Axes(dataset.name, split, pair.name, shots, draw, seed)
            applied = [at for at, override in enumerate(grid.overrides) if override.where.fits(axes)]
            key = f"{number}/{applied}"
            if key not in settled:
                settled[key] = self._settle(number, applied)
            if settled[key]["prompts"] is not None and (dataset.name, key) not in described:
                described.add((dataset.name, key))
                self._check_prompts(dataset, number, applied, settled[key])
            yield Cell.model_construct(
                dataset=dataset,
                split=split,
                pair=pair,
                shots=shots,
                draw=draw,
                seed=seed,
                test_on=self.tests.of(dataset),
                **settled[key],
            )

    def _settle(self, pair: int, overrides: list[int]) -> dict[str, Any]:
        """The settings of a cell: the grid's, then the pair's own, then the overrides in their order."""
        grid = self.grid
        layers: list[tuple[list[str | int], Any]] = [(["pairs", pair], grid.pairs[pair])]
        layers += [(["overrides", at], grid.overrides[at]) for at in overrides]
        settled: dict[str, Any] = {"templates": grid.templates, "precision": grid.precision, "setting": grid.setting}
        for group in SETTINGS:
            value = getattr(grid, group)
            for place, layer in layers:
                if (change := getattr(layer, group)) is not None:
                    value = self._with_changes(value, change, [*place, group])
            settled[group] = value
        for _, layer in layers[1:]:
            if layer.precision is not None:
                settled["precision"] = layer.precision
        settled["devices"] = grid.run.devices
        self._check_shares(settled["train"].batch_size, layers)
        self.tests.refuse_without_text(settled["fusion"])
        settled["encoders"] = _located_encoders(settled["encoders"], self.source.path.parent)
        if self.tests.untrained:
            self.tests.refuse_training(self.grid.pairs[pair].plain(), settled["encoders"], [([], grid), *layers])
        settled["prompts"] = self._sentences(pair, overrides)[1]
        if settled["prompts"] is not None:
            settled["templates"] = None
        return settled

    def _check_shares(self, batch_size: int, layers: list[tuple[list[str | int], Any]]) -> None:
        """A batch that its devices cannot share evenly would be another one than the grid asks for."""
        devices = self.grid.run.devices
        if rest := batch_size % devices:
            fitting = " or ".join(str(size) for size in (batch_size - rest, batch_size - rest + devices) if size)
            changed = [place for place, layer in layers if "batch_size" in (layer.train or {})]
            place = [*changed[-1], "train", "batch_size"] if changed else ["run", "devices"]
            problem = f"a batch of {batch_size} clips cannot be shared among {devices} devices; use {fitting}"
            raise self.source.error(place, problem)

    def _sentences(self, pair: int, overrides: Sequence[int]) -> tuple[list[str | int], Sentences | None]:
        """The class prompts of a cell, read once each, with their place: the grid's, the pair's or an override's."""
        place: list[str | int] = ["prompts"]
        given = self.grid.prompts
        layers: list[tuple[list[str | int], Any]] = [(["pairs", pair], self.grid.pairs[pair])]
        layers += [(["overrides", at], self.grid.overrides[at]) for at in overrides]
        for where, layer in layers:
            if layer.prompts is not None:
                place, given = [*where, "prompts"], layer.prompts
        if given is None:
            return place, None
        if str(place) not in self._prompts:
            try:
                self._prompts[str(place)] = given_prompts(given, self.source.path.parent)
            except MmfuseError as fault:
                raise self.source.error(place, str(fault)) from None
        return place, self._prompts[str(place)]

    def _check_prompts(self, dataset: Dataset, pair: int, overrides: Sequence[int], settled: dict[str, Any]) -> None:
        """Refuse sentences that nothing reads, and those of other classes, as far as a card tells of classes."""
        place, sentences = self._sentences(pair, overrides)
        assert sentences is not None
        try:
            refuse_unread_prompts(sentences, settled["fusion"], self.tests.of(dataset))
            card = None if dataset.own else load_card(dataset.name)
            if card is not None and card.class_names:
                by_class(sentences, names=card.class_names, phrases=card.phrases)
        except (MmfuseError, ValueError) as fault:
            raise self.source.error(place, str(fault)) from None

    def _with_changes(self, value: Strict, change: dict[str, Any], place: list[str | int]) -> Strict:
        # Another kind of fusion has other arguments: it starts afresh.
        kept = {} if "kind" in change else value.model_dump(exclude_unset=True)
        try:
            return type(value).model_validate({**kept, **change})
        except ValidationError as fault:
            raise self.source.first_error(fault, within=place) from None

    def _located(self, dataset: SourceKind) -> SourceKind:
        """Make the paths of a data set absolute: they are given from the grid file, or from the current folder."""
        beside = self.source.path.parent
        update: dict[str, Any] = {}
        if dataset.own and dataset.root is not None:
            root = _absolute(dataset.root, beside)
            update = {"root": root, **({} if dataset.train or dataset.test else lists_in(Path(root)))}
        if isinstance(dataset, Dataset) and dataset.train_lists:
            update["train_lists"] = {shots: _absolute(path, beside) for shots, path in dataset.train_lists.items()}
        return dataset.model_copy(update=update) if update else dataset


def _absolute(path: str, beside: Path) -> str:
    given = user_path(path)
    near = beside / given
    return str((near if near.exists() else given).absolute())


def _located_encoders(encoders: Encoders, beside: Path) -> Encoders:
    """Make towers that are local folders absolute; other names stay."""
    update = {}
    for tower in ("image", "text"):
        name = getattr(encoders, tower)
        if name.startswith((".", "~", "/")) or (beside / name).is_dir():
            update[tower] = _absolute(name, beside)
    return encoders.model_copy(update=update) if update else encoders


def grid_names() -> list[str]:
    """The grids that ship with the package."""
    return sorted(path.stem for path in grids_folder().glob("*.yaml"))


def dataset_names() -> list[str]:
    """The data sets that have a card."""
    return sorted(path.stem for path in cards_folder().glob("*.yaml"))


def load_grid(name: str) -> LoadedGrid:
    """A grid by its name or its file.

    Raises:
        MmfuseError: no such grid, or a fault in its file, with file, line and key.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = user_path(name)
        if not path.is_file():
            raise MmfuseError(f"there is no grid file {path}; see mmfuse-bench list grids for those that ship")
        return LoadedGrid(YamlSource(path))
    if name not in grid_names():
        raise unknown("grid", name, grid_names())
    return LoadedGrid(YamlSource(grids_folder() / f"{name}.yaml"))

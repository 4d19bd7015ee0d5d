"""The searches of a grid: one for each pair, data set and split, all with the same budget, and the file of winners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmfuse.bench.digests import known_inputs
from mmfuse.bench.grid import LoadedGrid
from mmfuse.bench.job import Report
from mmfuse.bench.plan import select
from mmfuse.bench.tuning.budget import Budget
from mmfuse.bench.tuning.choice import MARGIN, choose
from mmfuse.bench.tuning.space import Space, space_of
from mmfuse.bench.tuning.trials import Journal, Trial
from mmfuse.bench.tuning.tuned import TunedFile, Validation, Winner, base_digest
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.record import now
from mmfuse.utils.files import sha256_of_json
from mmfuse.version import __version__

if TYPE_CHECKING:
    from mmfuse.bench.tuning.folds import Fold, TrainingPool
    from mmfuse.bench.tuning.search import Search

READ = ("dataset", "videos", "image_tower", "text_tower", "train_clips")
"""The inputs of a search that its file names by their digests."""


@dataclass(frozen=True)
class Place:
    """Where settings are searched.

    Args:
        cell: whose training clips are searched on.
        shots: for which numbers of shots the settings are.
        inputs: digests of what the search reads.
    """

    cell: Cell
    shots: tuple[Any, ...]
    inputs: Inputs

    @property
    def title(self) -> str:
        """For example `tiny lora+frozen K=8`."""
        split = f" split {self.cell.split}" if self.cell.split != 1 else ""
        return f"{self.cell.dataset.name}{split} {self.cell.pair.name} K={self.cell.shots}"

    @property
    def name(self) -> str:
        """The title with a digest of all that decides what a trial gives, so that changed ones are searched anew."""
        return f"{self.title} {sha256_of_json([self.cell.config_hash, self.inputs.model_dump()])[:12]}"


class GridSearch:
    """All searches of a grid.

    Each split is searched on its own training clips, since those of one may stand in the test list of another; and on
    the first draw of the largest number of shots, or of each.

    Args:
        grid: the grid.
        only: only such cells are searched: "pair=dora+adapter".
        by_shots: search for each number of shots apart.
        data_root: the folder that holds the data sets.
        annotations: the folder with official lists, where they do not lie below the data.

    Raises:
        MmfuseError: there is nothing to search, or data or towers are missing.
    """

    def __init__(
        self,
        grid: LoadedGrid,
        *,
        only: Sequence[str] = (),
        by_shots: bool = False,
        data_root: Path,
        annotations: Path | None = None,
    ) -> None:
        from mmfuse.bench.preflight import check_towers
        from mmfuse.bench.tuning.folds import folds_of
        from mmfuse.bench.tuning.prepare import pool_of

        self._grid = grid
        self._data_root, self._annotations = data_root, annotations
        cells = grid.untuned_cells()
        chosen = {cell.name for cell in select(cells, only)}
        searched = _searched(cells, by_shots=by_shots)
        if not searched:
            raise MmfuseError("the grid trains nothing, so that there is nothing to search")
        check_towers([cell for cell, _ in searched])
        self._pools: dict[str, TrainingPool] = {}
        self._folds: dict[str, tuple[Fold, ...]] = {}
        self.places: list[Place] = []
        for cell, shots in searched:
            key = _data_key(cell)
            if key not in self._pools:
                self._pools[key] = pool_of(cell, data_root=data_root, annotations=annotations)
                self._folds[key] = folds_of(self._pools[key])
            inputs = known_inputs(cell).model_copy(update={"train_clips": self._pools[key].fingerprint})
            self.places.append(Place(cell, shots, inputs))
        asked = {cell.axes._replace(draw=0, seed=0, shots=0) for cell in cells if cell.name in chosen}
        self.asked = [place for place in self.places if place.cell.axes._replace(draw=0, seed=0, shots=0) in asked]
        """The places that are searched now."""

    def space(self, place: Place) -> Space:
        """What is searched at a place."""
        return space_of(place.cell)

    def held_out(self, place: Place) -> int:
        """How many clips a setting is judged on."""
        return sum(len(fold.held) for fold in self._folds[_data_key(place.cell)])

    def searches(self, report: Report) -> list[Search]:
        """The searches that are made now.

        Args:
            report: told how far the training of a fold is.
        """
        from mmfuse.bench.clip_cache import plan_cache
        from mmfuse.bench.tuning.prepare import search_of

        cells = [place.cell for place in self.asked]
        store = plan_cache(cells, data_root=self._data_root, wish="auto", annotations=self._annotations)
        return [
            search_of(
                place.name,
                self.space(place),
                self._pools[_data_key(place.cell)],
                title=place.title,
                store=store.store_for(place.cell),
                report=report,
            )
            for place in self.asked
        ]

    def winners(self, journal: Journal) -> list[Winner]:
        """What was found, at all places with a trial that came to its end."""
        found = [self._winner(place, journal.of(place.name)) for place in self.places]
        return [one for one in found if one is not None]

    def _winner(self, place: Place, trials: list[Trial]) -> Winner | None:
        from mmfuse.bench.tuning.fold_training import validation_groups

        folds = self._folds[_data_key(place.cell)]
        groups = validation_groups(folds)
        choice = choose(trials, groups)
        if choice is None:
            return None
        space = self.space(place)
        gain = choice.gain
        return Winner(
            dataset=place.cell.dataset.name,
            split=place.cell.split,
            pair=place.cell.pair.name,
            shots=place.shots,
            settings=dict(space.settings(choice.chosen.point)),
            default=choice.keeps_default,
            trials=len(trials),
            validation=Validation(
                top1=_rounded(choice.chosen.accuracy) or 0.0,
                default=None if choice.default is None else _rounded(choice.default.accuracy),
                gain=None if gain is None else _rounded(gain.mean),
                error=None if gain is None else _rounded(gain.error),
                clips=len(groups),
                sources=len(set(groups)),
                folds=len(folds),
            ),
            searched={"shots": place.cell.shots, **space.document()},
            base=base_digest(place.cell),
            read={name: digest for name in READ if (digest := getattr(place.inputs, name)) is not None},
        )

    def file(self, journal: Journal, *, budget: Budget, seed: int, command: str) -> TunedFile:
        """The file of winners.

        Raises:
            MmfuseError: no trial came to its end.
        """
        winners = self.winners(journal)
        if not winners:
            errors = [trial.error for trial in journal.trials if trial.error]
            told = f"; the first fault: {errors[0]}" if errors else "; give more by --budget"
            raise MmfuseError(f"no trial came to its end{told}")
        return TunedFile(
            grid=self._grid.grid.name,
            command=command,
            budget=budget.document(),
            seed=seed,
            margin=MARGIN,
            versions={"mmfuse": __version__, "optuna": version("optuna"), "torch": version("torch")},
            written=now(),
            winners=tuple(winners),
        )


def _searched(cells: Sequence[Cell], *, by_shots: bool) -> list[tuple[Cell, tuple[Any, ...]]]:
    """The cells that are searched on, each with the numbers of shots that its settings are for."""
    by_place: dict[tuple[Any, ...], dict[Any, Cell]] = {}
    for cell in cells:
        if cell.shots != 0:  # nothing is trained then
            # Where an override gives some K other settings, these are searched apart.
            key = (cell.dataset.name, cell.split, cell.pair.name, base_digest(cell))
            by_place.setdefault(key, {}).setdefault(cell.shots, cell)  # of the first draw and seed
    found = []
    for of_shots in by_place.values():
        if by_shots:
            found += [(cell, (shots,)) for shots, cell in of_shots.items()]
            continue
        largest = max(of_shots, key=lambda shots: float("inf") if shots == "all" else shots)
        found.append((of_shots[largest], tuple(of_shots)))
    return found


def _data_key(cell: Cell) -> str:
    """What tells training clips apart."""
    return sha256_of_json([cell.dataset.model_dump(mode="json"), cell.split, cell.shots, cell.draw, cell.setting])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

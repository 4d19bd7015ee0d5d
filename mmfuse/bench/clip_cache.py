"""Which decoded clips a run keeps, so that its cells decode each clip once between them."""

from __future__ import annotations

import contextlib
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmfuse.bench.digests import clip_frames, frame_size
from mmfuse.bench.estimate import keeps_features
from mmfuse.bench.resolve import dataset_root
from mmfuse.bench.tested_data import trained_half
from mmfuse.data.cache.clip_store import free_bytes
from mmfuse.data.cache.fill import ensure, size
from mmfuse.data.cache.plan import ClipSelection, StoreContents, located_catalogue, store_contents
from mmfuse.data.catalogue.load import Catalogue
from mmfuse.errors import MmfuseError, MmfuseWarning
from mmfuse.records.cell import Cell
from mmfuse.utils.files import cache_folder, user_path
from mmfuse.utils.processes import usable_cores

AUTO, OFF = "auto", "off"
SHARE = 4
"""Of the free disk, kept clips take at most one part in so many, unless a folder is named for them."""
SAMPLE = 16
"""Videos whose headers tell how large the clips of a store are."""


@dataclass(frozen=True)
class CachePlan:
    """What a run keeps.

    Args:
        selections: the cells, by what they look at, that read and fill a store.
        folder: of all stores: a path, or "auto" for the cache folder of whatever machine a cell runs on.
        message: what is told about it; empty where there is nothing to tell.
        contents: the stores, with what they are to hold.
    """

    selections: frozenset[ClipSelection] = frozenset()
    folder: str = AUTO
    message: str = ""
    contents: tuple[StoreContents, ...] = ()

    def store_for(self, cell: Cell) -> str | None:
        """The folder of stores that a cell is given, as `store_folder` takes it."""
        return self.folder if selection_of(cell) in self.selections else None


def store_folder(named: str) -> Path:
    """The folder of all stores behind a name: "auto" or a path."""
    return cache_folder() / "clips" if named == AUTO else Path(named)


def selection_of(cell: Cell) -> ClipSelection:
    """What a cell looks at."""
    place = (cell.dataset.model_dump_json(), cell.split)
    return ClipSelection(
        place,
        cell.shots,
        cell.draw,
        train_list=cell.train_list,
        protocol=cell.dataset.protocol,
        classes=trained_half(cell),
        frames=clip_frames(cell),
        size=frame_size(cell),
        test_clips=cell.clip.test_clips_and_crops[0],
        damaged=cell.dataset.damaged,
    )


def catalogue_of(cell: Cell, data_root: Path | None, *, annotations: Path | None = None) -> Catalogue:
    """A cell's data set with every video in its place.

    Raises:
        MmfuseError: videos or lists are missing.
    """
    root = dataset_root(cell.dataset, data_root)
    return located_catalogue(cell.dataset.request(), split=cell.split, root=root, annotations=annotations)


def has_store(cell: Cell, *, data_root: Path, annotations: Path | None = None) -> bool:
    """Whether clips as a cell looks at them were kept in this machine's cache folder before."""
    if not (store_folder(AUTO) / cell.dataset.name).is_dir():
        return False
    found = store_contents(
        [selection_of(cell)],
        folder=store_folder(AUTO),
        catalogue_of=lambda _: catalogue_of(cell, data_root, annotations=annotations),
    )
    return any(need.store.folder.is_dir() for need in found)


def plan_cache(cells: Sequence[Cell], *, data_root: Path, wish: str, annotations: Path | None = None) -> CachePlan:
    """Decide what a run keeps.

    With "auto" the clips of a data set are kept where some cell looks at them again and again, since it trains the
    image tower or augments its clips (features of a frozen tower are kept by themselves), or where a store was begun
    already; and as long as the smallest of them fit into a share of the free disk. A folder that is named takes all.

    Args:
        cells: what will be run.
        data_root: the folder that holds the data sets.
        wish: "auto", "off" or a folder.
        annotations: the folder with official lists, where they do not lie below the data.

    Raises:
        MmfuseError: the named folder cannot be written, or data are missing.
    """
    if wish == OFF or not cells:
        return CachePlan()
    named = AUTO if wish == AUTO else str(user_path(wish).absolute())
    folder = store_folder(named)
    if named != AUTO:
        _refuse_unwritable(folder)
    of_selection: dict[ClipSelection, list[Cell]] = {}
    for cell in cells:
        of_selection.setdefault(selection_of(cell), []).append(cell)
    found = store_contents(
        of_selection,
        folder=folder,
        catalogue_of=lambda selection: catalogue_of(of_selection[selection][0], data_root, annotations=annotations),
    )
    if named == AUTO:
        seen_again = {selection for selection, members in of_selection.items() if not all(map(keeps_features, members))}
        found = [need for need in found if need.store.folder.is_dir() or seen_again.intersection(need.selections)]
    return _within_budget(found, named, free_bytes(folder) // SHARE if named == AUTO else None)


def _within_budget(found: list[StoreContents], named: str, budget: int | None) -> CachePlan:
    """The stores that fit into a budget, the smallest first."""
    lacking = {id(need): _bytes_lacking(need) for need in found}
    kept, dropped, total = [], [], 0
    for need in sorted(found, key=lambda need: lacking[id(need)]):
        if budget is None or total + lacking[id(need)] <= budget:
            kept.append(need)
            total += lacking[id(need)]
        else:
            dropped.append(f"{need.store.dataset} ({size(lacking[id(need)])})")
    folder = store_folder(named)
    parts = []
    if total:
        parts.append(f"decoded clips are kept in {folder}, about {size(total)} more of {size(free_bytes(folder))} free")
    if dropped:
        parts.append(
            f"those of {', '.join(dropped)} are not kept in {folder}, as a quarter of the free disk is the limit: "
            "every cell decodes them anew; --store DIR keeps them all in DIR"
        )
    selections = frozenset(selection for need in kept for selection in need.selections)
    return CachePlan(selections, named, "; ".join(parts), tuple(kept))


def fill_ahead(plan: CachePlan, *, report: Callable[[str, int, int], None]) -> None:
    """Decode all that a plan keeps, on all cores of this machine, so that no cell waits for it.

    A clip that cannot be decoded is left for the cells that look at it, which name it.

    Args:
        plan: what is kept.
        report: told, after each clip, the data set, clips done and clips to do; 0 clips to do mean that another process
            of this machine decodes them, and is waited for.

    Warns:
        MmfuseWarning: the disk is full or cannot be written; cells then decode for themselves.
    """
    for need in plan.contents:
        tell = partial(report, need.store.dataset)
        try:
            ensure(need.store, list(need.wanted), workers=usable_cores(), report=tell, waits=partial(tell, 0, 0))
        except MmfuseError as fault:
            warnings.warn(f"{fault} (each cell decodes what is not kept)", MmfuseWarning, stacklevel=2)


def _bytes_lacking(need: StoreContents) -> int:
    """About how much room the missing clips of a store take: their number times what a few of them would."""
    total = 0.0
    for candidates in {want.candidates for want in need.wanted}:
        absent = [want for want in need.wanted if want.candidates == candidates]
        absent = [want for want in absent if not need.store.file_of(want.clip, want.candidates).exists()]
        sizes = []
        for want in absent[:: max(1, len(absent) // SAMPLE)]:
            with contextlib.suppress(MmfuseError):  # a video that cannot be read is its cell's to tell
                sizes.append(need.store.bytes_needed(want))
        total += len(absent) * statistics.mean(sizes) if sizes else 0
    return int(total)


def _refuse_unwritable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise MmfuseError(f"--store {folder}: cannot be written ({fault.strerror or fault})") from None

"""What `mmfuse data cache` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmfuse.cli.common import complain, out, print_json
from mmfuse.cli.datasets import shots_of
from mmfuse.data.cache.clip_store import ClipStore
from mmfuse.data.cache.fill import FillPlan, ensure, plan_fill, size
from mmfuse.data.cache.plan import ClipSelection, StoreContents, located_catalogue, store_contents
from mmfuse.data.catalogue.custom import named
from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.frames.video import Damaged
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import cache_folder
from mmfuse.utils.processes import usable_cores
from mmfuse.utils.progress import progress_bar


@dataclass(frozen=True)
class CacheRequest:
    """The options of the command that say what is to be kept."""

    dataset: str | None
    grid: str | None
    root: Path | None
    annotations: Path | None
    split: int
    shots: str
    draws: str
    frames: int | None
    size: int | None
    damaged: Damaged = "error"


def cache(request: CacheRequest, *, store: Path | None, workers: int | None, dry_run: bool, json: bool) -> bool:
    """Fill the store; returns whether everything could be decoded."""
    folder = store or cache_folder() / "clips"
    told = []
    for need in _stores(request, folder):
        clips, wanted = need.store, list(need.wanted)
        work = plan_fill(clips, wanted)
        if not json:
            _announce(clips, work)
        failures = work.failures
        if not dry_run and work.to_be_done:
            with progress_bar(f"decoding {clips.dataset}") as report:
                failures = ensure(clips, wanted, workers=workers or usable_cores(), report=report)
        told.append(
            {
                "dataset": clips.dataset,
                "folder": str(clips.folder),
                "clips": len(wanted),
                "present_before": work.present,
                "decoded": 0 if dry_run else len(wanted) - work.present - len(failures),
                "bytes_needed": work.bytes_needed,
                "bytes_free": work.bytes_free,
                "failed": failures,
            }
        )
        for fault in failures.values():
            complain("mmfuse", fault)
    if json:
        print_json({"stores": told})
    return not any(entry["failed"] for entry in told)


def _announce(clips: ClipStore, work: FillPlan) -> None:
    need = f"needs {size(work.bytes_needed)} of {size(work.bytes_free)} free" if work.todo else "nothing to do"
    out().print(
        f"{clips.dataset}: {work.present:,} clips are there, {len(work.todo):,} to decode, {need}\n  {clips.folder}",
        markup=False,
        soft_wrap=True,
    )


def _stores(request: CacheRequest, folder: Path) -> list[StoreContents]:
    """Every store that the request needs, with what it is to hold."""
    if (request.dataset is None) == (request.grid is None):
        raise MmfuseError("name a data set or a --grid, and not both")
    if request.grid is not None:
        from mmfuse.bench.clip_cache import catalogue_of, selection_of
        from mmfuse.bench.grid import load_grid

        cells = {selection_of(cell): cell for cell in load_grid(request.grid).cells()}
        return store_contents(
            cells,
            folder=folder,
            catalogue_of=lambda selection: catalogue_of(
                cells[selection], request.root, annotations=request.annotations
            ),
        )
    assert request.dataset is not None
    if not all(part.strip().isdecimal() for part in request.draws.split(",")):
        raise MmfuseError(f"draws are numbers with commas between them, such as 0,1,2; not {request.draws!r}")
    shots = shots_of(request.shots)
    selections = [
        ClipSelection("", shots, int(draw), frames=request.frames, size=request.size, damaged=request.damaged)
        for draw in request.draws.split(",")
    ]
    return store_contents(selections, folder=folder, catalogue_of=lambda _: _requested_catalogue(request))


def _requested_catalogue(request: CacheRequest) -> Catalogue:
    assert request.dataset is not None
    dataset = named(request.dataset)
    root = request.root if isinstance(dataset, str) else None
    return located_catalogue(dataset, split=request.split, root=root, annotations=request.annotations)

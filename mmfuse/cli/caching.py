"""What `mmfuse data cache` does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmfuse.cli.common import out, print_json
from mmfuse.cli.datasets import named, shots_of
from mmfuse.data import few_shot
from mmfuse.data.annotations import Catalogue, load_catalogue
from mmfuse.data.clip_store import ClipStore, Sampling, Wanted, wanted_clips
from mmfuse.data.few_shot import Shots
from mmfuse.data.parallel import usable_cores
from mmfuse.data.progress import progress_bar
from mmfuse.data.store_filling import Plan, ensure, plan, size
from mmfuse.errors import MmfuseError
from mmfuse.files import cache_folder


@dataclass(frozen=True)
class Wishes:
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


@dataclass(frozen=True)
class _Look:
    """What one cell, or one command, looks at."""

    dataset: str | dict[str, Any]
    split: int
    frames: int | None
    size: int | None
    shots: Shots
    draw: int


def cache(wishes: Wishes, *, store: Path | None, workers: int | None, dry_run: bool, json: bool) -> bool:
    """Fill the store; returns whether everything could be decoded."""
    folder = store or cache_folder() / "clips"
    told = []
    for clips, wanted in _stores(wishes, folder):
        work = plan(clips, wanted)
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
                "clips": len(set(wanted)),
                "present_before": work.present,
                "decoded": 0 if dry_run else len(set(wanted)) - work.present - len(failures),
                "bytes_needed": work.bytes_needed,
                "bytes_free": work.bytes_free,
                "failed": failures,
            }
        )
        for fault in failures.values():
            print(f"mmfuse: {fault}", file=sys.stderr)
    if json:
        print_json({"stores": told})
    return not any(entry["failed"] for entry in told)


def _announce(clips: ClipStore, work: Plan) -> None:
    need = f"needs {size(work.bytes_needed)} of {size(work.bytes_free)} free" if work.todo else "nothing to do"
    out().print(
        f"{clips.dataset}: {work.present:,} clips are there, {len(work.todo):,} to decode, {need}\n  {clips.folder}",
        markup=False,
        soft_wrap=True,
    )


def _stores(wishes: Wishes, folder: Path) -> Iterator[tuple[ClipStore, list[Wanted]]]:
    """Every store that the wishes need, with what it is to hold."""
    together: dict[tuple[str, Sampling], tuple[ClipStore, list[Wanted]]] = {}
    catalogues: dict[str, Catalogue] = {}
    for look in dict.fromkeys(_looks(wishes)):
        key = f"{look.dataset} {look.split}"
        if key not in catalogues:
            catalogues[key] = _found(look, wishes)
        catalogue = catalogues[key]
        card = catalogue.card
        side = look.size or card.size
        sampling = Sampling(frames=look.frames or card.frames, short_side=card.scale_for(side))
        store = ClipStore(folder, dataset=catalogue.name, sampling=sampling)
        rows = few_shot.draw(catalogue, shots=look.shots, draw=look.draw)
        few_shot.certify(catalogue, rows, shots=look.shots, draw=look.draw)
        _, wanted = together.setdefault((catalogue.name, sampling), (store, []))
        wanted += wanted_clips(rows, catalogue.part("test"), candidates=card.candidates)
    for store, wanted in together.values():
        yield store, list(dict.fromkeys(wanted))


def _looks(wishes: Wishes) -> Iterator[_Look]:
    if (wishes.dataset is None) == (wishes.grid is None):
        raise MmfuseError("name a data set or a --grid, and not both")
    if wishes.dataset is not None:
        if not all(part.strip().isdecimal() for part in wishes.draws.split(",")):
            raise MmfuseError(f"draws are numbers with commas between them, such as 0,1,2; not {wishes.draws!r}")
        dataset = named(wishes.dataset)
        for draw in map(int, wishes.draws.split(",")):
            yield _Look(_hashable(dataset), wishes.split, wishes.frames, wishes.size, shots_of(wishes.shots), draw)
        return
    from mmfuse.bench.grid import load_grid

    assert wishes.grid is not None
    for cell in load_grid(wishes.grid).cells():
        dataset = _hashable(cell.dataset.request())
        yield _Look(dataset, cell.split, cell.clip.frames, cell.clip.size, cell.shots, cell.draw)


class _Own(dict[str, Any]):
    """The keys of a user's own data set, to be compared by what they say."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items())))


def _hashable(dataset: str | dict[str, Any]) -> str | dict[str, Any]:
    return _Own(dataset) if isinstance(dataset, dict) else dataset


def _found(look: _Look, wishes: Wishes) -> Catalogue:
    """The catalogue, with every video in its place."""
    if look.dataset == "tiny":
        from mmfuse.data import tiny_actions

        catalogue, made = load_catalogue("tiny", split=look.split), tiny_actions.generate()
        return replace(
            catalogue, table=catalogue.table.assign(path=[str(made / path) for path in catalogue.table["path"]])
        )
    root = wishes.root if isinstance(look.dataset, str) else None
    catalogue = load_catalogue(look.dataset, split=look.split, root=root, annotations=wishes.annotations)
    clips = zip(catalogue.table["clip"], catalogue.table["path"], strict=True)
    missing = [clip for clip, path in clips if not Path(path).is_file()]
    if missing:
        shown = ", ".join(missing[:3])
        where = f"below {catalogue.root}" if catalogue.root else "(say where the videos are with --root)"
        raise MmfuseError(f"{catalogue.card.title}: {len(missing):,} videos are missing {where}, such as {shown}")
    return catalogue

"""What has to be in a clip store for given trainings: one store for each data set and sampling, with its clips."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mmfuse.data import few_shot
from mmfuse.data.base_to_novel import base_clips, part_of
from mmfuse.data.cache.clip_store import ClipStore, StoreFormat, WantedClip, wanted_clips
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.data.class_subsets import Half
from mmfuse.data.few_shot import Shots
from mmfuse.data.frames.video import Damaged
from mmfuse.data.published_lists import training_clips
from mmfuse.data.tiny import make_clips
from mmfuse.errors import MmfuseError


@dataclass(frozen=True)
class ClipSelection:
    """What one training, and its test, looks at.

    Args:
        place: whatever tells the catalogue; selections with the same place share one.
        shots, draw: as in `few_shot.draw_clips`.
        train_list, protocol: a published list instead, by its file or by the name of its protocol.
        classes: "base" where training clips are of base classes alone; all test clips are looked at.
        frames, size: of a clip; `None` for what its card says.
        test_clips: how many clips of each test video are looked at.
        damaged: what is done about damaged videos.
    """

    place: Hashable
    shots: Shots
    draw: int
    train_list: str | None = None
    protocol: str | None = None
    classes: Half | None = None
    frames: int | None = None
    size: int | None = None
    test_clips: int = 1
    damaged: Damaged = "error"

    def sampling(self, catalogue: Catalogue) -> StoreFormat:
        """What is kept of each of its clips."""
        card = catalogue.card
        short_side = card.scale_for(self.size or card.usual_size)
        return StoreFormat(frames=self.frames or card.frames, short_side=short_side, damaged=self.damaged)


@dataclass(frozen=True)
class StoreContents:
    """A store, the clips that it is to hold, and the selections that need them."""

    store: ClipStore
    wanted: dict[WantedClip, None] = field(default_factory=dict)
    selections: list[ClipSelection] = field(default_factory=list)


def store_contents(
    selections: Iterable[ClipSelection], *, folder: Path, catalogue_of: Callable[[ClipSelection], Catalogue]
) -> list[StoreContents]:
    """Every store that some selections need, each clip once.

    Args:
        selections: what will be looked at.
        folder: of all stores.
        catalogue_of: the clips of a selection, with every video in its place; asked once for each place.

    Raises:
        MmfuseError: a draw that cannot be made, or another one than the certified one.
    """
    catalogues: dict[Hashable, Catalogue] = {}
    drawn: dict[Hashable, list[WantedClip]] = {}
    found: dict[tuple[str, StoreFormat], StoreContents] = {}
    for selection in dict.fromkeys(selections):
        if selection.place not in catalogues:
            catalogues[selection.place] = catalogue_of(selection)
        catalogue = catalogues[selection.place]
        key = (
            selection.place,
            selection.shots,
            0 if selection.shots == "all" else selection.draw,
            selection.train_list,
            selection.protocol,
            selection.classes,
            selection.test_clips,
        )
        if key not in drawn:
            drawn[key] = _wanted_clips(catalogue, selection)
        sampling = selection.sampling(catalogue)
        store = ClipStore(folder, dataset=catalogue.name, sampling=sampling)
        need = found.setdefault((catalogue.name, sampling), StoreContents(store))
        need.wanted.update(dict.fromkeys(drawn[key]))
        need.selections.append(selection)
    return list(found.values())


def _wanted_clips(catalogue: Catalogue, selection: ClipSelection) -> list[WantedClip]:
    rows = _trained_on(catalogue, selection)
    if selection.protocol is not None:
        few_shot.certify_test_list(catalogue)
    elif selection.train_list is None:
        few_shot.certify(catalogue, rows, shots=selection.shots, draw=selection.draw)
    return wanted_clips((rows, catalogue.card.candidates), (catalogue.part("test"), selection.test_clips))


def _trained_on(catalogue: Catalogue, selection: ClipSelection) -> pd.DataFrame:
    shots, draw, protocol = selection.shots, selection.draw, selection.protocol
    if protocol is not None and selection.classes is not None:
        part = part_of(catalogue, selection.classes, protocol=protocol)
        return base_clips(catalogue, part, shots=shots, draw=draw, protocol=protocol)
    return training_clips(catalogue, shots=shots, draw=draw, train_list=selection.train_list, protocol=protocol)


def located_catalogue(
    dataset: str | dict[str, Any], *, split: int, root: Path | None, annotations: Path | None = None
) -> Catalogue:
    """A catalogue with every video in its place; those of the generated data set are made.

    Args: see `load_catalogue`.

    Raises:
        MmfuseError: as `load_catalogue`, or videos are missing.
    """
    catalogue = load_catalogue(dataset, split=split, root=root, annotations=annotations)
    make_clips(catalogue)
    clips = zip(catalogue.table["clip"], catalogue.table["path"], strict=True)
    missing = [clip for clip, path in clips if not Path(path).is_file()]
    if missing:
        shown = ", ".join(missing[:3])
        where = f"below {catalogue.root}" if catalogue.root else "(say where the videos are with --root)"
        raise MmfuseError(f"{catalogue.card.title}: {len(missing):,} videos are missing {where}, such as {shown}")
    return catalogue

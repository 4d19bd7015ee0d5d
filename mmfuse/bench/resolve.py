"""Resolving a cell: everything that data, model and trainer need to know of it on this machine, found once.

No torch here. What is resolved holds for the machine that resolves: paths and towers may lie elsewhere on the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmfuse.bench.digests import clip_frames, frame_size, known_inputs
from mmfuse.data.catalogue.cards import DataCard, load_card
from mmfuse.records.cell import Cell, Inputs, Source


@dataclass(frozen=True)
class ResolvedCell:
    """A cell with what it means on this machine.

    Args:
        cell: the cell.
        inputs: digests of what it reads, as it is now; of the draw and the test list only the data can tell.
        root: the folder that the data side is given; `None` where the data set knows its own place.
        annotations: the folder with official lists, where they do not lie below the data.
        frames: T, frames a clip.
        size: S, the side of the frames in pixels; `None` where the image tower decides, and is not on this machine.
    """

    cell: Cell
    inputs: Inputs
    root: Path | None
    annotations: Path | None
    frames: int
    size: int | None


def dataset_root(dataset: Source, data_root: Path | str | None) -> Path | None:
    """The folder that the data side is given: an own or generated data set knows its own place."""
    if dataset.own or data_root is None or load_card(dataset.name).generated:
        return None
    return Path(data_root)


def resolve(cell: Cell, *, data_root: Path | str | None = None, annotations: Path | str | None = None) -> ResolvedCell:
    """Resolve a cell on this machine.

    Args:
        cell: the cell.
        data_root: the folder that holds the data sets.
        annotations: the folder with official lists, where they do not lie below the data.

    Raises:
        MmfuseError: files of the data set or of a tower cannot be read.
    """
    card = None if cell.dataset.own else load_card(cell.dataset.name)
    return ResolvedCell(
        cell=cell,
        inputs=known_inputs(cell),
        root=dataset_root(cell.dataset, data_root),
        annotations=None if annotations is None else Path(annotations),
        frames=clip_frames(cell) or (DataCard.frames if card is None else card.frames),
        size=frame_size(cell),
    )

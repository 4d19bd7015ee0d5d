"""From cells to searches: the data are read here, once, and only training clips are handed on."""

from __future__ import annotations

from pathlib import Path

from mmfuse.bench.job import Job, Report
from mmfuse.bench.resolve import resolve
from mmfuse.bench.run_cell import make_data, quiet
from mmfuse.bench.tuning.fold_training import FoldTraining
from mmfuse.bench.tuning.folds import TrainingPool, training_pool
from mmfuse.bench.tuning.search import Search
from mmfuse.bench.tuning.space import Space
from mmfuse.data.catalogue.cards import DataCard
from mmfuse.records.cell import Cell


def pool_of(cell: Cell, *, data_root: Path | None = None, annotations: Path | None = None) -> TrainingPool:
    """The training clips of a cell, without its test list.

    Args:
        cell: whose data set, split, shots and draw are read.
        data_root: the folder that holds the data sets.
        annotations: the folder with official lists, where they do not lie below the data.

    Raises:
        MmfuseError: lists that are missing or wrong, or a class that has too few clips.
    """
    job = Job(
        cell,
        data_root=None if data_root is None else str(data_root),
        annotations=None if annotations is None else str(annotations),
    )
    with quiet():
        resolved = resolve(cell, data_root=data_root, annotations=annotations)
        # The size of the frames is of no matter for which clips these are.
        data = make_data(job, resolved, batch_size=1, native_size=DataCard.frames)
    return training_pool(data.catalogue, data.train_clips)


def search_of(
    name: str, space: Space, pool: TrainingPool, *, title: str, store: str | None = None, report: Report | None = None
) -> Search:
    """The search of one cell.

    Args:
        name: of the search, unlike that of all others.
        space: what is searched, with the cell.
        pool: its training clips.
        title: what is shown.
        store: folder of a clip store, as `store_folder` takes it.
        report: told how far the training of a fold is.
    """
    training = FoldTraining(space, pool, store=store, report=report or (lambda _: None))
    return Search(name, title, space, training)

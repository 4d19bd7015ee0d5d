"""Frames of single test clips, where the videos are available: what a report shows of the clips that are hardest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmfuse.data.catalogue.load import Catalogue
from mmfuse.data.frames.sampling import segment_centres
from mmfuse.data.frames.video import UnreadableVideo, read_frames
from mmfuse.data.tiny import make_clips
from mmfuse.errors import MmfuseError, one_line
from mmfuse.records.cell import Cell

FRAMES = 5

Find = Callable[[Cell], Catalogue]
"""Finds the clips of a cell's data set; raises `MmfuseError` where its lists are not available."""


class ClipFrames:
    """Reads frames of test clips; each data set is looked for once.

    Args:
        find: finds the clips of a cell's data set.
    """

    def __init__(self, find: Find) -> None:
        self._find = find
        self._paths: dict[tuple[str, int], dict[str, Path] | MmfuseError] = {}

    def __call__(self, cell: Cell, clip: str) -> list[NDArray[np.uint8]]:
        """The frames of a clip at the centres of equal segments, as the models saw them: (H, W, 3) each.

        Args:
            cell: any cell that was tested on it.
            clip: its id.

        Raises:
            MmfuseError: its lists or its video are not available, or it cannot be read.
        """
        paths = self._paths_of(cell)
        if isinstance(paths, MmfuseError):
            raise paths
        if (path := paths.get(clip)) is None:
            raise MmfuseError("this clip is not in the available lists")
        try:
            return list(read_frames(path, lambda count: segment_centres(count, FRAMES), damaged="keep"))
        except (UnreadableVideo, OSError) as error:
            raise MmfuseError(one_line(error)) from None

    def _paths_of(self, cell: Cell) -> dict[str, Path] | MmfuseError:
        """Where each test clip of a data set lies, or why that is not known."""
        key = (cell.dataset.name, cell.split)
        if key not in self._paths:
            try:
                self._paths[key] = _test_paths(self._find(cell))
            except MmfuseError as error:
                self._paths[key] = MmfuseError(one_line(error))
        return self._paths[key]


def _test_paths(catalogue: Catalogue) -> dict[str, Path]:
    make_clips(catalogue)
    base = catalogue.root or Path()
    table = catalogue.part("test")
    return {str(clip): base / path for clip, path in zip(table["clip"], table["path"], strict=True)}

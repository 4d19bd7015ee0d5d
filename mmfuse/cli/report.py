"""`mmfuse-bench report` and `figures`: a results folder as files to keep, send and print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.progress import track

from mmfuse.bench.preflight import lists_of
from mmfuse.cli.common import amount, notes
from mmfuse.cli.common import out as results_console
from mmfuse.cli.status import open_results
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import Entry
from mmfuse.utils.files import default_data_root, write_atomically

MANY = 100
"""Fewer files of predictions than these are read before a bar could be seen."""


def write_report(path: Path, *, out: Path, data_root: Path | None, annotations: Path | None, frames: bool) -> None:
    """Write the report of a results folder.

    Args:
        path: the results folder.
        out: the HTML file.
        data_root: the folder that holds the data sets.
        annotations: the folder with official lists, where they do not lie below the data.
        frames: whether to look for the videos of the hardest clips.

    Raises:
        MmfuseError: there is nothing to report on, or the file cannot be written.
    """
    from mmfuse.bench.clip_frames import ClipFrames
    from mmfuse.data.catalogue.load import Catalogue
    from mmfuse.report.page.build import build_page

    if out.is_dir():
        raise MmfuseError(f"{out} is a folder; name the file to write, such as --out {out / 'report.html'}")

    def find(cell: Cell) -> Catalogue:
        return lists_of(cell, data_root or default_data_root(), annotations=annotations)

    page = build_page(
        ResultsFolder(path), open_results(path), read_frames=ClipFrames(find) if frames else None, watch=_watched
    )
    try:
        write_atomically(out, page)
    except OSError as error:
        raise MmfuseError(f"{out} cannot be written: {error.strerror or error}; name another file by --out") from None
    _tell(out)


def write_figures(path: Path, *, out: Path, pair: str | None) -> None:
    """Write the figures of a results folder.

    Args:
        path: the results folder.
        out: the folder to write to.
        pair: whose classes are shown; `None`: the pair that is highest.

    Raises:
        MmfuseError: no cell is done yet, an unknown pair, or the folder cannot be written.
    """
    from mmfuse.report.plots.paper import draw_figures

    if out.exists() and not out.is_dir():
        raise MmfuseError(f"{out} is a file; name a folder by --out")
    try:
        for file in draw_figures(ResultsFolder(path), open_results(path), out=out, pair=pair, watch=_watched):
            _tell(file)
    except OSError as error:
        raise MmfuseError(f"{out} cannot be written: {error.strerror or error}; name another folder by --out") from None


def _watched(entries: list[Entry]) -> Iterable[Entry]:
    """The cells whose predictions are read, with a bar where there are many."""
    if len(entries) < MANY:
        return entries
    return track(entries, description="reading predictions", console=notes(), transient=True)


def _tell(file: Path) -> None:
    results_console().print(f"wrote {file}  {amount(file.stat().st_size)}", markup=False, soft_wrap=True)

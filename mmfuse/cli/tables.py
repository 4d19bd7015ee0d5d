"""`mmfuse-bench tables`: the tables of a results folder, on the screen or in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmfuse.cli.common import amount, notes, print_json
from mmfuse.cli.common import out as results_console
from mmfuse.cli.status import open_results
from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.folder import ResultsFolder
from mmfuse.report.tables.formats import show, written
from mmfuse.report.tables.names import STYLES, SUFFIXES
from mmfuse.report.tables.orders import Orders, ordered
from mmfuse.report.tables.tidy import document
from mmfuse.utils.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where tables go, and how they are written.

    Args:
        style: one of `STYLES`; `None` for the terminal's, or that of the file.
        out: a file, whose name says its kind.
        json: one JSON document.
    """

    style: str | None = None
    out: Path | None = None
    json: bool = False

    def checked(self) -> str:
        """The format.

        Raises:
            MmfuseError: an unknown one, a file that says no kind or cannot be written, or two that differ.
        """
        if self.style is not None and self.style not in STYLES:
            raise unknown("format", self.style, STYLES)
        if self.out is None:
            if self.json and self.style not in (None, "json"):
                raise MmfuseError(f"--json and --format {self.style} are two formats; leave out one of them")
            return "json" if self.json else self.style or "rich"
        kind = self._kind(self.out)
        if self.json or self.style not in (None, kind):
            given = "--json" if self.json else f"--format {self.style}"
            raise MmfuseError(f"--out {self.out} is written as {kind}; leave out {given}, or name another file")
        return kind

    @staticmethod
    def _kind(out: Path) -> str:
        if out.is_dir():
            raise MmfuseError(f"{out} is a folder; name the file to write, such as --out {out / 'tables.md'}")
        if out.suffix.lower() not in SUFFIXES:
            raise unknown("kind of file in --out", out.suffix or out.name, SUFFIXES)
        return SUFFIXES[out.suffix.lower()]


def show_tables(path: Path, orders: Orders, destination: Destination) -> None:
    """Print the tables that are wanted, or write them to a file.

    Args:
        path: the results folder.
        orders: which tables.
        destination: where to.

    Raises:
        MmfuseError: a request that is wrong, or a file that cannot be written.
    """
    style = destination.checked()
    if orders.every and orders.names:
        raise MmfuseError("--all prints all tables, and --table one; leave out one of them")
    entries = open_results(path)
    if not any(entry.state == "done" for entry in entries):
        notes().print("no cell of these results is done yet")
    found = ordered(entries, ResultsFolder(path), orders)
    if destination.out is not None:
        _write(destination.out, written(found, style))
    elif style == "json":
        print_json({"results": str(path), **document(found)})
    else:
        show(found, style=style, console=results_console())
        if style == "rich" and not orders.every and not orders.names:
            notes().print(
                "all tables: --all; one of them: --table accuracy|gain|cost|...", markup=False, soft_wrap=True
            )


def _write(out: Path, text: str) -> None:
    try:
        write_atomically(out, text)
    except OSError as error:
        raise MmfuseError(f"{out} cannot be written: {error.strerror or error}; name another file by --out") from None
    results_console().print(f"wrote {out}  {amount(out.stat().st_size)}", markup=False, soft_wrap=True)

"""Results in Python: a results folder as data frames. Needs no torch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mmfuse.errors import unknown
from mmfuse.records.cell import AXES
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.predictions import decode
from mmfuse.records.replicates import row_names
from mmfuse.records.status import Entry, as_row, counts, read_entries
from mmfuse.report.groups import groups
from mmfuse.report.tables.build import tables
from mmfuse.report.tables.formats import as_csv, show
from mmfuse.report.tables.orders import Orders, ordered
from mmfuse.report.tables.pairwise import pairwise_tables
from mmfuse.report.tables.tidy import tidy

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 160
"""Characters of a table in a notebook."""


class Results:
    """What a results folder holds, as it was when it was read. Get one by `load_results`.

    Args:
        path: the results folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = ResultsFolder.existing(path)
        self.entries: list[Entry] = read_entries(self._folder)

    def __repr__(self) -> str:
        states = ", ".join(f"{number} {state}" for state, number in counts(self.entries).items() if number)
        return f"Results({str(self.path)!r}: {states or 'no cells'})"

    def _repr_html_(self) -> str:
        """The tables of the folder, as notebooks show them."""
        console = Console(record=True, file=io.StringIO(), width=WIDTH)
        console.print(repr(self), markup=False, highlight=False)
        show(tables(self.entries, self._folder), style="rich", console=console)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    @property
    def tests(self) -> list[str]:
        """What the cells are tested on, as tables call it, such as `hmdb51` or `hmdb51 (trained on ucf101)`."""
        return list(dict.fromkeys(group.dataset for group in groups(self.entries, self._folder)))

    def _tested_on(self, test: str | None) -> list[Entry]:
        """The cells with the numbers of one of their tests, by default of the main one."""
        if test is None:
            return self.entries
        if test not in self.tests:
            raise unknown("test", test, self.tests)
        return [
            entry for group in groups(self.entries, self._folder) if group.dataset == test for entry in group.entries
        ]

    def table(self, *, test: str | None = None) -> pd.DataFrame:
        """One row for each cell of each grid, also for those without numbers.

        Args:
            test: one of `tests`, under whose name the cells stand then, with its accuracies; by default the test of the
                classes that each cell was trained on. What cells cost does not depend on it.

        Returns:
            The axes (`dataset`, `split`, `pair`, `shots`, `draw`, `seed`); `row`, the row of the tables that the cell
            belongs to: cells of one row and K may be averaged, others never; `state`; accuracies from 0 to 1 (`top1`,
            `top5`, `mean_class`), of cells that are done; what they cost (`seconds`, `peak_memory_bytes`, ...), with
            the numbers of trained weights (`image_method_parameters`, ...); `identity`, `command`, `reason`, `error`.
        """
        import pandas as pd

        entries = self._tested_on(test)
        names = row_names(entries)
        return pd.DataFrame([_row(entry, name) for entry, name in zip(entries, names, strict=True)])

    def predictions(self, *, test: str | None = None, **only: Any) -> pd.DataFrame:
        """One row for each test clip of each finished cell.

        Args:
            test: as for `table`.
            only: values of axes, such as `pair="dora+adapter", shots=4`.

        Returns:
            The axes; `clip`, `group`; `label` and `predicted`, numbers of classes; `rank`, 1 where the clip was
            recognised; the probabilities of both.

        Raises:
            MmfuseError: no such axis or test, or predictions that are missing or damaged.
        """
        import pandas as pd

        for axis in only:
            if axis not in AXES:
                raise unknown("axis", axis, AXES)
        parts = []
        for entry in self._tested_on(test):
            axes = entry.cell.axes._asdict()
            if entry.state == "done" and entry.record and all(axes[axis] == value for axis, value in only.items()):
                parts.append(pd.DataFrame({**axes, **decode(self._folder.predictions_of(entry.record))}))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*AXES, "clip"])

    def overall(self, *, metric: str | None = None, baseline: str | None = None) -> pd.DataFrame:
        """The first table that `mmfuse-bench tables` prints: one row for each pair, over all data sets.

        Args:
            metric: what is measured, by default `top1`; otherwise `top5` or `mean_class`.
            baseline: the pair that gains are measured against, by default that of two frozen towers.

        Returns:
            By the name of the pair: the mean accuracy on each data set in per cent, `gain` in points with the ends of
            its 95% interval in `gain low` and `gain high`, `mean rank`, `weights`, `train s` and `verdict`, where the
            table has them. Not a number stands where a number is missing.

        Raises:
            MmfuseError: an unknown metric or pair.
        """
        import pandas as pd

        found = ordered(self.entries, self._folder, Orders(names=["overall"], metric=metric, baseline=baseline))
        rows: dict[str, dict[str, Any]] = {}
        for value in tidy(found[:1]):
            row, column = rows.setdefault(value["row"], {}), value["column"]
            row[column] = value["text"] if value["quantity"] == "verdict" else value["mean"]
            if value["quantity"] == "gain":
                row |= {f"{column} low": value["low"], f"{column} high": value["high"]}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("pair")

    def compare(self, ours: str, theirs: str) -> pd.DataFrame:
        """Two pairs against each other, as `mmfuse-bench compare` prints them.

        Args:
            ours, theirs: pairs by the names of their rows.

        Returns:
            One row for each number of shots and column of that table, with `mean`, half width, n and p where it has
            them, in points; as `--format csv` prints it.

        Raises:
            MmfuseError: a pair that the results do not have.
        """
        import pandas as pd

        found = pairwise_tables(groups(self.entries, self._folder), ours=ours, theirs=theirs)
        return pd.read_csv(io.StringIO(as_csv(found)))


def _row(entry: Entry, name: str) -> dict[str, Any]:
    """A cell with everything that is known of it as plain values; numbers of stale records are not told."""
    row = as_row(entry)
    row.pop("progress", None)
    error = row.pop("error")
    record = entry.record if entry.state == "done" else None
    cost = {} if record is None or record.cost is None else record.cost.model_dump()
    weights = {} if record is None or record.parameters is None else record.parameters.model_dump()
    if record is None:
        row |= dict.fromkeys(("top1", "top5", "mean_class", "seconds"))
    axes = {axis: row.pop(axis) for axis in AXES}
    return {
        **axes,
        "row": name,
        **row,
        **cost,
        **{f"{part}_parameters": number for part, number in weights.items()},
        "error": None if error is None else f"{error['kind']}: {error['message']}",
    }


def load_results(path: str | Path) -> Results:
    """Read a results folder, on any machine and without torch.

    Args:
        path: what `--results` named.

    Returns:
        Its cells as data frames: `.overall()`, `.table()`, `.predictions()`, `.compare(a, b)`.

    Raises:
        MmfuseError: it holds no results, or those of another version.

    >>> import tempfile
    >>> from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
    >>> from mmfuse.records.cell import Cell
    >>> folder = ResultsFolder(Path(tempfile.mkdtemp()))
    >>> folder.prepare()
    >>> pair = {"name": "lora+frozen", "image": "lora", "text": "frozen"}
    >>> cell = Cell(dataset="tiny", pair=pair, shots=2)
    >>> folder.write_manifest(Manifest("mine", [PlannedCell(cell)]))
    >>> load_results(folder.path).table()[["dataset", "pair", "shots", "draw", "state"]]
      dataset         pair  shots  draw    state
    0    tiny  lora+frozen      2     0  missing
    """
    return Results(Path(path).expanduser())

"""What is exported: the cells of a results folder, or the one that `mmfuse train` left."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mmfuse.errors import MmfuseError
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.record import Record
from mmfuse.records.status import Entry, read_entries
from mmfuse.report.groups import Group, groups
from mmfuse.report.tables.accuracy import METRICS, Comparison
from mmfuse.report.tables.table import Table
from mmfuse.report.tables.tidy import tidy
from mmfuse.report.tables.verdicts import verdict_table


@dataclass(frozen=True)
class Facts:
    """What is known of a data set that others publish.

    Args:
        title: its name in print.
        addresses: where its lists and videos are published.
    """

    title: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """Files by name below the folder that is written to, and a line for all that was left out."""

    files: Mapping[str, str]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What the results themselves do not say.

    Args:
        now: when the export is made; in UTC.
        facts: of public data sets, by name.
        organization: who ran the evaluation.
        organization_url: its address.
    """

    now: datetime
    facts: Mapping[str, Facts] = field(default_factory=dict)
    organization: str | None = None
    organization_url: str | None = None


@contextmanager
def entries_of(path: Path) -> Iterator[tuple[list[Entry], ResultsFolder]]:
    """The cells of a folder with their states, and the results folder that their predictions lie in.

    Raises:
        MmfuseError: it holds no results.
    """
    folder = ResultsFolder(path)
    if folder.exists:
        yield read_entries(folder), folder
        return
    if not (path / "record.json").is_file():
        raise MmfuseError(f"{path} holds no results: name a results folder, or one that mmfuse train left")
    with tempfile.TemporaryDirectory() as made:
        yield _as_results(path, ResultsFolder(Path(made)))


def _as_results(path: Path, folder: ResultsFolder) -> tuple[list[Entry], ResultsFolder]:
    """A results folder of one record, so that what is told of it is checked and computed as for any."""
    try:
        record = Record.from_json((path / "record.json").read_text(encoding="utf-8"))
        predictions = (path / "predictions.csv.gz").read_bytes()
    except (MmfuseError, OSError, UnicodeDecodeError) as error:
        raise MmfuseError(f"the record of {path} cannot be read: {error}; train it again") from None
    folder.prepare()
    folder.write_manifest(Manifest("one", [PlannedCell(record.cell, record.inputs)]))
    folder.write(record, {"predictions": predictions})
    return read_entries(folder), folder


@dataclass(frozen=True)
class Line:
    """One value of the tables: see `mmfuse.report.tables.tidy` for its keys."""

    metric: str
    shots: str
    told: Mapping[str, object]


@dataclass(frozen=True)
class RowOf:
    """One row of the tables of a data set and split: a pair, with what tells it apart.

    Args:
        group: the data set and split.
        name: of the row.
        accuracies, gains, verdicts: what the tables tell of it, a line for each metric and number of shots.
    """

    group: Group
    name: str
    accuracies: tuple[Line, ...]
    gains: tuple[Line, ...]
    verdicts: Mapping[str, str]

    @property
    def entries(self) -> list[Entry]:
        """The cells of the row."""
        return [entry for shots in self.group.shots for entry in self.group.of(self.name, shots)]

    @property
    def done(self) -> list[tuple[Entry, Record]]:
        """Those that have numbers, with their records."""
        return [(one, one.record) for one in self.entries if one.state == "done" and one.record is not None]

    @property
    def left_out(self) -> list[str]:
        """A line for each cell without numbers."""
        return [f"{one.cell.name}: {one.state}" for one in self.entries if one.state != "done"]


def rows_of(entries: list[Entry], folder: ResultsFolder) -> list[RowOf]:
    """All rows of all data sets, with the very values of the tables."""
    found: list[RowOf] = []
    for group in groups(entries, folder):
        comparisons = {metric: Comparison(group, metric=metric) for metric in METRICS}
        accuracies = [line for metric, one in comparisons.items() for line in _lines(metric, [one.table], "accuracy")]
        gains = [
            line
            for metric, one in comparisons.items()
            if one.gain_table is not None
            for line in _lines(metric, [one.gain_table], "gain")
        ]
        decided = verdict_table(group)
        verdicts = tidy([decided]) if decided is not None else []
        found += [
            RowOf(
                group,
                row,
                tuple(line for line in accuracies if line.told["row"] == row),
                tuple(line for line in gains if line.told["row"] == row),
                {str(one["shots"]): str(one["text"]) for one in verdicts if one["row"] == row},
            )
            for row in group.pairs
        ]
    return found


def _lines(metric: str, tables: list[Table], quantity: str) -> list[Line]:
    """The values of single numbers of shots; means over several are made of these."""
    told = [one for one in tidy(tables) if one["quantity"] == quantity and "," not in str(one["shots"])]
    return [Line(metric, str(one["shots"]), one) for one in told if one["mean"] is not None]


def slug(text: str) -> str:
    """A name as part of a path and of an identifier.

    >>> slug("hmdb51 (trained on ucf101)"), slug("dora+adapter")
    ('hmdb51-trained-on-ucf101', 'dora+adapter')
    """
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.")[:96] or "unnamed"

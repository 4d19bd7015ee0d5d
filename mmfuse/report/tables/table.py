"""A table before it has a format: what stands in each place, and what is said below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmfuse.records.status import Entry
from mmfuse.report.statistics import Mean

SHOWN_STATES = ("failed", "stale", "running", "missing")


@dataclass(frozen=True)
class Value:
    """One place of a table: a mean over draws, or why there is none.

    Args:
        mean: mean, half widths and n; `None` where nothing is known.
        planned: draws that the grid asked for.
        gaps: how many cells are failed, stale, running or missing.
        best: whether it is the best of its column.
        tie: whether it is not shown to be below the best.
        signed: whether it is a difference, which shows its sign.
        significant: whether a difference holds after correction over the table; `None` where nothing was tested.
        p: the corrected p-value.
        decimals: digits behind the point.
        text: a text to show as it is, in place of a number.
        brief: whether the mean is shown without its intervals, which stand in another table.
        bounds: an interval that is not symmetric, in place of half widths.
        lacking: what else is lacking than cells, such as `2/3 data sets`.
        behind: the cells that the number is made from, so that it can be traced to their records and commands.
    """

    mean: Mean | None = None
    planned: int = 0
    gaps: Mapping[str, int] = field(default_factory=dict)
    best: bool = False
    tie: bool = False
    signed: bool = False
    significant: bool | None = None
    p: float | None = None
    decimals: int = 1
    text: str | None = None
    brief: bool = False
    bounds: tuple[float, float] | None = None
    lacking: str = ""
    behind: tuple[Entry, ...] = field(default=(), repr=False, compare=False)

    @property
    def complete(self) -> bool:
        """Whether every planned cell is in the mean."""
        return self.mean is not None and not self.lacking and not any(self.gaps.values())

    def number(self, *, plus_minus: str = "±", minus: str = "-") -> str:
        """The number with its interval over draws, and that over test clips where it is the wider one; no marks."""
        if self.mean is None:
            return ""
        sign = "+" if self.signed else ""
        rounded = round(self.mean.mean, self.decimals) + 0.0  # no minus before a zero
        shown = f"{rounded:{sign}.{self.decimals}f}".replace("-", minus)
        if self.bounds is not None:
            shown += " [" + ", ".join(f"{round(one, self.decimals):g}" for one in self.bounds) + "]"
        if self.mean.half is not None and not self.brief:
            shown += f" {plus_minus} {self.mean.half:.{self.decimals}f}"
            if self.mean.half_clips is not None and self.mean.half_clips > self.mean.half:
                shown += f" {plus_minus} {self.mean.half_clips:.{self.decimals}f}"
        return shown

    def gap(self) -> str:
        """What is lacking, in words: `2/3, 1 failed`."""
        cells = [f"{count} {state}" for state in SHOWN_STATES if (count := self.gaps.get(state, 0))]
        if self.mean is None:
            states = [state for state in SHOWN_STATES if self.gaps.get(state, 0)]
            return ", ".join(states)
        fraction = [f"{self.mean.n}/{self.planned}"] if cells and self.mean.n < self.planned else []
        return ", ".join([*([self.lacking] if self.lacking else []), *fraction, *cells])

    @property
    def verdict(self) -> str:
        """What a test says of a difference: `gain`, `loss`, `open`, or nothing where there was none."""
        if self.significant is None or self.mean is None:
            return ""
        if not self.significant:
            return "open"
        return "gain" if self.mean.mean > 0 else "loss"


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        name: what stands at its head.
        values: in the order of the columns.
        rule_above: whether a block of rows begins with it.
        axes: what its name says by axis; by default that it is a pair.
    """

    name: str
    values: tuple[Value, ...]
    rule_above: bool = False
    axes: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """A table: title, columns, rows, and notes below it.

    Args:
        key: which table it is.
        title: what stands above it.
        corner: head of the column of names.
        columns: heads of the others.
        rows: the rows.
        notes: what is said below it.
        context: axes that have one value for the whole table, such as data set, split and metric.
        axes: for each column the axes that have one value for it, such as shots; nothing where its head says all.
        caption: title for a paper, in words.
    """

    key: str
    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    axes: tuple[Mapping[str, str], ...] = ()
    caption: str = ""

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
    behind: tuple[Entry, ...] = field(default=(), repr=False, compare=False)

    @property
    def complete(self) -> bool:
        """Whether every planned cell is in the mean."""
        return self.mean is not None and not any(self.gaps.values())

    def number(self, *, plus_minus: str = "±", minus: str = "-") -> str:
        """The number with its interval over draws, and that over test clips where it is the wider one; no marks."""
        if self.mean is None:
            return ""
        sign = "+" if self.signed else ""
        rounded = round(self.mean.mean, self.decimals) + 0.0  # no minus before a zero
        shown = f"{rounded:{sign}.{self.decimals}f}".replace("-", minus)
        if self.mean.half is not None:
            shown += f" {plus_minus} {self.mean.half:.{self.decimals}f}"
            if self.mean.half_clips is not None and self.mean.half_clips > self.mean.half:
                shown += f" {plus_minus} {self.mean.half_clips:.{self.decimals}f}"
        return shown

    def gap(self) -> str:
        """What is lacking, in words: `2/3, 1 failed`."""
        lacking = [f"{count} {state}" for state in SHOWN_STATES if (count := self.gaps.get(state, 0))]
        if self.mean is None:
            states = [state for state in SHOWN_STATES if self.gaps.get(state, 0)]
            return ", ".join(states)
        fraction = [f"{self.mean.n}/{self.planned}"] if self.mean.n < self.planned else []
        return ", ".join([*fraction, *lacking]) if lacking else ""

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
    """One row: its name and its values in the order of the columns."""

    name: str
    values: tuple[Value, ...]
    rule_above: bool = False


@dataclass(frozen=True)
class Table:
    """A table: title, columns, rows, and notes below it."""

    key: str
    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)

"""A table before it has a format: what stands in each place, and what is said below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmfuse.records.status import Entry
from mmfuse.report.statistics import Mean

SHOWN_STATES = ("failed", "stale", "running", "missing")


@dataclass(frozen=True)
class Value:
    """One place of a table: a mean over repetitions, or why there is none.

    Args:
        mean: mean, half width and n; `None` where nothing is known.
        planned: repetitions that the grid asked for.
        gaps: how many of them are failed, stale, running or missing.
        best: whether it is the best of its column.
        tie: whether the test cannot separate it from the best.
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
        """Whether every planned repetition is in the mean."""
        return self.mean is not None and not any(self.gaps.values())

    def number(self, *, plus_minus: str = "±", minus: str = "-") -> str:
        """The number with its interval, without marks."""
        if self.mean is None:
            return ""
        sign = "+" if self.signed else ""
        shown = f"{self.mean.mean:{sign}.{self.decimals}f}".replace("-", minus)
        if self.mean.half is not None:
            shown += f" {plus_minus} {self.mean.half:.{self.decimals}f}"
        return shown

    def gap(self) -> str:
        """What is lacking, in words: `2/3, 1 failed`."""
        lacking = [f"{count} {state}" for state in SHOWN_STATES if (count := self.gaps.get(state, 0))]
        if self.mean is None:
            states = [state for state in SHOWN_STATES if self.gaps.get(state, 0)]
            return ", ".join(states)
        return f"{self.mean.n}/{self.planned}, {', '.join(lacking)}" if lacking else ""


@dataclass(frozen=True)
class Row:
    """One row: its name and its values in the order of the columns."""

    name: str
    values: tuple[Value, ...]
    rule_above: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table: title, columns, rows, and notes below it."""

    key: str
    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)

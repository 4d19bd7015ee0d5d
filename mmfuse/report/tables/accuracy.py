"""The tables of the field: pairs × shots, the mean over K ≥ 5, and the gain over the frozen towers.

`Comparison` computes what stands in each place of them; what the marks rest on is in `mmfuse.report.statistics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from mmfuse.report.groups import Group, finished
from mmfuse.report.statistics import LEVEL, Array, Column, Differences, Mean, differences, holm, may_be_best, means
from mmfuse.report.tables.notes import accuracy_notes, gain_notes
from mmfuse.report.tables.table import SHOWN_STATES, Row, Table, Value

METRICS = {"top1": "top-1", "top5": "top-5", "mean_class": "mean-class"}
BY_CLIP = ("top1", "mean_class")
"""Metrics that follow from whether each clip was recognised."""
FEW_SHOTS_BELOW = 5
BY_SHOTS = "by training clips a class (K)."

Span: TypeAlias = tuple[Any, ...]
"""Numbers of shots that are averaged within each draw; one alone in most columns."""


def shots_of(span: Span) -> str:
    """Numbers of shots as text: `8, all`."""
    return ", ".join(map(str, span))


def gaps_of(entries: Iterable[Entry]) -> dict[str, int]:
    """How many cells are not done, by state."""
    members = list(entries)
    return {state: count for state in SHOWN_STATES if (count := sum(entry.state == state for entry in members))}


class Comparison:
    """The tables of one data set and split.

    Args:
        group: its cells.
        metric: top1, top5 or mean_class.
    """

    def __init__(self, group: Group, *, metric: str = "top1") -> None:
        self.group = group
        self.metric = metric
        many = tuple(shots for shots in group.shots if shots == "all" or shots >= FEW_SHOTS_BELOW)
        self.averaged: Span = many or tuple(group.shots)
        self._weights = group.recognised.weights(metric)
        self._differences: dict[Span, Differences] = {}
        self._means: dict[Span, list[Mean | None]] = {}

    @property
    def spans(self) -> list[Span]:
        """The columns of accuracies: each number of shots, and the mean over several where there are any."""
        single: list[Span] = [(shots,) for shots in self.group.shots]
        return [*single, self.averaged] if len(self.averaged) > 1 else single

    def heading(self, span: Span) -> str:
        """The head of a column.

        A mean says which numbers of shots it is over.
        """
        return f"K={span[0]}" if len(span) == 1 else f"mean of K={shots_of(span)}"

    # What stands behind a column

    def accuracy(self, span: Span) -> Array:
        """(R, n) accuracy in per cent by row and draw, averaged over `span`; nan where a row lacks a draw."""
        by_shots = [[self._by_draw(row, shots) for row in self.group.pairs] for shots in span]
        return np.asarray(np.mean(by_shots, axis=0))

    def column(self, span: Span) -> Column:
        """Accuracies and the clips that were recognised."""
        recognised = [[self._recognised(row, shots) for row in self.group.pairs] for shots in span]
        heaviest = float(self._weights.max(initial=0.0)) or 1.0
        mean = np.asarray(np.mean(recognised, axis=0))
        return Column(self.accuracy(span), mean, self._clips, heaviest=heaviest, averaged=len(span))

    @cached_property
    def _clips(self) -> Array:
        """(S,) test clips by source; all in one where no predictions are available."""
        if self.group.recognised.sources and self.metric in BY_CLIP:
            return self.group.recognised.clips(self._weights)
        known = [record.metrics.test_clips for record in finished(self.group.entries) if record.metrics]
        return np.array([max(known, default=0)], dtype=np.float64)

    def _by_draw(self, row: str, shots: Any) -> Array:
        """(n,) accuracy in per cent by draw; seeds of one draw are averaged, since only draws are independent."""
        records = [self._records(row, shots, draw) for draw in self.group.draws]
        values = [[getattr(record.metrics, self.metric) for record in members] for members in records]
        return np.array([100 * np.mean(found) if found else np.nan for found in values])

    def _recognised(self, row: str, shots: Any) -> Array:
        """(n, S) clips recognised by draw and source."""
        found = np.full((len(self.group.draws), len(self._clips)), np.nan)
        if self.metric in BY_CLIP and self.group.recognised.sources:
            for at, draw in enumerate(self.group.draws):
                sums = [self.group.recognised.by_source(r, self._weights) for r in self._records(row, shots, draw)]
                if sums:
                    found[at] = np.mean(sums, axis=0)
        return found

    def _records(self, row: str, shots: Any, draw: int) -> list[Record]:
        """The finished records of one draw that have this metric."""
        return [
            entry.record
            for entry in self.group.of(row, shots)
            if entry.cell.draw == draw
            and entry.state == "done"
            and entry.record is not None
            and getattr(entry.record.metrics, self.metric, None) is not None
        ]

    # What is compared

    def differences(self, span: Span) -> Differences:
        """All rows of a column against each other."""
        if span not in self._differences:
            self._compute(span)
        return self._differences[span]

    def means(self, span: Span) -> list[Mean | None]:
        """The mean of each row of a column."""
        if span not in self._means:
            self._compute(span)
        return self._means[span]

    def _compute(self, span: Span) -> None:
        column = self.column(span)
        found = differences(column)
        if self.group.draws_added:
            # Draws were added because of what earlier ones showed: tests for a fixed number do not hold.
            found = replace(found, p=np.full_like(found.p, np.nan))
        self._differences[span] = found
        self._means[span] = means(column)

    def difference(self, row: str, other: str, span: Span) -> Mean | None:
        """One row minus another over the draws that both have; `None` where they share none."""
        at = self.group.pairs.index
        return self.differences(span).between(at(row), at(other))

    def p(self, row: str, other: str, span: Span) -> float | None:
        """Uncorrected p of that difference; `None` where it is not tested."""
        at = self.group.pairs.index
        found = float(self.differences(span).p[at(row), at(other)])
        return None if np.isnan(found) else found

    @cached_property
    def _inside(self) -> dict[Span, NDArray[np.bool_]]:
        """For each column the rows that are not shown to be below its best."""
        found = may_be_best([self.differences(span) for span in self.spans])
        return dict(zip(self.spans, found, strict=True))

    def may_be_best(self, span: Span) -> list[str]:
        """Rows with a number that are not shown to be below the best of their column."""
        shown = zip(self.group.pairs, self._inside[span], self.means(span), strict=True)
        return [row for row, kept, mean in shown if kept and mean is not None]

    def best(self, span: Span) -> str | None:
        """The row with the highest mean, among the rows that have the same draws.

        These are the draws that most rows have. `None` where no two rows have the same, for a mean over easy draws is
        no better than one over hard ones; and where a row with other draws is shown to be above it.
        """
        accuracy = self.accuracy(span)
        present = [tuple(~np.isnan(values)) for values in accuracy]
        held = Counter(draws for draws in present if any(draws))
        if not held:
            return None
        common, rows = max(held.items(), key=lambda item: (item[1], sum(item[0])))
        if rows < 2:
            return None
        candidates = [at for at, draws in enumerate(present) if draws == common]
        best = max(candidates, key=lambda at: float(np.nanmean(accuracy[at])))
        return self.group.pairs[best] if self._inside[span][best] else None

    # Tables

    @cached_property
    def table(self) -> Table:
        """Pairs × shots with the mean over K ≥ 5 and the gain over the frozen towers."""
        columns = [self._accuracies(span) for span in self.spans]
        names = [self.heading(span) for span in self.spans]
        if self.has_gains:
            names.append(f"gain over {self.group.baseline}, K={shots_of(self.averaged)}")
            columns.append(self._gains([self.averaged])[0])
        return Table(
            key="accuracy",
            title=f"{self.group.title}: {METRICS[self.metric]} accuracy in %",
            corner="image+text",
            columns=tuple(names),
            rows=tuple(Row(row, tuple(column[at] for column in columns)) for at, row in enumerate(self.group.pairs)),
            notes=accuracy_notes(self, columns),
            context=self._context,
            axes=self._axes,
            caption=f"{METRICS[self.metric].capitalize()} accuracy in % on {self.group.title}, {BY_SHOTS}",
        )

    @cached_property
    def gain_table(self) -> Table | None:
        """The gain over the frozen towers at each number of shots; `None` without a frozen pair."""
        if not self.has_gains:
            return None
        columns = self._gains([(shots,) for shots in self.group.shots])
        return Table(
            key="gain",
            title=f"{self.group.title}: gain over {self.group.baseline} in points of {METRICS[self.metric]}",
            corner="image+text",
            columns=tuple(f"K={shots}" for shots in self.group.shots),
            rows=tuple(
                Row(row, tuple(column[at] for column in columns))
                for at, row in enumerate(self.group.pairs)
                if not self.is_baseline(row)
            ),
            notes=gain_notes(self, columns),
            context=self._context,
            axes=tuple({"shots": str(shots), "quantity": "gain"} for shots in self.group.shots),
            caption=f"Gain over {self.group.baseline}, {METRICS[self.metric]}, on {self.group.title}, {BY_SHOTS}",
        )

    @property
    def _axes(self) -> tuple[dict[str, str], ...]:
        """What the columns of accuracies, and the gain behind them, are over."""
        spans = [{"shots": shots_of(span), "quantity": "accuracy"} for span in self.spans]
        gain = {"shots": shots_of(self.averaged), "quantity": "gain"}
        return (*spans, gain) if self.has_gains else tuple(spans)

    @property
    def _context(self) -> dict[str, str]:
        return {"dataset": self.group.dataset, "split": str(self.group.split), "metric": self.metric}

    @property
    def tests_accuracies(self) -> bool:
        """Whether any two accuracies of a column are tested against each other."""
        return any(map(self._tests, self.spans))

    def _tests(self, span: Span) -> bool:
        return not bool(np.isnan(self.differences(span).p).all())

    @property
    def has_gains(self) -> bool:
        """Whether there is a baseline, and a row beside it."""
        return self.group.baseline is not None and any(not self.is_baseline(row) for row in self.group.pairs)

    def is_baseline(self, row: str) -> bool:
        """Whether a row is one that others are compared with."""
        return any(entry.cell.pair.name == self.group.baseline for entry in self._cells(row, tuple(self.group.shots)))

    def _cells(self, row: str, span: Span) -> tuple[Entry, ...]:
        return tuple(entry for shots in span for entry in self.group.of(row, shots))

    def _accuracies(self, span: Span) -> list[Value]:
        """Accuracies by row, with the marks of the best and of those that may be as good."""
        best, inside = self.best(span), set(self.may_be_best(span))
        # A row without "=" reads as shown to be lower, so in a column with tests also rows that lack them have it.
        tested = self._tests(span)
        values = []
        for row, mean in zip(self.group.pairs, self.means(span), strict=True):
            cells = self._cells(row, span)
            tie = row in inside and row != best and tested
            planned = len({entry.cell.draw for entry in cells})
            gaps = gaps_of(cells)
            # Cells may be done and lack the metric, such as top-5 of four classes.
            text = "–" if mean is None and cells and not gaps else None
            values.append(Value(mean, planned, gaps, best=row == best, tie=tie, text=text, behind=cells))
        return values

    def _gains(self, spans: list[Span]) -> list[list[Value]]:
        """Gains over the frozen towers by column and row; p-values are corrected over all of them."""
        columns = [[self._gain(row, span) for row in self.group.pairs] for span in spans]
        corrected = iter(holm([value.p for column in columns for value in column]))
        return [[_with_mark(value, next(corrected)) for value in column] for column in columns]

    def _gain(self, row: str, span: Span) -> Value:
        """A gain with its uncorrected p."""
        baseline = self.group.baseline_of(row)
        if self.is_baseline(row):
            return Value(text="–")
        if baseline is None or not all(self.group.of(row, shots) for shots in span):
            return Value()  # the grid does not ask for it
        cells = (*self._cells(row, span), *self._cells(baseline, span))
        planned = len({entry.cell.draw for entry in self._cells(row, span)})
        gain, gaps = self.difference(row, baseline, span), gaps_of(cells)
        if gain is None and not gaps:
            return Value(text="no draw in common")
        p = self.p(row, baseline, span)
        return Value(gain, planned, gaps, signed=True, p=p, behind=cells)


def _with_mark(value: Value, p: float | None) -> Value:
    return replace(value, p=p, significant=None if p is None else p < LEVEL)

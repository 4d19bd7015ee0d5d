"""The first table: every pair over all data sets, with its gain, its rank, what it costs, and what is decided.

`Overall` computes it once; the terminal, files, the report and the figures show what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mmfuse.records.decisions import Decision
from mmfuse.records.status import Entry
from mmfuse.report.groups import finished
from mmfuse.report.over_datasets import Combined, Ranks, averaged, combined, friedman, rank_bounds
from mmfuse.report.statistics import LEVEL, Differences, Mean, holm, mean_of
from mmfuse.report.tables.accuracy import METRICS, Comparison, gaps_of, shots_of
from mmfuse.report.tables.overall_notes import overall_notes
from mmfuse.report.tables.table import Row, Table, Value

BASELINE = "baseline"
UNTESTED = "not tested"
BEST = {"better": "best", "worse": "below the best", "equivalent": "equal to the best"}
"""Verdicts of looks that compare with the best of a column."""
ELSEWHERE = "†"
"""Marks verdicts that hold for other data sets too."""


class Block:
    """One data set: its splits count together, since they share clips.

    Args:
        name: of the data set.
        comparisons: one a split.
        rows: names of the rows of the whole table.
    """

    def __init__(self, name: str, comparisons: Sequence[Comparison], rows: Sequence[str]) -> None:
        self.name = name
        self.comparisons = comparisons
        self._rows = rows
        self.differences = averaged([self._aligned(comparison) for comparison in comparisons])

    def _aligned(self, comparison: Comparison) -> Differences:
        """The differences of the mean over K with a line for each row of the whole table."""
        pairs = comparison.group.pairs
        at = np.array([pairs.index(row) if row in pairs else -1 for row in self._rows])
        lacks = (at < 0)[:, None] | (at < 0)[None]
        found = comparison.differences(comparison.averaged)
        places = np.ix_(at, at)

        def taken(values: np.ndarray) -> np.ndarray:
            return np.where(lacks, np.nan, values[places])

        parts = (found.half, found.half_clips, found.p, found.error, found.error_clips)
        draws = np.where(lacks, 0, found.draws[places])
        return Differences(taken(found.mean), draws, *(taken(part) for part in parts))

    @property
    def axes(self) -> dict[str, str]:
        """What the accuracies are of."""
        shots = dict.fromkeys(shots_of(comparison.averaged) for comparison in self.comparisons)
        splits = ", ".join(str(comparison.group.split) for comparison in self.comparisons)
        return {"dataset": self.name, "split": splits, "shots": " or ".join(shots), "quantity": "accuracy"}

    def has(self, row: str) -> bool:
        """Whether all splits have the row."""
        return all(row in comparison.group.pairs for comparison in self.comparisons)

    def cells(self, row: str, *, largest: bool = False) -> list[Entry]:
        """The cells behind the mean over K, or those of the largest K alone."""
        found = []
        for comparison in self.comparisons:
            shots = comparison.group.shots[-1:] if largest else list(comparison.averaged)
            found += [entry for one in shots for entry in comparison.group.of(row, one)]
        return found

    def accuracy(self, row: str) -> Value:
        """The mean over K, and over splits where there are several."""
        values = [self._of_split(comparison, row) for comparison in self.comparisons if row in comparison.group.pairs]
        if not values:
            return Value()
        if len(self.comparisons) == 1:
            # The rank tells what `=` does, with a correction over all data sets.
            return replace(values[0], brief=True, tie=False)
        cells = tuple(self.cells(row))
        known = [value.mean for value in values if value.mean is not None]
        lacking = "" if len(known) == len(self.comparisons) else f"{len(known)}/{len(self.comparisons)} splits"
        if not known:
            return Value(gaps=gaps_of(cells), behind=cells)
        halves = [mean.half for mean in known if mean.half is not None]
        half = sum(halves) / len(halves) if len(halves) == len(known) else None
        mean = Mean(sum(mean.mean for mean in known) / len(known), half, min(mean.n for mean in known))
        planned = min(value.planned for value in values)
        return Value(mean, planned, gaps_of(cells), brief=True, lacking=lacking, behind=cells)

    @staticmethod
    def _of_split(comparison: Comparison, row: str) -> Value:
        column = comparison.spans.index(comparison.averaged)
        return comparison.table.rows[comparison.group.pairs.index(row)].values[column]

    def reference(self, row: str) -> str | None:
        """The row that a row is compared with; the same for all splits."""
        found = {comparison.group.baseline_of(row) for comparison in self.comparisons if row in comparison.group.pairs}
        return found.pop() if len(found) == 1 else None

    def planned(self, row: str) -> int:
        """Draws that were asked for."""
        return len({entry.cell.draw for entry in self.cells(row)})

    def decisions(self, row: str) -> list[Decision]:
        """Verdicts on a row, where draws were added until all is decided."""
        names = {entry.cell.pair.name for entry in self.cells(row)}
        found = [decision for comparison in self.comparisons for decision in comparison.group.decisions]
        return [one for one in found if one.pair in names and one.verdict is not None]


@dataclass(frozen=True)
class Pair:
    """One row of the first table.

    Args:
        name: of the row.
        accuracies: by data set.
        gain: the mean gain over the data sets; a text for the baseline.
        rank: mean rank with the interval that holds it.
        weights: trained weights of both methods.
        seconds: of training, at the largest K.
        verdict: baseline, better, worse, open, not tested, or how many columns say what.
        elsewhere: whether the gain is shown for other data sets too.
        data_sets: on how many data sets it has a number.
    """

    name: str
    accuracies: tuple[Value, ...]
    gain: Value
    rank: Value
    weights: Value
    seconds: Value
    verdict: str
    elsewhere: bool
    data_sets: int

    @property
    def order(self) -> tuple[bool, float, float]:
        """By which rows are sorted: those with all data sets first, then by gain, or by rank where there is none."""
        gain = 0.0 if self.verdict == BASELINE else -self.gain.mean.mean if self.gain.mean else np.inf
        rank = self.rank.mean.mean if self.rank.mean else np.inf
        return any(value.mean is None for value in self.accuracies), gain, rank


class Overall:
    """Every pair over all data sets.

    Args:
        comparisons: one for each data set and split, all of one metric.
    """

    def __init__(self, comparisons: Sequence[Comparison]) -> None:
        self.comparisons = comparisons
        self.metric = comparisons[0].metric
        self._rows = list(dict.fromkeys(row for comparison in comparisons for row in comparison.group.pairs))
        named: dict[str, list[Comparison]] = {}
        for comparison in comparisons:
            named.setdefault(comparison.group.dataset, []).append(comparison)
        self.blocks = [Block(name, members, self._rows) for name, members in named.items()]

    @property
    def baselines(self) -> list[str]:
        """Names of the pairs that gains are measured against."""
        found = (comparison.group.baseline for comparison in self.comparisons)
        return list(dict.fromkeys(name for name in found if name is not None))

    @property
    def has_gains(self) -> bool:
        """Whether any row can be compared with a baseline."""
        return any(comparison.has_gains for comparison in self.comparisons)

    @property
    def decided_by_looks(self) -> bool:
        """Whether draws were added until all is decided, on any data set."""
        return any(comparison.group.decisions for comparison in self.comparisons)

    @cached_property
    def against_best(self) -> bool:
        """Whether looks compared every pair with the best of its column, and not with the baseline."""
        rules = [plan.until_decided for plan in self.comparisons[0].group.folder.manifests()]
        return self.decided_by_looks and any(rule is not None and rule.reference == "best" for rule in rules)

    @property
    def decisions_count(self) -> bool:
        """Whether what was decided by looks is what this table asks: top-1, and over the grid's own baseline."""
        own = all(comparison.group.measured_against is None for comparison in self.comparisons)
        return self.decided_by_looks and own and self.metric == "top1"

    def _is_baseline(self, row: str) -> bool:
        return any(comparison.is_baseline(row) for comparison in self.comparisons)

    @cached_property
    def _gains(self) -> list[Combined | None]:
        """The mean gain of each row over the data sets that have it."""
        return [None if self._is_baseline(row) else self._gain(row) for row in self._rows]

    def _gain(self, row: str) -> Combined | None:
        parts, places = [], []
        for block in self.blocks:
            reference = block.reference(row) if block.has(row) else None
            if reference is not None and reference in self._rows:
                parts.append(block.differences)
                places.append((self._rows.index(row), self._rows.index(reference)))
        return combined(parts, places) if parts else None

    @cached_property
    def _ranks(self) -> list[Ranks]:
        return rank_bounds([block.differences for block in self.blocks])

    @cached_property
    def friedman(self) -> float | None:
        """p of Friedman's test over the rows that have all data sets; `None` where it cannot be made."""
        whole = ~np.isnan([ranks.rank for ranks in self._ranks]).any(axis=0)
        if whole.all():
            return friedman(np.array([ranks.rank for ranks in self._ranks]))
        return None

    @cached_property
    def pairs(self) -> list[Pair]:
        """The rows, sorted by gain."""
        corrected = holm([gain.p if gain else None for gain in self._gains])
        elsewhere = holm([gain.elsewhere if gain else None for gain in self._gains])
        made = [
            self._pair(at, row, p, other is not None and other < LEVEL)
            for at, (row, p, other) in enumerate(zip(self._rows, corrected, elsewhere, strict=True))
        ]
        return sorted(made, key=lambda pair: pair.order)

    def _pair(self, at: int, row: str, p: float | None, elsewhere: bool) -> Pair:
        accuracies = tuple(block.accuracy(row) for block in self.blocks)
        gain = self._gain_value(at, row, p)
        verdict = self._verdict(row, gain)
        return Pair(
            name=row,
            accuracies=accuracies,
            gain=gain,
            rank=self._rank_value(at, row),
            weights=self._weights(row),
            seconds=self._seconds(row),
            verdict=verdict,
            elsewhere=elsewhere and verdict in ("better", "worse"),
            data_sets=sum(value.mean is not None for value in accuracies),
        )

    def _cells(self, row: str) -> tuple[Entry, ...]:
        return tuple(entry for block in self.blocks for entry in block.cells(row))

    def _lacking(self, number: int) -> str:
        return "" if number == len(self.blocks) else f"{number}/{len(self.blocks)} data sets"

    def _gain_value(self, at: int, row: str, p: float | None) -> Value:
        if self._is_baseline(row):
            return Value(text="–")
        gain, cells = self._gains[at], self._cells(row)
        references = {reference for block in self.blocks if (reference := block.reference(row)) is not None}
        both = (*cells, *(entry for reference in references for entry in self._cells(reference)))
        if gain is None:
            gaps = gaps_of(both)
            text = None if gaps else "no draw in common" if references else "no baseline"
            return Value(gaps=gaps, text=text, behind=both)
        number = sum(self._has_gain(block, at, row) for block in self.blocks)
        planned = min(block.planned(row) for block in self.blocks if self._has_gain(block, at, row))
        significant = None if p is None else p < LEVEL
        return Value(
            gain.mean,
            planned,
            gaps_of(both),
            signed=True,
            significant=significant,
            p=p,
            lacking=self._lacking(number),
            behind=both,
        )

    def _has_gain(self, block: Block, at: int, row: str) -> bool:
        reference = block.reference(row) if block.has(row) else None
        return reference is not None and bool(block.differences.draws[at, self._rows.index(reference)] > 0)

    def _rank_value(self, at: int, row: str) -> Value:
        found = np.array([[ranks.rank[at], ranks.low[at], ranks.high[at]] for ranks in self._ranks])
        known = found[~np.isnan(found[:, 0])]
        if not len(known):
            return Value()
        rank, low, high = (float(one) for one in known.mean(axis=0))
        bounds = (low, high) if self._tested else None
        cells = self._cells(row)
        return Value(Mean(rank, None, len(known)), bounds=bounds, lacking=self._lacking(len(known)), behind=cells)

    @cached_property
    def _tested(self) -> bool:
        """Whether any two rows were tested against each other."""
        pairs = np.triu_indices(len(self._rows), 1)
        return any(bool((~np.isnan(block.differences.p[pairs])).any()) for block in self.blocks)

    def _weights(self, row: str) -> Value:
        cells = self._cells(row)
        known = [r.parameters.image_method + r.parameters.text_method for r in finished(cells) if r.parameters]
        if not known:
            return Value(text="–")
        mean = mean_of(known)
        return Value(replace(mean, half=None), decimals=0, text=short_count(mean.mean), behind=cells)

    def _seconds(self, row: str) -> Value:
        """The mean over data sets of the seconds of training at the largest K, as the cost tables have them."""
        by_block = []
        for block in self.blocks:
            records = finished(block.cells(row, largest=True))
            known = [r.cost.train_seconds for r in records if r.cost and r.cost.train_seconds is not None]
            by_block += [float(np.mean(known))] if known else []
        if not by_block:
            return Value(text="–")
        mean = float(np.mean(by_block))
        cells = tuple(entry for block in self.blocks for entry in block.cells(row, largest=True))
        lacking = self._lacking(len(by_block))
        return Value(Mean(mean, None, len(by_block)), lacking=lacking, behind=cells)

    def _verdict(self, row: str, gain: Value) -> str:
        if self.decisions_count and any(found := [block.decisions(row) for block in self.blocks]):
            told = _summed_up((one for part in found for one in part), BEST if self.against_best else {})
            judged, all_of_them = sum(map(bool, found)), sum(block.has(row) for block in self.blocks)
            return told if judged == all_of_them else f"{told} on {judged}/{all_of_them} data sets"
        if self._is_baseline(row):
            return BASELINE
        if gain.significant is None or gain.mean is None:
            return UNTESTED if gain.mean is not None else "–"
        return "open" if not gain.significant else "better" if gain.mean.mean > 0 else "worse"

    @cached_property
    def table(self) -> Table:
        """The rows as a table."""
        gains = self.has_gains
        measured = f", and gain over {' or '.join(self.baselines)}" if gains else ""
        heads = [(block.name, block.axes) for block in self.blocks]
        heads += [("gain", {"quantity": "gain"})] if gains else []
        heads += [("mean rank", {"quantity": "rank"}), ("weights", {"quantity": "weights"})]
        heads += [("train s", {"quantity": "train seconds"})]
        heads += [("verdict", {"quantity": "verdict"})] if gains else []
        return Table(
            key="overall",
            title=f"All pairs on {self._where}: {METRICS[self.metric]} accuracy in %{measured}",
            corner="image+text",
            columns=tuple(head for head, _ in heads),
            rows=tuple(Row(pair.name, _values(pair, gains)) for pair in self.pairs),
            notes=overall_notes(self),
            context={"metric": self.metric},
            axes=tuple(axes for _, axes in heads),
            caption=self._caption,
        )

    @property
    def _where(self) -> str:
        names = [block.name for block in self.blocks]
        return names[0] if len(names) == 1 else f"{len(names)} data sets"

    @property
    def _caption(self) -> str:
        names = ", ".join(block.name for block in self.blocks)
        measured = f", their gain over {' or '.join(self.baselines)}" if self.has_gains else ""
        return f"{METRICS[self.metric].capitalize()} accuracy in % of all pairs on {names}{measured}, and their cost."


def _values(pair: Pair, gains: bool) -> tuple[Value, ...]:
    part = f" on {pair.gain.lacking}" if pair.gain.lacking and pair.gain.significant is not None else ""
    verdict = Value(text=f"{pair.verdict}{part}{f' {ELSEWHERE}' if pair.elsewhere else ''}")
    # The verdict says what a mark at the gain would.
    middle = (replace(pair.gain, significant=None),) if gains else ()
    return (*pair.accuracies, *middle, pair.rank, pair.weights, pair.seconds, *((verdict,) if gains else ()))


def _summed_up(decisions: Iterable[Decision], words: Mapping[str, str]) -> str:
    """Verdicts of several columns in one: all agree, or how many say what.

    That a pair is better everywhere is false only if it is so of each column, so it needs no further correction.

    Args:
        decisions: of one pair.
        words: other words for verdicts.
    """
    found = [str(decision.verdict) for decision in decisions]
    told = {verdict: found.count(verdict) for verdict in ("better", "worse", "equivalent", "open") if verdict in found}
    if len(told) == 1:
        verdict = next(iter(told))
        return words.get(verdict, verdict)
    return ", ".join(f"{count} {words.get(verdict, verdict)}" for verdict, count in told.items())


def short_count(number: float) -> str:
    """A number of weights, short.

    >>> [short_count(one) for one in (0, 950, 294_912, 1_190_000, 10_650_000)]
    ['0', '950', '295k', '1.19M', '10.7M']
    """
    if number < 1000:
        return f"{number:.0f}"
    if number < 999_500:
        return f"{number / 1e3:.3g}k"
    return f"{number / 1e6:.3g}M"

"""The table of the field: pairs × shots, the mean over K ≥ 5, and the gain over the frozen towers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mmfuse.records.status import Entry
from mmfuse.report.statistics import Paired, holm, mean_of, paired
from mmfuse.report.tables.table import SHOWN_STATES, Row, Sheet, Value

METRICS = {"top1": "top-1", "top5": "top-5", "mean_class": "mean-class"}
LEVEL = 0.05
FEW_SHOTS_BELOW = 5

Values = dict[Hashable, float]


@dataclass(frozen=True)
class Group:
    """The cells of one data set and split."""

    dataset: str
    split: int
    entries: tuple[Entry, ...]

    @cached_property
    def shots(self) -> list[Any]:
        """Shots from few to all."""
        found = {entry.cell.shots for entry in self.entries}
        return sorted(found, key=lambda shots: (shots == "all", 0 if shots == "all" else shots))

    @cached_property
    def pairs(self) -> list[str]:
        """Pair names as the grid has them."""
        return list(dict.fromkeys(entry.cell.pair.name for entry in self.entries))

    @cached_property
    def baseline(self) -> str | None:
        """The pair of two frozen towers that gains are measured against."""
        frozen = [entry.cell.pair.name for entry in self.entries if entry.cell.pair.frozen]
        return "frozen+frozen" if "frozen+frozen" in frozen else next(iter(frozen), None)

    @cached_property
    def _places(self) -> dict[tuple[str, Any], list[Entry]]:
        found: dict[tuple[str, Any], list[Entry]] = {}
        for entry in self.entries:
            found.setdefault((entry.cell.pair.name, entry.cell.shots), []).append(entry)
        return found

    @cached_property
    def comparison(self) -> Comparison:
        """Its tables of top-1 accuracy, which everything that tells of the group shares."""
        return Comparison(self)

    @property
    def title(self) -> str:
        """Data set and split in words."""
        return f"{self.dataset}, split {self.split}"

    def of(self, pair: str, shots: Any) -> list[Entry]:
        """The repetitions of one place of the table."""
        return self._places.get((pair, shots), [])


def groups(entries: Iterable[Entry]) -> list[Group]:
    """Entries by data set and split, in the order in which they come."""
    found: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.cell.dataset.name, entry.cell.split), []).append(entry)
    return [Group(dataset, split, tuple(members)) for (dataset, split), members in found.items()]


def values_by_draw(entries: Iterable[Entry], metric: str) -> Values:
    """Finished values in per cent by draw; several seeds of one draw are averaged, since only draws are independent.

    With a single draw the seeds are the repetitions.
    """
    planned = list(entries)
    by_draw: dict[Hashable, list[float]] = {}
    single = len({entry.cell.draw for entry in planned}) == 1
    for entry in planned:
        if entry.state != "done":
            continue
        assert entry.record is not None
        assert entry.record.metrics is not None
        value = getattr(entry.record.metrics, metric)
        if value is not None:
            key = ("seed", entry.cell.seed) if single else ("draw", entry.cell.draw)
            by_draw.setdefault(key, []).append(100 * value)
    return {key: sum(found) / len(found) for key, found in by_draw.items()}


def gaps_of(entries: Iterable[Entry]) -> dict[str, int]:
    """How many repetitions are not done, by state."""
    members = list(entries)
    return {state: count for state in SHOWN_STATES if (count := sum(entry.state == state for entry in members))}


class Comparison:
    """Builds the tables of one data set and split.

    Args:
        group: its cells.
        metric: top1, top5 or mean_class.
    """

    def __init__(self, group: Group, *, metric: str = "top1") -> None:
        self.group = group
        self.metric = metric
        self.averaged = [shots for shots in group.shots if shots == "all" or shots >= FEW_SHOTS_BELOW] or group.shots
        self._values = {
            (pair, shots): values_by_draw(group.of(pair, shots), metric)
            for pair in group.pairs
            for shots in group.shots
        }

    def sheet(self) -> Sheet:
        """Pairs × shots with the mean over K ≥ 5 and the gain over the frozen towers."""
        return self._sheet

    @cached_property
    def _sheet(self) -> Sheet:
        columns = [(f"K={shots}", (shots,)) for shots in self.group.shots]
        if len(self.averaged) > 1:
            columns.append((f"mean K{self.averaged[0]}–{self.averaged[-1]}", tuple(self.averaged)))
        tested = [self._accuracies(shots) for _, shots in columns]
        names = [name for name, _ in columns]
        if self.group.baseline is not None and len(self.group.pairs) > 1:
            names.append(f"gain over {self.group.baseline}")
            tested.append(self._gains(tuple(self.averaged)))
        by_column = _marked(tested)
        rows = [Row(pair, tuple(column[at] for column in by_column)) for at, pair in enumerate(self.group.pairs)]
        return Sheet(
            key="comparison",
            title=f"{self.group.title}: {METRICS[self.metric]} accuracy in %",
            corner="image+text",
            columns=tuple(names),
            rows=tuple(rows),
            notes=self._notes(),
            context={"dataset": self.group.dataset, "split": str(self.group.split), "metric": self.metric},
        )

    def gain_sheet(self) -> Sheet | None:
        """The gain over the frozen towers at each number of shots; `None` without a frozen pair."""
        return self._gain_sheet

    @cached_property
    def _gain_sheet(self) -> Sheet | None:
        if self.group.baseline is None or len(self.group.pairs) < 2:
            return None
        by_column = _marked([self._gains((shots,)) for shots in self.group.shots])
        rows = [
            Row(pair, tuple(column[at] for column in by_column))
            for at, pair in enumerate(self.group.pairs)
            if pair != self.group.baseline
        ]
        return Sheet(
            key="gain",
            title=f"{self.group.title}: gain over {self.group.baseline} in points of {METRICS[self.metric]}",
            corner="image+text",
            columns=tuple(f"K={shots}" for shots in self.group.shots),
            rows=tuple(rows),
            notes=(
                "Paired differences on the same draws with their 95% Student-t interval; "
                "* holds after Holm's correction over the whole table (paired t-test, 5%).",
            ),
            context={"dataset": self.group.dataset, "split": str(self.group.split), "metric": self.metric},
        )

    def over(self, pair: str, shots: tuple[Any, ...]) -> Values:
        """Values by draw, averaged over several shots; only draws that all of them have."""
        found = [self._values[pair, one] for one in shots]
        shared = [key for key in found[0] if all(key in values for values in found)]
        return {key: sum(values[key] for values in found) / len(found) for key in shared}

    def _cells(self, pair: str, shots: tuple[Any, ...]) -> list[Entry]:
        return [entry for one in shots for entry in self.group.of(pair, one)]

    def _accuracies(self, shots: tuple[Any, ...]) -> _Column:
        """Accuracies with the test of each against the best."""
        values = [self._value(pair, shots) for pair in self.group.pairs]
        means = [value.mean.mean if value.mean else None for value in values]
        known = [mean for mean in means if mean is not None]
        if len(known) < 2:
            return _Column(values, [None] * len(values))
        best = means.index(max(known))
        champion = self.over(self.group.pairs[best], shots)
        tests = [
            paired(champion, self.over(pair, shots)) if at != best else None for at, pair in enumerate(self.group.pairs)
        ]
        return _Column(values, tests, best)

    def _value(self, pair: str, shots: tuple[Any, ...]) -> Value:
        cells = self._cells(pair, shots)
        values = list(self.over(pair, shots).values())
        draws, seeds = {entry.cell.draw for entry in cells}, {entry.cell.seed for entry in cells}
        planned = len(draws) if len(draws) > 1 else len(seeds)
        return Value(mean_of(values) if values else None, planned, gaps_of(cells), behind=tuple(cells))

    def _gains(self, shots: tuple[Any, ...]) -> _Column:
        """Gains over the frozen towers with their tests."""
        frozen = self.over(str(self.group.baseline), shots)
        pairs = self.group.pairs
        tests = [
            paired(self.over(pair, shots), frozen) if pair != self.group.baseline else None for pair in self.group.pairs
        ]
        return _Column([self._gain(pair, shots, test) for pair, test in zip(pairs, tests, strict=True)], tests)

    def _gain(self, pair: str, shots: tuple[Any, ...], test: Paired | None) -> Value:
        baseline = str(self.group.baseline)
        if pair == baseline:
            return Value(text="–")
        if not all(self.group.of(pair, one) for one in shots):
            return Value()  # the grid does not ask for it
        cells = (*self._cells(pair, shots), *self._cells(baseline, shots))
        if test is None:
            return Value(None, 0, gaps_of(cells), signed=True, behind=cells)
        planned = self._value(pair, shots).planned
        return Value(test.difference, planned, gaps_of(cells), signed=True, behind=cells)

    def _notes(self) -> tuple[str, ...]:
        done = [
            entry for entry in self.group.entries if entry.record and entry.record.metrics and entry.state == "done"
        ]
        draws = len({entry.cell.draw for entry in self.group.entries})
        seeds = len({entry.cell.seed for entry in self.group.entries})
        n = draws if draws > 1 else seeds
        unit = "draws of the training clips" if draws > 1 else "initialisations of one draw"
        clips = sorted({entry.record.metrics.test_clips for entry in done if entry.record and entry.record.metrics})
        notes = [f"Mean ± 95% Student-t interval over n = {n} {unit}; {', '.join(map(str, clips)) or 'no'} test clips."]
        same = [one for one in self.group.shots if one == "all" or self._listed(one)]
        if draws > 1 and same:
            which = " and ".join(f"K={one}" for one in same)
            notes.append(f"At {which} every draw holds the same clips: its interval is over repeated trainings.")
        if len(self.averaged) > 1:
            shots = ", ".join(map(str, self.averaged))
            notes.append(f"The mean column and the gain average K = {shots} within each draw first.")
        notes.append(
            f"Bold: best of the column; {'='} not separated from the best, * gain holds "
            "(paired t-test on the same draws, 5%, Holm over the column)."
        )
        if any(entry.state != "done" for entry in self.group.entries):
            notes.append("(2/3, 1 failed): the mean is over 2 of 3 planned repetitions; stale numbers are left out.")
        if any(entry.record.provenance.certified is False for entry in done if entry.record):
            notes.append(self._uncertified(done))
        devices = {str(entry.record.provenance.precision) for entry in done if entry.record}
        if len(devices) > 1:
            notes.append(f"Cells were trained in different precisions: {', '.join(sorted(devices))}.")
        return tuple(notes)

    def _listed(self, shots: Any) -> bool:
        """Whether a published list takes the place of the draws."""
        return any(entry.cell.shots == shots and entry.cell.train_list is not None for entry in self.group.entries)

    def _uncertified(self, done: list[Entry]) -> str:
        """Which columns hold draws without a fingerprint that others could compare theirs with."""
        found = {entry.cell.shots for entry in done if entry.record and entry.record.provenance.certified is False}
        columns = [one for one in self.group.shots if one in found]
        where = "" if columns == self.group.shots else f" at {', '.join(f'K={one}' for one in columns)}"
        return f"Draws{where} are not certified: no fingerprint of theirs ships with the package."


@dataclass(frozen=True)
class _Column:
    """Values of a column before their marks: accuracies, where one is the best, or gains.

    Args:
        values: by row.
        tests: by row: against the best, or of the gain; `None` where nothing is tested.
        best: the row of the best accuracy.
    """

    values: list[Value]
    tests: list[Paired | None]
    best: int | None = None

    def marked(self, corrected: Iterable[float | None]) -> list[Value]:
        """The values with marks that follow from the corrected p-values."""
        found = []
        for at, (value, test, p) in enumerate(zip(self.values, self.tests, corrected, strict=True)):
            if self.best is not None:
                # One repetition separates nothing.
                tie = test is not None and (p is None or p >= LEVEL)
                found.append(replace(value, best=at == self.best, tie=tie))
            else:
                found.append(replace(value, significant=None if p is None else p < LEVEL, p=p))
        return found


def _marked(columns: list[_Column]) -> list[list[Value]]:
    """The values of a table, column by column.

    p-values of gains are corrected over all gains of the table. Each column has a best of its own, so those of
    the others against it are corrected over their column.
    """
    gains = [column for column in columns if column.best is None]
    over_table = iter(holm([_p(test) for column in gains for test in column.tests]))
    return [
        column.marked(
            [next(over_table) for _ in column.tests]
            if column.best is None
            else holm([_p(test) for test in column.tests])
        )
        for column in columns
    ]


def _p(test: Paired | None) -> float | None:
    return test.p_t if test else None

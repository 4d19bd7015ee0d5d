"""The verdicts of a grid whose draws are added until all is decided, and the draws that it wants next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmfuse.records.folder import Manifest
from mmfuse.records.record import STOPPED
from mmfuse.records.status import Entry
from mmfuse.records.until_decided import UntilDecided
from mmfuse.statistics.power import MOST_DRAWS, draws_to_decide
from mmfuse.statistics.sequential import OPEN, VERDICTS, Array, Mask, Rule, Verdicts, judge, looks_between

FEW = 3
"""Open comparisons of a column that are told in words: those that the fewest draws would decide."""

Column = tuple[str, int, Any]
"""Data set, split and number of shots."""
Rows = dict[str, list[Entry]]
"""Cells by pair."""


@dataclass(frozen=True)
class Decision:
    """What is known of one pair in one column.

    Args:
        dataset, split, shots, pair: where.
        verdict: better, worse, equivalent or open; `None` for the baseline, and before the first look.
        draws: draws that the verdict is from.
        wanted: draws that are wanted; more than `draws` while the comparison goes on.
        gain: in points of top-1, over the baseline or over the best; `None` where nothing is compared.
        half: half width of the interval that the verdict is read off.
        further: draws beyond these that would decide an open comparison, if gain and spread stay as they are.
    """

    dataset: str
    split: int
    shots: Any
    pair: str
    verdict: str | None
    draws: int
    wanted: int
    gain: float | None
    half: float | None
    further: int | None

    def to_json(self) -> dict[str, Any]:
        """As `status --json` prints it."""
        return asdict(self)

    @property
    def column(self) -> Column:
        """Where it stands, apart from the pair."""
        return self.dataset, self.split, self.shots


def looks_of(draws: UntilDecided) -> tuple[int, ...]:
    """Numbers of draws at which verdicts are made."""
    return draws.looks or looks_between(draws.at_least, draws.at_most)


def rule_of(draws: UntilDecided, *, pairs: int, columns: int) -> Rule:
    """The rule for a table of so many pairs and columns."""
    comparisons = columns * (math.comb(pairs, 2) if draws.reference == "best" else pairs - 1)
    return Rule(looks_of(draws), draws.margin, comparisons)


def decide(entries: Iterable[Entry], draws: UntilDecided) -> list[Decision]:
    """The verdict on every pair and column.

    Args:
        entries: the cells of one grid with their states; at least all of its pairs and numbers of shots.
        draws: the grid's rule.
    """
    columns = columns_of(entries)
    found: list[Decision] = []
    for column, rows in columns.items():
        in_table = sum(other[:2] == column[:2] for other in columns)
        rule = rule_of(draws, pairs=len(rows), columns=in_table)
        found += _decide_column(column, rows, draws, rule)
    return found


def columns_of(entries: Iterable[Entry]) -> dict[Column, Rows]:
    """Cells by column and pair."""
    columns: dict[Column, Rows] = {}
    for entry in entries:
        axes = entry.cell.axes
        columns.setdefault((axes.dataset, axes.split, axes.shots), {}).setdefault(axes.pair, []).append(entry)
    return columns


def decisions(manifests: Iterable[Manifest], entries: Sequence[Entry]) -> list[Decision]:
    """The verdicts of all grids of a results folder that add draws until all is decided.

    Args:
        manifests: of the folder.
        entries: all of its cells with their states.
    """
    by_cell = {(entry.cell.name, entry.cell.config_hash): entry for entry in entries}
    found: list[Decision] = []
    for manifest in manifests:
        if manifest.until_decided is None:
            continue
        keys = [(planned.cell.name, planned.cell.config_hash) for planned in manifest.cells]
        found += decide([by_cell[key] for key in keys if key in by_cell], manifest.until_decided)
    return found


def _decide_column(column: Column, rows: Rows, draws: UntilDecided, rule: Rule) -> list[Decision]:
    names = list(rows)
    accuracy, pending = accuracies(rows, range(rule.looks[-1]))
    reference = None if draws.reference == "best" else names.index(str(baseline_of(rows)))
    verdicts = judge(accuracy, rule, step=_step(rows), reference=reference, pending=pending)
    return [_decision(column, name, at, verdicts, rule) for at, name in enumerate(names)]


def accuracies(rows: Rows, draws: Sequence[int]) -> tuple[Array, Mask]:
    """(R, N) top-1 in per cent, the mean over seeds, nan where it is not known; and which may still come.

    A cell that failed or is stale is not waited for, or one fault would hold up the column. One that was only stopped
    is waited for: a look that was judged without it would ask for other draws than one of a run that was not stopped.
    """
    accuracy = np.full((len(rows), len(draws)), np.nan)
    pending = np.zeros((len(rows), len(draws)), dtype=bool)
    for at, entries in enumerate(rows.values()):
        for column, draw in enumerate(draws):
            cells = [entry for entry in entries if entry.cell.draw == draw]
            values = [value for entry in cells if (value := _top1(entry)) is not None]
            if cells and len(values) == len(cells):
                accuracy[at, column] = sum(values) / len(values)
            pending[at, column] = not cells or any(map(_may_come, cells))
    return accuracy, pending


def _may_come(entry: Entry) -> bool:
    if entry.failure is not None:
        return entry.failure.kind in STOPPED
    return entry.state in ("missing", "running")


def _top1(entry: Entry) -> float | None:
    if entry.state != "done" or entry.record is None or entry.record.metrics is None:
        return None
    return 100 * entry.record.metrics.top1


def _step(rows: Rows) -> float:
    """Points of accuracy that a test clip is worth."""
    clips = [
        entry.record.metrics.test_clips
        for entries in rows.values()
        for entry in entries
        if entry.record is not None and entry.record.metrics is not None
    ]
    return 100 / max(1, min(clips, default=1))


def baseline_of(rows: Rows) -> str | None:
    """The pair of two frozen towers, where there is one."""
    frozen = [name for name, entries in rows.items() if entries[0].cell.pair.frozen]
    return "frozen+frozen" if "frozen+frozen" in frozen else next(iter(frozen), None)


def _decision(column: Column, pair: str, at: int, verdicts: Verdicts, rule: Rule) -> Decision:
    seen, wanted = int(verdicts.draws[at]), int(verdicts.wants[at])
    verdict, compared = int(verdicts.verdict[at]), not math.isnan(verdicts.mean[at])
    further = None
    if compared and verdict == OPEN:
        total = draws_to_decide(
            mean=float(verdicts.mean[at]),
            spread=float(verdicts.spread[at]),
            degrees=float(verdicts.degrees[at]),
            draws=seen,
            margin=rule.margin,
            two_sided=rule.two_sided(len(rule.looks) - 1),
        )
        further = None if total is None else total - seen
    return Decision(
        *column,
        pair=pair,
        verdict=VERDICTS[verdict] if compared or verdict != OPEN else None,
        draws=seen,
        wanted=wanted,
        gain=float(verdicts.mean[at]) if compared else None,
        half=float(verdicts.half[at]) if compared else None,
        further=further,
    )


def open_questions(found: Sequence[Decision]) -> list[str]:
    """What has been decided and what has not, a sentence a column, with the draws that it would take."""
    sentences = []
    for column in dict.fromkeys(decision.column for decision in found):
        here = [decision for decision in found if decision.column == column]
        counted = [
            f"{number} {verdict}" for verdict in VERDICTS[1:] if (number := sum(d.verdict == verdict for d in here))
        ]
        still = [decision for decision in here if decision.verdict == "open"]
        waiting = sum(decision.wanted > decision.draws for decision in here)
        parts = [*counted, *([f"{len(still)} open"] if still else [])]
        text = ", ".join(parts) or "nothing judged yet"
        if waiting:
            text += f"; cells of {waiting} pairs are missing before the next look"
        elif still:
            nearest = sorted(still, key=lambda decision: (decision.further is None, decision.further or 0))
            text += ": " + ", ".join(_question(decision) for decision in nearest[:FEW])
            text += f", and {len(still) - FEW} that would take more" if len(still) > FEW else ""
        sentences.append(f"{column[0]}, split {column[1]}, K={column[2]}: {text}")
    return sentences


def _question(decision: Decision) -> str:
    seen = f"{decision.pair} {decision.gain:+.1f} ± {decision.half:.1f} after {decision.draws} draws"
    if decision.further is None:
        return f"{seen} (not even {MOST_DRAWS:,} more would)"
    return f"{seen} ({decision.further} more would decide it)"

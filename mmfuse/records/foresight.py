"""What a grid can tell, before it costs anything: the smallest gain that it separates, and the draws of one point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmfuse.records.decisions import Rows, accuracies, baseline_of, columns_of, rule_of
from mmfuse.records.status import Entry
from mmfuse.records.until_decided import FEWEST, UntilDecided
from mmfuse.statistics.power import (
    MOST_DRAWS,
    TYPICAL_SPREAD,
    TYPICAL_SPREAD_AT_ALL,
    draws_for,
    pooled_spread,
    smallest_gain,
)
from mmfuse.statistics.sequential import LEVEL

LARGE = 5.0
"""Points: a grid that separates no smaller gain will hardly conclude."""


@dataclass(frozen=True)
class Power:
    """What one column of a table can tell.

    Args:
        dataset, split, shots: the column.
        draws: as many as there may be.
        spread: standard deviation of one draw's gain, in points.
        seen: whether the spread is that of the records, and not the typical one.
        smallest: gain in points that is found with a chance of 80%; `None` where nothing is tested.
        for_one_point: draws that a gain of one point takes; `None` where more than a thousand.
    """

    dataset: str
    split: int
    shots: Any
    draws: int
    spread: float
    seen: bool
    smallest: float | None
    for_one_point: int | None

    def to_json(self) -> dict[str, Any]:
        """As `--dry-run --json` prints it."""
        return asdict(self)

    @property
    def concludes(self) -> bool:
        """Whether gains of a usual size can be separated at all."""
        return self.smallest is not None and self.smallest <= LARGE

    def sentence(self) -> str:
        """What so many draws can tell, in words that need a column before them."""
        if self.smallest is None:
            return f"{self.draws} draw{'s' * (self.draws != 1)} cannot conclude; {FEWEST} is the least"
        source = "as in these results" if self.seen else "assumed"
        one = f"more than {MOST_DRAWS:,}" if self.for_one_point is None else f"{self.for_one_point}"
        gains = f"gains from {self.smallest:.1f} points on" if self.smallest < 100 else "no gain at all"
        text = f"{self.draws} draws separate {gains} (spread of a draw's gain {self.spread:.1f}, {source}); "
        text += f"one point takes {one}"
        return text if self.concludes else f"{text}. Smaller gains will stay open: this can hardly conclude"


def sentences(told: Iterable[Power]) -> list[str]:
    """What columns can tell, one sentence for all columns of which the same is said.

    >>> few = [Power("a", 1, shots, 2, 3.0, False, None, 50) for shots in (2, "all")]
    >>> sentences([*few, Power("b", 1, 2, 2, 3.0, False, None, 50)])
    ['a, split 1, K=2, all; b, split 1, K=2: 2 draws cannot conclude; 3 is the least']
    """
    columns: dict[str, dict[tuple[str, int], list[str]]] = {}
    for power in told:
        said = columns.setdefault(power.sentence(), {})
        said.setdefault((power.dataset, power.split), []).append(str(power.shots))
    return [f"{_places(where)}: {text}" for text, where in columns.items()]


def _places(columns: Mapping[tuple[str, int], Sequence[str]]) -> str:
    """Columns by data set and split, in words: those with the same numbers of shots together."""
    alike: dict[tuple[int, str], list[str]] = {}
    for (dataset, split), shots in columns.items():
        alike.setdefault((split, ", ".join(shots)), []).append(dataset)
    return "; ".join(f"{', '.join(names)}, split {split}, K={shots}" for (split, shots), names in alike.items())


def powers(draws: UntilDecided | None, entries: Iterable[Entry]) -> list[Power]:
    """What each column of a grid can tell of its pairs; nothing where there is only one pair.

    Args:
        draws: the rule by which draws are added; `None` where they are listed.
        entries: all cells that the grid may come to, with their states.
    """
    columns = columns_of(entries)
    return [
        _power(column, rows, draws, columns=sum(other[:2] == column[:2] for other in columns))
        for column, rows in columns.items()
        if len(rows) > 1
    ]


def _power(column: tuple[str, int, Any], rows: Rows, draws: UntilDecided | None, *, columns: int) -> Power:
    listed = sorted({entry.cell.draw for entries in rows.values() for entry in entries})
    first = baseline_of(rows)
    ordered = dict(sorted(rows.items(), key=lambda row: row[0] != first))
    spread = pooled_spread([accuracies(ordered, listed)[0]])
    typical = TYPICAL_SPREAD_AT_ALL if column[2] == "all" else TYPICAL_SPREAD
    number = len(listed)
    if draws is not None:
        rule = rule_of(draws, pairs=len(rows), columns=columns)
        told: dict[str, Any] = {"rows": len(rows), "comparisons": rule.comparisons}
        told["share"] = rule.two_sided(len(rule.looks) - 1) * rule.comparisons / LEVEL
    else:  # each comparison has the spread of its own draws alone
        told = {"rows": 2, "comparisons": columns * (len(rows) - 1 if first else math.comb(len(rows), 2))}
    told["spread"] = spread or typical
    return Power(
        *column,
        draws=number,
        spread=told["spread"],
        seen=bool(spread),
        smallest=smallest_gain(draws=number, **told) if number >= FEWEST else None,
        for_one_point=draws_for(1.0, **told),
    )

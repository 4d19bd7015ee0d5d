"""How much a search may cost: a number of trials for each pair, or a time for all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mmfuse.errors import MmfuseError

_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
LONGEST = 366 * 86400
MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Budget:
    """A number of trials for each pair, or seconds for all pairs together; one of the two.

    Args:
        trials: of each pair, the default settings among them.
        seconds: of all pairs, shared out equally.
    """

    trials: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.trials is None) == (self.seconds is None):
            raise MmfuseError("a budget is a number of trials (--trials 16) or a time (--budget 3h); say one of them")
        if self.trials is not None and not 1 <= self.trials <= MOST_TRIALS:
            raise MmfuseError(f"--trials is a whole number from 1 to {MOST_TRIALS:,}; got {self.trials}")

    def __str__(self) -> str:
        if self.trials is not None:
            return f"{self.trials} trial{'s' * (self.trials != 1)} a pair"
        return f"{spelt(self.seconds or 0)} for all pairs"

    def document(self) -> dict[str, Any]:
        """The budget as plain values."""
        return {"trials": self.trials} if self.trials is not None else {"seconds": self.seconds}


def parse_budget(text: str | None, trials: int | None) -> Budget:
    """A budget as it is written on the command line.

    Args:
        text: a time, such as 90m, 3h or 1h30m.
        trials: a number of trials.

    Raises:
        MmfuseError: neither or both, or a time that cannot be read.

    >>> parse_budget("1h30m", None).seconds
    5400.0
    """
    return Budget(trials=trials, seconds=None if text is None else parse_time(text))


def parse_time(text: str) -> float:
    """Seconds of a time such as 90m, 3h, 1h30m or 45s.

    Raises:
        MmfuseError: it cannot be read, is nothing, or is more than a year.
    """
    written = text.strip().lower()
    parts = _PART.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        raise MmfuseError(f"a budget is a time such as 90m, 3h or 1h30m; got {text!r:.80}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds <= LONGEST:
        raise MmfuseError(f"a budget is more than nothing and at most a year; got {text!r:.80}")
    return seconds


def spelt(seconds: float) -> str:
    """A time as a budget is written.

    >>> spelt(5400), spelt(45)
    ('1h30m', '45s')
    """
    left, told = round(seconds), ""
    for unit, size in _SECONDS.items():
        if left >= size:
            told, left = f"{told}{left // size}{unit}", left % size
    return told or "0s"

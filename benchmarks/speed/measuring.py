"""Taking times: side by side, one thread, processor seconds.

On a machine that others use too, wall time says more about them than about the work. So on a CPU everything is taken in
processor seconds (user and system, of a process and its children), the two things that are compared take turns within
one run, and the ratio is taken turn by turn. On a GPU, whose work no processor time shows, wall time is taken between
two synchronisations.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
Way = Callable[[], object]
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Figure:
    """A measured number: the median of several, the lowest and the highest of them."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Row:
    """A line of the table: what was set against what, what came out, and what is aimed at.

    Args:
        row: the module that measured it, as `--only` names it.
        what, against: the two sides; `against` is empty where one side alone was measured.
        measured: in `unit`.
        unit: "×" for a ratio, else "s", "MB", and so on.
        at_least, at_most: the aim, where there is one.
        how: how it was measured, where that is not plain: in parts, by arithmetic.
        figures: every number behind it.
    """

    row: str
    what: str
    against: str
    measured: Figure | None
    unit: str = "×"
    at_least: float | None = None
    at_most: float | None = None
    how: str = ""
    figures: Mapping[str, Any] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median meets the aim; `None` where nothing is aimed at, or nothing was measured."""
        if self.measured is None or (self.at_least is None and self.at_most is None):
            return None
        above = self.at_least is None or self.measured.median >= self.at_least
        return above and (self.at_most is None or self.measured.median <= self.at_most)


@dataclass(frozen=True)
class Bench:
    """What a row is told: where it may write, how often it is to measure, and how much.

    Args:
        folder: for what is made and thrown away.
        rounds: turns of each side.
        quick: small towers and few epochs, everything in full.
        whole: run every cell in full where otherwise parts are measured.
        device: "cpu" or "cuda".
        say: told what is being done.
        keep: folder for files that are to stay, beside the figures; `None` where nothing stays.
    """

    folder: Path
    rounds: int
    quick: bool
    whole: bool
    device: str
    say: Callable[[str], None]
    keep: Path | None = None


class Clock:
    """Seconds that some work takes: of the processor, or of the wall around a GPU."""

    def __init__(self, device: str) -> None:
        self._synchronise: Callable[[], object] = lambda: None
        self._now = time.process_time
        if device != "cpu":
            import torch

            self._synchronise, self._now = torch.cuda.synchronize, time.perf_counter

    def seconds(self, work: Way) -> float:
        """Do the work once."""
        self._synchronise()
        begun = self._now()
        work()
        self._synchronise()
        return self._now() - begun


def in_turns(ways: Mapping[str, Callable[[int], Seen]], turns: Iterable[int]) -> dict[str, list[Seen]]:
    """Let several ways take turns, first to last and then last to first, so that a drift disturbs all alike.

    Args:
        ways: by name; each is given the number of the turn.
        turns: their numbers.

    Returns:
        What each way gave, turn by turn.
    """
    seen: dict[str, list[Seen]] = {name: [] for name in ways}
    for turn in turns:
        order = list(ways.items())
        for name, way in order if turn % 2 == 0 else reversed(order):
            seen[name].append(way(turn))
    return seen


def interleaved(ways: Mapping[str, Way], *, rounds: int, clock: Clock, warm: int = 1) -> dict[str, list[float]]:
    """Take the seconds of several ways in turns.

    Args:
        ways: by name.
        rounds: turns of each that count.
        clock: what takes the seconds.
        warm: turns before those.

    Returns:
        Seconds of each way, round by round.
    """
    timed = {name: (lambda _turn, work=work: clock.seconds(work)) for name, work in ways.items()}
    return {name: seconds[warm:] for name, seconds in in_turns(timed, range(-warm, rounds)).items()}


def ratios(above: Sequence[float], below: Sequence[float]) -> Figure:
    """How many times one side is the other, round by round."""
    return Figure.of([a / b for a, b in zip(above, below, strict=True)])


@dataclass(frozen=True)
class Ended:
    """A process that has ended well: what it took, children included, and what it printed."""

    processor: float
    wall: float
    peak_bytes: int
    output: str


def run_process(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command with one thread and measure it from the outside.

    The command is started by a small process of its own: a process's peak of memory counts from its fork, so that one
    started from here would count all that is loaded here.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [*launcher, *command],
        capture_output=True,
        text=True,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": path, **(environment or {})},
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\nended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    # The launcher's own line is the last one of what came on the error stream.
    taken = json.loads(done.stderr.strip().splitlines()[-1])
    return Ended(taken["processor"], taken["wall"], taken["peak_bytes"], done.stdout)


def command_line(name: str) -> list[str]:
    """How a command of this package is started: as installed beside this Python, else as a module."""
    installed = Path(sys.executable).with_name(name)
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-m", "mmfuse.cli.bench"]

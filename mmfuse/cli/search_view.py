"""How a search is shown while it goes on: a table with a line a pair on a terminal, a line a trial elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmfuse.bench.job import Progress
from mmfuse.bench.tuning.search import Search
from mmfuse.bench.tuning.trials import Trial
from mmfuse.cli.common import duration

ENDS = {
    "complete": "",
    "pruned": "given up early",
    "stopped": "out of time; it is made again where more time is given",
    "failed": "failed",
}


def in_short(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings in a few words.

    >>> in_short({"train": {"method_lr": 0.0003}, "image": {"rank": 16}})
    'method_lr 0.0003, image rank 16'
    """
    told = [
        f"{name if group == 'train' else f'{group} {name}'} {value}"
        for group, values in settings.items()
        for name, value in values.items()
    ]
    return ", ".join(told) or "the default settings"


def ending(trial: Trial) -> str:
    """How a trial ended, in a few words."""
    if trial.accuracy is not None:
        return f"{100 * trial.accuracy:.1f}%"
    if trial.state == "failed":
        return f"failed: {trial.error}"
    early = f" at {100 * list(trial.steps.values())[-1]:.1f}%" if trial.state == "pruned" and trial.steps else ""
    return ENDS[trial.state] + early


class SearchLines:
    """A line for each trial that ended: for logs and pipes.

    Args:
        console: where to.
        known: trials of an earlier run.
        left: gives what of the budget is left, in words.
    """

    def __init__(self, console: Console, known: list[Trial], left: Callable[[], str]) -> None:
        self._console, self._left, self._made = console, left, len(known)

    def __enter__(self) -> SearchLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def report(self, progress: Progress) -> None:
        """Nothing: a trial is told once it has ended."""

    def began(self, search: Search, number: int, point: Mapping[str, Any]) -> None:
        """Nothing: a trial is told once it has ended."""

    def ended(self, search: Search, trial: Trial) -> None:
        """Tell of a trial."""
        self._made += 1
        told = f"{search.title}: {in_short(search.space.settings(trial.point))}: {ending(trial)}"
        self._console.print(
            f"[{self._made}] {told}  {duration(trial.seconds)}  ({self._left()})", markup=False, soft_wrap=True
        )


class SearchTable:
    """A table with a line a pair, and the trial that is under way.

    Args:
        console: the terminal.
        known: trials of an earlier run.
        left: gives what of the budget is left, in words.
        pairs: the titles of all searches, by name.
    """

    def __init__(
        self, console: Console, known: list[Trial], left: Callable[[], str], *, pairs: Mapping[str, str]
    ) -> None:
        self._trials: dict[str, list[Trial]] = {name: [] for name in pairs}
        for trial in known:
            self._trials[trial.search].append(trial)
        self._pairs, self._left, self._under_way, self._fraction = dict(pairs), left, ("", ""), 0.0
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> SearchTable:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)  # type: ignore[arg-type]

    def report(self, progress: Progress) -> None:
        """Note how far the training of a fold is."""
        self._fraction = progress.fraction

    def began(self, search: Search, number: int, point: Mapping[str, Any]) -> None:
        """Show what is tried."""
        self._under_way, self._fraction = (search.name, in_short(search.space.settings(point))), 0.0

    def ended(self, search: Search, trial: Trial) -> None:
        """Count a trial; a failure stays above the table."""
        self._trials[search.name].append(trial)
        self._under_way = ("", "")
        if trial.state == "failed":
            told = f"{search.title}: {in_short(search.space.settings(trial.point))}: {ending(trial)}"
            self._live.console.print(Text(told, style="red"), soft_wrap=True)

    def render(self) -> Table:
        """The table as it stands now."""
        table = Table(box=None, padding=(0, 2, 0, 0), caption=self._left(), caption_justify="left")
        for column in ("pair", "trials", "given up", "failed", "default", "best", ""):
            table.add_column(column, justify="left" if column in ("pair", "") else "right")
        for name, title in self._pairs.items():
            trials = self._trials[name]
            count = [sum(one.state == state for one in trials) for state in ("pruned", "failed")]
            whole = [one.accuracy for one in trials if one.accuracy is not None]
            default = next((one.accuracy for one in trials if one.number == 0), None)
            numbers = [str(len(trials)), *(str(one or "") for one in count), _percent(default)]
            now = f"{self._under_way[1]} {self._fraction:.0%}" if self._under_way[0] == name else ""
            table.add_row(Text(title), *numbers, _percent(max(whole, default=None)), Text(now, style="dim"))
        return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"

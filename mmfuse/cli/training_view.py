"""What `mmfuse train` shows while it trains: a bar with the time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mmfuse.bench.job import Progress as News

NARROW = 60
"""Columns, below which only the bar and the time left are shown."""


class Bar:
    """A bar with the time left."""

    def __init__(self, console: Console) -> None:
        self._wide = console.width >= NARROW
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=40 if self._wide else 12),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        self._bar = Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
        self._task = self._bar.add_task("loading", total=1.0, detail="")
        self._phase = ""

    def tell(self, news: News) -> None:
        """Show how far it is."""
        if news.phase != self._phase:
            self._phase = news.phase
            self._bar.reset(self._task)  # a phase has its own pace, and so its own time left
        detail = pace(news) if self._wide else ""
        self._bar.update(self._task, description=phase(news), completed=news.fraction, detail=detail)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


class Lines:
    """A line for each tenth of the training, and one for what else is done: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: tuple[str, int] | None = None

    def tell(self, news: News) -> None:
        """Say how far it is, where that is worth a line."""
        place = (news.phase, int(10 * news.fraction) if news.phase == "training" else 0)
        if place != self._told:
            self._told = place
            text = "  ".join(filter(None, (phase(news), pace(news) if news.phase == "training" else "")))
            self._console.print(text, markup=False, soft_wrap=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def phase(news: News) -> str:
    """What is being done."""
    return f"training {news.epoch}/{news.epochs}" if news.phase == "training" else news.phase


def pace(news: News) -> str:
    """How well and how fast."""
    loss = f"loss {news.loss:.3f}" if news.loss is not None else ""
    rate = f"{news.clips_per_second:.0f} clips/s" if news.clips_per_second else ""
    return "  ".join(filter(None, (loss, rate)))

"""How far a long piece of work is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(title: str, *, transient: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that is told (done, of how many); nothing where that is not a terminal.

    The bar appears when it is first told something: work that is found done shows none.

    Args:
        title: what is being done.
        transient: whether the bar goes away when the work is done.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mmfuse.utils.terminal import SafeConsole

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # What is printed meanwhile goes above the bar, if it goes to the terminal, and else where it was sent.
    bar = Progress(*columns, console=SafeConsole(stderr=True), transient=transient, redirect_stdout=sys.stdout.isatty())
    task = bar.add_task(title, total=None)

    def report(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()

    try:
        yield report
    finally:
        bar.stop()

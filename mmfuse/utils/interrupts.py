"""Ctrl-C, and what a scheduler sends instead of it, where they may interrupt and where they may not."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP as KeyboardInterrupt, but never in the middle of what must be done whole.

    Schedulers send SIGTERM before they kill, and a terminal that is closed sends SIGHUP: both end a run as Ctrl-C does.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Listen to these signals; elsewhere than in the main thread Python cannot."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup a run outlives its terminal
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._heard) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing interrupt; what came meanwhile interrupts afterwards."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting:
            self._interrupt()

    def ignored(self) -> None:
        """Clean up in peace from here on."""
        self._held = True

    def _interrupt(self) -> None:
        """Interrupt, once: an impatient second Ctrl-C must leave no claim and no worker behind."""
        self._held = True
        raise KeyboardInterrupt

    def _heard(self, _number: int, _frame: object) -> None:
        if self._held:
            self._waiting = True
            return
        self._interrupt()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let nothing interrupt; what came meanwhile interrupts afterwards.

    For loading native libraries: some abort the process where Python raises KeyboardInterrupt in the middle of that.
    """
    interrupts = Interrupts()
    with interrupts.watched(), interrupts.held():
        yield

"""Ctrl-C, and what a scheduler sends instead of it, where they may interrupt and where they may not."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

AGAIN_AFTER = 0.05
"""Seconds until an interrupt that was lost comes again."""


@contextlib.contextmanager
def never_lost(lost: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Let an interrupt come again that was raised where Python drops exceptions: in a finaliser or a weak reference.

    Training frees tensors and modules all the time, so that a Ctrl-C now and then meets one of these and would be
    printed as ignored, and nothing else.

    Args:
        lost: called first.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            before(unraisable)
            return
        lost()
        # Not at once, as this runs where it was lost; and as a signal, which also ends what the main thread waits for.
        main = threading.main_thread().ident
        again = threading.Timer(AGAIN_AFTER, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP as KeyboardInterrupt, but never in the middle of what must be done whole.

    Schedulers send SIGTERM before they kill, and a terminal that is closed sends SIGHUP: both end a run as Ctrl-C does.
    """

    def __init__(self) -> None:
        self._held = False
        self._over = False
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
            with never_lost(self._lost):
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
        if self._waiting and not self._over:
            self._interrupt()

    def ignored(self) -> None:
        """Clean up in peace from here on."""
        self._over = True

    def _interrupt(self) -> None:
        """Interrupt, once: an impatient second Ctrl-C must leave no claim and no worker behind."""
        self._over = True
        raise KeyboardInterrupt

    def _lost(self) -> None:
        """The one interrupt was lost, so it may come again."""
        self._over = False

    def _heard(self, _number: int, _frame: object) -> None:
        if self._held or self._over:
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

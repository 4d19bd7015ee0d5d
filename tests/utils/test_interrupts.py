"""Ctrl-C reaches whoever waits for it, also where Python itself would drop it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from mmfuse.utils.interrupts import Interrupts, never_lost


class Finalised:
    """What is freed at the very moment of a Ctrl-C: exceptions in a finaliser go nowhere."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)


@pytest.mark.parametrize("watched", [never_lost, lambda: Interrupts().watched()], ids=["command", "runner"])
def test_an_interrupt_that_a_finaliser_drops_comes_again(watched: Callable[[], AbstractContextManager[None]]) -> None:
    passed: list[str] = []

    def work() -> None:
        with watched():
            one = Finalised()
            del one
            passed.append("the finaliser")
            time.sleep(60)
            passed.append("a minute")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert passed == ["the finaliser"]


def test_nothing_interrupts_what_is_held_and_no_second_one_what_cleans_up() -> None:
    interrupts, done = Interrupts(), []

    def hold(what: str) -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            done.append(what)

    with interrupts.watched():
        with pytest.raises(KeyboardInterrupt):
            hold("written whole")
        hold("cleaned up")
    assert done == ["written whole", "cleaned up"]

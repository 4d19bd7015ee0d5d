"""Work over many files on all cores, in processes that never outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def python_path() -> str:
    """`PYTHONPATH` for a new interpreter that shall import what this one does, wherever it starts."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def ending(code: int) -> str:
    """How a process ended, by its return code, in words."""
    if code >= 0:
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = " (often the system, when memory runs out)" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"


def map_unordered(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, chunk_size: int = 1
) -> Iterator[Result]:
    """The results of a function, in any order.

    Args:
        function: of a module, so that another process finds it.
        items: what it is called with.
        workers: processes; 1 works in this one.
        chunk_size: items handed to a process at a time; more for short work.

    Raises:
        Whatever the function raises; `BrokenProcessPool` when a process was killed.
    """
    if workers <= 1 or len(items) <= chunk_size:
        yield from map(function, items)
        return
    # Forked processes need no main guard in a user's script, but only Linux forks safely.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        parts = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
        futures = [pool.submit(_map_chunk, function, part) for part in parts]
        try:
            for future in as_completed(futures):
                yield from future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _map_chunk(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, even killed: nobody would ever give it work again.

    Ctrl-C reaches all processes of a terminal; it is for the one that started this one to answer it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


def end_with(parent: int) -> None:
    """End this process when its parent is gone, even killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

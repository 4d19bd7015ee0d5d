"""How long a device has nothing to do because its next batch is not there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Waits:
    """Adds up the time in which a device waits for data.

    A GPU works off what it was given while the processor already waits for the next batch, so that the processor's time
    says nothing of it. There two events around each wait are put into the GPU's own queue: the time between them is
    that in which the queue was empty. Nothing is asked of the GPU for it but what it has long gone past.

    Args:
        device: which one; None for the process itself.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device if device is not None and device.type == "cuda" else None
        self._begun: Any = None
        self._seconds = 0.0
        self._open: deque[tuple[Any, Any]] = deque()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens inside as waiting."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Do not count what happens inside, though the caller counts as waiting."""
        inside = self._begun is not None
        if inside:
            self._end()
        try:
            yield
        finally:
            if inside:
                self._begin()

    @property
    def seconds(self) -> float:
        """In all; on a GPU what was begun is waited for."""
        if self._open:
            torch.cuda.synchronize(self._device)
            self._close()
        return self._seconds

    def _begin(self) -> None:
        self._begun = self._mark()

    def _end(self) -> None:
        begun, end = self._begun, self._mark()
        self._begun = None
        if self._device is None:
            self._seconds += end - begun
            return
        self._open.append((begun, end))
        self._close()

    def _close(self) -> None:
        """Add up the waits that the GPU has gone past."""
        while self._open and self._open[0][1].query():
            begun, end = self._open.popleft()
            self._seconds += begun.elapsed_time(end) / 1000

    def _mark(self) -> Any:
        if self._device is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

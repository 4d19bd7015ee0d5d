"""`torch.compile` in a process that runs cell after cell."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

LOGGER = "torch._dynamo"
LIMITS = ("recompile_limit", "cache_size_limit")
"""How torch calls the number of forms in which it compiles a function before it gives up, by its versions."""


class _GivingUp(logging.Handler):
    """Collects torch's words of functions that it compiles no more; they would go where no one looks."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        """Note it, once."""
        text = record.getMessage()
        if any(limit in text for limit in LIMITS):
            note = f"not compiled throughout: {text.splitlines()[0].strip()}"
            if note not in self._told:
                self._told.append(note)


@contextmanager
def compiling(on: bool) -> Iterator[list[str]]:
    """Let a cell compile from the start, and tell where torch gave up; does nothing where nothing is compiled.

    Compiled code belongs to functions and not to models: without a reset, the towers of earlier cells would count
    among the forms of this one's, until none is compiled any more.

    Returns:
        Remarks, complete at the end.
    """
    told: list[str] = []
    if not on:
        yield told
        return
    torch.compiler.reset()
    handler, logger = _GivingUp(told), logging.getLogger(LOGGER)
    logger.addHandler(handler)
    try:
        yield told
    finally:
        logger.removeHandler(handler)

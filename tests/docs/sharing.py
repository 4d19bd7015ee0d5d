"""What takes long is made once in a run of the tests, however many processes share it."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(factory: pytest.TempPathFactory, worker: str) -> Path:
    """A folder that all processes of this run share."""
    base = factory.getbasetemp()
    folder = (base if worker == "master" else base.parent) / "docs"
    folder.mkdir(exist_ok=True)
    return folder


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder that is made by the first process that asks for it.

    Args:
        folder: where.
        make: fills a folder of another name, which is renamed when it is whole.
    """
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = folder.with_suffix(".new")
            make(made)
            made.rename(folder)
    return folder

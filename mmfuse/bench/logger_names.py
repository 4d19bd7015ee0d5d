"""Which loggers there are, and whether their packages are installed; without torch, since plans ask."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from mmfuse.errors import MmfuseError, unknown

LOGGERS = ("csv", "mlflow", "tensorboard", "wandb")


def absent_logger(name: str) -> str | None:
    """What to do about a logger whose package is not installed; `None` where it is."""
    if name == "csv" or any(find_spec(package) for package in (name, f"{name}X")):
        return None
    return f"the logger {name!r} needs its package: pip install {name}, or leave the logger out"


def refuse_unknown_loggers(names: Iterable[str]) -> None:
    """Refuse names that no logger has.

    Raises:
        MmfuseError: naming the nearest right one.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)


def refuse_loggers(names: Iterable[str]) -> None:
    """Refuse loggers that cannot be used, before any cell runs.

    Raises:
        MmfuseError: an unknown name, or a package that is not installed, and how to install it.
    """
    names = tuple(names)
    refuse_unknown_loggers(names)
    for name in names:
        if (told := absent_logger(name)) is not None:
            raise MmfuseError(told)

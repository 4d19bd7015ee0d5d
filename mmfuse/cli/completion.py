"""What the shell offers when a name is half typed; nothing here may be slow, so nothing reads a grid or imports torch.

Paths are completed by the shell itself wherever none of these names fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict

from mmfuse.model.optimizations import DEFAULT_OPTIMIZATIONS
from mmfuse.utils.resources import cards_folder, grids_folder

Completer = Callable[[str], list[str]]


def grids(incomplete: str) -> list[str]:
    """Grids that ship with the package."""
    return _fitting(incomplete, (path.stem for path in grids_folder().glob("*.yaml")))


def datasets(incomplete: str) -> list[str]:
    """Data sets that have a card."""
    return _fitting(incomplete, (path.stem for path in cards_folder().glob("*.yaml")))


def pairs(incomplete: str) -> list[str]:
    """Methods of the catalogue, as image+text: the image method first, then what may follow it."""
    from mmfuse.methods.registry import IMAGE, TEXT, names

    image, plus, _ = incomplete.partition("+")
    fitting = [image] if plus else [name for name in names(IMAGE) if name.startswith(image)]
    if len(fitting) == 1:  # whole pairs, since a shell sets a space behind what is alone
        return _fitting(incomplete, (f"{fitting[0]}+{text}" for text in names(TEXT)))
    return [f"{name}+" for name in fitting]


def switches(incomplete: str) -> list[str]:
    """Of `--speed`, each turned to where it does not stand by default."""
    return _fitting(
        incomplete, (f"{name}={'off' if on else 'on'}" for name, on in asdict(DEFAULT_OPTIMIZATIONS).items())
    )


def one_of(*choices: str) -> Completer:
    """A few fixed words."""
    return lambda incomplete: _fitting(incomplete, choices)


def _fitting(incomplete: str, choices: Iterable[str]) -> list[str]:
    return sorted(choice for choice in choices if choice.startswith(incomplete))

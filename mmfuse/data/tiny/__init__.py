"""The generated data set: twelve motions, drawn and encoded where they are first looked at.

`make_clips` is the one place that makes them. Whatever reads clips calls it first, with any catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfuse.data.catalogue.load import Catalogue


def make_clips(catalogue: Catalogue, *, report: Callable[[int, int], None] | None = None) -> None:
    """Make the clips of a generated data set that are not there yet; nothing for any other.

    Args:
        catalogue: any data set.
        report: told now and then how many clips are made, of how many.

    Raises:
        MmfuseError: the folder holds something else, or it cannot be written.
    """
    if catalogue.card.generated:
        from mmfuse.data.tiny.dataset import generate  # which draws and encodes

        generate(catalogue.root, report=report)

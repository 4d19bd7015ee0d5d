"""The file of per-clip predictions: a gzipped CSV that any tool reads, and that executes nothing."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("clip", "label", "predicted", "probability_of_label", "probability", "next_best", "group")
_TYPES: dict[str, type] = {
    "label": int,
    "predicted": int,
    "next_best": int,
    "probability_of_label": float,
    "probability": float,
}


def encode(clips: pd.DataFrame, predictions: dict[str, Any]) -> bytes:
    """Predictions as a gzipped CSV in the order of the test list.

    Args:
        clips: the test list, with the columns `clip` and `group`.
        predictions: tensors `index`, `label`, `predicted`, each (N,), and `probabilities`, (N, C).

    Returns:
        The file. `next_best` holds the class that comes second, so that near misses can be told; `group` the source
        that a clip was cut from, since clips of one source are no independent evidence.
    """
    index = np.asarray(predictions["index"])
    order = np.argsort(index, kind="stable")
    probabilities = np.asarray(predictions["probabilities"], dtype=np.float64)[order]
    labels, predicted = np.asarray(predictions["label"])[order], np.asarray(predictions["predicted"])[order]
    if len(np.unique(index)) != len(clips):
        raise MmfuseError(f"{len(np.unique(index))} of {len(clips)} test clips were predicted; every one must be, once")
    others = probabilities.copy()
    rows = np.arange(len(labels))
    others[rows, predicted] = -1
    names, groups = (clips[column].to_numpy()[index[order]] for column in ("clip", "group"))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            [
                names[row],
                int(labels[row]),
                int(predicted[row]),
                f"{probabilities[row, labels[row]]:.6g}",
                f"{probabilities[row, predicted[row]]:.6g}",
                int(others[row].argmax()),
                groups[row],
            ]
        )
    return gzip.compress(text.getvalue().encode(), mtime=0)


def decode(path: Path, *, columns: Sequence[str] = COLUMNS) -> dict[str, NDArray[Any]]:
    """Read a file of predictions: one array, (N,), for each of `columns`, in the order of the test list.

    Raises:
        MmfuseError: the file is damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if missing := set(COLUMNS) - set(header):
            raise ValueError(f"no column {sorted(missing)[0]}")
        texts = dict(zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True))
        return {name: np.array(list(map(_TYPES.get(name, str), texts[name]))) for name in columns}
    except (OSError, EOFError, TypeError, ValueError, OverflowError, csv.Error, zlib.error) as error:
        raise MmfuseError(f"the predictions {path} are damaged: {error}; rerun the cell") from None

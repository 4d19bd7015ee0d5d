"""The file of per-clip predictions: a gzipped CSV that any tool reads, and that executes nothing."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmfuse.errors import MmfuseError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("clip", "label", "predicted", "probability_of_label", "probability", "next_best")


def encode(clips: pd.DataFrame, predictions: dict[str, Any]) -> bytes:
    """Predictions as a gzipped CSV in the order of the test list.

    Args:
        clips: the test list, with the column `clip`.
        predictions: tensors `index`, `label`, `predicted`, each (N,), and `probabilities`, (N, C).

    Returns:
        The file. `next_best` holds the class that comes second, so that near misses can be told.
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
    names = clips["clip"].to_numpy()[index[order]]
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
            ]
        )
    return gzip.compress(text.getvalue().encode(), mtime=0)


def decode(path: Path) -> dict[str, NDArray[Any]]:
    """Read a file of predictions: one array a column.

    Raises:
        MmfuseError: the file is damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            "clip": np.array([row["clip"] for row in rows]),
            **{name: np.array([int(row[name]) for row in rows]) for name in ("label", "predicted", "next_best")},
            **{name: np.array([float(row[name]) for row in rows]) for name in ("probability_of_label", "probability")},
        }
    except (OSError, EOFError, KeyError, TypeError, ValueError, OverflowError, csv.Error, zlib.error) as error:
        raise MmfuseError(f"the predictions {path} are damaged: {error}; rerun the cell") from None

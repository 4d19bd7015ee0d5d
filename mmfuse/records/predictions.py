"""The file of per-clip predictions: a gzipped CSV that any tool reads, and that executes nothing."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmfuse.errors import MmfuseError
from mmfuse.utils.files import sha256_of_json

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("clip", "label", "predicted", "probability_of_label", "probability", "next_best", "group", "rank")
_TYPES: dict[str, type] = {
    "label": int,
    "predicted": int,
    "next_best": int,
    "rank": int,
    "probability_of_label": float,
    "probability": float,
}
_DTYPES: dict[type, Any] = {int: np.int64, float: np.float64}
_WRITTEN = {int: lambda value: str(int(value)), float: "{:.6g}".format}


def tabulate(clips: pd.DataFrame, predictions: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Predictions as columns, each (N,), in the order of the test list.

    Args:
        clips: the test list, with the columns `clip` and `group`.
        predictions: tensors `index`, `label`, `predicted`, each (N,), and `probabilities`, (N, C).

    Returns:
        The columns of `COLUMNS`. `next_best` holds the class that comes second, so that near misses can be told;
        `group` the source that a clip was cut from, since clips of one source are no independent evidence; `rank` the
        place of the right class among all, 1 where it was recognised.

    Raises:
        MmfuseError: a clip was predicted twice or not at all.
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
    return {
        "clip": names,
        "label": labels,
        "predicted": predicted,
        "probability_of_label": probabilities[rows, labels],
        "probability": probabilities[rows, predicted],
        "next_best": others.argmax(axis=1),
        "group": groups,
        "rank": _ranks(probabilities, labels, predicted),
    }


def encode(table: Mapping[str, NDArray[Any]]) -> bytes:
    """The columns of `tabulate` as a gzipped CSV, equal for equal columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    shown = [[_WRITTEN.get(_TYPES.get(name, str), str)(value) for value in table[name]] for name in COLUMNS]
    writer.writerows(zip(*shown, strict=True))
    return gzip.compress(text.getvalue().encode(), mtime=0)


def _ranks(probabilities: NDArray[Any], labels: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.int64]:
    """The place of each label among the classes, from 1; of classes that are equally likely the first comes first."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    classes = np.arange(probabilities.shape[1])
    before = (probabilities > own) | ((probabilities == own) & (classes < labels[:, None]))
    # What was predicted comes first, whichever of several equal ones the model chose.
    return np.where(labels == predicted, 1, np.maximum(2, 1 + before.sum(axis=1)))


def metrics_of(table: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """The accuracies that predictions amount to, each between 0 and 1.

    Args:
        table: columns `label`, `predicted` and `rank`, each (N,).

    Returns:
        `top1`, `top5`, and `mean_class`, the mean over the classes that have test clips of each one's top-1.
    """
    right = table["label"] == table["predicted"]
    clips = np.bincount(table["label"])
    recognised = np.bincount(table["label"], weights=right)
    shares = recognised[clips > 0] / clips[clips > 0]
    top5 = table["rank"] <= 5
    return {"top1": float(right.mean()), "top5": float(top5.mean()), "mean_class": float(shares.mean())}


def test_list_digest(table: Mapping[str, NDArray[Any]]) -> str:
    """Digest of the clips and labels, as `mmfuse.data.few_shot.fingerprint` gives it for a test list."""
    rows = zip(table["clip"].tolist(), table["label"].tolist(), strict=True)
    return sha256_of_json(sorted([clip, label] for clip, label in rows))


def decode(path: Path, *, columns: Sequence[str] = COLUMNS) -> dict[str, NDArray[Any]]:
    """Read a file of predictions: one array, (N,), for each of `columns`, in the order of the test list.

    Raises:
        MmfuseError: the file is damaged.
    """
    import pandas as pd  # which reads in a quarter of the time of the standard library: there may be thousands of files

    try:
        text = gzip.decompress(path.read_bytes()).decode()
        header = next(csv.reader(io.StringIO(text, newline="")), [])
        if missing := set(COLUMNS) - set(header):
            raise ValueError(f"no column {sorted(missing)[0]}")
        table = pd.read_csv(
            io.StringIO(text, newline=""),
            # pandas passes over rows of another length where it reads some columns; else, commas tell of them.
            usecols=None if '"' in text else [*columns],
            dtype={name: _DTYPES.get(_TYPES.get(name, str), object) for name in header},
            na_filter=False,
        )
        if '"' not in text and text.count(",") != (len(header) - 1) * (len(table) + 1):
            raise ValueError("its rows are not all of one length")
        return {name: table[name].to_numpy() for name in columns}
    except (OSError, EOFError, TypeError, ValueError, OverflowError, csv.Error, zlib.error) as error:
        raise MmfuseError(f"the predictions {path} are damaged: {error}; rerun the cell") from None

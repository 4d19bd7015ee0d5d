"""Whether a record tells what its predictions tell: its metrics are computed anew from them.

A record's checksum says whether it was damaged; it cannot say whether it was edited by somebody who then renewed the
checksum. The per-clip predictions can: top-1, top-5 and mean-class accuracy, the number of test clips, the classes and
the test list all follow from them.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from mmfuse.errors import MmfuseError
from mmfuse.records.predictions import decode, metrics_of, test_list_digest
from mmfuse.records.record import Record
from mmfuse.utils.files import cache_folder, parse_json, sha256_of_file, sha256_of_json, write_atomically

TOLERANCE = 1e-9
"""Between two computations of an accuracy; one clip of a million weighs a thousand times as much."""


def contradiction(record: Record, predictions: Path) -> str | None:
    """How a finished record contradicts its predictions, in one line; `None` where it does not.

    Args:
        record: a finished record.
        predictions: the file that it names.
    """
    assert record.predictions is not None
    try:
        if sha256_of_file(predictions) != record.predictions.sha256:
            return "its predictions are not those that were written with it"
        table = decode(predictions, columns=("clip", "label", "predicted", "rank"))
    except (OSError, ValueError):
        return "its predictions are missing"
    except MmfuseError as error:
        return str(error)
    return _contradicted(record, table)


def _contradicted(record: Record, table: dict[str, np.ndarray]) -> str | None:
    if record.metrics is None:
        return "a finished cell without metrics"
    clips = len(table["label"])
    if not clips or clips != record.metrics.test_clips or clips != (record.predictions and record.predictions.clips):
        return f"it tells of {record.metrics.test_clips:,} test clips, its predictions of {clips:,}"
    classes = np.concatenate([table["label"], table["predicted"]])
    if classes.min() < 0 or (record.class_names is not None and classes.max() >= len(record.class_names)):
        return "its predictions name classes that it does not have"
    if not np.array_equal(table["label"] == table["predicted"], table["rank"] == 1):
        return "its predictions contradict themselves"
    if record.inputs.test_clips is not None and record.inputs.test_clips != test_list_digest(table):
        return "its predictions are of another test list"
    told = record.metrics.model_dump()
    for name, value in metrics_of(table).items():
        if told[name] is not None and abs(told[name] - value) > TOLERANCE:
            return f"it tells of a {name} of {told[name]:.6f}, its predictions of {value:.6f}"
    return None


class Verified:
    """Which records of a folder were found to agree with their predictions, remembered in the cache folder.

    A results folder may hold ten thousand records, whose predictions take minutes to read. Each is compared once, and
    again when the metrics or the file of predictions have changed.
    """

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: that holds the records and their predictions.
        """
        self._folder = folder
        self._file = cache_folder() / "verified" / f"{sha256_of_json(str(folder.absolute()))[:32]}.json"
        self._known: dict[str, object] = {}
        self._new = False
        with suppress(OSError, ValueError):
            found = parse_json(self._file.read_bytes())
            self._known = found if isinstance(found, dict) else {}

    def contradiction(self, record: Record) -> str | None:
        """As `contradiction`, without reading what was found in order before."""
        if record.predictions is None:
            return "a finished cell without predictions"
        path = self._folder / Path(record.predictions.file).name
        mark = _mark(record, path)
        if mark is not None and self._known.get(record.stem) == mark:
            return None
        found = contradiction(record, path)
        if found is None:
            self._known[record.stem] = mark
            self._new = True
        return found

    def keep(self) -> None:
        """Remember what was found; a cache folder that cannot be written costs time at the next reading only."""
        if self._new:
            with suppress(OSError):
                write_atomically(self._file, json.dumps(self._known), sync=False)


def _mark(record: Record, path: Path) -> str | None:
    """What changes when a record or its predictions do."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    parts = {"metrics", "predictions", "inputs", "class_names"}
    told = record.model_dump(mode="json", include=parts)
    return sha256_of_json([told, status.st_size, status.st_mtime_ns, status.st_ctime_ns])

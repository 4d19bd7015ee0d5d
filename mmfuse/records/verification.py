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
from typing import NamedTuple

import numpy as np

from mmfuse.errors import MmfuseError
from mmfuse.records.evaluations import tests_of
from mmfuse.records.predictions import decode, metrics_of, test_list_digest
from mmfuse.records.record import Metrics, Predictions, Record
from mmfuse.utils.files import cache_folder, parse_json, sha256_of_file, sha256_of_json, write_atomically

TOLERANCE = 1e-9
"""Between two computations of an accuracy; one clip of a million weighs a thousand times as much."""


class _Told(NamedTuple):
    """What a record tells of one of its tests."""

    metrics: Metrics | None
    predictions: Predictions
    class_names: tuple[str, ...] | None
    test_clips: str | None


def _tests(record: Record) -> dict[str, _Told | None]:
    """What a record tells of the main test, which has no name, and of the others; `None` without predictions."""
    main = None
    if record.predictions is not None:
        main = _Told(record.metrics, record.predictions, record.class_names, record.inputs.test_clips)
    others: dict[str, _Told | None] = {
        name: _Told(test.metrics, test.predictions, test.class_names, test.test_clips)
        for name, test in (record.evaluations or {}).items()
    }
    return {"": main, **others}


def contradiction(record: Record, folder: Path) -> str | None:
    """How a finished record contradicts its predictions, in one line; `None` where it does not.

    Args:
        record: a finished record.
        folder: that holds the files of predictions which it names.
    """
    for name, told in _tests(record).items():
        if (fault := _contradiction(told, folder)) is not None:
            return f"{name}: {fault}" if name else fault
    lacking = [test.name for test in tests_of(record.cell) if test.name and test.name not in (record.evaluations or {})]
    return f"it does not tell of its test on {lacking[0]}" if lacking else None


def _contradiction(told: _Told | None, folder: Path) -> str | None:
    if told is None:
        return "a finished cell without predictions"
    path = folder / Path(told.predictions.file).name
    try:
        if sha256_of_file(path) != told.predictions.sha256:
            return "its predictions are not those that were written with it"
        table = decode(path, columns=("clip", "label", "predicted", "rank"))
    except (OSError, ValueError):
        return "its predictions are missing"
    except MmfuseError as error:
        return str(error)
    return _contradicted(told, table)


def _contradicted(told: _Told, table: dict[str, np.ndarray]) -> str | None:
    if told.metrics is None:
        return "a finished cell without metrics"
    clips = len(table["label"])
    if not clips or clips != told.metrics.test_clips or clips != told.predictions.clips:
        return f"it tells of {told.metrics.test_clips:,} test clips, its predictions of {clips:,}"
    classes = np.concatenate([table["label"], table["predicted"]])
    if classes.min() < 0 or (told.class_names is not None and classes.max() >= len(told.class_names)):
        return "its predictions name classes that it does not have"
    if not np.array_equal(table["label"] == table["predicted"], table["rank"] == 1):
        return "its predictions contradict themselves"
    if told.test_clips is not None and told.test_clips != test_list_digest(table):
        return "its predictions are of another test list"
    metrics = told.metrics.model_dump()
    for name, value in metrics_of(table).items():
        if metrics[name] is not None and abs(metrics[name] - value) > TOLERANCE:
            return f"it tells of a {name} of {metrics[name]:.6f}, its predictions of {value:.6f}"
    return None


class Verified:
    """Which records of a folder were found to agree with their predictions, remembered in the cache folder.

    A results folder may hold ten thousand records, whose predictions take minutes to read. Each is compared once, and
    again when the metrics or the file of predictions have changed.
    """

    def __init__(self, folder: Path) -> None:
        """Read what was found in order before.

        Args:
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
        mark = _mark(record, self._folder)
        if mark is not None and self._known.get(record.stem) == mark:
            return None
        found = contradiction(record, self._folder)
        if found is None:
            self._known[record.stem] = mark
            self._new = True
        return found

    def keep(self) -> None:
        """Remember what was found; a cache folder that cannot be written costs time at the next reading only."""
        if self._new:
            with suppress(OSError):
                write_atomically(self._file, json.dumps(self._known), sync=False)


def _mark(record: Record, folder: Path) -> str | None:
    """What changes when a record or its predictions do."""
    files = [told.predictions.file for told in _tests(record).values() if told is not None]
    try:
        found = [os.stat(folder / Path(file).name) for file in files]
    except (OSError, ValueError):
        return None
    parts = {"metrics", "predictions", "inputs", "class_names", "evaluations"}
    told = record.model_dump(mode="json", include=parts)
    return sha256_of_json([told, *([one.st_size, one.st_mtime_ns, one.st_ctime_ns] for one in found)])

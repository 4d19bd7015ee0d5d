"""Accuracy by named sets of classes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from mmfuse.records.cell import Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.predictions import encode, metrics_of
from mmfuse.records.record import Predictions
from mmfuse.records.status import read_entries
from mmfuse.report.groups import groups
from mmfuse.report.tables.build import tables
from mmfuse.report.tables.subsets import subsets_table
from tests.bench.fakes import done
from tests.report.made import build

LABELS = [0, 0, 1, 1, 1, 2, 2, 3]
ANSWERS = {0: [0, 0, 1, 2, 2, 2, 2, 0], 1: [0, 1, 1, 1, 2, 2, 2, 0]}
"""By draw; each recognises other clips of class 1."""


def write(path: Path, subsets: dict[str, tuple[int, ...]] | None) -> ResultsFolder:
    folder = ResultsFolder(path)
    folder.prepare()
    planned = [PlannedCell(build("dora+adapter", draw=draw), Inputs(dataset="c")) for draw in (0, 1, 2)]
    folder.write_manifest(Manifest("test", planned))
    for item in planned[:2]:
        labels, answers = np.array(LABELS), np.array(ANSWERS[item.cell.draw])
        count = len(labels)
        table = {name: np.full(count, 0.5) for name in ("probability_of_label", "probability")}
        table |= {
            "clip": np.array([f"c{at}" for at in range(count)]),
            "group": np.array([f"g{at}" for at in range(count)]),
        }
        table |= {"label": labels, "predicted": answers, "next_best": (answers + 1) % 4}
        table["rank"] = np.where(labels == answers, 1, 2)
        content = encode(table)
        record = done(item.cell, inputs=item.inputs, top1=0.5).record
        file = Predictions(file=f"{record.stem}.csv.gz", sha256=hashlib.sha256(content).hexdigest(), clips=count)
        metrics = record.metrics.model_copy(update={**metrics_of(table), "test_clips": count})  # type: ignore[union-attr]
        update = {"predictions": file, "metrics": metrics, "class_names": tuple("abcd"), "class_subsets": subsets}
        folder.write(record.model_copy(update=update), {"predictions": content})
    return folder


def test_each_set_of_classes_has_a_column_of_its_own(tmp_path: Path) -> None:
    folder = write(tmp_path, {"moving": (1, 3), "still": (0, 2), "absent": (9,)})
    entries = read_entries(folder)
    [found] = [table for table in tables(entries, folder) if table.key == "subsets"]
    assert found.columns == ("moving, K=2", "still, K=2", "absent, K=2")
    moving, still, absent = found.rows[0].values
    assert moving.mean is not None
    assert still.mean is not None
    assert [moving.mean.mean, still.mean.mean] == [100 * (1 / 4 + 2 / 4) / 2, 100 * (4 / 4 + 3 / 4) / 2]
    assert (moving.mean.n, moving.planned, moving.gap()) == (2, 3, "2/3, 1 missing")
    assert absent.mean is None
    assert "moving: 2 classes, 4 test clips; still: 2 classes, 4 test clips" in found.notes[0]


def test_data_sets_without_sets_of_classes_have_no_such_table(tmp_path: Path) -> None:
    folder = write(tmp_path, None)
    [group] = groups(read_entries(folder), folder)
    assert subsets_table(group) is None

"""Results folders for tests of the page and the figures: with predictions, every state, and names that mean harm."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.predictions import COLUMNS, metrics_of
from mmfuse.records.record import Failure, Predictions, Record, failed
from tests.bench.fakes import done

HARM = "window.harmed = true"
SCRIPT = f"<script>{HARM}</script>"
IMAGE = f'"><img src=x onerror="{HARM}">'
END = f"</script><script>{HARM}</script>"
CLASSES = (SCRIPT, IMAGE, END, "{{7*7}}", "走る", "تسلق", "very long " * 20, "$x^2$")
CLIPS = ["test/a/a.mp4", *(f"{number}{name[:30]}" for number, name in enumerate((CLASSES * 3)[1:]))]


def answers(cell: Cell, *, clips: Sequence[str], classes: int, share: float) -> list[list[Any]]:
    """Rows of predictions in which about a share is right, the same for the same cell."""
    seed = int.from_bytes(hashlib.sha256(cell.name.encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    rows = []
    for number, clip in enumerate(clips):
        label = number % classes
        right = rng.random() < share and number > 0  # nobody knows the first clip
        predicted = label if right else int((label + rng.integers(1, classes)) % classes)
        rank = 1 if right else 2
        rows.append([clip, label, predicted, f"{rng.random():.4f}", "0.5", (predicted + 1) % classes, clip, rank])
    return rows


def record_of(
    item: PlannedCell,
    rows: list[list[Any]],
    *,
    names: Sequence[str] | None,
    weights: int = 0,
    seconds: float = 10.0,
    **changes: Any,
) -> tuple[Record, dict[str, bytes]]:
    """A finished record with its file of predictions."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    table = gzip.compress(text.getvalue().encode(), mtime=0)
    record = done(item.cell, inputs=item.inputs, top1=0.5).record
    columns = {name: np.array([row[COLUMNS.index(name)] for row in rows]) for name in ("label", "predicted", "rank")}
    assert record.metrics is not None
    assert record.parameters is not None
    assert record.cost is not None
    changes = {
        "class_names": None if names is None else tuple(names),
        "metrics": record.metrics.model_copy(update={"test_clips": len(rows), **(metrics_of(columns) if rows else {})}),
        "parameters": record.parameters.model_copy(update={"image_method": weights, "text_method": 0}),
        "cost": record.cost.model_copy(update={"train_seconds": seconds}),
        "provenance": record.provenance.model_copy(
            update={
                "versions": {"torch": "2.0", SCRIPT: IMAGE},
                "device": f"cpu {IMAGE}",
                "finished": "2026-01-02T03:04:05",
            }
        ),
        "predictions": Predictions(
            file=f"{record.stem}.csv.gz", sha256=hashlib.sha256(table).hexdigest(), clips=len(rows)
        ),
        "command": f"mmfuse-bench --grid demo --only draw={item.cell.draw}",
        **changes,
    }
    return record.model_copy(update=changes), {"predictions": table}


def cell_of(pair: str, image: str, text: str, *, dataset: Any, shots: Any, draw: int) -> Cell:
    named = {"name": pair, "image": image, "text": text}
    return Cell.model_validate({"dataset": dataset, "pair": named, "shots": shots, "draw": draw})


PAIRS = (
    ("frozen+frozen", "frozen", "frozen", 0.4),
    ("dora+adapter", "dora", "adapter", 0.8),
    ("lora+frozen", "lora", "frozen", 0.6),
    (END, "adapter", "frozen", 0.5),
    (IMAGE[:80], "vpt-deep", "coop", 0.5),
    ("x" * 80, "bitfit", "frozen", 0.5),
)


def hostile(path: Path, *, datasets: Sequence[Any]) -> ResultsFolder:
    """Done, failed and missing cells; every name an attack."""
    planned = [
        PlannedCell(cell_of(name, image, text, dataset=dataset, shots=shots, draw=draw), Inputs(dataset="c"))
        for dataset in datasets
        for name, image, text, _ in PAIRS
        for shots in (2, "all")
        for draw in (0, 1, 2)
    ]
    folder = ResultsFolder(path)
    folder.prepare()
    folder.write_manifest(Manifest("nasty", planned, command="mmfuse-bench --grid x; rm -r y"))
    shares = {name: share for name, _, _, share in PAIRS}
    for item in planned:
        cell = item.cell
        if cell.pair.name == "lora+frozen" and cell.draw == 2:
            failure = Failure(kind="Boom", message=f"it broke {IMAGE}", traceback=f"Traceback {END}")
            folder.write(failed(cell, failure, inputs=item.inputs, command=f"rm -rf / {SCRIPT}"))
        elif not (cell.pair.name == "x" * 80 and cell.shots == "all"):
            rows = answers(cell, clips=CLIPS, classes=len(CLASSES), share=shares[cell.pair.name])
            weights = 0 if cell.pair.frozen else 100 * len(cell.pair.name)
            folder.write(*record_of(item, rows, names=CLASSES, weights=weights, notes=(SCRIPT,)))
    return folder


def plain(
    path: Path,
    *,
    pairs: Iterable[str] = ("frozen+frozen", "dora+adapter"),
    shots: Iterable[Any] = (2, "all"),
    draws: Iterable[int] = (0, 1, 2),
    skip: Sequence[tuple[str, Any, int]] = (),
    names: Sequence[str] | None = ("walk", "run", "jump"),
) -> ResultsFolder:
    """One data set without harm. `skip`: pair, K and draw of cells that are missing."""
    shares = {"frozen+frozen": 0.4, "dora+adapter": 0.8}
    planned = [
        PlannedCell(cell_of(name, *name.split("+"), dataset="tiny", shots=one, draw=draw), Inputs(dataset="c"))
        for name in pairs
        for one in shots
        for draw in draws
    ]
    folder = ResultsFolder(path)
    folder.prepare()
    folder.write_manifest(Manifest("plain", planned, command="mmfuse-bench --grid plain"))
    clips = [f"clip{number}" for number in range(30)]
    for item in planned:
        cell = item.cell
        if (cell.pair.name, cell.shots, cell.draw) not in skip:
            rows = answers(cell, clips=clips, classes=3, share=shares.get(cell.pair.name, 0.6))
            folder.write(*record_of(item, rows, names=names, weights=0 if cell.pair.frozen else 500))
    return folder

"""What one cell leaves behind, and the results folder that keeps it: the hinge between running and telling.

A results folder holds::

    mmfuse-results.json                     format of the folder
    plans/<grid>.json                       the cells that a grid asked for, as last planned
    records/<slot>--<identity>.json         one record a cell and identity; nothing finished is overwritten
    records/<slot>--<identity>.csv.gz       per-clip predictions of that record
    checkpoints/<slot>--<identity>/         trained weights, where the grid keeps them
    running/<spec>.lock                     held while a runner works on a cell, with its progress
    superseded/                             records that a rerun replaced
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell, Inputs, Strict, identity
from mmfuse.utils.files import parse_json, sha256_of_file, sha256_of_json, write_atomically

FORMAT = 1
"""Version of the results folder and of the record."""

LOST = ("Interrupted", "WorkerDied", "RunnerDied", "RecordNotWritten", "DamagedRecord", "NodeLost", "SIGTERMException")
"""Kinds of failure that say nothing about the cell itself: a plain rerun does such cells again.

The last one is what Lightning raises in a worker that a scheduler ends by SIGTERM.
"""


# Bounds keep what is told of a record sane whoever wrote it. A mean of 32-bit floats may pass 1 by a rounding.
Accuracy = Annotated[float, Field(ge=0, lt=1.001)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, lt=1e18)]


class Metrics(Strict):
    """Accuracies between 0 and 1 on the whole official test list, read once, after the last epoch."""

    top1: Accuracy
    top5: Accuracy | None = None
    mean_class: Accuracy | None = None
    test_clips: Count
    train_clips: Count


class Parameters(Strict):
    """Numbers of trained weights, methods and head apart."""

    image_method: Count
    text_method: Count
    fusion: Count


class Cost(Strict):
    """What a cell cost. Seconds are wall time; the peak is of the device's memory, or of the process on a CPU."""

    seconds: Amount
    train_seconds: Amount | None = None
    test_seconds: Amount | None = None
    train_clips_per_second: Amount | None = None
    test_clips_per_second: Amount | None = None
    peak_memory_bytes: Count | None = None
    checkpoint_bytes: Count | None = None


class Seeds(Strict):
    """The three numbers behind chance: which clips, the grid's seed, and what initialisation and shuffling used."""

    draw: int
    seed: int
    training: int


class Provenance(Strict):
    """Where a record comes from.

    `speed`: the switches of `mmfuse.model.optimizations` that did not stand where they usually do.
    `certified`: whether its draw and test list have the fingerprints that ship with the package; false where none do.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    devices: int = 1
    micro_batch: int | None = None
    commit: str | None = None
    host: str | None = None
    started: str | None = None
    finished: str | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    certified: bool | None = None
    speed: dict[str, bool] = Field(default_factory=dict)


class Predictions(Strict):
    """The file of per-clip predictions beside a record."""

    file: str
    sha256: str
    clips: int


class Failure(Strict):
    """Why a cell has no numbers."""

    kind: str
    message: str
    traceback: str | None = None


class Record(Strict):
    """One finished or failed cell. What is not known is null.

    `recipes`: how each part was trained ("image", "text", "fusion"), with the numbers that the cell left to them.
    """

    format: int = FORMAT
    cell: Cell
    slot: str
    spec: str
    identity: str
    inputs: Inputs = Inputs()
    state: Literal["done", "failed"]
    class_names: tuple[str, ...] | None = None
    metrics: Metrics | None = None
    parameters: Parameters | None = None
    cost: Cost | None = None
    seeds: Seeds
    recipes: dict[str, dict[str, float]] | None = None
    provenance: Provenance = Provenance()
    predictions: Predictions | None = None
    error: Failure | None = None
    notes: tuple[str, ...] = ()
    command: str = ""

    @property
    def lost(self) -> bool:
        """Whether the failure says nothing about the cell, so that a plain rerun does it again."""
        return self.error is not None and self.error.kind in LOST

    @property
    def stem(self) -> str:
        """Name of the record's files, without their ends."""
        return f"{self.cell.file_stem}--{re.sub('[^0-9A-Za-z]', '_', self.identity[:12])}"

    def to_json(self) -> str:
        """The record as a file: readable JSON that ends in a checksum of its content."""
        content = self.model_dump(mode="json")
        return json.dumps({**content, "checksum": sha256_of_json(content)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read a record's file.

        Raises:
            MmfuseError: not a whole record, another format, or edited by hand.
        """
        try:
            content = parse_json(text)
        except ValueError:
            raise MmfuseError("cut short or not JSON") from None
        if not isinstance(content, dict):
            raise MmfuseError("not a record")
        checksum = content.pop("checksum", None)
        if content.get("format") != FORMAT:
            raise MmfuseError(f"written in format {content.get('format')!r:.40}, this version reads {FORMAT}")
        try:
            record = cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise MmfuseError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        try:
            # Over what stands there and not over what is made of it: a later version may know of more fields.
            fits = checksum == sha256_of_json(content)
        except (ValueError, RecursionError):  # a setting that is no number of JSON, or nests too deeply
            fits = False
        if not fits:
            raise MmfuseError("changed since it was written (its checksum does not fit)")
        return record


def failed(cell: Cell, failure: Failure, *, inputs: Inputs, command: str = "", cost: Cost | None = None) -> Record:
    """The record of a cell that gave no numbers."""
    return Record(
        cell=cell,
        slot=cell.slot,
        spec=cell.spec,
        identity=identity(cell, inputs),
        inputs=inputs,
        state="failed",
        seeds=Seeds(draw=cell.draw, seed=cell.seed, training=cell.training_seed),
        provenance=Provenance(finished=now()),
        error=failure,
        cost=cost,
        command=command,
    )


def now() -> str:
    """The time as records write it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Damaged:
    """A file among the records that is none any more."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Planned:
    """A cell of a grid with what was known of its inputs when it was planned."""

    cell: Cell
    inputs: Inputs = field(default_factory=Inputs)


@dataclass
class Plan:
    """The cells that a grid asked for, in table order."""

    grid: str
    cells: list[Planned] = field(default_factory=list)
    command: str = ""


class ResultsFolder:
    """Reads and writes a results folder.

    Raises:
        MmfuseError: the folder is of another version, or something else than a results folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = path / "records"
        self.running = path / "running"
        self._mark = path / "mmfuse-results.json"
        self._check_format()

    def _check_format(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise MmfuseError(f"{self.path} is a file; --results names a folder")
        if not self._mark.exists():
            return
        try:
            found = parse_json(self._mark.read_bytes())["format"]
        except (ValueError, KeyError, TypeError, OSError):
            raise MmfuseError(f"{self._mark} cannot be read; restore it, or name another folder by --results") from None
        if found != FORMAT:
            raise MmfuseError(
                f"{self.path} holds results of format {found}, this version writes {FORMAT}; "
                "name another folder by --results, or install the version that wrote it"
            )

    @property
    def exists(self) -> bool:
        """Whether a runner ever wrote here."""
        return self._mark.exists()

    def prepare(self) -> None:
        """Make the folder ready for writing.

        Raises:
            MmfuseError: it cannot be written.
        """
        try:
            for folder in (self.records, self.running):
                folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._mark, json.dumps({"format": FORMAT}) + "\n")
        except OSError as error:
            reason = error.strerror or error
            raise MmfuseError(
                f"the results folder {self.path} cannot be written: {reason}; name one by --results"
            ) from None

    # Plans

    def write_plan(self, plan: Plan) -> None:
        """Keep what a grid asked for, so that tables can tell what is missing."""
        cells = [
            {"cell": planned.cell.model_dump(mode="json", exclude_defaults=True), "inputs": planned.inputs.model_dump()}
            for planned in plan.cells
        ]
        content = {"format": FORMAT, "grid": plan.grid, "command": plan.command, "cells": cells}
        write_atomically(self.path / "plans" / f"{plan.grid}.json", json.dumps(content, ensure_ascii=False) + "\n")

    def plans(self) -> list[Plan]:
        """All plans of the folder, by name.

        Raises:
            MmfuseError: a plan that cannot be read.
        """
        return [_read_plan(path) for path in sorted((self.path / "plans").glob("*.json"))]

    # Records

    def write(self, record: Record, files: dict[str, bytes] | None = None) -> Record:
        """Write a record, and before it the files that it names.

        Args:
            record: the record.
            files: content by kind: `predictions`, and the files of a checkpoint as `checkpoint/<name>`.

        Raises:
            OSError: the disk is full or the folder cannot be written; no record appears then.
        """
        files = dict(files or {})
        if record.state == "failed" and self._is_done(record):
            self._keep_failure_of_done(record)
            return record
        self._set_aside(self.records / f"{record.stem}.json", replaced_by=record)
        if (predictions := files.pop("predictions", None)) is not None and record.predictions is not None:
            write_atomically(self.records / record.predictions.file, predictions)
        for name, content in files.items():
            write_atomically(
                self.path / "checkpoints" / record.stem / _inside(name.removeprefix("checkpoint/")), content
            )
        write_atomically(self.records / f"{record.stem}.json", record.to_json())
        if record.state == "done":
            self._set_failures_aside(record)
        return record

    def _is_done(self, record: Record) -> bool:
        path = self.records / f"{record.stem}.json"
        old = read_record(path) if path.exists() else None
        return isinstance(old, Record) and old.state == "done"

    def _keep_failure_of_done(self, record: Record) -> None:
        """A rerun that failed takes no finished number away; what went wrong is kept beside."""
        write_atomically(self._superseded(record.stem), record.to_json())

    def _superseded(self, stem: str) -> Path:
        """The next free name for a record that has no place among the current ones."""
        folder = self.path / "superseded"
        folder.mkdir(exist_ok=True)
        number = sum(1 for _ in folder.glob(f"{_glob_safe(stem)}.*.json"))
        return folder / f"{stem}.{number}.json"

    def _set_failures_aside(self, done: Record) -> None:
        """A cell that has its numbers has no open failure any more."""
        for path in self.records.glob(f"{_glob_safe(done.cell.file_stem)}--*.json"):
            old = read_record(path)
            if isinstance(old, Record) and old.state == "failed" and old.spec == done.spec:
                self._set_aside(path, replaced_by=done)

    def _set_aside(self, path: Path, *, replaced_by: Record) -> None:
        """Move a record that is about to be replaced out of the way; an equal number is simply written again."""
        if not path.exists():
            return
        old = read_record(path)
        if isinstance(old, Record) and old.metrics == replaced_by.metrics and old.state == replaced_by.state:
            return
        path.rename(self._superseded(path.stem))

    def discard_damaged(self, damaged: Iterable[Damaged]) -> None:
        """Put files that are no records any more among the superseded ones."""
        for item in damaged:
            if item.path.exists():
                item.path.rename(self._superseded(item.path.stem))

    def read(self) -> tuple[list[Record], list[Damaged]]:
        """All records, and the files among them that are none any more."""
        records, damaged = [], []
        for path in sorted(self.records.glob("*.json")):
            found = read_record(path)
            if isinstance(found, Record):
                records.append(found)
            else:
                damaged.append(found)
        return records, damaged

    def predictions_of(self, record: Record) -> Path:
        """The file of a record's per-clip predictions, checked.

        Raises:
            MmfuseError: there is none, or it is not the one that was written.
        """
        if record.predictions is None:
            raise MmfuseError(f"{record.slot} has no predictions")
        path = self.records / Path(record.predictions.file).name
        try:
            sound = sha256_of_file(path) == record.predictions.sha256
        except (OSError, ValueError):  # not there, a folder, or no name of a file at all
            sound = False
        if not sound:
            raise MmfuseError(
                f"the predictions {str(path)[:300]} are missing or damaged; rerun the cell: {record.command}"
            )
        return path


def _inside(name: str) -> Path:
    """A file's name that cannot lead out of the folder it is meant for."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise MmfuseError(f"a checkpoint's file cannot be called {name!r}")
    return path


def _glob_safe(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def read_record(path: Path) -> Record | Damaged:
    """A record's file, or why it is none any more."""
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except MmfuseError as error:
        return Damaged(path, str(error))
    except (OSError, UnicodeDecodeError) as error:
        return Damaged(path, f"cannot be read: {error}")


def _read_plan(path: Path) -> Plan:
    try:
        content = parse_json(path.read_bytes())
        if content["format"] != FORMAT:
            raise MmfuseError(f"{path} is of format {content['format']}, this version reads {FORMAT}")
        cells = [
            Planned(Cell.model_validate(item["cell"]), Inputs.model_validate(item["inputs"]))
            for item in content["cells"]
        ]
        return Plan(str(content["grid"]), cells, str(content.get("command", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MmfuseError(f"the plan {path} is damaged ({type(error).__name__}); run its grid once more") from None


def as_document(record: Record) -> dict[str, Any]:
    """A record as plain JSON values."""
    return record.model_dump(mode="json")

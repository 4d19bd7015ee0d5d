"""What one cell leaves behind: the record, as a file that any tool can read and that says when it was edited."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell, Inputs, identity
from mmfuse.records.fields import Strict
from mmfuse.utils.files import parse_json, sha256_of_json

FORMAT = 1
"""Version of the results folder and of the record."""

TRANSIENT = (
    "Interrupted",
    "WorkerDied",
    "RunnerDied",
    "RankDied",
    "RecordNotWritten",
    "DamagedRecord",
    "NodeLost",
    "InputsChanged",
    "SIGTERMException",
)
"""Kinds of failure that say nothing about the cell itself: a plain rerun does such cells again.

The last one is what Lightning raises in a worker that a scheduler ends by SIGTERM.
"""

STOPPED = ("Interrupted", "RunnerDied", "RecordNotWritten", "DamagedRecord", "SIGTERMException")
"""Those of them after which nothing speaks against the cell's coming to its end in a plain rerun."""


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
    """What a cell cost. Seconds are wall time; the peak is of the device's memory, or of the process on a CPU.

    `train_wait_seconds`, `test_wait_seconds`: of the seconds above, those in which the device had nothing to do because
    its next batch was not there.
    """

    seconds: Amount
    train_seconds: Amount | None = None
    test_seconds: Amount | None = None
    train_wait_seconds: Amount | None = None
    test_wait_seconds: Amount | None = None
    train_clips_per_second: Amount | None = None
    test_clips_per_second: Amount | None = None
    peak_memory_bytes: Count | None = None
    checkpoint_bytes: Count | None = None


class TestSelection(Strict):
    """Test accuracy after each epoch, beside a training that it did not touch; shown in its own table, used nowhere.

    `seconds`: what it took, which is in no other number of the record.
    """

    __test__ = False  # not a test, whatever its name says to pytest

    top1: Annotated[tuple[Accuracy, ...], Field(min_length=1)]
    seconds: Amount

    @property
    def best_epoch(self) -> int:
        """The first epoch, counted from 1, at which the test list was recognised best."""
        return self.top1.index(max(self.top1)) + 1

    @property
    def raised(self) -> float:
        """By how much picking that epoch would have raised the result, which is the last one's."""
        return max(self.top1) - self.top1[-1]


class Seeds(Strict):
    """The three numbers behind chance: which clips, the grid's seed, and what initialisation and shuffling used."""

    draw: int
    seed: int
    training: int


class Tuned(Strict):
    """Settings that were searched.

    `file`: SHA-256 of the file that they stand in. `trials`: of the pair's search. `default`: whether nothing was
    better than the default settings, which then stayed.
    """

    file: str
    trials: int
    default: bool = False


class Provenance(Strict):
    """Where a record comes from.

    `speed`: the switches of `mmfuse.model.optimizations` that did not stand where they usually do.
    `tuned`: where its settings come from, if they were searched.
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
    tuned: Tuned | None = None


class Views(Strict):
    """What a model saw of each test video: T frames of each of some clips, each in some crops of `size` pixels."""

    frames: int
    clips: int = 1
    crops: int = 1
    size: int

    def __str__(self) -> str:
        """Frames × clips × crops, for example `8×4×3`."""
        return f"{self.frames}×{self.clips}×{self.crops}"


class Predictions(Strict):
    """The file of per-clip predictions beside a record."""

    file: str
    sha256: str
    clips: int


class Evaluation(Strict):
    """A test beside the main one: of classes that were never trained on, or of another data set.

    `test_clips`: digest of the test list. `overlap`: classes of the data set that was trained on, each with the one
    here that its name resembles. `left_out`: classes that were not tested for that.
    """

    dataset: str
    split: int
    class_names: tuple[str, ...]
    test_clips: str
    metrics: Metrics
    predictions: Predictions
    certified: bool | None = None
    overlap: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()


class Failure(Strict):
    """Why a cell has no numbers."""

    kind: str
    message: str
    traceback: str | None = None


class Record(Strict):
    """One finished or failed cell. What is not known is null.

    `class_subsets`: named sets of classes, by label, that tables report apart.
    `recipes`: how each part was trained ("image", "text", "fusion"), with the numbers that the cell left to them.
    `evaluations`: the tests beside the main one, whose numbers stand in `metrics`; see `mmfuse.records.evaluations`.
    """

    format: int = FORMAT
    cell: Cell
    name: str
    config_hash: str
    identity: str
    inputs: Inputs = Inputs()
    state: Literal["done", "failed"]
    class_names: tuple[str, ...] | None = None
    class_subsets: dict[str, tuple[int, ...]] | None = None
    metrics: Metrics | None = None
    test_views: Views | None = None
    parameters: Parameters | None = None
    cost: Cost | None = None
    seeds: Seeds
    recipes: dict[str, dict[str, float]] | None = None
    evaluations: dict[str, Evaluation] | None = None
    provenance: Provenance = Provenance()
    predictions: Predictions | None = None
    test_selection: TestSelection | None = None
    error: Failure | None = None
    notes: tuple[str, ...] = ()
    command: str = ""

    @property
    def failed_transiently(self) -> bool:
        """Whether the failure says nothing about the cell, so that a plain rerun does it again."""
        return self.error is not None and self.error.kind in TRANSIENT

    @property
    def stem(self) -> str:
        """Name of the record's files, without their ends."""
        return stem_of(self.cell, self.identity)

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


def stem_of(cell: Cell, own: str) -> str:
    """Name of the files of a record with this identity, without their ends."""
    return f"{cell.file_stem}--{re.sub('[^0-9A-Za-z]', '_', own[:12])}"


def failed(cell: Cell, failure: Failure, *, inputs: Inputs, command: str = "", cost: Cost | None = None) -> Record:
    """The record of a cell that gave no numbers."""
    return Record(
        cell=cell,
        name=cell.name,
        config_hash=cell.config_hash,
        identity=identity(cell.config_hash, inputs),
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


def as_document(record: Record) -> dict[str, Any]:
    """A record as plain JSON values."""
    return record.model_dump(mode="json")

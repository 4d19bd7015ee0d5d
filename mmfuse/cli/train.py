"""`mmfuse train`: one cell by flags."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from mmfuse.bench.grid import dataset_names
from mmfuse.bench.grid_keys import GridPair, Precision
from mmfuse.bench.job import Job, Outcome
from mmfuse.bench.logger_names import refuse_loggers
from mmfuse.bench.prompt_files import read_prompts
from mmfuse.cli.common import DONE, FAILED, complain, notes, out, print_json
from mmfuse.cli.live import TrainingBar, TrainingLines
from mmfuse.data.catalogue.custom import named
from mmfuse.data.protocols import load_protocol
from mmfuse.data.tiny import make_clips
from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.cell import Cell, Pair
from mmfuse.records.folder import PlannedCell
from mmfuse.records.record import Record, as_document
from mmfuse.records.status import Entry
from mmfuse.utils.files import default_data_root, user_path, write_atomically
from mmfuse.utils.interrupts import undisturbed
from mmfuse.utils.progress import progress_bar
from mmfuse.utils.yaml12 import parse_yaml

if TYPE_CHECKING:
    from mmfuse.data.catalogue.load import Catalogue

SETTINGS = ("train", "clip", "fusion", "encoders", "image", "text")
# What Ctrl-C and SIGTERM become inside Lightning.
STOPPED = ("KeyboardInterrupt", "SystemExit", "SIGTERMException")
LOGS = "logs"
TOP = ("split", "seed", "precision")


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked for."""

    dataset: str
    shots: str
    pair: str
    out: Path
    draw: int = 0
    protocol: str | None = None
    epochs: int | None = None
    prompts: Path | None = None
    set: list[str] = field(default_factory=list)
    data_root: Path | None = None
    annotations: Path | None = None
    threads: int | None = None
    damaged: Literal["error", "keep"] = "error"
    loggers: Sequence[str] = ()
    json: bool = False


def train(request: TrainRequest) -> int:
    """Train, test and keep one model; returns the exit code.

    Raises:
        MmfuseError: the request is wrong.
    """
    cell = build_cell(request)
    if request.threads is not None and request.threads < 1:
        raise MmfuseError(f"--threads counts from 1; got {request.threads}")
    _refuse_taken(request.out)
    refuse_loggers(request.loggers)
    root = request.data_root or default_data_root()
    from mmfuse.bench.clip_cache import has_store
    from mmfuse.bench.preflight import prepare

    lists = user_path(request.annotations).absolute() if request.annotations else None
    [planned] = prepare([Entry(PlannedCell(cell), "missing")], data_root=root, will_run=list, annotations=lists)
    made = _claim_folder(request.out)
    job = Job(
        cell=cell,
        data_root=str(root.absolute()),
        annotations=str(lists) if lists else None,
        known=planned.inputs,
        command=shlex.join(["mmfuse", *sys.argv[1:]]),
        keep_checkpoint=True,
        loggers=tuple(dict.fromkeys(request.loggers)),
        log_folder=str((request.out / LOGS).absolute()) if request.loggers else None,
        store="auto" if has_store(cell, data_root=root, annotations=lists) else None,
    )
    with undisturbed():
        import mmfuse.bench.run_cell  # noqa: F401 - the heavy libraries, once and for all
    with threads(request.threads):
        outcome = run_job(job)
    return _conclude(request, job, outcome, made=made)


def build_cell(request: TrainRequest) -> Cell:
    """The cell behind the flags.

    Raises:
        MmfuseError: an unknown name, or a value that does not fit.
    """
    from mmfuse.cli.datasets import shots_of

    dataset = named(request.dataset)
    if isinstance(dataset, str) and dataset not in dataset_names():
        raise unknown("data set", dataset, dataset_names())
    settings: dict[str, Any] = {group: {} for group in SETTINGS}
    if request.epochs is not None:
        settings["train"]["epochs"] = request.epochs
    top: dict[str, Any] = {}
    try:
        for text in request.set:
            apply_setting(text, settings, top)
        methods = {tower: settings.pop(tower) for tower in ("image", "text")}
        pair = GridPair.model_validate(request.pair).plain()
        if len(pair) != 1:
            raise MmfuseError(f"train takes one pair, such as dora+adapter; got {request.pair!r}")
        both = {tower: {**getattr(pair[0], tower), **arguments} for tower, arguments in methods.items()}
        given = dataset if isinstance(dataset, dict) else {"name": dataset}
        cell = Cell.model_validate(
            {
                "dataset": {**given, "damaged": request.damaged, "protocol": request.protocol},
                "pair": Pair.model_validate({"name": pair[0].name, **both}),
                "shots": shots_of(request.shots),
                "draw": request.draw,
                "prompts": None if request.prompts is None else read_prompts(user_path(request.prompts)),
                **settings,
                **top,
            }
        )
    except ValidationError as fault:
        raise MmfuseError(in_words(fault)) from None
    if request.protocol is not None:
        load_protocol(request.protocol).training_list(
            cell.dataset.name, shots=cell.shots, draw=cell.draw, split=cell.split
        )
    return cell


def in_words(fault: ValidationError) -> str:
    """The first fault that pydantic found, as one line that names the key."""
    error = fault.errors()[0]
    # A branch of a union stands in the place as pydantic's own text for its type, which no user has written.
    place = ".".join(str(step) for step in error["loc"] if "[" not in str(step))
    message = error["msg"].removeprefix("Value error, ")
    if "input" in error and error["type"] not in ("value_error", "unknown_key"):
        message = f"{message[:1].lower()}{message[1:]}; got {error['input']!r:.80}"
    return f"{place}: {message}" if place else message


def apply_setting(text: str, settings: dict[str, Any], top: dict[str, Any]) -> None:
    """One `--set`: `train.method_lr=1e-3`, `fusion.kind=late`, `image.rank=16`, `seed=3`."""
    key, equals, value = text.partition("=")
    group, _, name = key.strip().partition(".")
    if not equals:
        raise MmfuseError(f"--set is written KEY=VALUE, such as train.method_lr=1e-3; got {text!r}")
    try:
        parsed = parse_yaml(value)
    except yaml.YAMLError:
        raise MmfuseError(f"--set {text!r}: the value cannot be read") from None
    if name and group in settings:
        settings[group][name] = parsed
    elif not name and group in TOP:
        top[group] = TypeAdapter(Precision).validate_python(parsed) if group == "precision" else parsed
    else:
        raise unknown("key of --set", key, [*(f"{group}.<key>" for group in settings), *TOP])


def _refuse_taken(folder: Path) -> None:
    if (folder / "record.json").exists():
        raise MmfuseError(f"{folder} already holds a trained model; name another folder by --out")


def _claim_folder(folder: Path) -> bool:
    """See that the folder can be written before hours are spent; returns whether it is a new one."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or error
        raise MmfuseError(f"{folder} cannot be written: {reason}; name another folder by --out") from None
    return new


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with so many CPU threads; with torch's own number of them where none is said."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_job(job: Job) -> Outcome:
    """Train and test in this process, and show how far it is; what goes wrong is in the record."""
    from mmfuse.bench.engines.worker import run_guarded
    from mmfuse.bench.precision import warn_of_slow_precision
    from mmfuse.bench.run_cell import run_cell

    warn_of_slow_precision([job.cell])

    catalogue = _catalogue(job)
    if catalogue.card.generated:  # which takes a while the first time
        with progress_bar(f"making the clips of {catalogue.name}", transient=True) as report:
            make_clips(catalogue, report=report)
    console = notes()
    with TrainingBar(console) if console.is_terminal else TrainingLines(console) as view:
        outcome = run_guarded(run_cell, job, view.show)
    if outcome.record.error is not None and outcome.record.error.kind in STOPPED:
        raise KeyboardInterrupt
    return outcome


def _conclude(request: TrainRequest, job: Job, outcome: Outcome, *, made: bool) -> int:
    record, folder = outcome.record, request.out
    if record.error is not None:
        if record.error.kind == "MmfuseError":
            if made:  # nothing is left of a request that is refused
                shutil.rmtree(folder / LOGS, ignore_errors=True)
                with suppress(OSError):
                    folder.rmdir()
            return complain("mmfuse", record.error.message)
        write_atomically(folder / "failure.json", record.to_json())
        text = f"{record.error.kind}: {record.error.message}"
        complain("mmfuse", f"failed: {text} (traceback in {folder / 'failure.json'})")
        return FAILED
    keep(outcome, folder)
    if request.json:
        print_json(as_document(record))
    else:
        _print_result(record, folder, _a_test_video(job))
    return DONE


def keep(outcome: Outcome, folder: Path) -> None:
    """Write a trained model into a folder: its checkpoint, its predictions and, last, its record."""
    for name, content in outcome.files.items():
        file = "predictions.csv.gz" if name == "predictions" else name.removeprefix("checkpoint/")
        write_atomically(folder / file, content)
    write_atomically(folder / "record.json", outcome.record.to_json())
    (folder / "failure.json").unlink(missing_ok=True)  # of an earlier try


def _print_result(record: Record, folder: Path, video: str) -> None:
    assert record.metrics is not None
    assert record.parameters is not None
    metrics, parameters = record.metrics, record.parameters
    accuracies = {"top-1": metrics.top1, "top-5": metrics.top5, "mean-class": metrics.mean_class}
    shown = ", ".join(f"{name} {100 * value:.1f}%" for name, value in accuracies.items() if value is not None)
    chance = f" (chance {100 / len(record.class_names):.1f}%)" if record.class_names else ""
    trained = parameters.image_method + parameters.text_method
    lines = (
        f"{shown} on {metrics.test_clips} test clips{chance}",
        f"trained {trained:,} weights of methods and {parameters.fusion:,} of the fusion",
        f"kept in {folder}: the checkpoint, record.json and predictions.csv.gz",
        f"try next: {shlex.join(['mmfuse', 'predict', str(folder), video])}",
    )
    for line in lines:
        out().print(line, markup=False, soft_wrap=True)


def _a_test_video(job: Job) -> str:
    """One of the test clips, to try the model on."""
    # Where only decoded clips are kept, there is no file.
    return next((path for path in _catalogue(job).part("test")["path"] if Path(path).is_file()), "VIDEO")


def _catalogue(job: Job) -> Catalogue:
    from mmfuse.bench.preflight import lists_of

    annotations = Path(job.annotations) if job.annotations else None
    return lists_of(job.cell, job.data_root, annotations=annotations)


__all__ = ["TrainRequest", "apply_setting", "build_cell", "in_words", "keep", "run_job", "threads", "train"]

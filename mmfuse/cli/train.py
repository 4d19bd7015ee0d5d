"""`mmfuse train`: one cell by flags."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mmfuse.bench.grid import GridPair, dataset_names
from mmfuse.bench.job import Job, Outcome
from mmfuse.bench.job import Progress as News
from mmfuse.cells import Cell, Pair
from mmfuse.cli.common import DONE, FAILED, complain, default_data_root, notes, out, print_json
from mmfuse.errors import MmfuseError, unknown
from mmfuse.files import write_atomically
from mmfuse.records import Planned, as_document
from mmfuse.survey import Entry

SETTINGS = ("train", "clip", "fusion", "encoders", "image", "text")
# What Ctrl-C and SIGTERM become inside Lightning.
STOPPED = ("KeyboardInterrupt", "SystemExit", "SIGTERMException")
TOP = ("split", "seed", "precision")


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked for."""

    dataset: str
    shots: str
    pair: str
    out: Path
    draw: int = 0
    epochs: int | None = None
    set: list[str] = field(default_factory=list)
    data_root: Path | None = None
    json: bool = False


def train(request: TrainRequest) -> int:
    """Train, test and keep one model; returns the exit code.

    Raises:
        MmfuseError: the request is wrong.
    """
    cell = build_cell(request)
    _claim_folder(request.out)
    root = request.data_root or default_data_root()
    from mmfuse.bench.keeping import has_store
    from mmfuse.bench.prepare import prepare

    [planned] = prepare([Entry(Planned(cell), "missing")], data_root=root, will_run=list)
    job = Job(
        cell=cell,
        data_root=str(root.absolute()),
        known=planned.inputs,
        command=shlex.join(["mmfuse", *sys.argv[1:]]),
        keep_checkpoint=True,
        store="auto" if has_store(cell, data_root=root) else None,
    )
    return _conclude(request, _run(job))


def build_cell(request: TrainRequest) -> Cell:
    """The cell behind the flags.

    Raises:
        MmfuseError: an unknown name, or a value that does not fit.
    """
    from mmfuse.cli.datasets import named, shots_of

    dataset = named(request.dataset)
    if isinstance(dataset, str) and dataset not in dataset_names():
        raise unknown("data set", dataset, dataset_names())
    settings: dict[str, Any] = {group: {} for group in SETTINGS}
    if request.epochs is not None:
        settings["train"]["epochs"] = request.epochs
    top: dict[str, Any] = {}
    for text in request.set:
        _apply(text, settings, top)
    methods = {tower: settings.pop(tower) for tower in ("image", "text")}
    try:
        pair = GridPair.model_validate(request.pair).plain()
        if len(pair) != 1:
            raise MmfuseError(f"train takes one pair, such as dora+adapter; got {request.pair!r}")
        both = {tower: {**getattr(pair[0], tower), **arguments} for tower, arguments in methods.items()}
        return Cell.model_validate(
            {
                "dataset": dataset,
                "pair": Pair.model_validate({"name": pair[0].name, **both}),
                "shots": shots_of(request.shots),
                "draw": request.draw,
                **settings,
                **top,
            }
        )
    except ValidationError as fault:
        error = fault.errors()[0]
        place = ".".join(str(step) for step in error["loc"])
        message = error["msg"].removeprefix("Value error, ")
        raise MmfuseError(f"{place}: {message}" if place else message) from None


def _apply(text: str, settings: dict[str, Any], top: dict[str, Any]) -> None:
    """One `--set`: `train.method_lr=1e-3`, `fusion.kind=late`, `image.rank=16`, `seed=3`."""
    key, equals, value = text.partition("=")
    group, _, name = key.strip().partition(".")
    if not equals:
        raise MmfuseError(f"--set is written KEY=VALUE, such as train.method_lr=1e-3; got {text!r}")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise MmfuseError(f"--set {text!r}: the value cannot be read") from None
    if name and group in settings:
        settings[group][name] = parsed
    elif not name and group in TOP:
        top[group] = parsed
    else:
        raise unknown("key of --set", key, [*(f"{group}.<key>" for group in settings), *TOP])


def _claim_folder(folder: Path) -> None:
    if (folder / "record.json").exists():
        raise MmfuseError(f"{folder} already holds a trained model; name another folder by --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise MmfuseError(f"{folder} cannot be written: {error.strerror or error}") from None


def _run(job: Job) -> Outcome:
    from mmfuse.bench.cell import run_cell
    from mmfuse.bench.worker import run_guarded

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    console = notes()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("loading", total=1.0, detail="")

        def tell(news: News) -> None:
            loss = f"loss {news.loss:.3f}" if news.loss is not None else ""
            rate = f"{news.clips_per_second:.0f} clips/s" if news.clips_per_second else ""
            epoch = f" {news.epoch}/{news.epochs}" if news.phase == "training" else ""
            bar.update(task, description=news.phase + epoch, completed=news.fraction, detail=f"{loss} {rate}")

        outcome = run_guarded(run_cell, job, tell)
    if outcome.record.error is not None and outcome.record.error.kind in STOPPED:
        raise KeyboardInterrupt
    return outcome


def _conclude(request: TrainRequest, outcome: Outcome) -> int:
    record, folder = outcome.record, request.out
    if record.error is not None:
        text = f"{record.error.kind}: {record.error.message}"
        if record.error.kind == "MmfuseError":
            return complain("mmfuse", record.error.message)
        write_atomically(folder / "failure.json", record.to_json())
        print(f"mmfuse: failed: {text} (traceback in {folder / 'failure.json'})", file=sys.stderr)
        return FAILED
    for name, content in outcome.files.items():
        file = "predictions.csv.gz" if name == "predictions" else name.removeprefix("checkpoint/")
        write_atomically(folder / file, content)
    write_atomically(folder / "record.json", record.to_json())
    if request.json:
        print_json(as_document(record))
        return DONE
    assert record.metrics is not None
    assert record.parameters is not None
    metrics, parameters = record.metrics, record.parameters
    trained = parameters.image_method + parameters.text_method
    console = out()
    top5 = f", top-5 {100 * metrics.top5:.1f}%" if metrics.top5 is not None else ""
    mean = f", mean-class {100 * metrics.mean_class:.1f}%" if metrics.mean_class is not None else ""
    console.print(f"top-1 {100 * metrics.top1:.1f}%{top5}{mean} on {metrics.test_clips} test clips", markup=False)
    console.print(f"trained {trained:,} weights of methods and {parameters.fusion:,} of the fusion", markup=False)
    console.print(f"kept in {folder}; try: mmfuse predict {shlex.quote(str(folder))} VIDEO", markup=False)
    return DONE


__all__ = ["TrainRequest", "build_cell", "train"]

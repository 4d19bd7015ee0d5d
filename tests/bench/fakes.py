"""Cells without training: what a worker runs in tests of the machinery around it.

The pair's name says what happens, so that every fault comes from inside a real worker process.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import time
from fractions import Fraction
from pathlib import Path

from mmfuse.bench.job import Job, Outcome, Progress, Report
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell, Inputs, identity
from mmfuse.records.predictions import COLUMNS
from mmfuse.records.record import Cost, Metrics, Parameters, Predictions, Provenance, Record, Seeds, now

_poisoned: list[str] = []
"""Not empty in a process whose device has failed: whatever is run there fails as well."""


def run(job: Job, *, progress: Report) -> Outcome:
    """Do what the pair's name says; else finish at once with numbers that follow from the cell alone."""
    act = job.cell.pair.name
    _refuse_if_poisoned()
    progress(Progress("training", 1, 2, 0.5, 1.25, 100.0))
    _mark(job)
    if act == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "dies-once" and not _seen_before(job):
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "dies-second" and _seen_before(job):
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "hangs" or (act == "hangs-once" and not _seen_before(job)):
        time.sleep(1000)
    if act.startswith("slow"):
        time.sleep(3.0 if act.startswith("slower") else 0.3)
    _perhaps_poison(job)
    if act == "wrong":
        raise MmfuseError("the loss became nan in epoch 0")
    if act.startswith("at-"):
        return done(job.cell, inputs=job.known, command=job.command, top1=_near(act, job.cell))
    if act == "big":
        return done(job.cell, inputs=job.known, command=job.command, clips=60_000)
    return done(job.cell, inputs=job.known, command=job.command)


def _refuse_if_poisoned() -> None:
    if _poisoned:
        raise RuntimeError("CUDA error: device-side assert triggered")


def _perhaps_poison(job: Job) -> None:
    act = job.cell.pair.name
    if act == "poisons" or (act == "poisons-once" and not _seen_before(job)):
        _poisoned.append(job.cell.name)
        _refuse_if_poisoned()


def _near(act: str, cell: Cell) -> float:
    """`at-60-4`: 60 per cent, as much as 4 points higher or lower from draw to draw."""
    _, level, spread = act.split("-")
    digest = hashlib.sha256(cell.name.encode()).digest()
    return (int(level) + int(spread) * (digest[0] / 127.5 - 1)) / 100


def _mark(job: Job) -> None:
    """Leave a trace of each run, so that tests can count them, and of where it was."""
    if job.log_folder is not None:
        with (Path(job.log_folder) / "where.txt").open("a") as file:
            file.write(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
        with (Path(job.log_folder) / "ran.txt").open("a") as file:
            file.write(f"{job.cell.name}\n")


def _seen_before(job: Job) -> bool:
    assert job.log_folder is not None
    return (Path(job.log_folder) / "ran.txt").read_text().count(f"{job.cell.name}\n") > 1


def done(cell: Cell, *, inputs: Inputs, command: str = "", clips: int = 255, top1: float | None = None) -> Outcome:
    """A finished cell whose predictions amount to its numbers.

    `top1`: told as the nearest share of at most 2,000 test clips; by default it follows from the cell's name.
    """
    digest = hashlib.sha256(cell.name.encode()).digest()
    share = Fraction(digest[0], 255) if top1 is None else Fraction(top1).limit_denominator(2000)
    clips = clips if top1 is None else share.denominator * (10 // share.denominator + 1)
    right = round(share * clips)
    table = gzip.compress(_predictions(right, clips), mtime=0)
    record = Record(
        cell=cell,
        name=cell.name,
        config_hash=cell.config_hash,
        identity=identity(cell.config_hash, inputs),
        inputs=inputs,
        state="done",
        metrics=Metrics(top1=right / clips, top5=1.0, mean_class=right / clips, test_clips=clips, train_clips=4),
        parameters=Parameters(image_method=1, text_method=2, fusion=3),
        cost=Cost(seconds=1.0, train_seconds=0.5, test_seconds=0.5, peak_memory_bytes=10**6, checkpoint_bytes=100),
        seeds=Seeds(draw=cell.draw, seed=cell.seed, training=cell.training_seed),
        provenance=Provenance(finished=now(), precision="32-true"),
        command=command,
    )
    predictions = Predictions(file=f"{record.stem}.csv.gz", sha256=hashlib.sha256(table).hexdigest(), clips=clips)
    return Outcome(record.model_copy(update={"predictions": predictions}), {"predictions": table})


def _predictions(right: int, clips: int) -> bytes:
    """Predictions of clips of one class, the first ones right. Names that do not compress, where there are many."""
    lines = [",".join(COLUMNS)]
    for number in range(clips):
        name = f"clip{number}" if clips <= 2000 else os.urandom(16).hex()
        lines.append(f"{name},0,0,0.6,0.6,1,{name},1" if number < right else f"{name},0,1,0.4,0.6,0,{name},2")
    return "\n".join(lines).encode()

"""What a runner hands to a worker, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mmfuse.model.optimizations import Optimizations
from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.record import Record, Tuned


@dataclass(frozen=True)
class Job:
    """A cell with what a worker needs to run it. Nothing but `cell` and the files behind `known` changes its numbers.

    Args:
        cell: what to run.
        data_root: folder that holds the data sets; `None` for the default.
        annotations: folder with official lists; `None` looks below the data and in the environment.
        known: digests of the cell's inputs as planned.
        command: the command that runs this one cell again.
        keep_checkpoint: whether the trained weights come back with the record.
        loader_workers: processes that read clips for the cell; `None` for as many as suit its device.
        loggers: Lightning loggers by name.
        log_folder: where loggers write.
        optimizations: which optimisations are on.
        tuned: where the cell's settings come from, if they were searched.
        diagnose: what is looked at beside the training; changes no number either.
        store: folder of the clip stores, "auto" for the one in this machine's cache folder; `None` keeps no clips.
        at_a_time: cells that run on the same machine at the same time, and share its cores and its memory.
    """

    cell: Cell
    data_root: str | None = None
    annotations: str | None = None
    known: Inputs = field(default_factory=Inputs)
    command: str = ""
    keep_checkpoint: bool = False
    loader_workers: int | None = 0
    loggers: tuple[str, ...] = ()
    log_folder: str | None = None
    store: str | None = None
    diagnose: tuple[str, ...] = ()
    optimizations: Optimizations = field(default_factory=Optimizations)
    at_a_time: int = 1
    tuned: Tuned | None = None


@dataclass(frozen=True)
class Attempt:
    """A try at a cell.

    Args:
        micro_batch: clips a batch on each device; gradients of several are added up to the cell's own batch.
        notes: what earlier tries ended of.
        started: when the first one began, as records write it.
        begun: the same by the monotonic clock of this machine, in seconds.
    """

    micro_batch: int
    started: str
    begun: float
    notes: tuple[str, ...] = ()

    def with_less(self) -> Attempt:
        """The next try after memory ran out: the largest batch up to half of this one that makes the same steps."""
        clips = next(size for size in range(self.micro_batch // 2, 0, -1) if self.micro_batch % size == 0)
        note = f"out of memory with batches of {self.micro_batch}; run again with {clips} and accumulated gradients"
        return replace(self, micro_batch=clips, notes=(*self.notes, note))


@dataclass(frozen=True)
class Progress:
    """How far a cell is; steps are counted from 1.

    `phase`: loading, features (a frozen tower computes those that are kept), training or testing.
    """

    phase: str
    epoch: int = 0
    epochs: int = 0
    fraction: float = 0.0
    loss: float | None = None
    clips_per_second: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A record with the content of the files that belong to it.

    `device_fault`: the process that it comes from can use its device no more, and takes no further job.
    """

    record: Record
    files: dict[str, bytes] = field(default_factory=dict)
    device_fault: bool = False


Report = Callable[[Progress], None]
CellRunner = Callable[..., Outcome]
"""`runner(job, progress=report) -> Outcome`; whatever it raises becomes a failed record."""


@dataclass(frozen=True)
class Started:
    """A worker has taken a job."""

    worker: int
    job: Job


@dataclass(frozen=True)
class Progressed:
    """A worker has news."""

    worker: int
    job: Job
    progress: Progress


@dataclass(frozen=True)
class Finished:
    """A job has come to its end, with numbers or without."""

    worker: int
    job: Job
    outcome: Outcome


@dataclass(frozen=True)
class Tick:
    """Nothing happened for a moment."""


Event = Started | Progressed | Finished | Tick

"""What every engine is: somewhere to run cells, and the limits that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from mmfuse.bench.job import Event, Job, Outcome

NextJob = Callable[[], Job | None]
RUN_CELL = "mmfuse.bench.run_cell:run_cell"
"""What a worker calls with each job, by name: the process that plans never imports torch."""
DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""With it cuBLAS adds in the same order each time; it is read when a process first multiplies."""


class Engine(Protocol):
    """Somewhere to run cells."""

    workers: int

    def run(self, next_job: NextJob) -> Iterator[Event]:
        """Run jobs until `next_job` gives none, yielding what happens."""
        ...

    def close(self) -> None:
        """Stop everything at once, also in the middle of a cell."""
        ...


@dataclass(frozen=True)
class Limits:
    """When a cell counts as hung: seconds in all, and seconds without any news; `None` for no limit."""

    total: float | None = None
    silence: float | None = None


class SecondTries:
    """Cells that ran into a fault of their device, and run once more in a fresh process.

    A fault such as a device-side assert or a failed launch leaves a process in which every later cell would fail as
    well. Whether it was the cell's own doing shows when it runs again where nothing ran before.
    """

    def __init__(self) -> None:
        self._faults: dict[str, str] = {}

    def is_due(self, job: Job, outcome: Outcome) -> bool:
        """Whether a job that came to this end is to run again; its worker must be ended in any case."""
        if not outcome.device_fault or job.cell.config_hash in self._faults:
            return False
        assert outcome.record.error is not None
        self._faults[job.cell.config_hash] = outcome.record.error.message[:300]
        return True

    def told(self, job: Job, outcome: Outcome) -> Outcome:
        """An outcome whose record tells of the first try, where there was one."""
        fault = self._faults.pop(job.cell.config_hash, None)
        if fault is None:
            return outcome
        note = f"run twice, since the device failed the first time: {fault}"
        record = outcome.record.model_copy(update={"notes": (*outcome.record.notes, note)})
        return replace(outcome, record=record)

"""What every engine is: somewhere to run cells, and the limits that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mmfuse.bench.job import Event, Job

NextJob = Callable[[], Job | None]
RUN_CELL = "mmfuse.bench.run_cell:run_cell"
"""What a worker calls with each job, by name: the process that plans never imports torch."""


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

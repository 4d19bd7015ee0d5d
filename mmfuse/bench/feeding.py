"""How a cell's batches reach the device that it trains on."""

from __future__ import annotations

import multiprocessing.forkserver
import sys

import torch

from mmfuse.bench.job import Job
from mmfuse.data.loader import Feeding
from mmfuse.utils.processes import usable_cores

MOST = 4
"""Processes that read clips for one cell, unless a grid asks for more: by then the disk is what is waited for."""


def feeding_of(job: Job, device: torch.device) -> Feeding:
    """The processes that read clips for a job's cell, as the grid says or as many as its share of the cores takes.

    Where a CPU trains there are none: its cells fill the cores. They are not forked from the process that trains, which
    has a GPU's context and threads, but from a server that it starts once.

    Args:
        job: the cell, and how many run beside it.
        device: that this process trains on.
    """
    sharers = max(1, job.at_a_time) * job.cell.devices
    workers = job.loader_workers
    if workers is None:
        workers = min(MOST, max(1, usable_cores() // sharers - 1)) if device.type == "cuda" else 0
    return Feeding(workers, "forkserver" if sys.platform == "linux" else None, device, sharers)


def begin_feeding(job: Job) -> None:
    """Let the server of processes that read clips come up while towers are loaded; nothing where there will be none."""
    feeding = feeding_of(job, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if feeding.workers and feeding.start == "forkserver":
        feeding.context()
        multiprocessing.forkserver.ensure_running()

"""Several devices for one cell: this process is rank 0 of Lightning's DDP, and starts the others itself.

Lightning's own launchers start the command line again, or bring nothing but weights back; a long-lived worker needs
neither. Every rank runs the same cell; rank 0 alone makes the record.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator

import torch.distributed

from mmfuse.bench.job import Job

RANK = "mmfuse.bench.engines.ddp_rank"
"""The module that a further rank runs; it is named here and not imported, since what it runs starts ranks itself."""

VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK")


@contextlib.contextmanager
def ddp_ranks(job: Job, micro_batch: int) -> Iterator[None]:
    """Start the other ranks of a job, and be rank 0; afterwards they are ended and this process stands alone again.

    Args:
        job: what every rank runs.
        micro_batch: clips a batch in each rank.
    """
    if job.devices == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(job.devices),
        "NODE_RANK": "0",
    }
    others = [_start(job, micro_batch, {**shared, "LOCAL_RANK": str(rank)}) for rank in range(1, job.devices)]
    os.environ.update(shared, LOCAL_RANK="0")
    try:
        yield
    finally:
        for name in VARIABLES:
            os.environ.pop(name, None)
        for process in others:
            process.kill()
            process.wait()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _start(job: Job, micro_batch: int, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-m", RANK],
        env={**os.environ, **variables, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(pickle.dumps((job, micro_batch)))
    return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

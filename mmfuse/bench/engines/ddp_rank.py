"""The process of a DDP rank: trains and tests a cell along with the others; rank 0 makes the record.

Started as `python -m mmfuse.bench.engines.ddp_rank FD`, where FD is one end of a socket pair.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection

from mmfuse.bench.engines.ddp import DONE
from mmfuse.bench.engines.worker import Reporter, describe
from mmfuse.bench.run_cell import run_here, train_and_test
from mmfuse.utils.processes import end_with


def main(descriptor: str) -> None:
    """Entry point."""
    end_with(os.getppid())
    connection = Connection(int(descriptor))
    job, attempt = connection.recv()
    try:
        if os.environ["LOCAL_RANK"] == "0":
            connection.send(run_here(job, attempt, Reporter(connection)))
        else:
            train_and_test(job, attempt.micro_batch, lambda progress: None)
            connection.send(DONE)
    except BaseException as error:
        connection.send(describe(error))
        # At once: what a failed rank would wait for at its end may never come.
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])

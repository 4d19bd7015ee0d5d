"""The process of a further DDP rank: trains and tests a cell along with rank 0, and leaves nothing behind."""

from __future__ import annotations

import pickle
import sys

from mmfuse.bench.run_cell import train_and_test


def main() -> None:
    """Entry point."""
    # Our own parent wrote this, over a pipe that nobody else holds.
    job, micro_batch = pickle.loads(sys.stdin.buffer.read())
    train_and_test(job, micro_batch, lambda progress: None)


if __name__ == "__main__":
    main()

"""How many processes read clips for a cell."""

from __future__ import annotations

import pytest
import torch

from mmfuse.bench import feeding
from mmfuse.bench.feeding import feeding_of
from mmfuse.bench.job import Job
from tests.bench.harness import cell


@pytest.mark.parametrize(
    ("device", "wish", "cores", "at_a_time", "expected"),
    [
        ("cpu", None, 16, 1, 0),
        ("cpu", 3, 1, 1, 3),
        ("cuda", None, 16, 1, 4),
        ("cuda", None, 16, 4, 3),  # four cores a cell, one of them for the process that trains
        ("cuda", None, 16, 8, 1),
        ("cuda", None, 2, 4, 1),
        ("cuda", 0, 16, 1, 0),
        ("cuda", 12, 16, 8, 12),
        ("mps", None, 8, 1, 0),
    ],
)
def test_a_cell_reads_with_its_share_of_the_cores(
    device: str, wish: int | None, cores: int, at_a_time: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "usable_cores", lambda: cores)
    found = feeding_of(Job(cell=cell(), loader_workers=wish, at_a_time=at_a_time), torch.device(device))
    assert found.workers == expected
    assert found.sharers == at_a_time
    assert not found.forks, "a process that has a GPU's context or threads must not be forked"

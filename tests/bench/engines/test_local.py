"""Which device and how many threads each worker gets."""

from __future__ import annotations

import pytest

from mmfuse.bench.engines import local
from mmfuse.bench.engines.local import device_slots
from mmfuse.errors import MmfuseError


def slots(monkeypatch: pytest.MonkeyPatch, *, gpus: int, cpus: int = 8, **asked: float | None) -> list[tuple[str, str]]:
    """GPUs and threads of each worker on a machine with so many GPUs and cores."""
    monkeypatch.setattr(local, "accelerators", lambda: [str(number) for number in range(gpus)])
    monkeypatch.setattr(local, "usable_cores", lambda: cpus)
    made = device_slots(**{"workers": None, **asked})  # type: ignore[arg-type]
    return [(slot.environment.get("CUDA_VISIBLE_DEVICES", ""), slot.environment["OMP_NUM_THREADS"]) for slot in made]


def test_without_gpus_each_core_has_a_worker_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots(monkeypatch, gpus=0) == [("", "1")] * 8
    # Fewer workers compute with one thread too: another number of threads would round otherwise.
    assert slots(monkeypatch, gpus=0, workers=2) == [("", "1")] * 2
    assert slots(monkeypatch, gpus=0, workers=2, threads=4) == [("", "4")] * 2


def test_each_gpu_has_a_worker_and_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots(monkeypatch, gpus=2) == [("0", "4"), ("1", "4")]
    assert slots(monkeypatch, gpus=2, workers=3) == [("0", "2"), ("1", "2"), ("0", "2")]
    assert slots(monkeypatch, gpus=1, share=0.5) == [("0", "4")] * 2


def test_a_cell_on_several_devices_gets_a_group_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots(monkeypatch, gpus=5, devices_per_cell=2) == [("0,1", "2"), ("2,3", "2")]
    assert slots(monkeypatch, gpus=0, devices_per_cell=2) == [("", "1")] * 4
    with pytest.raises(MmfuseError, match="wants 4 devices; this machine has 2"):
        slots(monkeypatch, gpus=2, devices_per_cell=4)

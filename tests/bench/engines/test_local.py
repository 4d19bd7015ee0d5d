"""Which device and how many threads each worker gets."""

from __future__ import annotations

import pytest

from mmfuse.bench.accelerators import Host
from mmfuse.bench.engines import local
from mmfuse.bench.engines.local import device_slots
from mmfuse.errors import MmfuseError, MmfuseWarning


def slots(monkeypatch: pytest.MonkeyPatch, *, gpus: int, cpus: int = 8, **asked: float | None) -> list[tuple[str, str]]:
    """GPUs and threads of each worker on a machine with so many GPUs and cores."""
    monkeypatch.setattr(local, "usable_cores", lambda: cpus)
    host = Host(frozenset({"cuda"}), "cuda", "2.13.0", gpus, {"CUDA_VISIBLE_DEVICES": ""} if gpus == 0 else {})
    made = device_slots(**{"workers": None, **asked}, host=host)  # type: ignore[arg-type]
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


NVIDIA, AMD = frozenset({"cuda"}), frozenset({"hip"})
MIG = "MIG-0d0e7b1c-5d5f-5b0e-9e1a-000000000001,MIG-0d0e7b1c-5d5f-5b0e-9e1a-000000000002"


@pytest.mark.parametrize(
    ("listed", "count", "found"),
    [
        (None, 2, ["0", "1"]),
        ("2,3", 2, ["2", "3"]),
        (" 1 ", 1, ["1"]),
        ("1,-1,0", 1, ["1"]),  # what follows -1 is not shown
        ("GPU-8932f937,GPU-1b22", 2, ["GPU-8932f937", "GPU-1b22"]),
        (MIG, 1, MIG.split(",")),  # CUDA shows a process one part of a GPU alone
        ("", 0, []),
        ("-1", 0, []),
    ],
)
def test_devices_are_named_as_the_environment_names_them(listed: str | None, count: int, found: list[str]) -> None:
    variables = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    host = Host(NVIDIA, "cuda", "2.13.0", count, variables)
    assert host.devices() == found
    assert host.fault() == ""
    assert host.binding("1") == {"CUDA_VISIBLE_DEVICES": "1"}


def test_devices_of_rocm_are_named_by_both_of_its_variables() -> None:
    host = Host(AMD, "hip", "2.13.0+rocm6.4", 2, {"HIP_VISIBLE_DEVICES": "4,5", "CUDA_VISIBLE_DEVICES": "4,5"})
    bound = [slot.environment for slot in device_slots(workers=None, host=host)]
    for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        assert [environment[name] for environment in bound] == ["4", "5"]


def test_one_worker_has_apples_gpu() -> None:
    assert len(device_slots(workers=None, host=Host(frozenset(), apple=True))) == 1


@pytest.mark.parametrize(
    ("host", "told"),
    [
        (
            Host(NVIDIA, None, "2.13.0+cpu"),
            r"torch 2\.13\.0\+cpu computes on CPUs only: install its build for this GPU",
        ),
        (Host(AMD, "cuda", "2.13.0"), r"computes on other GPUs \(cuda\)"),
        (Host(NVIDIA, "cuda", "2.13.0"), r"finds none that it can use: is the driver older"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_told_of(host: Host, told: str) -> None:
    with pytest.warns(MmfuseWarning, match=told):
        made = device_slots(workers=1, host=host)
    assert "CUDA_VISIBLE_DEVICES" not in made[0].environment

"""What precision cells get, and which ones are warned of."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from mmfuse.bench.precision import resolve_precision, warn_of_slow_precision
from mmfuse.bench.preflight import prepare
from mmfuse.errors import MmfuseWarning
from mmfuse.records.folder import PlannedCell
from mmfuse.records.status import Entry
from tests.bench.harness import cell
from tests.bench.real import make_cell

OLD = {"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}


def test_auto_takes_bfloat16_on_wide_towers_of_a_cpu_with_matrix_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert resolve_precision("auto", width=384) == "bf16-mixed"
    assert resolve_precision("auto", width=96) == "32-true"
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert resolve_precision("auto", width=384) == "32-true"
    assert resolve_precision("bf16-true", width=96) == "bf16-true"


@pytest.mark.parametrize(
    ("capabilities", "hip", "expected"),
    [
        ([(6, 1)], None, "32-true"),  # P40
        ([(7, 0)], None, "16-mixed"),  # V100
        ([(7, 5)], None, "16-mixed"),  # T4
        ([(8, 0)], None, "bf16-mixed"),  # A100
        ([(8, 9), (12, 0)], None, "bf16-mixed"),
        ([(9, 0), (7, 5)], None, "16-mixed"),  # one cell on both
        ([(9, 0)], "6.4", "bf16-mixed"),  # ROCm numbers its architectures otherwise
    ],
)
def test_auto_takes_what_a_gpu_computes_in_and_does_not_emulate(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]], hip: str | None, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: True)  # as it is on a T4, by emulation
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert resolve_precision("auto", width=96) == expected


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without accelerators."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return monkeypatch


def test_bfloat16_is_warned_of_where_it_is_emulated(cpu: pytest.MonkeyPatch) -> None:
    cpu.setattr(torch.cpu, "get_capabilities", lambda: OLD, raising=False)
    cells = [cell(precision="bf16-mixed"), cell(precision="bf16-true"), cell()]
    with pytest.warns(MmfuseWarning, match="bf16-mixed and bf16-true: .* neither AVX-512 nor AMX") as told:
        warn_of_slow_precision(cells)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)


@pytest.mark.parametrize(
    "capabilities", [{}, {"neon": True}, {**OLD, "avx512_f": True}, {**OLD, "amx_bf16": True}, {"bf16": True}]
)
def test_bfloat16_is_not_warned_of_where_it_is_fast_or_nothing_is_known(
    cpu: pytest.MonkeyPatch, capabilities: dict[str, bool]
) -> None:
    cpu.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_slow_precision([cell(precision="bf16-mixed")])


def test_other_precisions_are_not_warned_of(cpu: pytest.MonkeyPatch) -> None:
    cpu.setattr(torch.cpu, "get_capabilities", lambda: OLD, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_slow_precision([cell(), cell(precision="32-true"), cell(precision="16-mixed")])


def test_a_grid_is_warned_of_before_its_first_cell(
    cpu: pytest.MonkeyPatch, clips: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    cpu.setattr(torch.cpu, "get_capabilities", lambda: OLD, raising=False)
    entry = Entry(PlannedCell(make_cell(clips, towers, precision="bf16-mixed")), "missing")
    with pytest.warns(MmfuseWarning, match="bf16-mixed: "):
        prepare([entry], data_root=tmp_path, will_run=list)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare([entry], data_root=tmp_path, will_run=lambda entries: [])

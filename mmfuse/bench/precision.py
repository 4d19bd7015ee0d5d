"""In which numbers a cell computes, and whether this machine's processor can do it at speed. Torch is loaded on use."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from mmfuse.errors import MmfuseWarning
from mmfuse.records.cell import Cell

MATRIX_UNITS = ("amx_bf16", "avx512_bf16", "avx512_f", "bf16")
"""Capabilities of a CPU, by torch's names, of which any one lets matrix products in bfloat16 run at speed."""

NATIVE_BFLOAT16 = (8, 0)
"""Compute capability from which on NVIDIA's GPUs compute in bfloat16 (Ampere)."""
MATRIX_UNITS_IN_FLOAT16 = (7, 0)
"""The same for float16 at speed (Volta)."""


def resolve_precision(asked: str, *, width: int) -> Any:
    """What `auto` means on this machine: bfloat16 where it computes faster in it.

    GPUs that only emulate bfloat16 (V100, T4) compute in float16, with the loss scaled so that no gradient is lost;
    everything else in full precision.

    Args:
        asked: a precision of Lightning's, or "auto".
        width: of the image tower. A CPU's matrix units gain on wide towers; on narrow ones the conversions cost more
            (a step of DoRA on ViT-S, 384 wide: 0.6 of the time in full precision; on the embedded tower, 96: 1.5).
    """
    import torch

    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return _fastest_on_gpus()
    fast = bool(cpu_capabilities().get("amx_bf16")) and width >= 256
    return "bf16-mixed" if fast else "32-true"


def _fastest_on_gpus() -> str:
    """The fastest precision of all GPUs that this process sees: a cell computes in one, whatever it trains on.

    By what the hardware can do: `torch.cuda.is_bf16_supported()` is true of emulation as well.
    """
    import torch

    capabilities = [torch.cuda.get_device_capability(number) for number in range(torch.cuda.device_count())]
    if torch.version.hip is not None or min(capabilities) >= NATIVE_BFLOAT16:
        return "bf16-mixed"
    return "16-mixed" if min(capabilities) >= MATRIX_UNITS_IN_FLOAT16 else "32-true"


def warn_of_slow_precision(cells: Iterable[Cell]) -> None:
    """Warn, in one line, of cells that ask for bfloat16 where this machine only emulates it.

    A CPU of x86 without AVX-512 and AMX takes some 250 times as long for a matrix product in bfloat16 as in 32 bit.
    """
    asked = sorted({cell.precision for cell in cells if cell.precision.startswith("bf16")})
    if asked and _emulates_bfloat16():
        warnings.warn(
            f"precision {' and '.join(asked)}: this machine's CPU has neither AVX-512 nor AMX and takes hundreds of "
            "times as long in bfloat16 as in 32 bit; precision: auto or 32-true runs at full speed here",
            MmfuseWarning,
            stacklevel=2,
        )


def _emulates_bfloat16() -> bool:
    """Whether cells run on a CPU that has no instructions for bfloat16; False where torch does not tell."""
    import torch

    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return False
    capabilities = cpu_capabilities()
    known = any(name in capabilities for name in MATRIX_UNITS)
    return known and not any(capabilities.get(name) for name in MATRIX_UNITS)


def cpu_capabilities() -> dict[str, Any]:
    """What this CPU can do, by torch's names; empty in versions of torch that do not tell."""
    import torch

    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return found

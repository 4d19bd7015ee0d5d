"""Which GPUs of this machine torch can compute on, and by which names a worker is given one of them."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

VISIBLE = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
"""The variables that name devices, in the order in which they count; torch for ROCm reads both, for CUDA the last."""


@dataclass(frozen=True)
class Host:
    """What a machine shows of its GPUs.

    Args:
        vendors: "cuda" where there is a GPU of NVIDIA, "hip" where there is one of AMD.
        built_for: what torch was built for, "cuda", "hip" or nothing.
        torch: its version.
        count: devices that it finds.
        environment: variables of this process.
        apple: it has one GPU of Apple's, which has no number and no parts.
    """

    vendors: frozenset[str]
    built_for: str | None = None
    torch: str = ""
    count: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    apple: bool = False

    @classmethod
    def here(cls) -> Host:
        """This machine; torch is asked only where there may be a GPU."""
        vendors = _vendors()
        if not vendors:
            return cls(vendors, apple=sys.platform == "darwin" and platform.machine() == "arm64")
        import torch

        built_for = "hip" if torch.version.hip else "cuda" if torch.version.cuda else None
        # Counted by the driver's library, which leaves no context on any GPU.
        count = torch.cuda.device_count() if built_for else 0
        return cls(vendors, built_for, torch.__version__, count, os.environ)

    @property
    def _variables(self) -> tuple[str, ...]:
        return VISIBLE if self.built_for == "hip" else VISIBLE[1:]

    @property
    def _listed_ids(self) -> str | None:
        """What the environment says of the devices that are meant; None where it says nothing."""
        return next((self.environment[name] for name in self._variables if name in self.environment), None)

    def devices(self) -> list[str]:
        """Names of the devices, as `binding` takes them: numbers, UUIDs, or parts of a GPU (MIG)."""
        if self.built_for is None:
            return []
        named = [part.strip() for part in (self._listed_ids or "").split(",") if part.strip()]
        if named and all(name.startswith("MIG-") for name in named):
            return named  # of which one process sees a single one, however many there are
        return (named or [str(number) for number in range(self.count)])[: self.count]

    def binding(self, devices: str) -> dict[str, str]:
        """Variables that show a worker these devices, joined by commas, and no other."""
        return dict.fromkeys(self._variables, devices)

    def fault(self) -> str:
        """Why a GPU that is there is not computed on; empty where all is well, or none is wanted."""
        if not self.vendors or self.devices() or self._listed_ids is not None:
            return ""
        if self.built_for not in self.vendors:
            made = "CPUs only" if self.built_for is None else f"other GPUs ({self.built_for})"
            told = f"the installed torch {self.torch} computes on {made}: install its build for this GPU"
        else:
            told = f"torch {self.torch} finds none that it can use: is the driver older than what torch was built for?"
        return f"this machine has a GPU, but {told} (CUDA_VISIBLE_DEVICES= says that none is wanted)"


def _vendors() -> frozenset[str]:
    """Whose GPUs this machine has, by the files of their drivers. In WSL2 the GPU is Windows', behind /dev/dxg."""
    wsl = Path("/dev/dxg").exists() and Path("/usr/lib/wsl/lib/libcuda.so.1").exists()
    nvidia = wsl or any(Path("/dev").glob("nvidia[0-9]*"))
    return frozenset(["cuda"] * nvidia + ["hip"] * Path("/dev/kfd").exists())

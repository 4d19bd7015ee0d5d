"""What a cell costs and where it ran."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import platform
import socket
import subprocess
import tempfile
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from mmfuse.version import __version__

if TYPE_CHECKING:
    from mmfuse.model.recognizer import ActionRecognizer

PACKAGES = ("torch", "lightning", "transformers", "peft", "torchmetrics", "av", "numpy", "pandas")


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak_memory() -> None:
    """Start counting the peak afresh: a worker lives longer than a cell."""
    free_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM


def peak_memory() -> int | None:
    """Bytes at the peak: of the device, or of this process where there is only a CPU; `None` where it is not known."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def device_name(device: torch.device) -> str:
    """A device as tables name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"


def checkpoint(model: ActionRecognizer, *, keep: bool) -> tuple[dict[str, bytes], int]:
    """The checkpoint's files by name, where it is kept, and the bytes of the trained weights."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.trained_state().items()}
    size = len(safetensors.torch.save(weights))
    if not keep:
        return {}, size
    with tempfile.TemporaryDirectory() as folder:
        model.save_trained(folder)
        files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}, size


def digest(content: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(content).hexdigest()


@lru_cache
def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what its numbers rest on."""
    found = {"python": platform.python_version(), "mmfuse": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@lru_cache
def commit() -> str | None:
    """The commit of the checkout that this package runs from; `None` for an installed wheel."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def host() -> str:
    """This machine's name."""
    return socket.gethostname()

"""Batches of clips in chunks whose memory the next ones use again.

When a tensor is freed, glibc keeps its memory for the next one, but for a block above 32 MiB, which it gives back to
the system (the largest threshold that it comes to by itself; see M_MMAP_THRESHOLD in mallopt(3)). The system then
clears every page again when the next large tensor asks. For 128 frames through a ViT-S in 32 bits that is almost half
of a training step. Clips know nothing of each other, so they may as well be run a few at a time; and where gradients
are taken chunk by chunk too, only one chunk's activations are ever kept.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST = 28 * 2**20
"""Bytes of the largest tensor of a chunk: below `MMAP_THRESHOLD` by what a method's own tokens may add. Where one clip
has more, as of a very wide tower, it is a chunk all the same."""
MMAP_THRESHOLD = 32 * 2**20
"""Bytes from which on glibc takes a block from the system and gives it back at once: the most that can be set."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Let this process keep up to 2 GiB of freed memory for its next tensors; does nothing where there is no glibc.

    By itself glibc gives the end of its heap back as soon as two of the largest blocks lie free there, which they do
    after every layer that keeps nothing for gradients.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def chunk_size(device: torch.device, *, numbers: int, pixels: int, dtype: torch.dtype) -> int | None:
    """How many clips a chunk has; `None` for all, on devices whose allocators keep everything.

    Args:
        device: where the clips are.
        numbers: how many numbers the largest activation of one clip has.
        pixels: how many numbers its pixels have, which are normalised in 32 bits whatever the tower computes in.
        dtype: of the weights, in which they compute without autocast.
    """
    if device.type != "cpu":
        return None
    computed_in = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype
    return max(1, LARGEST // max(1, numbers * computed_in.itemsize, pixels * torch.float32.itemsize))


def chunks(clips: Tensor, size: int | None) -> Sequence[Tensor]:
    """Clips (B, …) in chunks of nearly one size, rather than in full ones and a small rest."""
    if size is None or len(clips) <= size:
        return (clips,)
    return clips.tensor_split(math.ceil(len(clips) / size))


def chunked_forward(run: Callable[[Tensor], Tensor], clips: Tensor, size: int | None) -> Tensor:
    """What `run` gives of clips (B, …): chunk by chunk, or all at once where gradients are wanted of the output."""
    if torch.is_grad_enabled():
        return run(clips)
    parts = [run(chunk) for chunk in chunks(clips, size)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def chunked_loss(
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    clips: Tensor,
    labels: Tensor,
    classes: Tensor,
    weights: Iterable[Tensor],
    size: int | None,
) -> Tensor:
    """A loss that is a sum over clips, with the gradients of each chunk taken before the next one is run.

    Args:
        loss_of: the loss () of a chunk, from its clips, its labels and the class embeddings.
        clips: (B, …).
        labels: (B,).
        classes: class embeddings (C, E), which all chunks share; gradients go through them.
        weights: all else that gradients are wanted of; looked through only where there is more than one chunk.
        size: clips a chunk.

    Returns:
        The loss (), from which one backward gives everything its gradient.
    """
    parts = list(zip(chunks(clips, size), chunks(labels, size), strict=True))
    if len(parts) == 1 or not torch.is_grad_enabled():
        return loss_of(clips, labels, classes)
    loss: Tensor = _ChunkedLoss.apply(loss_of, parts, classes, *weights)
    return loss


class _ChunkedLoss(torch.autograd.Function):
    """Takes the gradients on the way forward, and on the way back multiplies them by what comes from above."""

    @staticmethod
    def forward(
        ctx: Any,
        loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
        parts: Sequence[tuple[Tensor, Tensor]],
        classes: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        shared = classes.detach().requires_grad_(classes.requires_grad)
        wanted = [tensor for tensor in (shared, *weights) if tensor.requires_grad]
        total = classes.new_zeros((), dtype=torch.float32)
        gradients: list[Tensor | None] = [None] * len(wanted)
        for clips, labels in parts:
            with torch.enable_grad():
                loss = loss_of(clips, labels, shared)
            # The way back is taken outside autocast, as it is of a whole batch.
            with torch.autocast("cpu", enabled=False):
                found = torch.autograd.grad(loss, wanted, allow_unused=True)
            total += loss.detach()
            for place, gradient in enumerate(found):
                if gradient is not None:
                    before = gradients[place]
                    gradients[place] = gradient if before is None else before + gradient
        ctx.gradients = gradients if classes.requires_grad else [None, *gradients]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *from_above: Tensor) -> Any:
        [above] = from_above
        return None, None, *(None if gradient is None else gradient * above for gradient in ctx.gradients)

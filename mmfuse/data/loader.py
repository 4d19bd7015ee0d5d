"""Batches of clips from processes beside the one that trains: how they are started, what they send, and when it waits.

Shape legend: B clips, T frames, S side of the square.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmfuse.data.batches import Batch, Request
from mmfuse.data.waits import Waits
from mmfuse.errors import MmfuseError

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps memory that processes share; containers often have 64 MB of it."""
PREFETCH = 2
"""Batches that each process reads ahead, where there is room for them."""
VIDEO = "video"


@dataclass(frozen=True)
class Feeding:
    """How batches reach the process that trains.

    Args:
        workers: processes that read clips; 0 reads in the process that trains.
        start: how they are started ("fork", "forkserver", "spawn"); None as torch does. A process that has begun to use
            a GPU, or that has threads, must not be forked: the locks of its threads would be held for ever.
        device: where the batches are used.
        sharers: cells that share the machine's shared memory.
    """

    workers: int = 0
    start: str | None = None
    device: torch.device | None = None
    sharers: int = 1

    @property
    def forks(self) -> bool:
        """Whether the processes begin with all that is in the memory of the one that starts them."""
        return (self.start or multiprocessing.get_start_method()) == "fork"

    def context(self) -> Any:
        """What starts the processes, as a `DataLoader` takes it."""
        if not self.workers or self.start is None:
            return None
        context = multiprocessing.get_context(self.start)
        if self.start == "forkserver":
            # Libraries are imported once, by the server, and not by each process that it forks.
            context.set_forkserver_preload([__name__, "mmfuse.data.cache.clip_store"])
        return context


@dataclass(frozen=True)
class Transport:
    """How batches are sent from one process to another.

    Args:
        prefetch: batches that each process reads ahead.
        pipes: whether they are copied through pipes instead of shared memory, which takes longer and needs no room.
        note: what is to be said of it.
    """

    prefetch: int = PREFETCH
    pipes: bool = False
    note: str = ""

    @classmethod
    def of(cls, feeding: Feeding, *, batch_bytes: int) -> Transport:
        """The fastest one that there is room for.

        A process that writes into shared memory where there is none left is ended by the system with a bus error.
        """
        room = shared_memory_free() if feeding.workers else None
        if room is None:
            return cls()
        share = room // (2 * feeding.sharers)  # others write there as well
        for prefetch in range(PREFETCH, 0, -1):
            # One batch more is in the hands of the process that trains, and one in those that pin it.
            if (feeding.workers * prefetch + 2) * batch_bytes <= share:
                return cls(prefetch)
        told = f"only {room / 1e6:.0f} MB of shared memory are free in {SHARED_MEMORY} (docker run --shm-size=8g)"
        return cls(1, pipes=True, note=f"{told}: batches go through pipes, which is slower")


def shared_memory_free() -> int | None:
    """Bytes of shared memory that are free; None where they are not limited in a way that could be asked for."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return None
    return found.f_bavail * found.f_frsize


class ClipLoader(DataLoader[Batch]):
    """A loader whose processes say in one line what they met, and that adds up how long it was waited for.

    Args:
        dataset: answers each request of the sampler with a whole batch; `Sent` where there are processes.
        waits: told of each wait for a batch.
        device: where the batches are used; a CUDA device is sent the video ahead, while it still computes.
        how: see `DataLoader`.
    """

    def __init__(
        self, dataset: Dataset[Any], *, waits: Waits | None = None, device: torch.device | None = None, **how: Any
    ) -> None:
        super().__init__(dataset, **how)
        self.waits = Waits() if waits is None else waits
        self.device = device

    def __iter__(self) -> Any:
        """The batches of an epoch.

        Raises:
            MmfuseError: what a process that reads clips has met.
        """
        if self._iterator is not None:
            # Each epoch takes a number of the common generator, also where processes stay, of which torch starts none
            # anew: drop-out is the same then whoever reads the clips.
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        return self._watched(super().__iter__())

    def end(self) -> None:
        """End its processes at once; torch does so when the last reference to them is gone, as in an error's trace."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]
            self._iterator = None

    def _watched(self, batches: Iterator[Any]) -> Iterator[Batch]:
        sender = Sender(self.device) if self.device is not None and self.device.type == "cuda" else None
        while True:
            with self.waits.waiting():
                try:
                    given = next(batches)
                except StopIteration:
                    return
                batch = _received(given, pinned=self.pin_memory)
                if sender is not None:
                    batch = sender(batch)
            yield batch


class ReadAhead:
    """Processes that answer requests in their order, ahead of who asks: started at the first, and kept for more.

    Args:
        clips: what answers a request.
        feeding: how many processes, and how they are started.
        batch_bytes: of the largest batch.
        waits: told of each wait for a batch.
    """

    def __init__(self, clips: Dataset[Batch], *, feeding: Feeding, batch_bytes: int, waits: Waits) -> None:
        self._clips, self._feeding, self._waits = clips, feeding, waits
        self._transport = Transport.of(feeding, batch_bytes=batch_bytes)
        self._asked = _Asked()
        self._loader: ClipLoader | None = None

    def __call__(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """The batches; what is not gone through to its end ends the processes.

        Raises:
            MmfuseError: what a process has met.
        """
        self._asked.requests = requests
        if self._loader is None:
            self._loader = clip_loader(
                self._clips,
                self._asked,
                feeding=self._feeding,
                transport=self._transport,
                waits=self._waits,
                generator=torch.Generator(),  # and not the common one, which drop-out draws from
            )
        whole = False
        try:
            yield from self._loader
            whole = True
        finally:
            if not whole:
                self.end()

    def end(self) -> None:
        """End the processes."""
        if self._loader is not None:
            self._loader.end()
            self._loader = None


class _Asked:
    """The requests of the moment, as a sampler."""

    requests: Iterable[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)


def clip_loader(
    clips: Dataset[Batch], requests: Any, *, feeding: Feeding, transport: Transport, waits: Waits, **how: Any
) -> ClipLoader:
    """A loader of the batches that `clips` answers requests with.

    Args:
        clips: what answers a request.
        requests: a sampler of them; None for requests by number.
        feeding, transport: who reads the batches, and how they are sent.
        waits: told of each wait for a batch.
        how: see `DataLoader`.
    """
    workers = feeding.workers
    return ClipLoader(
        Sent(clips, pipes=transport.pipes) if workers else clips,
        waits=waits,
        device=feeding.device,
        batch_size=None,  # what is asked for is a whole batch already
        sampler=requests,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=transport.prefetch if workers else None,
        multiprocessing_context=feeding.context(),
        pin_memory=torch.cuda.is_available(),
        **how,
    )


class Sender:
    """Sends the video of batches to a GPU while that still computes: in a queue of its own.

    Labels stay behind: they are few, and are looked at before they are sent.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._queue = torch.cuda.Stream(device)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its video on the device, or on the way there: what is computed next waits for it."""
        if VIDEO not in batch:
            return batch
        with torch.cuda.stream(self._queue):
            video = batch[VIDEO].to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._queue)
        video.record_stream(computing)  # its memory is not given to another before that is done with it
        return {**batch, VIDEO: video}


@dataclass(frozen=True)
class _Fault:
    """An error on its way from one process to another."""

    error: MmfuseError


@dataclass(frozen=True)
class _Piped:
    """A batch on its way through a pipe: arrays as they lie in memory, each with the order of its axes."""

    arrays: dict[str, tuple[NDArray[Any], list[int]]]

    @classmethod
    def of(cls, batch: Batch) -> _Piped:
        return cls({name: _in_memory_order(tensor) for name, tensor in batch.items()})

    def unpacked(self, *, pinned: bool) -> Batch:
        batch = {}
        for name, (array, order) in self.arrays.items():
            tensor = torch.from_numpy(array)
            back = np.argsort(order).tolist()
            batch[name] = (tensor.pin_memory() if pinned else tensor).permute(back)
        return batch


def _in_memory_order(tensor: Tensor) -> tuple[NDArray[Any], list[int]]:
    """A tensor with the axis of the longest stride first: kernels may round otherwise for another layout."""
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
    return np.ascontiguousarray(tensor.permute(order).numpy()), order


class Sent(Dataset[Any]):
    """What a process answers that reads clips: a batch, or the error that it met.

    By itself torch makes the error's text of the whole traceback.

    Args:
        clips: what answers a request.
        pipes: see `Transport`.
    """

    def __init__(self, clips: Dataset[Batch], *, pipes: bool = False) -> None:
        self._clips, self._pipes = clips, pipes

    def __len__(self) -> int:
        return len(self._clips)  # type: ignore[arg-type]

    def __getitem__(self, request: Request | int) -> Batch | _Fault | _Piped:
        """A batch in one of the forms that `ClipLoader` takes."""
        try:
            batch = self._clips[request]
        except MmfuseError as error:
            return _Fault(error)
        return _Piped.of(batch) if self._pipes else batch


def _received(given: Batch | _Fault | _Piped, *, pinned: bool) -> Batch:
    """A batch as another process has sent it.

    Raises:
        MmfuseError: it met that instead.
    """
    if isinstance(given, _Fault):
        raise given.error
    if isinstance(given, _Piped):
        return given.unpacked(pinned=pinned)
    # What shares memory keeps a file open as long as it lives, and labels live until a test is over.
    return {name: part.clone() if name != VIDEO and part.is_shared() else part for name, part in given.items()}

"""Batches from other processes: their errors, their memory, and how long they keep a device waiting."""

from __future__ import annotations

import os
import shutil
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmfuse import FewShotVideoDataModule
from mmfuse.data import loader as loading
from mmfuse.data.loader import ClipLoader, Feeding, Sender, Transport, shared_memory_free
from mmfuse.data.waits import Waits
from mmfuse.errors import MmfuseError
from tests.data.videos import encode

CLIPS, FRAMES, SIZE = 5, 4, 32
DRAWN = [1478610112, 1491434855, 1650906866]
"""What drop-out may draw after each epoch of a plain loader; records hold numbers that come of it."""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("videos")
    for part in ("train", "test"):
        for number in range(CLIPS):
            label = ("wave", "jump")[number % 2]
            encode(root / part / label / f"{part}_{number}.mp4", codec="libx264", count=12 + number)
    return {"name": "mine", "root": str(root)}


def module(mine: dict[str, Any], feeding: Feeding | None = None, **how: Any) -> FewShotVideoDataModule:
    settings: dict[str, Any] = {"shots": "all", "frames": FRAMES, "size": SIZE, "batch_size": 2, "views": 0}
    data = FewShotVideoDataModule(mine, **settings | how)
    data.feed(feeding or Feeding())
    return data


def small_memory(monkeypatch: pytest.MonkeyPatch, bytes_free: int) -> None:
    found = SimpleNamespace(f_bavail=bytes_free // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: found)


@pytest.mark.parametrize("room", [None, 0], ids=["shared memory", "pipes"])
def test_batches_are_the_same_to_the_bit_and_in_memory_whoever_reads_them(
    mine: dict[str, Any], room: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if room is not None:
        small_memory(monkeypatch, room)
    plain, fed = module(mine), module(mine, Feeding(2, "forkserver", torch.device("cpu")))
    for name in ("train_dataloader", "test_dataloader"):
        one, other = getattr(plain, name)(), getattr(fed, name)()
        for _ in range(2):  # epochs, whose views differ
            for expected, batch in zip(one, other, strict=True):
                assert expected.keys() == batch.keys()
                for key, value in expected.items():
                    assert torch.equal(value, batch[key])
                    assert value.stride() == batch[key].stride()
                # Labels are kept until a test is over; shared memory would keep a file open for each.
                assert not batch["label"].is_shared()
                assert batch["video"].is_shared() is (room is None)
    assert plain.remarks == []
    assert [("go through pipes" in remark) for remark in fed.remarks] == [True] * (room is not None)
    assert fed.waits["train"].seconds > 0
    assert fed.waits["test"].seconds > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_drop_out_is_the_same_whoever_reads_the_clips(mine: dict[str, Any], workers: int) -> None:
    """It draws from the common generator, from which torch takes a number whenever it starts processes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loader = module(mine, Feeding(workers, "forkserver")).train_dataloader()
        drawn = []
        for _ in range(3):
            assert len(list(loader)) == 3
            drawn.append(int(torch.randint(0, 2**31, ())))
    assert drawn == DRAWN


def test_an_error_in_another_process_is_the_one_line_that_it_was(mine: dict[str, Any], tmp_path: Path) -> None:
    broken = tmp_path / "mine"
    shutil.copytree(mine["root"], broken)
    (broken / "train" / "wave" / "torn.mp4").write_bytes(b"no video")
    data = module({"name": "mine", "root": str(broken)}, Feeding(1, "forkserver"), batch_size=1)
    with pytest.raises(MmfuseError, match=r"torn\.mp4") as caught:
        list(data.train_dataloader())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("megabytes", "sharers", "expected"),
    [
        (1000, 1, (2, False)),
        (250, 1, (2, False)),  # 4 processes read 2 batches ahead, and 2 more are on their way: 100 MB, of half of it
        (150, 1, (1, False)),
        (64, 1, (1, True)),
        (1000, 8, (1, False)),
        (500, 8, (1, True)),
    ],
)
def test_shared_memory_is_used_as_far_as_it_goes(
    megabytes: int, sharers: int, expected: tuple[int, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_memory(monkeypatch, megabytes * 10**6)
    found = Transport.of(Feeding(4, sharers=sharers), batch_bytes=10**7)
    assert (found.prefetch, found.pipes) == expected
    assert bool(found.note) is found.pipes
    assert Transport.of(Feeding(0), batch_bytes=10**12) == Transport()


def test_a_system_without_a_limit_on_shared_memory_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "SHARED_MEMORY", tmp_path / "absent")
    assert shared_memory_free() is None
    assert Transport.of(Feeding(4), batch_bytes=10**12) == Transport()


# --- what only a GPU has -----------------------------------------------------------------------------------------


class PretendedGPU:
    """Queues of a GPU, and the order of all that was put into them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self.past: deque[float] = deque()
        gpu = self
        self.streams = {"computing": self._stream("computing"), "sending": self._stream("sending")}
        self.inside = "computing"

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: Any) -> None:
                gpu.order.append(f"mark in {stream.name}")
                self.at = gpu.past.popleft()

            def query(self) -> bool:
                return not gpu.past

            def elapsed_time(self, other: Event) -> float:
                return other.at - self.at

        class Within:
            def __init__(self, stream: Any) -> None:
                self.stream = stream

            def __enter__(self) -> None:
                gpu.inside = self.stream.name

            def __exit__(self, *_: object) -> None:
                gpu.inside = "computing"

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self.streams["sending"])
        monkeypatch.setattr(torch.cuda, "stream", Within)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.streams["computing"])
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: self.order.append("synchronize"))

    def _stream(self, name: str) -> Any:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.order.append(f"{name} waits for {other.name}"))

    def video(self) -> Any:
        def to(device: torch.device, *, non_blocking: bool) -> Any:
            self.order.append(f"copy in {self.inside}, blocking {not non_blocking}")
            return SimpleNamespace(record_stream=lambda stream: self.order.append(f"kept for {stream.name}"))

        return SimpleNamespace(to=to)


def test_video_is_sent_in_a_queue_of_its_own_and_waited_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, labels = PretendedGPU(monkeypatch), torch.zeros(1)
    sent = Sender(torch.device("cuda", 0))({"video": gpu.video(), "label": labels})
    assert sent["label"] is labels
    assert gpu.order == ["copy in sending, blocking False", "computing waits for sending", "kept for computing"]


def test_a_gpu_waits_from_when_its_queue_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PretendedGPU(monkeypatch)
    waits = Waits(torch.device("cuda", 0))
    gpu.past.extend([10, 10, 30, 35, 40, 70])  # milliseconds at which it comes past each mark
    with waits.waiting():
        pass
    with waits.waiting(), waits.working():
        pass
    assert gpu.order == ["mark in computing"] * 6, "nothing was waited for"
    assert waits.seconds == pytest.approx((0 + 5 + 30) / 1000)


def test_a_loader_without_processes_is_waited_for_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 3.0, 10.0, 14.0, 20.0, 20.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    waits = Waits()
    loader = ClipLoader([{"label": torch.zeros(1)}] * 2, waits=waits, batch_size=None)
    assert len(list(loader)) == 2
    assert waits.seconds == 2.0 + 4.0 + 0.5

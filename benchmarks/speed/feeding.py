"""How long a frozen tower waits for clips, by the number of processes that decode ahead of it.

    python benchmarks/speed/feeding.py [--processes 0 1 2] [--clips 64] [--block-ms 22] [--rounds 3]

Stands in for a GPU: a tower that takes `--block-ms` a block of 16 clips and no processor, as it would where the GPU
computes (22 ms are ViT-B on an H100 by arithmetic, 8 frames of 224 pixels a clip). The clips are H.264, 320 x 240,
decoded anew each time; features go to a fresh folder. Wall time, so that it wants a machine with nothing else to do;
numbers of processes take turns, and what counts is the ratio to none, turn by turn. The share that is waited for is
the one that records hold.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

if TYPE_CHECKING:
    from torch import Tensor

# Libraries are imported where they are used: each process that decodes imports this file first.
FRAMES, SIZE, WIDTH = 8, 224, 3
H264 = "H.264 MP4 320x240, 180 frames"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--block-ms", type=float, default=22.0)
    parser.add_argument("--rounds", type=int, default=3)
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder), wishes.clips)
        found: dict[int, list[tuple[float, float]]] = {count: [] for count in wishes.processes}
        features(clips, Path(folder) / "warm", max(wishes.processes), wishes.block_ms)  # starts what is started once
        for turn in range(wishes.rounds):
            for count in wishes.processes:
                found[count].append(features(clips, Path(folder) / f"{turn}-{count}", count, wishes.block_ms))
    tower = -(-wishes.clips // 16) * wishes.block_ms / 1000
    print(f"{wishes.clips} clips, the tower alone {tower:.2f} s; medians of {wishes.rounds} turns")
    first = found[wishes.processes[0]]
    for count, turns in found.items():
        seconds, waited = (statistics.median(values) for values in zip(*turns, strict=True))
        ratio = statistics.median(one[0] / other[0] for one, other in zip(turns, first, strict=True))
        print(
            f"{count:3} processes: {seconds:6.2f} s, {ratio:5.2f} x the first row, {waited:4.0%} of it waited for data"
        )


def make_clips(folder: Path, count: int) -> dict[str, str]:
    """A data set of so many test clips, which differ in what stands behind the video."""
    from benchmarks.speed.decode import encoded

    video = encoded(folder / "drawn", only=H264)[H264].read_bytes()
    for part, number in [("test", number) for number in range(count)] + [("train", 0), ("train", 1)]:
        path = folder / "data" / part / ("a", "b")[number % 2] / f"{part}_{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video + path.name.encode())
    return {"name": "stand-ins", "root": str(folder / "data")}


def features(clips: dict[str, str], folder: Path, processes: int, block_ms: float) -> tuple[float, float]:
    """Seconds to compute the features of all test clips, and the share of them that the tower waited for data."""
    import torch

    from mmfuse import FewShotVideoDataModule
    from mmfuse.data.loader import Feeding

    def tower(video: Tensor) -> Tensor:
        time.sleep(block_ms / 1000)
        return torch.zeros(len(video), FRAMES, WIDTH)

    data = FewShotVideoDataModule(clips, shots="all", frames=FRAMES, size=SIZE, views=1)
    data.feed(Feeding(processes, "forkserver", torch.device("cpu")))
    data.use_cached_features(tower, width=WIDTH, key="stand-in", folder=folder)
    begun = time.perf_counter()
    for _ in data.test_dataloader():
        pass
    seconds = time.perf_counter() - begun
    return seconds, data.waits["test"].seconds / seconds


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

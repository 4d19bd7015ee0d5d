"""How fast clips are read, against what else there is, in one run on the same files.

    python benchmarks/speed/decode.py [--frames 16] [--short-side 224] [--rounds 25] [--json] [VIDEO...]

Reads T frames of each clip (the centres of T equal segments) as RGB, with one thread: with this project's reader, with
the plain PyAV loop that converts just the wanted frames, with OpenCV and decord where they are installed (nothing else
needs them: `pip install --target DIR opencv-python-headless decord`, then PYTHONPATH=DIR), and out of the clip store.
Readers take turns, and processor time is measured, so that a busy machine disturbs all alike and little. The fastest of
the rounds counts; the median stands beside it. Without VIDEO, clips like those of the public data sets are drawn and
encoded first.

Expect, beside OpenCV 5.0 and decord 0.6 and with --short-side 224: 0.65 to 0.85 of the fastest other's time on H.264,
and up to 1.05 on MPEG-4 AVI, where OpenCV believes the header's count and leaves the last frames undecoded; the store
20 to 250 times faster than decoding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mmfuse.data.cache.clip_store import ClipStore, StoreFormat, WantedClip
from mmfuse.data.frames.sampling import segment_centres
from mmfuse.data.frames.sources import DecodedFrames
from mmfuse.data.frames.video import read_frames, scaled_size

Frames = NDArray[np.uint8]
Read = Callable[[], Frames]

# Bit rates are about those of the public data sets: UCF101 has 6.9 GB in 13,320 clips.
KINDS: dict[str, dict] = {
    "MPEG-4 AVI 320x240, 180 frames (as UCF101)": {
        "codec": "mpeg4", "name": "a.avi", "options": {"b": "580k", "g": "250"},
    },
    "MPEG-4 AVI with B-frames, 90 frames (as HMDB51)": {
        "codec": "mpeg4", "name": "b.avi", "count": 90, "options": {"b": "700k", "g": "250", "bf": "2"},
    },
    "H.264 MP4 320x240, 180 frames": {"codec": "libx264", "name": "c.mp4"},
    "H.264 MP4 640x480, 150 frames (as Diving48)": {
        "codec": "libx264", "name": "d.mp4", "count": 150, "width": 640, "height": 480,
    },
    "H.264 MP4 640x360, 1,800 frames, keyframe every 30": {
        "codec": "libx264", "name": "e.mp4", "count": 1800, "width": 640, "height": 360, "options": {"g": "30"},
    },
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--short-side", type=int, default=None, help="scale to this; default the size as it is")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = {path.name: path for path in wishes.videos} or encoded(Path(folder))
        measured = {
            name: measure(readers(path, wishes.frames, wishes.short_side, Path(folder)), rounds=wishes.rounds)
            for name, path in clips.items()
        }
    if wishes.json:
        print(json.dumps(measured, indent=1))
    else:
        show(measured, wishes.frames)


def encoded(folder: Path, *, only: str | None = None) -> dict[str, Path]:
    """Draw and encode the stand-ins: a textured ground that moves, and noise, which real clips are full of.

    Args:
        folder: where to; made if absent.
        only: one of the kinds; all by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for title, how in KINDS.items() if only is None else [(only, KINDS[only])]:
        print(f"encoding {title}", file=sys.stderr)
        width, height = how.get("width", 320), how.get("height", 240)
        generator = np.random.default_rng(0)
        ground = generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        paths[title] = folder / how["name"]
        with av.open(str(paths[title]), "w") as container:
            stream = container.add_stream(how["codec"], rate=25, options=how.get("options", {}))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(how.get("count", 180)):
                image = np.roll(ground, 3 * number, axis=1) + generator.normal(0, 6, ground.shape)
                frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return paths


def readers(path: Path, frames: int, short_side: int | None, folder: Path) -> dict[str, Read]:
    """Every way to read a clip that this machine has."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        count = sum(packet.size > 0 for packet in container.demux(stream))
        height, width = scaled_size(stream.codec_context.height, stream.codec_context.width, short_side)
    wanted = segment_centres(count, frames)
    ways: dict[str, Read] = {
        "mmfuse": lambda: read_frames(path, lambda count: segment_centres(count, frames), short_side=short_side),
        "PyAV": lambda: plain_pyav(path, wanted, height, width),
    }
    for name, way in (("OpenCV", opencv), ("decord", decord)):
        try:
            way(path, wanted, height, width)
        except ImportError:
            print(f"{name} is not installed and is left out", file=sys.stderr)
        else:
            ways[name] = lambda way=way: way(path, wanted, height, width)
    ways["clip store"] = store(path, frames, short_side or min(height, width), folder / "store")
    return ways


def plain_pyav(path: Path, wanted: NDArray[np.int64], height: int, width: int) -> Frames:
    """The usual loop: decode in order, convert what is wanted."""
    keep, found = set(wanted.tolist()), []
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number in keep:
                found.append(frame.to_ndarray(format="rgb24", width=width, height=height))
                if len(found) == len(keep):
                    break
    return np.stack(found)


def opencv(path: Path, wanted: NDArray[np.int64], height: int, width: int) -> Frames:
    """Grab in order, retrieve what is wanted; one decoding and one scaling thread."""
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    found, position = [], 0
    for number in wanted.tolist():
        while position <= number:
            capture.grab()
            position += 1
        frame = capture.retrieve()[1]
        if frame.shape[:2] != (height, width):
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        found.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(found)


def decord(path: Path, wanted: NDArray[np.int64], height: int, width: int) -> Frames:
    """One batch, scaled by decord."""
    import decord as library

    return library.VideoReader(str(path), width=width, height=height, num_threads=1).get_batch(wanted).asnumpy()


def store(path: Path, frames: int, short_side: int, folder: Path) -> Read:
    """Out of the clip store, copied as a batch needs it; as in training, the file stays mapped after the first read."""
    kept = ClipStore(folder, dataset="benchmark", sampling=StoreFormat(frames=frames, short_side=short_side))
    want = WantedClip(path.name, str(path), 1)
    kept.add(want)
    reader = kept.reader([want], otherwise=DecodedFrames(short_side=short_side))

    def read() -> Frames:
        held, places = reader.pick(want.path, lambda count: segment_centres(count, frames))
        return held[places]

    return read


def measure(ways: dict[str, Read], *, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of processor time a clip, the fastest and the median of the rounds."""
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, read in ways.items():
            begun = time.process_time()
            read()
            seen[name].append(1000 * (time.process_time() - begun))
    return {name: {"best": min(times), "median": statistics.median(times)} for name, times in seen.items()}


def show(measured: dict[str, dict[str, dict[str, float]]], frames: int) -> None:
    """Print a table: fastest (median) of each reader, and how the project's stands to the fastest other one."""
    names = list(next(iter(measured.values())))
    table = Table(title=f"ms of processor time to read {frames} frames of a clip: fastest of the rounds (median)")
    table.add_column("clip")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("mmfuse / fastest other", justify="right")
    table.add_column("decoding / store", justify="right")
    for clip, times in measured.items():
        others = [times[name]["best"] for name in names if name not in ("mmfuse", "clip store")]
        own = times["mmfuse"]["best"]
        cells = [f"{times[name]['best']:.1f} ({times[name]['median']:.1f})" for name in names]
        table.add_row(clip, *cells, f"{own / min(others):.2f}", f"{own / times['clip store']['best']:.0f}")
    Console(width=None if sys.stdout.isatty() else 180).print(table)


if __name__ == "__main__":
    main()

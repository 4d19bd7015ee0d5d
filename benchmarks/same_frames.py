"""How often clips with the same frames are found, and how often others are taken for them.

    python -m benchmarks.same_frames

Three sets of drawn clips, 60 each, of people (ellipses) that move before a textured ground: each clip with a ground of
its own and a still camera; all clips before one ground and one still camera; a camera that pans. Every clip is encoded
once more in each of the ways below, and paired with all others. `tiny` has no copies: whatever is found there is false.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from mmfuse.data.catalogue.same_frames import find_same_frames, same_among, thumbnails_of
from mmfuse.data.tiny import dataset
from mmfuse.utils.processes import usable_cores

Frames = NDArray[np.uint8]
HEIGHT, WIDTH = 120, 160


def ground(rng: np.random.Generator, *, width: int = WIDTH) -> NDArray[np.float64]:
    """A texture of several scales in colours, (H, W, 3) in grey levels."""
    total = np.zeros((HEIGHT, width, 3))
    for cells in (3, 6, 12, 24):
        coarse = rng.normal(0, 1, (cells + 1, cells * width // HEIGHT + 1, 3))
        down = np.linspace(0, coarse.shape[0] - 1.001, HEIGHT)
        across = np.linspace(0, coarse.shape[1] - 1.001, width)
        y, x = down.astype(int)[:, None], across.astype(int)[None]
        dy, dx = (down % 1)[:, None, None], (across % 1)[None, :, None]
        upper = coarse[y, x] * (1 - dx) + coarse[y, x + 1] * dx
        lower = coarse[y + 1, x] * (1 - dx) + coarse[y + 1, x + 1] * dx
        total += (upper * (1 - dy) + lower * dy) * 40 / np.sqrt(cells)
    return np.clip(rng.uniform(90, 160) + total, 0, 255)


def draw(rng: np.random.Generator, behind: NDArray[np.float64], *, pan: float = 0.0) -> Frames:
    """A clip of 50 to 120 frames, (T, H, W, 3)."""
    count = int(rng.integers(50, 121))
    time = np.linspace(0, 1, count)
    places = np.cumsum(rng.normal(0, 1, (count, 2)), axis=0)
    kernel = np.ones(15) / 15
    smooth = np.stack([np.convolve(places[:, axis], kernel, mode="same") for axis in (0, 1)], axis=1)
    smooth = smooth - smooth.mean(axis=0)
    size = rng.uniform(0.5, 1.5) * np.array([HEIGHT / 8, WIDTH / 16])
    middle = rng.uniform(0.3, 0.7, 2) * [HEIGHT, WIDTH]
    colour = rng.uniform(0, 255, 3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for number in range(count):
        shift = int(pan * time[number] * (behind.shape[1] - WIDTH))
        picture = behind[:, shift : shift + WIDTH].copy()
        for part, wave in ((0, 0.0), (1, np.sin(6.3 * 2 * time[number]))):  # a body, and an arm that swings
            at = middle + smooth[number] * [4, 8] + np.array([-size[0] * 0.7 * part, size[1] * 1.5 * wave * part])
            inside = ((y - at[0]) / size[0]) ** 2 + ((x - at[1]) / size[1]) ** 2 < 1 - 0.6 * part
            picture[inside] = colour
        frames.append(np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255))
    return np.stack(frames).astype(np.uint8)


def write(path: Path, frames: Frames, *, codec: str = "libx264", crf: int = 20, rate: int = 25) -> None:
    """Encode frames as a video."""
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf)} if codec == "libx264" else {"qscale": "8"}
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _halved(frames: Frames) -> Frames:
    pooled = frames.reshape(len(frames), HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(2, 4))
    return pooled.astype(np.uint8)


def _middle(frames: Frames, share: float) -> Frames:
    first = int(len(frames) * (1 - share) / 2)
    return frames[first : len(frames) - first]


WAYS: dict[str, tuple[Callable[[Frames], Frames], dict[str, object]]] = {
    "encoded again (H.264, crf 36)": (lambda f: f, {"crf": 36}),
    "encoded again (MPEG-4, quantiser 8)": (lambda f: f, {"codec": "mpeg4"}),
    "half the size": (_halved, {"crf": 28}),
    "mirrored": (lambda f: f[:, :, ::-1], {"crf": 28}),
    "the middle half": (lambda f: _middle(f, 0.5), {"crf": 28}),
    "the middle quarter": (lambda f: _middle(f, 0.25), {"crf": 28}),
    "the second half, mirrored": (lambda f: f[len(f) // 2 :, :, ::-1], {"crf": 28}),
    "every second frame": (lambda f: f[::2], {"crf": 28, "rate": 12}),
    "backwards": (lambda f: f[::-1], {"crf": 28}),
    "brighter": (lambda f: np.clip(f * 1.2 + 10.0, 0, 255).astype(np.uint8), {"crf": 28}),
    "5 % cut off each side": (lambda f: f[:, 6:-6, 8:-8], {"crf": 28}),
}


def sets(rng: np.random.Generator, count: int) -> Iterator[tuple[str, list[Frames]]]:
    """The drawn clips by how they are filmed."""
    yield "own ground, still camera", [draw(rng, ground(rng)) for _ in range(count)]
    behind = ground(rng)
    yield "one ground, still camera", [draw(rng, behind) for _ in range(count)]
    yield "panning camera", [draw(rng, ground(rng, width=2 * WIDTH), pan=1.0) for _ in range(count)]


def thumbnails(path: Path, frames: Frames, **how: object) -> NDArray[np.uint8]:
    """What is compared of frames once they are encoded."""
    write(path, frames, **how)  # type: ignore[arg-type]
    return thumbnails_of(str(path))


def rates(folder: Path, clips: list[Frames]) -> tuple[int, int, dict[str, float]]:
    """False pairs and how many there could be, and by way of copying the share of copies that are missed."""
    path, count = folder / "clip.mp4", len(clips)
    originals = [thumbnails(path, frames) for frames in clips]
    missed, false = {}, 0
    for way, (change, how) in WAYS.items():
        found = same_among(originals + [thumbnails(path, change(frames), **how) for frames in clips])
        pairs = {(pair.first, pair.second) for pair in found}
        right = {(first, second) for first, second in pairs if second == first + count}
        missed[way] = 1 - len(right) / count
        false += len(pairs) - len(right)
    return false, len(WAYS) * (count * (2 * count - 1) - count), missed


def main() -> None:
    """Print the rates as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=60, help="in each set")
    arguments = parser.parse_args()
    for name, clips in sets(np.random.default_rng(arguments.seed), arguments.clips):
        with tempfile.TemporaryDirectory() as folder:
            false, pairs, missed = rates(Path(folder), clips)
        print(f"{name}: {false} of {pairs:,} other pairs found; copies missed:", flush=True)
        for way, share in missed.items():
            print(f"  {way:<40} {share:.0%}", flush=True)
    root = dataset.generate()
    paths = [str(root / path) for path in dataset.listing()["path"]]
    found = find_same_frames(paths, workers=usable_cores()).same
    print(f"tiny: {len(found)} of {len(paths) * (len(paths) - 1) // 2:,} pairs found")


if __name__ == "__main__":
    main()

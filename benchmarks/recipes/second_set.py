"""`motley`: a small second set of generated videos, unlike `tiny`, on which the training recipes are chosen as well.

    python -m benchmarks.recipes.second_set DIR        # 280 clips and their lists, about 10 seconds of one core

What tells its ten classes apart is mixed: appearance alone (a ball or a box does the same), motion alone (a ball jumps
or slides), the order of the frames (two discs meet or part, a bar rises or falls), and the kind of change (a star turns
or swells). Shapes, grounds, frame size, codec and lengths are others than in `tiny`; the camera looks through haze
(little contrast) and is noisy, where that of `tiny` dims every other line. A clip depends on nothing but its own name.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Layer = tuple[Floats, int]  # signed distance to a shape at each pixel, and which of the group's colours it has
Act = Callable[["Clip", float, Floats, Floats], list[Layer]]

NAME = "motley"
HEIGHT, WIDTH = 72, 96  # pixels; a frame spans -1..1 downwards and -4/3..4/3 to the right
TRAIN_GROUPS, TEST_GROUPS, CLIPS_A_GROUP = 6, 1, 4
CONTRAST, HAZE, NOISE = 0.35, 0.62, 0.05  # of the camera: what is left of the contrast, where to, and its grain


@dataclass(frozen=True)
class Clip:
    """What is drawn at random for a clip: place, size, how far, how often, where it begins, and which way round."""

    x: float
    y: float
    radius: float
    way: float
    beats: float
    phase: float
    angle: float
    sign: float


def ball(x: Floats, y: Floats, radius: float) -> Floats:
    """A disc."""
    return np.hypot(x, y) - radius


def box(x: Floats, y: Floats, radius: float) -> Floats:
    """A square of about the disc's area."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.88 * radius


def star(x: Floats, y: Floats, radius: float) -> Floats:
    """Three blades of unequal length, so that a turn can be seen."""
    angle = np.arctan2(y, x)
    return np.hypot(x, y) - radius * (0.75 + 0.4 * np.cos(3 * angle) + 0.3 * np.cos(angle))


def jumps(shape: Callable[[Floats, Floats, float], Floats]) -> Act:
    """Up and down again, from the same floor."""

    def act(clip: Clip, time: float, x: Floats, y: Floats) -> list[Layer]:
        height = clip.way * abs(np.sin(np.pi * (clip.beats * time + clip.phase)))
        return [(shape(x - clip.x, y - clip.y - 0.5 * clip.way + height, clip.radius), 0)]

    return act


def slides(shape: Callable[[Floats, Floats, float], Floats]) -> Act:
    """From one side to the other, whichever."""

    def act(clip: Clip, time: float, x: Floats, y: Floats) -> list[Layer]:
        place = clip.x + clip.sign * 1.4 * clip.way * (time - 0.5)
        return [(shape(x - place, y - clip.y, clip.radius), 0)]

    return act


def meets(backwards: bool) -> Act:
    """Two discs come together along a line of any direction; backwards they part."""

    def act(clip: Clip, time: float, x: Floats, y: Floats) -> list[Layer]:
        apart = 0.7 * clip.radius + 0.8 * clip.way * (time if backwards else 1 - time)
        dx, dy = apart * np.cos(clip.angle), apart * np.sin(clip.angle)
        size = 0.7 * clip.radius
        return [
            (ball(x - clip.x - dx, y - clip.y - dy, size), 0),
            (ball(x - clip.x + dx, y - clip.y + dy, size), 1),
        ]

    return act


def rises(backwards: bool) -> Act:
    """A bar grows upwards from its foot; backwards it falls."""

    def act(clip: Clip, time: float, x: Floats, y: Floats) -> list[Layer]:
        height = 0.2 + 1.1 * clip.way * (1 - time if backwards else time)
        foot = clip.y + 0.6
        bar = np.maximum(np.abs(x - clip.x) - 0.6 * clip.radius, np.abs(y - foot + height / 2) - height / 2)
        return [(bar, 0)]

    return act


def turns(clip: Clip, time: float, x: Floats, y: Floats) -> list[Layer]:
    """A star turns about itself, whichever way."""
    angle = clip.angle + clip.sign * 3.0 * clip.way * time
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = x - clip.x, y - clip.y
    return [(star(x * cos + y * sin, y * cos - x * sin, clip.radius), 0)]


def swells(clip: Clip, time: float, x: Floats, y: Floats) -> list[Layer]:
    """A star grows and shrinks by turns."""
    size = clip.radius * (1 + 0.45 * np.sin(2 * np.pi * (clip.beats * time + clip.phase)))
    cos, sin = np.cos(clip.angle), np.sin(clip.angle)
    x, y = x - clip.x, y - clip.y
    return [(star(x * cos + y * sin, y * cos - x * sin, size), 0)]


ACTS: dict[str, Act] = {
    "BallJumps": jumps(ball),
    "BoxJumps": jumps(box),
    "BallSlides": slides(ball),
    "BoxSlides": slides(box),
    "PairMeets": meets(False),
    "PairParts": meets(True),
    "BarRises": rises(False),
    "BarFalls": rises(True),
    "StarTurns": turns,
    "StarSwells": swells,
}


def render(name: str, group: str, act: Act) -> NDArray[np.uint8]:
    """Draw one clip: (T, HEIGHT, WIDTH, 3), T from 20 to 40.

    Args:
        name: the clip, the only source of chance beside its group.
        group: sets colours and ground.
        act: what happens.
    """
    style, rng = _generator(group), _generator(name)
    paints = style.uniform(0.0, 1.0, (2, 3))
    ground = _ground(paints, style)
    clip = Clip(
        x=rng.uniform(-0.45, 0.45),
        y=rng.uniform(-0.25, 0.25),
        radius=rng.uniform(0.24, 0.4),
        way=rng.uniform(0.6, 1.0),
        beats=rng.uniform(1.2, 2.4),
        phase=rng.uniform(0.0, 1.0),
        angle=rng.uniform(-np.pi, np.pi),
        sign=rng.choice([-1.0, 1.0]),
    )
    count = int(rng.integers(20, 41))
    drift = rng.uniform(-0.12, 0.12, 2)  # of the camera over the clip
    frames = [_frame(clip, act, time, ground, paints, drift) for time in np.linspace(0.0, 1.0, count)]
    seen = HAZE + CONTRAST * (np.stack(frames) - 0.5) + rng.normal(0.0, NOISE, (count, HEIGHT, WIDTH, 1))
    return (255 * np.clip(seen, 0.0, 1.0)).astype(np.uint8)


def _frame(clip: Clip, act: Act, time: float, ground: Floats, paints: Floats, drift: Floats) -> Floats:
    rows = (np.arange(HEIGHT) + 0.5) / HEIGHT * 2 - 1
    columns = ((np.arange(WIDTH) + 0.5) / WIDTH * 2 - 1) * WIDTH / HEIGHT
    x, y = np.meshgrid(columns - drift[0] * time, rows - drift[1] * time)
    image = ground.copy()
    for distance, colour in act(clip, time, x, y):
        cover = np.clip(0.5 - distance * HEIGHT / 2, 0.0, 1.0)[..., None]
        image += cover * (paints[colour] - image)
    return image


def _ground(paints: Floats, style: np.random.Generator) -> Floats:
    """Soft blots on a colour far from what is drawn on it, (HEIGHT, WIDTH, 3)."""
    tries = style.uniform(0.0, 1.0, (32, 3))
    base = tries[np.linalg.norm(tries[:, None] - paints, axis=-1).min(axis=1).argmax()]
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / HEIGHT
    image = np.broadcast_to(base, (HEIGHT, WIDTH, 3)).copy()
    for _ in range(6):
        across, down, size = style.uniform(0, WIDTH / HEIGHT), style.uniform(0, 1), style.uniform(0.08, 0.3)
        blot = np.exp(-((x - across) ** 2 + (y - down) ** 2) / (2 * size**2))[..., None]
        image += 0.35 * blot * (style.uniform(0.0, 1.0, 3) - image)
    return image


def _generator(name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{NAME}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def encode(path: Path, frames: NDArray[np.uint8], *, rate: int) -> None:
    """Write frames (T, H, W, 3) as MPEG-4 in AVI."""
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.bit_rate = 1_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_lists(folder: Path) -> dict[str, str]:
    """Write the lists of the set, and no clip.

    Args:
        folder: where to; made if it is not there.

    Returns:
        The data set as `FewShotVideoDataModule` and grids take it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, numbers in (("train", range(TRAIN_GROUPS)), ("test", range(TRAIN_GROUPS, TRAIN_GROUPS + TEST_GROUPS))):
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "label", "group"])
            for label, number, take in itertools.product(ACTS, numbers, range(CLIPS_A_GROUP)):
                group = f"{label}_g{number + 1:02d}"
                writer.writerow([f"{label}/{group}_c{take + 1:02d}.avi", label, group])
    return {"name": NAME, "root": str(folder.absolute()), "train": "train.csv", "test": "test.csv"}


def make(folder: Path) -> dict[str, str]:
    """Write the lists, and make those of the clips that are not there yet.

    Args and returns: as `write_lists`.
    """
    dataset = write_lists(folder)
    for part in ("train", "test"):
        with (folder / f"{part}.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                path = folder / row["path"]
                if not path.exists():
                    path.parent.mkdir(exist_ok=True)
                    temporary = path.with_suffix(".tmp")
                    encode(temporary, render(row["path"], row["group"], ACTS[row["label"]]), rate=25)
                    temporary.replace(path)
    return dataset


def main() -> None:
    """Make the set."""
    parser = argparse.ArgumentParser(description="Make the second set of generated videos.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    print(make(parser.parse_args().folder))


if __name__ == "__main__":
    main()

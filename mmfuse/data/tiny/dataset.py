"""The `tiny` data set: twelve actions that only the order of the frames tells apart, drawn and encoded on the spot.

The classes are six pairs of opposites. The second class of a pair is the first one's process run backwards, with draws
of its own: frame for frame, and as a set of frames, both look alike, so only a model that knows the order can tell them
apart. Everything else is drawn at random for every clip: shape, colour, place, size, turn, ground, clutter, light,
speed, length, frame rate, camera jitter, noise. Four clips share a source group: one shape in one colour on one ground.
The camera dims every other line, which the stills that the towers were pretrained on do not show.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import av
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmfuse.data.tiny.rendering import Floats, Pictures, random_pictures, render_pictures
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import cache_folder, write_atomically

VERSION: Final = 4  # another number for whatever changes the pixels: it names the folder and seeds the draws
SIZE: Final = 64
TRAIN_GROUPS: Final = 8
TEST_GROUPS: Final = 5
CLIPS_A_GROUP: Final = 4
DIMMED: Final = 0.3  # what is left of the light in every other line
_STAMP: Final = "tiny.version"
# Without mbtree: with it, libx264 on processors with AVX-512 gives frames this small other bytes from run to run.
_CODEC: Final = {"preset": "veryfast", "crf": "18", "x264-params": "mbtree=0"}


@dataclass(frozen=True)
class Pose:
    """Where the shape is at each of a clip's T frames, each (T,), in the units of `mmfuse.data.tiny.rendering`."""

    x: Floats
    y: Floats
    radius: Floats
    angle: Floats
    opacity: Floats


Report = Callable[[int, int], None]
Motion = Callable[[Pose, Floats, np.random.Generator], Pose]


def _travel_right(rest: Pose, progress: Floats, rng: np.random.Generator) -> Pose:
    way = rng.uniform(0.5, 1.1)
    middle = rng.uniform(way / 2 - 0.8, 0.8 - way / 2)
    return replace(rest, x=middle + way * (progress - 0.5))


def _travel_up(rest: Pose, progress: Floats, rng: np.random.Generator) -> Pose:
    sideways = _travel_right(rest, progress, rng)
    return replace(rest, y=-sideways.x)


def _turn_clockwise(rest: Pose, progress: Floats, rng: np.random.Generator) -> Pose:
    return replace(rest, angle=_mean_angle(rng) + _sweep(rng) * (progress - 0.5))


def _grow(rest: Pose, progress: Floats, rng: np.random.Generator) -> Pose:
    factor = rng.uniform(1.8, 2.6)
    return replace(rest, radius=rest.radius * factor ** (progress - 0.5))


def _circle_clockwise(rest: Pose, progress: Floats, rng: np.random.Generator) -> Pose:
    orbit = rng.uniform(0.3, 0.5)
    # On average the arc passes over the top: its middle differs from clip to clip, but not without bound.
    phase = rng.uniform(-1.2, 1.2) + rng.uniform(2.6, 4.8) * (progress - 0.5)
    centre_x, centre_y = rng.uniform(-0.25, 0.25, 2)
    return replace(rest, x=centre_x + orbit * np.sin(phase), y=centre_y - orbit * np.cos(phase))


def _appear(rest: Pose, progress: Floats, rng: np.random.Generator) -> Pose:
    first, last = rng.uniform(0.0, 0.2), rng.uniform(0.65, 1.0)
    return replace(rest, opacity=first + (last - first) * progress)


def _mean_angle(rng: np.random.Generator) -> float:
    return rng.uniform(-1.2, 1.2)


def _sweep(rng: np.random.Generator) -> float:
    return rng.uniform(1.7, 3.5)


@dataclass(frozen=True)
class Action:
    """A class: its official name, how it moves, and whether that runs backwards."""

    name: str
    motion: Motion
    backwards: bool


ACTIONS: Final = (
    Action("MoveRight", _travel_right, False),
    Action("MoveLeft", _travel_right, True),
    Action("MoveUp", _travel_up, False),
    Action("MoveDown", _travel_up, True),
    Action("TurnClockwise", _turn_clockwise, False),
    Action("TurnCounterclockwise", _turn_clockwise, True),
    Action("Grow", _grow, False),
    Action("Shrink", _grow, True),
    Action("CircleClockwise", _circle_clockwise, False),
    Action("CircleCounterclockwise", _circle_clockwise, True),
    Action("Appear", _appear, False),
    Action("FadeAway", _appear, True),
)


def listing() -> pd.DataFrame:
    """Every clip of the data set, without making any.

    Returns:
        624 rows: clip (id), label (from 0), class (official name), group, part ("train" or "test"), path (below
        the root).
    """
    rows = [
        {
            "clip": f"{group}_c{number:02d}",
            "label": label,
            "class": action.name,
            "group": group,
            "part": part,
            "path": f"{action.name}/{group}_c{number:02d}.mp4",
        }
        for label, action in enumerate(ACTIONS)
        for group, part in _groups(action)
        for number in range(1, CLIPS_A_GROUP + 1)
    ]
    return pd.DataFrame(rows)


def _groups(action: Action) -> Iterator[tuple[str, str]]:
    for number in range(1, TRAIN_GROUPS + TEST_GROUPS + 1):
        yield f"{action.name}_g{number:02d}", "train" if number <= TRAIN_GROUPS else "test"


def default_root() -> Path:
    """The folder in the user's cache that the version of the data set names."""
    return cache_folder() / f"tiny-v{VERSION}"


def generate(folder: Path | None = None, *, report: Report | None = None) -> Path:
    """Make the clips that are not there yet, and say where they are.

    Each file appears whole or not at all, and depends on nothing but its own name: a generation that was killed is
    finished by the next call, and several processes may call at once.

    Args:
        folder: where to; by default `default_root`.
        report: told now and then how many clips are made, of how many.

    Returns:
        The root that the paths of `listing` start from.

    Raises:
        MmfuseError: the folder holds something else, or it cannot be written.
    """
    root = default_root() if folder is None else Path(folder)
    table = listing()
    try:
        if all((root / path).exists() for path in table["path"]) and _stamp(root) == str(VERSION):
            return root
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root):
            _claim(root)
            _make_missing(root, table, report or (lambda done, total: None))
    except OSError as error:
        raise MmfuseError(
            f"the tiny data set cannot be written to {root}: {error.strerror or error}; "
            "set MMFUSE_CACHE to a folder that can be written"
        ) from error
    return root


def _stamp(root: Path) -> str | None:
    file = root / _STAMP
    return file.read_text().strip() if file.exists() else None


def _claim(root: Path) -> None:
    """Mark the folder as this version's, unless it is something else's."""
    found = _stamp(root)
    if found is None and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise MmfuseError(f"{root} holds other files; name a new or an empty folder for the tiny data set")
    if found not in (None, str(VERSION)):
        raise MmfuseError(f"{root} holds version {found} of the tiny data set, not {VERSION}; name another folder")
    write_atomically(root / _STAMP, f"{VERSION}\n")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one process generate while the others wait; a killed process lets go by itself."""
    try:
        import fcntl
    except ImportError:  # no such lock on this system: work may be done twice, with the same result
        yield
        return
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_missing(root: Path, table: pd.DataFrame, report: Report) -> None:
    missing = table[[not (root / path).exists() for path in table["path"]]]
    for name in missing["class"].unique():
        (root / name).mkdir(exist_ok=True)

    def make(row: tuple[str, str, int, str]) -> None:
        clip, group, label, path = row
        frames, rate = render(clip=clip, group=group, action=ACTIONS[label])
        _encode(root / path, frames, rate=rate)

    # Threads, not processes: drawing and encoding release the interpreter, and a script needs no main guard.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        rows = zip(missing["clip"], missing["group"], missing["label"], missing["path"], strict=True)
        for number, _ in enumerate(pool.map(make, rows), start=1):
            report(number, len(missing))


def render(*, clip: str, group: str, action: Action) -> tuple[NDArray[np.uint8], int]:
    """Draw one clip.

    Args:
        clip: its id, the only source of chance beside `group`.
        group: its source group, which sets shape, colour and ground.
        action: what happens in it.

    Returns:
        (T, 64, 64, 3) uint8 frames in order, 21 to 27 of them, and their rate in frames a second.
    """
    rng = _generator(clip)
    rate = int(rng.choice([12, 15, 20, 25]))
    frames = choreograph(_scene(group, rng), action, rng=rng)
    return scan_lines(render_pictures(frames, size=SIZE, rng=rng)), rate


def scan_lines(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames as the data set's camera sees them: every other line, the first one included, is dimmed.

    The towers were pretrained on stills without such lines. As with public towers and anybody's own videos, something
    systematic lies between the two, and adapting a tower has something to mend.

    Args:
        frames: (T, H, W, 3).
    """
    seen = frames.copy()
    seen[:, ::2] = (DIMMED * frames[:, ::2]).astype(np.uint8)
    return seen


def choreograph(scene: Pictures, action: Action, *, rng: np.random.Generator) -> Pictures:
    """Play an action in a scene.

    Args:
        scene: one picture; where its shape is does not matter.
        action: what the shape does.
        rng: sets place, size, turn, speed, jitter and the number of frames.

    Returns:
        The T pictures of the clip, in order.
    """
    # Odd, so that the middle frame is as far from the start as from the end: even numbers favour one direction.
    count = int(rng.choice([21, 23, 25, 27]))
    pose = action.motion(_rest(count, rng), _progress(count, rng), rng)
    frames = scene.repeated(count)
    frames = replace(
        frames,
        x=np.asarray(pose.x + _sway(count, 0.04, rng), np.float32),
        y=np.asarray(pose.y + _sway(count, 0.04, rng), np.float32),
        radius=np.asarray(pose.radius * (1.0 + _sway(count, 0.05, rng)), np.float32),
        angle=np.asarray(pose.angle + _sway(count, 0.12, rng), np.float32),
        opacity=np.asarray(pose.opacity, np.float32),
        camera=np.stack([_sway(count, 0.04, rng), _sway(count, 0.04, rng)], axis=-1),
        brightness=frames.brightness * (1.0 + _sway(count, 0.05, rng)),
    )
    return frames.rows(slice(None, None, -1)) if action.backwards else frames


def _generator(name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"tiny-v{VERSION}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _scene(group: str, rng: np.random.Generator) -> Pictures:
    """The group's shape, colour and ground with the clip's own clutter, light and noise: one picture."""
    own = random_pictures(1, rng=rng)
    style = random_pictures(1, rng=_generator(group))
    return replace(
        own,
        shape=style.shape,
        colour=style.colour,
        paint=style.paint,
        ground=style.ground,
        ground_paint=style.ground_paint,
        waves=style.waves
        + np.array([0.15, 0.3, np.pi], np.float32) * rng.uniform(-1, 1, style.waves.shape).astype(np.float32),
    )


def _rest(count: int, rng: np.random.Generator) -> Pose:
    """The pose of a shape that does nothing, for `count` frames; the range is what the motions together cover."""
    x, y = rng.uniform(-0.6, 0.6, 2)
    radius = np.exp(rng.uniform(np.log(0.28), np.log(0.46)))
    angle = _mean_angle(rng) + _sweep(rng) * rng.uniform(-0.5, 0.5)
    opacity = rng.uniform(0.3, 1.0) if rng.random() < 0.3 else 1.0
    still = [np.full(count, value, np.float32) for value in (x, y, radius, angle, opacity)]
    return Pose(*still)


def _progress(count: int, rng: np.random.Generator) -> Floats:
    """How far the motion is at each frame, 0..1: a pause, a run that may slow down or speed up, a pause."""
    begin, end = rng.uniform(0.0, 0.3), rng.uniform(0.7, 1.0)
    even = np.clip((np.linspace(0.0, 1.0, count) - begin) / (end - begin), 0.0, 1.0)
    return np.asarray(even ** np.exp(rng.uniform(-0.7, 0.7)), np.float32)


def _sway(count: int, size: float, rng: np.random.Generator) -> Floats:
    """A slow wobble about 0 with the same law forwards and backwards in time: waves of random phase."""
    time = np.linspace(0.0, 1.0, count)[:, None]
    waves = np.sin(2 * np.pi * rng.uniform(0.5, 4.0, 3) * time + rng.uniform(-np.pi, np.pi, 3))
    return np.asarray(size * waves.mean(axis=1) * np.sqrt(2), np.float32)


def _encode(path: Path, frames: NDArray[np.uint8], *, rate: int) -> None:
    """Write frames (T, H, W, 3) as H.264 in MP4, under a temporary name first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with av.open(str(temporary), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=rate, options=_CODEC)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.thread_count = 1  # one thread: the same bytes everywhere, and clips are the unit of parallel work
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

"""Draws small pictures of one coloured shape on a cluttered, textured ground: stills, and the frames of `tiny`.

Everything is a batch: `Pictures` holds one row a picture, `draw` paints all rows at once. A clip is a batch whose rows
differ only in what moves. Shapes are signed distances, so edges are smooth and places are continuous, not whole pixels.

Coordinates: the frame spans -1..1 in x (right) and y (down); angles in radians, clockwise as seen; 0 is upright.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Distance = Callable[[Floats, Floats], Floats]

CLUTTER: Final = 2  # pieces of clutter a picture has room for; opacity 0 hides one
WAVES: Final = 3  # plane waves that a ground's texture is made of


def _box(x: Floats, y: Floats, left: float, top: float, right: float, bottom: float) -> Floats:
    return np.maximum(
        np.abs(x - (left + right) / 2) - (right - left) / 2, np.abs(y - (top + bottom) / 2) - (bottom - top) / 2
    )


def _disc(x: Floats, y: Floats, centre_y: float, radius: float) -> Floats:
    return np.asarray(np.sqrt(x * x + (y - centre_y) ** 2) - radius, np.float32)


def _cone(x: Floats, y: Floats, tip: float, base: float, half_width: float) -> Floats:
    """An isosceles triangle on the upright axis: tip at y = `tip`, base at y = `base` below it."""
    slope = half_width / (base - tip)
    flank = (np.abs(x) - (y - tip) * slope) / float(np.hypot(1.0, slope))
    return np.maximum(flank, y - base)


# No shape looks like itself after any turn short of a full one: a turn can always be told from its reverse.
SHAPES: Final[dict[str, Distance]] = {
    "arrow": lambda x, y: np.minimum(_cone(x, y, -1.0, 0.0, 0.8), _box(x, y, -0.28, -0.05, 0.28, 0.95)),
    "wedge": lambda x, y: _cone(x, y, -1.0, 0.8, 0.65),
    "drop": lambda x, y: np.minimum(_disc(x, y, 0.35, 0.6), _cone(x, y, -1.0, 0.14, 0.56)),
    "half moon": lambda x, y: np.maximum(_disc(x, y, 0.35, 0.95), y - 0.35),
    "letter T": lambda x, y: np.minimum(_box(x, y, -0.8, -0.9, 0.8, -0.4), _box(x, y, -0.25, -0.5, 0.25, 0.9)),
    "letter L": lambda x, y: np.minimum(_box(x, y, -0.65, -0.9, -0.15, 0.9), _box(x, y, -0.4, 0.4, 0.7, 0.9)),
    "mushroom": lambda x, y: np.minimum(np.maximum(_disc(x, y, 0.0, 0.9), y), _box(x, y, -0.28, -0.1, 0.28, 0.9)),
    "key": lambda x, y: np.minimum(_disc(x, y, -0.5, 0.48), _box(x, y, -0.16, -0.2, 0.16, 0.95)),
}
SHAPE_NAMES: Final = tuple(SHAPES)

COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.88, 0.16, 0.14),
    "orange": (0.96, 0.56, 0.10),
    "yellow": (0.95, 0.88, 0.20),
    "green": (0.15, 0.68, 0.22),
    "blue": (0.16, 0.32, 0.88),
    "purple": (0.56, 0.20, 0.74),
    "white": (0.97, 0.97, 0.97),
    "black": (0.05, 0.05, 0.06),
}
COLOUR_NAMES: Final = tuple(COLOURS)

GROUND_NAMES: Final = ("plain", "striped", "chequered", "cloudy")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A batch of N pictures, one row each. Distances are in frame units (the frame is 2 wide), colours in 0..1.

    Attributes:
        shape: (N,) index into `SHAPE_NAMES`.
        colour: (N,) index into `COLOUR_NAMES`; `paint`: (N, 3) the shade of it that is drawn.
        x, y, radius, angle, opacity: (N,) where the shape is, its half extent, its turn, how solid it is.
        ground: (N,) index into `GROUND_NAMES`; `ground_paint`: (N, 2, 3) the two colours it mixes.
        waves: (N, WAVES, 3) angle, cycles a frame and phase of the texture's plane waves.
        clutter: (N, CLUTTER, 6) x, y, half width, half height, rounding, opacity; `clutter_paint`: (N, CLUTTER, 3).
        camera: (N, 2) how far the whole scene is shifted, in frame units.
        brightness: (N,) factor on all colours; `noise`: (N,) standard deviation of the sensor's grey noise.
    """

    shape: Integers
    colour: Integers
    paint: Floats
    x: Floats
    y: Floats
    radius: Floats
    angle: Floats
    opacity: Floats
    ground: Integers
    ground_paint: Floats
    waves: Floats
    clutter: Floats
    clutter_paint: Floats
    camera: Floats
    brightness: Floats
    noise: Floats

    def __len__(self) -> int:
        return len(self.shape)

    def rows(self, index: Integers | slice) -> Pictures:
        """The pictures at `index`, in that order."""
        return replace(self, **{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def repeated(self, times: int) -> Pictures:
        """Each picture `times` times over: the standing start of a clip of so many frames."""
        return self.rows(np.repeat(np.arange(len(self)), times))


def render_pictures(pictures: Pictures, *, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint every picture.

    Args:
        pictures: N of them.
        size: side of the square frame in pixels.
        rng: where the sensor noise comes from.

    Returns:
        (N, size, size, 3) uint8, RGB.
    """
    x, y = _pixel_grid(pictures.camera, size)
    pixel = 2.0 / size
    image = _ground(pictures, x, y)
    for piece in range(CLUTTER):
        place = pictures.clutter[:, piece]
        _paint_over(image, _rounded_box(x, y, place), pixel, pictures.clutter_paint[:, piece], place[:, 5])
    _paint_over(image, _actor(pictures, x, y), pixel, pictures.paint, pictures.opacity)
    image *= pictures.brightness[:, None, None]
    grain = rng.standard_normal(size=x.shape, dtype=np.float32)
    image += (grain * pictures.noise[:, None])[:, None]
    np.clip(image, 0.0, 1.0, out=image)
    planes = (image * 255.0 + 0.5).astype(np.uint8).reshape(len(pictures), 3, size, size)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _pixel_grid(camera: Floats, size: int) -> tuple[Floats, Floats]:
    """Scene coordinates of the pixels' centres, each (N, size * size)."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    x = np.tile(centres, size)[None] - camera[:, :1]
    y = np.repeat(centres, size)[None] - camera[:, 1:]
    return x, y


def _ground(pictures: Pictures, x: Floats, y: Floats) -> Floats:
    """The textured ground, (N, 3, pixels): two colours mixed by plane waves in the way of its kind."""
    mix = np.empty_like(x)
    for kind in np.unique(pictures.ground):
        rows = np.flatnonzero(pictures.ground == kind)
        mix[rows] = _texture(GROUND_NAMES[int(kind)], x[rows], y[rows], pictures.waves[rows])
    first, second = pictures.ground_paint[:, 0, :, None], pictures.ground_paint[:, 1, :, None]
    return np.asarray(first + mix[:, None] * (second - first), dtype=np.float32)


def _texture(name: str, x: Floats, y: Floats, waves: Floats) -> Floats:
    """How much of the second colour each pixel has, 0..1, (N, pixels)."""
    angle, cycles, phase = waves[:, :, 0], waves[:, :, 1] * np.float32(np.pi), waves[:, :, 2]
    along_x, along_y = np.cos(angle) * cycles, np.sin(angle) * cycles

    def wave(i: int) -> Floats:
        return np.asarray(np.sin(x * along_x[:, i, None] + y * along_y[:, i, None] + phase[:, i, None]), np.float32)

    if name == "plain":  # a slow gradient across the frame
        tilt = x * np.cos(angle[:, :1]) + y * np.sin(angle[:, :1])
        return np.asarray(np.clip(0.5 + 0.35 * tilt, 0.0, 1.0), np.float32)
    if name == "striped":
        return np.asarray(np.clip(0.5 + 2.5 * wave(0), 0.0, 1.0), np.float32)
    if name == "chequered":
        across = np.sin(-x * along_y[:, 0, None] + y * along_x[:, 0, None] + phase[:, 1, None])
        return np.asarray(np.clip(0.5 + 3.0 * wave(0) * across, 0.0, 1.0), np.float32)
    cloud = wave(0) + wave(1) + wave(2)
    return np.asarray(np.clip(0.5 + 0.3 * cloud, 0.0, 1.0), np.float32)


def _rounded_box(x: Floats, y: Floats, place: Floats) -> Floats:
    """Signed distance to an upright box with rounded corners (a disc where its half extents are 0)."""
    beyond_x = np.maximum(np.abs(x - place[:, 0, None]) - place[:, 2, None], 0.0)
    beyond_y = np.maximum(np.abs(y - place[:, 1, None]) - place[:, 3, None], 0.0)
    return np.asarray(np.sqrt(beyond_x**2 + beyond_y**2) - place[:, 4, None], np.float32)


def _actor(pictures: Pictures, x: Floats, y: Floats) -> Floats:
    """Signed distance to the shape, in frame units, (N, pixels)."""
    cos, sin = np.cos(pictures.angle)[:, None], np.sin(pictures.angle)[:, None]
    away_x, away_y = x - pictures.x[:, None], y - pictures.y[:, None]
    radius = pictures.radius[:, None]
    own_x, own_y = (away_x * cos + away_y * sin) / radius, (away_y * cos - away_x * sin) / radius
    distance = np.empty_like(x)
    for kind in np.unique(pictures.shape):
        rows = np.flatnonzero(pictures.shape == kind)
        here = (np.asarray(own_x[rows], np.float32), np.asarray(own_y[rows], np.float32))
        distance[rows] = SHAPES[SHAPE_NAMES[int(kind)]](*here)
    return distance * radius


def _paint_over(image: Floats, distance: Floats, pixel: float, paint: Floats, opacity: Floats) -> None:
    """Lay a colour over `image` (N, 3, pixels), in place, where the distance is negative; edges are a pixel soft."""
    cover = np.clip(0.5 - distance / np.float32(pixel), 0.0, 1.0) * opacity[:, None]
    image += cover[:, None] * (paint[:, :, None] - image)


def random_pictures(count: int, *, rng: np.random.Generator) -> Pictures:
    """Stills with everything drawn at random: shape, colour, place, size, turn, opacity, ground, clutter, light, noise.

    Args:
        count: how many.
        rng: the only source of chance.
    """
    uniform = _Uniform(rng)
    shape = rng.integers(len(SHAPES), size=count)
    colour = rng.integers(len(COLOURS), size=count)
    paint = shades(colour, rng=rng)
    ground_paint = _ground_paint(paint, rng=rng)
    return Pictures(
        shape=shape,
        colour=colour,
        paint=paint,
        x=uniform(-0.75, 0.75, count),
        y=uniform(-0.75, 0.75, count),
        radius=np.exp(uniform(float(np.log(0.2)), float(np.log(0.62)), count)),
        angle=uniform(-np.pi, np.pi, count),
        opacity=np.where(rng.random(count) < 0.3, uniform(0.15, 1.0, count), 1.0).astype(np.float32),
        ground=rng.integers(len(GROUND_NAMES), size=count),
        ground_paint=ground_paint,
        waves=np.stack(
            [
                uniform(-np.pi, np.pi, (count, WAVES)),
                uniform(1.0, 3.5, (count, WAVES)),
                uniform(-np.pi, np.pi, (count, WAVES)),
            ],
            axis=-1,
        ),
        **_clutter(count, ground_paint, rng=rng),
        camera=np.zeros((count, 2), np.float32),
        brightness=uniform(0.75, 1.15, count),
        noise=uniform(0.0, 0.03, count),
    )


class _Uniform:
    """Uniform 32-bit numbers from one generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def __call__(self, low: float, high: float, shape: int | tuple[int, ...]) -> Floats:
        return np.asarray(self._rng.uniform(low, high, shape), np.float32)


def shades(colour: Integers, *, rng: np.random.Generator) -> Floats:
    """A shade near each named colour: (N,) indices into `COLOUR_NAMES` -> (N, 3) in 0..1."""
    named = np.asarray(list(COLOURS.values()), np.float32)[colour]
    return np.asarray(np.clip(named + rng.normal(0.0, 0.04, named.shape), 0.0, 1.0), np.float32)


def _ground_paint(paint: Floats, *, rng: np.random.Generator) -> Floats:
    """Two muted colours a picture, (N, 2, 3), both clearly unlike the shape's own (N, 3)."""
    count = len(paint)
    grey = rng.uniform(0.12, 0.88, (count, 16, 1))
    tries = np.clip(grey + rng.normal(0.0, 0.07, (count, 16, 3)), 0.0, 1.0).astype(np.float32)
    apart = np.linalg.norm(tries - paint[:, None], axis=-1)
    # The first two candidates that stand out; of 16 there are all but surely two, else the two farthest.
    order = np.argsort(np.where(apart > 0.55, np.arange(16)[None], 32.0 - apart), axis=1, kind="stable")[:, :2]
    pair = np.take_along_axis(tries, order[:, :, None], axis=1)
    contrast = np.asarray(rng.uniform(0.05, 0.35, (count, 1)), np.float32)
    pair[:, 1] = pair[:, 0] + contrast * (pair[:, 1] - pair[:, 0])
    return pair


def _clutter(count: int, ground_paint: Floats, *, rng: np.random.Generator) -> dict[str, Floats]:
    """Up to `CLUTTER` discs, boxes and bars a picture, in colours between the ground's and anything."""
    uniform = _Uniform(rng)
    many = (count, CLUTTER)
    shown = rng.random(many) < 0.6
    place = np.stack(
        [
            uniform(-1.0, 1.0, many),
            uniform(-1.0, 1.0, many),
            uniform(0.0, 0.14, many),
            uniform(0.0, 0.14, many),
            uniform(0.03, 0.09, many),
            np.where(shown, uniform(0.4, 1.0, many), 0.0).astype(np.float32),
        ],
        axis=-1,
    )
    near = ground_paint[:, rng.integers(2)][:, None]
    strange = uniform(0.0, 1.0, (*many, 3))
    return {"clutter": place, "clutter_paint": np.asarray(0.6 * near + 0.4 * strange, np.float32)}

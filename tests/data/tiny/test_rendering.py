from dataclasses import fields, replace

import numpy as np
import pytest

from mmfuse.data.tiny.rendering import CLUTTER, SHAPE_NAMES, SHAPES, Pictures, random_pictures, render_pictures


def _alone(pictures: Pictures) -> Pictures:
    """The same pictures without clutter, noise and texture, so that only the shape differs from the ground."""
    clutter = pictures.clutter.copy()
    clutter[:, :, 5] = 0
    flat = np.repeat(pictures.ground_paint[:, :1], 2, axis=1)
    dark = np.ones_like(pictures.brightness)
    return replace(
        pictures,
        clutter=clutter,
        ground_paint=flat,
        noise=0 * dark,
        brightness=dark,
        opacity=dark,
    )


def _mask(pictures: Pictures, size: int = 64) -> np.ndarray:
    """(N, size, size) how much of each pixel the shape covers."""
    shown = render_pictures(pictures, size=size, rng=np.random.default_rng(0)).astype(float)
    hidden = render_pictures(
        replace(pictures, opacity=0 * pictures.opacity), size=size, rng=np.random.default_rng(0)
    ).astype(float)
    whole = np.linalg.norm(255 * (pictures.paint - pictures.ground_paint[:, 0]), axis=-1)
    return np.linalg.norm(shown - hidden, axis=-1) / whole[:, None, None]


def _one_of_each(**where: float) -> Pictures:
    pictures = _alone(random_pictures(len(SHAPES), rng=np.random.default_rng(3)))
    values = {"x": 0.0, "y": 0.0, "radius": 0.5, "angle": 0.0} | where
    moved = {name: np.full(len(pictures), value, np.float32) for name, value in values.items()}
    return replace(pictures, shape=np.arange(len(SHAPES)), **moved)


def test_stills_are_deterministic_bytes_of_the_asked_size() -> None:
    first = render_pictures(random_pictures(5, rng=np.random.default_rng(1)), size=48, rng=np.random.default_rng(2))
    again = render_pictures(random_pictures(5, rng=np.random.default_rng(1)), size=48, rng=np.random.default_rng(2))
    assert first.shape == (5, 48, 48, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert len({frame.tobytes() for frame in first}) == 5


def test_a_shape_is_where_it_is_said_to_be() -> None:
    here, there = _mask(_one_of_each()), _mask(_one_of_each(x=0.25, y=-0.25))
    # A quarter of a frame unit is 8 of 64 pixels: right, and up because y grows downwards.
    shifted = np.roll(here, (-8, 8), axis=(1, 2))
    assert np.abs(there - shifted).max() < 0.05


def test_half_the_radius_covers_a_quarter_of_the_area() -> None:
    large, small = _mask(_one_of_each(radius=0.8)), _mask(_one_of_each(radius=0.4))
    assert small.sum((1, 2)) / large.sum((1, 2)) == pytest.approx(np.full(len(SHAPES), 0.25), abs=0.02)


def test_a_positive_angle_turns_clockwise() -> None:
    upright, turned = _mask(_one_of_each()), _mask(_one_of_each(angle=np.pi / 2))
    assert np.abs(turned - np.rot90(upright, -1, axes=(1, 2))).max() < 0.05


@pytest.mark.parametrize("name", SHAPE_NAMES)
def test_no_shape_looks_like_itself_after_a_part_of_a_turn(name: str) -> None:
    kind = SHAPE_NAMES.index(name)
    upright = _mask(_one_of_each())[kind]
    for angle in np.linspace(0.5, 2 * np.pi - 0.5, 23):
        turned = _mask(_one_of_each(angle=float(angle)))[kind]
        overlap = np.minimum(upright, turned).sum() / np.maximum(upright, turned).sum()
        assert overlap < 0.85, angle


def test_the_shape_stands_out_from_both_colours_of_its_ground() -> None:
    pictures = random_pictures(2000, rng=np.random.default_rng(0))
    apart = np.linalg.norm(pictures.ground_paint - pictures.paint[:, None], axis=-1).min(axis=1)
    assert np.quantile(apart, 0.01) > 0.3


def test_opacity_nought_hides_the_shape_and_half_shows_half() -> None:
    pictures = _one_of_each()
    half = replace(pictures, opacity=0.5 * pictures.opacity)
    assert _mask(half).max((1, 2)) == pytest.approx(np.full(len(SHAPES), 0.5), abs=0.03)


def test_rows_and_repeated_keep_every_field_in_step() -> None:
    pictures = random_pictures(4, rng=np.random.default_rng(0))
    twice = pictures.rows(np.array([2, 0])).repeated(2)
    assert len(twice) == 4
    for field in fields(Pictures):
        source, copy = getattr(pictures, field.name), getattr(twice, field.name)
        assert (copy == source[[2, 2, 0, 0]]).all(), field.name
    assert twice.clutter.shape == (4, CLUTTER, 6)

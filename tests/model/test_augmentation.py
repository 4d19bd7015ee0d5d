"""Augmentation against direct computations, Pillow, and what it may not do: look at frames one by one, or at chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor
from torch.nn import functional

from mmfuse import ActionRecognizer
from mmfuse.errors import MmfuseError
from mmfuse.model import augmentation, rand_augment
from mmfuse.model.augmentation import Augmentation, generator_of
from tests.model.test_recognizer import loader, recognizer, trainer

ALONE: dict[str, dict[str, Any]] = {
    "mixup": {"mixup": 0.8},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.8, "cutmix": 1.0},
    "color_jitter": {"color_jitter": 0.4},
    "random_erasing": {"random_erasing": 1.0},
    "rand_augment": {"rand_augment": {"operations": 3, "magnitude": 15}},
}


def clips(count: int = 6, frames: int = 3, side: int = 12) -> Tensor:
    """Noise, uint8 (B, T, 3, side, side + 4)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, frames, 3, side, side + 4), generator=generator, dtype=torch.uint8)


def frames_alike(count: int = 6) -> Tensor:
    """Clips whose frames are all the same."""
    return clips(count, frames=1).expand(-1, 3, -1, -1, -1).contiguous()


@pytest.mark.parametrize("settings", ALONE.values(), ids=ALONE)
def test_all_frames_of_a_clip_are_changed_alike_and_the_seed_decides(settings: dict[str, Any]) -> None:
    augment, labels = Augmentation(settings, classes=4), torch.arange(6) % 4
    video = frames_alike()
    found, target = augment(video, labels, generator=generator_of(3, 0, 1))
    assert found.dtype == torch.uint8
    assert not torch.equal(found, video)
    assert torch.equal(found, found[:, :1].expand_as(found))
    again, _ = augment(video, labels, generator=generator_of(3, 0, 1))
    other, _ = augment(video, labels, generator=generator_of(3, 0, 2))
    assert torch.equal(found, again)
    assert not torch.equal(found, other)
    if target.ndim == 2:
        torch.testing.assert_close(target.sum(dim=1), torch.ones(6))


def test_mixup_is_the_weighted_mean_of_clips_and_of_labels() -> None:
    video, shares = clips(), torch.eye(6)
    mixed, found = augmentation.mix_clips(video, shares, mixup=0.8, cutmix=0.0, generator=np.random.default_rng(5))
    chance = np.random.default_rng(5)
    partner, _, weight = chance.permutation(6), chance.random(6), chance.beta(0.8, 0.8, 6)
    for row in range(6):
        expected = weight[row] * video[row].double() + (1 - weight[row]) * video[partner[row]].double()
        assert (mixed[row].double() - expected).abs().max() <= 0.51  # to the nearest pixel value
        torch.testing.assert_close(
            found[row].double(),
            weight[row] * torch.eye(6)[row] + (1 - weight[row]) * torch.eye(6)[partner[row]],
            rtol=0,
            atol=1e-6,
            check_dtype=False,
        )


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    count, side = 64, 16
    # Each clip is of one value, its number: every pixel tells where it is from.
    video = (
        torch.arange(count, dtype=torch.uint8)[:, None, None, None, None].expand(count, 2, 3, side, side).contiguous()
    )
    mixed, shares = augmentation.mix_clips(
        video, torch.eye(count), mixup=0.0, cutmix=1.0, generator=np.random.default_rng(0)
    )
    sides = []
    for row in range(count):
        plane = mixed[row, 0, 0]
        own = float((plane == row).float().mean())
        assert shares[row, row] == pytest.approx(own, abs=1e-6) or len(plane.unique()) == 1
        foreign = (plane != row).nonzero()
        if len(foreign):
            height, width = (foreign.max(dim=0).values - foreign.min(dim=0).values + 1).tolist()
            assert len(foreign) == height * width  # one box
            sides.append(height)
    assert len(set(sides)) > 5


def test_mixup_and_cutmix_together_give_some_clips_to_each() -> None:
    video = torch.arange(64, dtype=torch.uint8)[:, None, None, None, None].expand(64, 1, 3, 8, 8).contiguous() * 3
    mixed, _ = augmentation.mix_clips(video, torch.eye(64), mixup=1.0, cutmix=1.0, generator=np.random.default_rng(0))
    several = sum(len(clip.unique()) > 1 for clip in mixed)
    blended = sum(len(clip.unique()) == 1 and int(clip[0, 0, 0, 0]) % 3 > 0 for clip in mixed)
    assert several > 12
    assert blended > 8


def test_soft_labels_are_smoothed_as_each_of_their_classes_would_be() -> None:
    model = recognizer(label_smoothing=0.1)
    logits, weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), 0.3
    first, second = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 1, 0, 2, 0])
    shares = weight * functional.one_hot(first, 3).float() + (1 - weight) * functional.one_hot(second, 3).float()
    expected = weight * model._cross_entropy(logits, first) + (1 - weight) * model._cross_entropy(logits, second)
    torch.testing.assert_close(model._cross_entropy(logits, shares), expected)


def test_erased_boxes_are_of_the_size_that_is_said_and_the_rest_stays() -> None:
    video = torch.full((200, 2, 3, 40, 40), 77, dtype=torch.uint8)
    found = augmentation.erase_boxes(video, 0.5, generator=np.random.default_rng(2))
    shares = [float((clip != 77).any(dim=0).any(dim=0).float().mean()) for clip in found]
    erased = [share for share in shares if share]
    assert 70 < len(erased) < 130
    low, high = augmentation.ERASED
    # Noise hits the old colour now and then, and sides are whole pixels.
    assert low - 0.01 < min(erased) < max(erased) < high + 0.03
    assert max(erased) > 0.25


def test_color_jitter_draws_its_factors_within_the_strength() -> None:
    grey = torch.full((400, 1, 3, 2, 2), 100, dtype=torch.uint8)  # contrast and saturation leave it alone
    found = augmentation.jitter_colors(grey, 0.4, generator=np.random.default_rng(0)).float().flatten(1)
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert 60 <= found.min() < 64
    assert 136 < found.max() <= 140


PILLOW: dict[str, Any] = {
    "brightness": lambda image: ImageEnhance.Brightness(image).enhance(1.45),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.45),
    "color": lambda image: ImageEnhance.Color(image).enhance(1.45),
    "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(1.45),
    "posterize": lambda image: ImageOps.posterize(image, 6),
    "solarize": lambda image: ImageOps.solarize(image, 128),
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "identity": lambda image: image,
}


def smooth_image() -> Image.Image:
    """A picture with more pixels than values, and less than the whole range of them."""
    noise = np.random.default_rng(0).integers(30, 220, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))


@pytest.mark.parametrize("name", PILLOW)
def test_operations_on_a_clip_of_one_frame_are_those_of_pillow(name: str) -> None:
    image = smooth_image()
    video = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None, None]
    found = rand_augment.operate(name, video, 0.5, [1.0])
    expected = torch.from_numpy(np.array(PILLOW[name](image))).permute(2, 0, 1)[None, None]
    exact = name in ("posterize", "solarize", "equalize", "identity")
    assert (found.int() - expected.int()).abs().max() <= (0 if exact else 1)  # Pillow cuts off where this rounds
    assert name == "identity" or not torch.equal(found, video)


def test_moves_take_each_pixel_from_where_their_matrix_says() -> None:
    video = clips(1, side=9)[..., :9]
    quarter = rand_augment.warp(video, torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]]))
    assert torch.equal(quarter, torch.rot90(video, -1, dims=(-2, -1)))
    aside = rand_augment.warp(video, torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]]))
    assert torch.equal(aside[..., :-2], video[..., 2:])
    assert not aside[..., -2:].any()
    for name in rand_augment.MOVES:
        left, right = (rand_augment.operate(name, video, 0.5, [sign]) for sign in (1.0, -1.0))
        assert not torch.equal(left, right)
        assert torch.equal(rand_augment.operate(name, video, 0.0, [1.0]), video)
    assert rand_augment._rotate(1.0, 9)[0] == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6), 0.0])


def test_clips_of_a_batch_are_changed_as_each_would_be_alone() -> None:
    video = torch.cat([clips(2), clips(2) // 2])
    for name in rand_augment.OPERATIONS:
        signs = [1.0, -1.0, 1.0, -1.0]
        together = rand_augment.operate(name, video, 0.4, signs)
        for row, sign in enumerate(signs):
            assert torch.equal(together[row : row + 1], rand_augment.operate(name, video[row : row + 1], 0.4, [sign]))


def test_training_augments_by_epoch_and_batch_and_nothing_else_does() -> None:
    def fitted() -> tuple[ActionRecognizer, list[Tensor]]:
        steady = {"kind": "joint", "width": 16, "layers": 1, "dropout": 0.0}
        model = recognizer(fusion=steady, augmentation={"mixup": 0.8, "color_jitter": 0.4})
        seen: list[Tensor] = []
        model.image_tower.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        trainer(max_epochs=2).fit(model, loader(count=8, batch=4))
        return model, seen

    model, seen = fitted()
    again, _ = fitted()
    assert len({video.numpy().tobytes() for video in seen}) == len(seen) == 4  # another look in each epoch
    assert all(torch.equal(weight, model.trained_state()[name]) for name, weight in again.trained_state().items())
    batch = next(iter(loader(count=4)))
    plain = functional.cross_entropy(model.eval()(batch["video"]), batch["label"], label_smoothing=0.1)
    assert torch.equal(model.loss(batch), plain)
    first, second = model.train().loss(batch), model.loss(batch)
    assert not torch.equal(first, second)


def test_kept_features_are_not_augmented() -> None:
    model = recognizer(augmentation={"cutmix": 1.0})
    batch = {"features": torch.zeros(2, model.frames, model.frame_encoder.width), "label": torch.tensor([0, 1])}
    with pytest.raises(MmfuseError, match=r"kept features cannot be augmented \(cutmix\)"):
        model.loss(batch)
    assert torch.isfinite(model.eval().loss(batch))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixupp": 0.8}, "did you mean 'mixup'"),
        ({"mixup": -1}, "mixup is a number from 0"),
        ({"color_jitter": 1.5}, "from 0 (off) to 1; got 1.5"),
        ({"random_erasing": True}, "random_erasing is a number"),
        ({"rand_augment": 9}, "rand_augment is keys"),
        ({"rand_augment": {"magnitud": 9}}, "did you mean 'magnitude'"),
        ({"rand_augment": {"magnitude": 31}}, "magnitude is a number from 0 to 30"),
        ({"rand_augment": {"operations": 0}}, "operations is a whole number from 1 to 14"),
    ],
)
def test_wrong_settings_are_one_clear_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MmfuseError) as told:
        ActionRecognizer(["a", "b"], augmentation=settings)
    assert message in str(told.value)
    assert "\n" not in str(told.value)

"""Augmentation of training clips: whole batches, on the device that they are on, the same for all frames of a clip.

Every number that is left to chance is drawn on the CPU from the generator that is passed in, so that it does not depend
on the device. Pixels come in as uint8 and go out as uint8, rounded: what follows cannot tell an augmented batch from
another.

Shapes: B clips, T frames, H × W pixels, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mmfuse.methods.augmentations import check_augmentation
from mmfuse.model import rand_augment
from mmfuse.model.batches import refuse_floats

Floats = NDArray[np.float64]
ERASED = (0.02, 1 / 3)
"""Smallest and largest share of a frame that random erasing takes."""
ASPECT = (0.3, 3.3)
"""Its smallest and largest ratio of height to width."""


class Augmentation:
    """What is done to a training batch, in this order: RandAugment, colour jitter, random erasing, mixup or cutmix.

    Args:
        settings: see `mmfuse.methods.augmentations`. `mixup` and `cutmix` are the α of their Beta(α, α);
            where both are on, each clip takes one of them by even chance. `color_jitter` is the strength s of
            brightness, contrast and saturation, each multiplied by a factor from [1 - s, 1 + s]. `random_erasing` is
            the probability of a clip to lose a box.
        classes: C.

    Attributes:
        on: whether anything is done at all.

    Raises:
        MmfuseError: an unknown augmentation, or a number out of its bounds.

    >>> augmentation = Augmentation({"mixup": 0.8}, classes=3)
    >>> video, labels = torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 2])
    >>> video, shares = augmentation(video, labels, generator=np.random.default_rng(0))
    >>> shares.shape, shares.sum(dim=1)
    (torch.Size([2, 3]), tensor([1., 1.]))
    """

    def __init__(self, settings: Mapping[str, Any] | None, *, classes: int) -> None:
        self.settings = check_augmentation(settings)
        self.on = bool(self.settings)
        self._classes = classes

    @torch.no_grad()
    def __call__(self, video: Tensor, labels: Tensor, *, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            video: pixels, uint8 (B, T, 3, H, W).
            labels: int64 (B,).
            generator: the only source of chance.

        Returns:
            The pixels, of the same shape and type, and the labels: as they were, or with `mixup` or `cutmix` the share
            of each class in each clip, float32 (B, C).

        Raises:
            MmfuseError: pixels in floats.
        """
        refuse_floats(video)
        said, video = self.settings, video.to(torch.uint8)
        with torch.autocast(video.device.type, enabled=False):
            if "rand_augment" in said:
                video = rand_augment.apply(video, **said["rand_augment"], generator=generator)
            if "color_jitter" in said:
                video = jitter_colors(video, said["color_jitter"], generator=generator)
            if "random_erasing" in said:
                video = erase_boxes(video, said["random_erasing"], generator=generator)
            if "mixup" in said or "cutmix" in said:
                shares = functional.one_hot(labels, self._classes).float()
                alphas = said.get("mixup", 0.0), said.get("cutmix", 0.0)
                return mix_clips(video, shares, mixup=alphas[0], cutmix=alphas[1], generator=generator)
        return video, labels


def generator_of(seed: int, *place: int) -> np.random.Generator:
    """A generator for one batch, told from all others by its place: what came before does not matter.

    A training that goes on from a checkpoint therefore draws what one that was not interrupted would have drawn.
    """
    return np.random.default_rng((seed, *place))


def mix_clips(
    video: Tensor, shares: Tensor, *, mixup: float, cutmix: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each clip with another one of its batch, and the shares of their classes alike.

    Mixup (Zhang et al. 2018, eq. 1): λ·clip + (1 - λ)·other, λ from Beta(α, α). Cutmix (Yun et al. 2019, eq. 1, 2): a
    box of the other clip's pixels that takes the share 1 - λ of every frame, less what lies outside of it; λ is then
    what is really left.

    Args:
        video: uint8 (B, T, 3, H, W).
        shares: of the classes in each clip, (B, C).
        mixup, cutmix: their α; 0 for one that is off.
        generator: source of partners, of λ, of the boxes, and of which is used.
    """
    count, height, width = len(video), *video.shape[-2:]
    partner = torch.from_numpy(generator.permutation(count)).to(video.device)
    cuts = generator.random(count) < (0.0 if not cutmix else 1.0 if not mixup else 0.5)
    alpha = np.where(cuts, cutmix, mixup)
    kept = generator.beta(alpha, alpha)  # λ
    side = np.sqrt(1 - kept) * cuts
    centre = generator.random((2, count))
    boxes = _boxes(centre[0], centre[1], side, side, height=height, width=width)
    inside = _inside(boxes, video)  # (B, 1, 1, H, W)
    other = video[partner]
    cut = torch.where(inside, other, video)
    area = (boxes[1] - boxes[0]) * (boxes[3] - boxes[2]) / (height * width)
    weight = torch.as_tensor(np.where(cuts, 1 - area, kept), dtype=torch.float32, device=video.device)
    shares = torch.lerp(shares[partner], shares, weight[:, None])
    if not mixup:
        return cut, shares
    blended = rand_augment.to_pixels(torch.lerp(other.float(), video.float(), _spread(weight)))
    return torch.where(_spread(torch.from_numpy(cuts).to(video.device)), cut, blended), shares


def jitter_colors(video: Tensor, strength: float, *, generator: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation, in this order, by factors from [1 - s, 1 + s], one of each for a clip.

    Args:
        video: uint8 (B, T, 3, H, W).
        strength: s.
        generator: source of the factors.
    """
    drawn = generator.uniform(1 - strength, 1 + strength, (3, len(video)))
    factors = torch.as_tensor(drawn, dtype=torch.float32, device=video.device)
    for change, factor in zip(
        (rand_augment.brightness, rand_augment.contrast, rand_augment.color), factors, strict=True
    ):
        video = change(video, factor)
    return video


def erase_boxes(video: Tensor, probability: float, *, generator: np.random.Generator) -> Tensor:
    """Replace a box of some clips by noise (Zhong et al. 2020, algorithm 1, with random values).

    The box and the noise are the same in all frames of a clip. A box of a shape that is longer than the frame is cut
    off there, where the paper draws again.

    Args:
        video: uint8 (B, T, 3, H, W).
        probability: of a clip to lose a box.
        generator: source of all that.
    """
    count, height, width = len(video), *video.shape[-2:]
    chosen = generator.random(count) < probability
    area = generator.uniform(*ERASED, count)
    aspect = np.exp(generator.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), count))
    tall = np.minimum(np.sqrt(area * aspect * width / height), 1.0) * chosen
    wide = np.minimum(np.sqrt(area / aspect * height / width), 1.0) * chosen
    place = generator.random((2, count))
    # The whole box lies inside of the frame.
    boxes = _boxes(
        tall / 2 + (1 - tall) * place[0], wide / 2 + (1 - wide) * place[1], tall, wide, height=height, width=width
    )
    noise = generator.integers(0, 256, (count, 1, 3, height, width), dtype=np.uint8)
    return torch.where(_inside(boxes, video), torch.from_numpy(noise).to(video.device), video)


def _boxes(down: Floats, across: Floats, tall: Floats, wide: Floats, *, height: int, width: int) -> NDArray[np.int64]:
    """Boxes in pixels: first row, row after the last, first column, column after the last; (4, B).

    Args:
        down, across: their centres, as shares of the frame.
        tall, wide: their sides, as shares of the frame; what lies outside is cut off.
        height, width: H and W.
    """
    ends = [
        (down - tall / 2) * height,
        (down + tall / 2) * height,
        (across - wide / 2) * width,
        (across + wide / 2) * width,
    ]
    limits = (height, height, width, width)
    return np.stack([np.clip(np.round(end), 0, limit) for end, limit in zip(ends, limits, strict=True)]).astype(
        np.int64
    )


def _inside(boxes: NDArray[np.int64], video: Tensor) -> Tensor:
    """Which pixels of a clip's frames lie in its box, (B, 1, 1, H, W)."""
    first, end, left, right = torch.from_numpy(boxes).to(video.device)[:, :, None]
    rows, columns = (torch.arange(side, device=video.device) for side in video.shape[-2:])
    inside = ((rows >= first) & (rows < end))[:, :, None] & ((columns >= left) & (columns < right))[:, None, :]
    return inside[:, None, None]


def _spread(values: Tensor) -> Tensor:
    """One value a clip, (B,), in a shape that goes with clips."""
    return values[:, None, None, None, None]

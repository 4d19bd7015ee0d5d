"""RandAugment (Cubuk et al. 2020) for clips: a few operations out of fourteen, of one magnitude, drawn for each clip.

All frames of a clip are changed alike: also operations that look at an image first (contrast, auto-contrast and
equalisation) look at the whole clip. Names and ranges are those of the paper's table 6 (as AutoAugment has them).

Shapes: N clips, T frames, H × W pixels; clips are uint8 (N, T, 3, H, W) everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Operation = Callable[[Tensor, Tensor], Tensor]
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R 601)."""
SMOOTH = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))
"""What sharpness blends with: the weights of a pixel and its neighbours."""


def to_pixels(values: Tensor) -> Tensor:
    """Floats to the nearest pixel values, uint8."""
    return values.round().clamp(0, 255).to(torch.uint8)


def brightness(video: Tensor, factor: Tensor) -> Tensor:
    """Times a factor (N,): 0 is black, 1 changes nothing."""
    return to_pixels(video * _of_clip(factor))


def contrast(video: Tensor, factor: Tensor) -> Tensor:
    """The distance to the clip's mean grey, times a factor (N,)."""
    mean = grey(video).mean(dim=(1, 2, 3, 4), keepdim=True).round()
    return to_pixels(torch.lerp(mean, video.float(), _of_clip(factor)))


def color(video: Tensor, factor: Tensor) -> Tensor:
    """The distance of each pixel to its grey, times a factor (N,): saturation."""
    return to_pixels(torch.lerp(grey(video).expand(video.shape), video.float(), _of_clip(factor)))


def sharpness(video: Tensor, factor: Tensor) -> Tensor:
    """The distance to the smoothed frame, times a factor (N,); the pixels at the border stay."""
    weights = torch.tensor(SMOOTH, device=video.device)
    planes = video.float().flatten(0, 2)[:, None]
    inner = functional.conv2d(planes, (weights / weights.sum())[None, None])
    smooth = planes.clone()
    smooth[:, :, 1:-1, 1:-1] = inner.round()
    return to_pixels(torch.lerp(smooth.view(video.shape), video.float(), _of_clip(factor)))


def grey(video: Tensor) -> Tensor:
    """Grey in whole numbers, float32 (N, T, 1, H, W)."""
    weights = torch.tensor(LUMA, device=video.device)[:, None, None]
    return (video * weights).sum(dim=2, keepdim=True).round()


def posterize(video: Tensor, magnitude: float) -> Tensor:
    """Keep the 8 to 4 highest bits."""
    dropped = round(4 * magnitude)
    return (video >> dropped) << dropped


def solarize(video: Tensor, magnitude: float) -> Tensor:
    """Turn round all pixels from a threshold on, which falls from 255 to 0."""
    return torch.where(video >= 255 * (1 - magnitude), 255 - video, video)


def autocontrast(video: Tensor) -> Tensor:
    """Stretch each colour of a clip so that it goes from 0 to 255; one that is the same everywhere stays."""
    low, high = (video.float().flatten(3).transpose(1, 2).flatten(2) for _ in range(2))
    low, high = low.amin(dim=2)[:, None, :, None, None], high.amax(dim=2)[:, None, :, None, None]
    stretched = to_pixels((video - low) * (255 / (high - low).clamp(min=1)))
    return torch.where(high > low, stretched, video)


def equalize(video: Tensor) -> Tensor:
    """Spread each colour of a clip so that its values are equally frequent, as far as whole numbers go."""
    planes = video.transpose(1, 2).flatten(2).flatten(0, 1).long()  # (N·3, T·H·W)
    offsets = 256 * torch.arange(len(planes), device=video.device)[:, None]
    counts = torch.bincount((planes + offsets).flatten(), minlength=256 * len(planes)).view(-1, 256)
    highest = planes.amax(dim=1, keepdim=True)
    step = (planes.shape[1] - counts.gather(1, highest)) // 255  # (N·3, 1)
    below = counts.cumsum(dim=1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=video.device))
    clips, frames, colors, height, width = video.shape
    spread = table.gather(1, planes).to(torch.uint8)
    return spread.view(clips, colors, frames, height, width).transpose(1, 2).contiguous()


def warp(video: Tensor, matrices: Tensor) -> Tensor:
    """Move pixels: where each pixel of the result is taken from, bilinearly; black outside of the frame.

    Args:
        video: clips.
        matrices: (N, 2, 3); they take (x, y, 1), in pixels from the centre of the result, to the place in the clip.
    """
    height, width = video.shape[-2:]
    x = torch.arange(width, device=video.device) - (width - 1) / 2
    y = torch.arange(height, device=video.device) - (height - 1) / 2
    (xx, xy, xt), (yx, yy, yt) = matrices.permute(1, 2, 0)[..., None, None]  # each (N, 1, 1)
    across, down = xx * x + xy * y[:, None] + xt, yx * x + yy * y[:, None] + yt
    grid = torch.stack([across * 2 / width, down * 2 / height], dim=-1)  # (N, H, W, 2)
    planes = video.float().flatten(1, 2)  # one grid for all frames and colours of a clip
    moved = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return to_pixels(moved).view(video.shape)


def _shear_x(level: float, side: int) -> list[list[float]]:
    return [[1.0, 0.3 * level, 0.0], [0.0, 1.0, 0.0]]


def _shear_y(level: float, side: int) -> list[list[float]]:
    return [[1.0, 0.0, 0.0], [0.3 * level, 1.0, 0.0]]


def _translate_x(level: float, side: int) -> list[list[float]]:
    return [[1.0, 0.0, 150 / 331 * level * side], [0.0, 1.0, 0.0]]


def _translate_y(level: float, side: int) -> list[list[float]]:
    return [[1.0, 0.0, 0.0], [0.0, 1.0, 150 / 331 * level * side]]


def _rotate(level: float, side: int) -> list[list[float]]:
    cos, sin = math.cos(math.radians(30 * level)), math.sin(math.radians(30 * level))
    return [[cos, sin, 0.0], [-sin, cos, 0.0]]


MOVES = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
}
"""To the matrix of `warp`, from a level of -1…1 and the frame's side in the direction of the move."""
BLENDS: dict[str, Operation] = {
    "brightness": brightness,
    "contrast": contrast,
    "color": color,
    "sharpness": sharpness,
}
"""With a factor of 1 ± 0.9 at the largest magnitude."""
LEVELLED: dict[str, Callable[[Tensor, float], Tensor]] = {"posterize": posterize, "solarize": solarize}
"""With the magnitude as a share of the largest."""
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda video: video,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
"""Without any."""
OPERATIONS = (*PLAIN, *MOVES, *BLENDS, *LEVELLED)


def apply(video: Tensor, *, operations: int, magnitude: float, generator: np.random.Generator) -> Tensor:
    """Some operations on each clip, one after the other; clips of a batch that draw the same one go through together.

    Args:
        video: clips.
        operations: how many for each clip.
        magnitude: of all of them, from 0 to 30.
        generator: source of which operations, and of the sign of those that have two directions.
    """
    level = magnitude / 30
    for _ in range(operations):
        drawn = generator.integers(0, len(OPERATIONS), len(video))
        signs = generator.choice([-1.0, 1.0], len(video))
        changed = video.clone()
        for number in np.unique(drawn):
            rows = np.flatnonzero(drawn == number)
            place = torch.from_numpy(rows).to(video.device)
            changed[place] = operate(OPERATIONS[number], video[place], level, signs[rows].tolist())
        video = changed
    return video


def operate(name: str, video: Tensor, level: float, signs: list[float]) -> Tensor:
    """One operation.

    Args:
        name: one of `OPERATIONS`.
        video: clips.
        level: the magnitude as a share of the largest.
        signs: 1 or -1 for each clip.
    """
    if name in PLAIN:
        return PLAIN[name](video)
    if name in LEVELLED:
        return LEVELLED[name](video, level)
    if name in BLENDS:
        return BLENDS[name](video, torch.tensor([1 + 0.9 * level * sign for sign in signs], device=video.device))
    side = video.shape[-2 if name.endswith("_y") else -1]
    return warp(video, torch.tensor([MOVES[name](level * sign, side) for sign in signs], device=video.device))


def _of_clip(factor: Tensor) -> Tensor:
    return factor[:, None, None, None, None]

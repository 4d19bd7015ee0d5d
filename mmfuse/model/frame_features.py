"""From clips to one feature a frame, whole or in two halves: the frozen prefix of the image tower, and what follows it.

The frozen prefix is what no training changes: the layers before the first trained one, or the whole tower where it is
frozen. What it gives of a clip may be computed once and given back in the place of the video.

A video tower sees steps of several frames; there a "frame feature" is that of a step, and T the number of steps.

Shapes: B clips, T frames, S tokens a frame, P patches, D width of a token, F width of a frame feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mmfuse.encoders import ImageTower
from mmfuse.encoders.hub import no_summary
from mmfuse.errors import MmfuseError, unknown
from mmfuse.model.chunked import chunk_size, chunked_forward

FEATURES = {"both": 2, "cls": 1, "patch": 1, "grid": 5}
"""Kinds of frame features, with their width in tokens."""

Run = Callable[[Tensor], Tensor]
"""From clips (B, …) to something of each."""

GRID = 2  # side of the grid of pooled patches


def frame_features(tokens: Tensor, *, kind: str, rows: int) -> Tensor:
    """CLS and patch tokens to one feature a frame.

    Args:
        tokens: the CLS token and the patches, row by row, (B, T, 1 + P, D).
        kind: "both" (CLS and mean patch), "cls", "patch" (their mean), or "grid" (CLS and 2 × 2 pooled patches).
        rows: of patches in a frame.

    Returns:
        (B, T, F), F being `FEATURES[kind]` times D.
    """
    cls, patches = tokens[:, :, 0], tokens[:, :, 1:]
    if kind == "cls":
        return cls
    if kind == "patch":
        return patches.mean(dim=2)
    if kind == "both":
        return torch.cat([cls, patches.mean(dim=2)], dim=-1)
    return torch.cat([cls, _pooled(patches.unflatten(2, (rows, -1)))], dim=-1)


def _pooled(grid: Tensor) -> Tensor:
    """Patches (B, T, rows, columns, D) to their means in GRID × GRID fields, (B, T, D·GRID²).

    As `adaptive_avg_pool2d`, whose gradient has no deterministic kernel on GPUs: where GRID does not divide a side, the
    fields overlap.
    """
    tall, wide = (_fields(side) for side in grid.shape[2:4])
    return torch.stack([grid[:, :, rows, columns].mean(dim=(2, 3)) for rows in tall for columns in wide], -1).flatten(2)


def _fields(side: int) -> list[slice]:
    return [slice(place * side // GRID, math.ceil((place + 1) * side / GRID)) for place in range(GRID)]


class FrameEncoder:
    """Frame features of clips through an image tower.

    Args:
        tower: the image tower, with its method attached.
        kind: see `frame_features`; as `feature_of` gives it for this tower.
        frames: of a clip, in pixels.
        trained: whether the method trains anything; else the frozen prefix is the whole tower.
        chunked: on a CPU, run a large batch a few clips at a time where no gradients are wanted.
        compiled: the tower is compiled, for each shape that it is given: it is given few.

    Attributes:
        first_trained_layer: the first layer of the tower that training changes; None where it changes nothing.

    Raises:
        MmfuseError: there is no such kind of frame feature, or the tower has none of this kind.
    """

    def __init__(
        self, tower: ImageTower, *, kind: str, frames: int, trained: bool, chunked: bool, compiled: bool = False
    ) -> None:
        self._tower, self._kind, self._frames, self._chunked = tower, feature_of(tower, kind), frames, chunked
        self._padding = Padding() if compiled else None
        self.steps = tower.steps(frames)
        """T, the features that a clip has."""
        # Found once: it takes a walk over the whole tower, and every batch of kept tokens asks for it.
        self.first_trained_layer = tower.first_adapted_layer if trained else None

    @property
    def width(self) -> int:
        """F."""
        return self._tower.width * FEATURES[self._kind]

    def __call__(self, video: Tensor) -> Tensor:
        """Frame features (B, T, F) of clips (B, T, 3, H, W).

        Raises:
            MmfuseError: clips of another number of frames.
        """
        if video.ndim == 5 and video.shape[1] != self._frames:
            raise MmfuseError(
                f"clips of {video.shape[1]} frames given to a recogniser that was built for {self._frames}"
            )
        rows = video.shape[-2] // self._tower.patch_size

        def run(video: Tensor) -> Tensor:
            return frame_features(self._padded(self._tower, video), kind=self._kind, rows=rows)

        return chunked_forward(run, video, self.chunk_size(video))

    def _padded(self, run: Run, clips: Tensor) -> Tensor:
        return run(clips) if self._padding is None else self._padding(run, clips)

    def frozen_prefix(self, video: Tensor) -> Tensor:
        """What training never changes of clips (B, T, 3, H, H): it can be kept, and given to `after_prefix` later.

        Returns:
            Frame features (B, T, F) where the image tower is frozen; else the tokens before the first trained layer,
            those of a frame in one row, (B, T, S·D).
        """
        if self.first_trained_layer is None:
            return self(video)
        run = partial(self._padded, partial(self._tower.forward_to, layer=self.first_trained_layer))
        return chunked_forward(run, video, self.chunk_size(video)).flatten(2)

    def after_prefix(self, kept: Tensor) -> Tensor:
        """Frame features (B, T, F) from what `frozen_prefix` gave."""
        if self.first_trained_layer is None:
            return kept
        tower, layer = self._tower, self.first_trained_layer

        def run(kept: Tensor) -> Tensor:
            tokens = self._padded(partial(tower.forward_from, layer=layer), kept.unflatten(2, (-1, tower.width)))
            return frame_features(tokens, kind=self._kind, rows=math.isqrt(tokens.shape[2] - 1))

        return chunked_forward(run, kept, self.chunk_size(kept))

    def prefix_width(self, size: int) -> int:
        """Numbers that `frozen_prefix` gives of a frame of `size` pixels a side."""
        if self.first_trained_layer is None:
            return self.width
        return self._tokens(size, size) * self._tower.width

    def _tokens(self, height: int, width: int) -> int:
        """Tokens of a frame, before a method adds any."""
        side = self._tower.patch_size
        return self._tower.special_tokens + (height // side) * (width // side)

    def chunk_size(self, clips: Tensor) -> int | None:
        """How many of these clips, pixels or what was kept of them, the tower is given at once; None for all."""
        kept = clips.ndim == 3
        if not self._chunked or (kept and self.first_trained_layer is None):
            return None
        tokens = clips.shape[2] // self._tower.width if kept else self._tokens(*clips.shape[-2:])
        return chunk_size(
            clips.device,
            numbers=self.steps * tokens * self._tower.widest,
            pixels=0 if kept else clips[0].numel(),
            dtype=self._tower.pretrained[0].dtype,
        )


class Padding:
    """Gives compiled code batches of one size, which it is compiled for anew with each other one: for minutes.

    A batch that is smaller than the largest one so far, as the last of an epoch often is, is filled up with its last
    clip; what comes of that is cut off at once, so that it is in no loss, no gradient and no metric. With and without
    gradients code is another, and so is the largest batch.
    """

    def __init__(self) -> None:
        self._largest: dict[tuple[bool, torch.Size], int] = {}

    def __call__(self, run: Run, clips: Tensor) -> Tensor:
        """What `run` gives of clips (B, …), from at least as many as ever before."""
        kind = (torch.is_grad_enabled(), clips.shape[1:])
        largest = self._largest[kind] = max(len(clips), self._largest.get(kind, 0))
        if len(clips) == largest:
            return run(clips)
        filling = clips[-1:].expand(largest - len(clips), *clips.shape[1:])
        return run(torch.cat([clips, filling]))[: len(clips)]


def feature_of(tower: ImageTower, kind: str) -> str:
    """The kind of frame feature that a tower gives where another is asked for.

    "both" is whatever of the two the tower has: the mean patch alone, where nothing sums a frame up.

    Raises:
        MmfuseError: the tower has neither CLS token nor pooling head, which this kind is made of.
    """
    if check_kind(kind) == "patch" or tower.has_summary:
        return kind
    if kind == "both":
        return "patch"
    raise MmfuseError(no_summary(tower.name, kind))


def check_kind(kind: str) -> str:
    """A kind of frame feature, if it is one.

    Raises:
        MmfuseError: there is none of that name.
    """
    if kind not in FEATURES:
        raise unknown("frame feature", kind, FEATURES)
    return kind

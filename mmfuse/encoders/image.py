"""The frozen image tower: an encoder of single frames, run on every frame of a clip.

Shapes: B clips, T frames, N = B·T frames in a batch, P patches, S tokens, D the tower's width.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmfuse.encoders.architectures import IMAGE, ImageArchitecture, architecture_of
from mmfuse.encoders.positions import make_deterministic
from mmfuse.encoders.tower import Context, Tower, plug
from mmfuse.errors import MmfuseError


class ImageTower(Tower):
    """A frozen image encoder run on every frame of a clip.

    Args:
        model: DINOv2 (with or without registers), DINOv3, CLIP's or SigLIP's image tower, or a plain ViT.
        name: how the user called it.
        mean: pixel mean a channel, on the scale 0…1.
        std: pixel standard deviation a channel, on the scale 0…1.
        native_size: side of the frames that it was trained on, in pixels; by default what the model's configuration
            says.
    """

    kind = "image"
    pixel_scale: Tensor
    pixel_shift: Tensor

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        native_size: int | None = None,
    ) -> None:
        self.architecture: ImageArchitecture = architecture_of(model, IMAGE)
        super().__init__(model, name=name, architecture=self.architecture)
        if self.architecture.lacks is not None and (lack := self.architecture.lacks(model)) is not None:
            raise MmfuseError(f"image tower {name!r} has {lack}")
        make_deterministic(model)
        self._native_size = native_size
        # uint8 pixels -> (x/255 - mean)/std, folded into one scale and one shift.
        self.register_buffer("pixel_scale", (1 / (255 * torch.tensor(std))).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_shift", (-torch.tensor(mean) / torch.tensor(std)).view(3, 1, 1), persistent=False)

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        size = self.model.config.patch_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def native_size(self) -> int:
        """Side of the frames that it was trained on, in pixels; frames of other sizes can be given too."""
        side = self._native_size or self.model.config.image_size
        return int(side if isinstance(side, int) else min(side))

    @property
    def special_tokens(self) -> int:
        """Tokens before the patches: CLS and registers (none in SigLIP)."""
        return self.architecture.special_tokens(self.model.config)

    def check_size(self, size: int) -> None:
        """Refuse a frame side that is not a whole number of patches.

        Raises:
            MmfuseError: with the nearest sides that are.
        """
        patch = self.patch_size
        if size < patch or size % patch:
            below = max(size // patch, 1) * patch
            raise MmfuseError(
                f"frames of {size} pixels cannot be cut into the {patch}-pixel patches of {self.name!r}; "
                f"use {below} or {below + patch}"
            )

    def forward(self, frames: Tensor) -> Tensor:
        """Encode clips.

        Args:
            frames: uint8 pixels, or floats that are normalised already, (B, T, 3, H, W).

        Returns:
            CLS token and patch tokens after the final norm, (B, T, 1 + P, D). In a tower without CLS token its pooled
            output stands in the first place.

        Raises:
            MmfuseError: frames of another shape, or ones that cannot be cut into whole patches.
        """
        return self._finish(*self._begin(frames, layer=0), first=0)

    def forward_to(self, frames: Tensor, *, layer: int) -> Tensor:
        """Encode clips as far as a layer.

        Args:
            frames: as in `forward`.
            layer: number of the first layer that is not run.

        Returns:
            All tokens before that layer, (B, T, S, D).
        """
        tokens, context = self._begin(frames, layer=layer)
        return tokens.unflatten(0, (-1, context.frames))

    def forward_from(self, tokens: Tensor, *, layer: int) -> Tensor:
        """What `forward` gives of square frames, from the tokens (B, T, S, D) that `forward_to` gave of them."""
        self.refresh()
        context = Context(frames=tokens.shape[1], special=self.special_tokens)
        side = math.isqrt(tokens.shape[2] - self.special_tokens) * self.patch_size
        self._place(context, torch.empty(1, 3, side, side, device=tokens.device))
        return self._finish(tokens.flatten(0, 1), context, first=layer)

    def _begin(self, frames: Tensor, *, layer: int) -> tuple[Tensor, Context]:
        if frames.ndim != 5 or frames.shape[2] != 3:
            raise MmfuseError(f"clips are pixels of shape (B, T, 3, H, W); got {tuple(frames.shape)}")
        for side in set(frames.shape[-2:]):
            self.check_size(side)
        self.refresh()
        pixels = frames.flatten(0, 1)  # (B, T, 3, H, W) -> (N, 3, H, W)
        if not pixels.is_floating_point():
            pixels = pixels * self.pixel_scale + self.pixel_shift
        context = Context(frames=frames.shape[1], special=self.special_tokens)
        tokens = self.architecture.embed(self.model, pixels)  # (N, S, D)
        self._place(context, pixels)
        if self.enabled:
            tokens = plug(self.enter, tokens, context)
        return self.run_layers(tokens, context, last=layer), context

    def _finish(self, tokens: Tensor, context: Context, *, first: int) -> Tensor:
        tokens = self.conclude(self.run_layers(tokens, context, first=first), context)  # (N, S, D)
        if self.architecture.pool is None:
            tokens = torch.cat([tokens[:, :1], tokens[:, self.special_tokens :]], dim=1)  # (N, 1 + P, D), no registers
        else:
            tokens = torch.cat([self.architecture.pool(self.model, tokens).unsqueeze(1), tokens], dim=1)
        if self.enabled:
            tokens = plug(self.finish, tokens, context)
        return tokens.unflatten(0, (-1, context.frames))  # (B, T, 1 + P, D)

    def try_out(self) -> None:
        """See `Tower.try_out`: one black frame of two by two patches."""
        side = 2 * self.patch_size
        with torch.no_grad():
            self(torch.zeros(1, 1, 3, side, side, device=self.pretrained[0].device))

    def _place(self, context: Context, pixels: Tensor) -> None:
        """Note the rotary positions of the patches of pixels (N, 3, H, W), of which only the size matters."""
        if self.architecture.rotary_positions is not None:
            context.rope = self.architecture.rotary_positions(self.model, pixels)

    def _attention_arguments(self, hidden: Tensor, context: Context) -> dict[str, Any]:
        return self.architecture.attention_arguments(context.rope)

    def attend_over_time(self, layer: nn.Module, hidden: Tensor, context: Context) -> Tensor:
        """A layer's own attention, among the tokens that stand at the same place in all frames of a clip.

        Rotary positions are places in a frame, so that none is applied here.

        Shapes: normed tokens (N, S, D), N = B·T, to the same.
        """
        clips = hidden.unflatten(0, (-1, context.frames))  # (B, T, S, D)
        places = clips.transpose(1, 2).flatten(0, 1)  # (B·S, T, D)
        none = None if context.rope is None else (context.rope[0][:0], context.rope[1][:0])
        attended = self.attend(layer, places, replace(context, rope=none))
        return attended.unflatten(0, (-1, hidden.shape[1])).transpose(1, 2).flatten(0, 1)

"""The frozen image tower: an encoder of single frames, run on every frame of a clip. `video` has one of whole clips.

Shapes: B clips, T frames, N = B·T frames in a batch, P patches, S tokens, D the tower's width.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmfuse.encoders.architectures import ImageArchitecture, architecture_of
from mmfuse.encoders.positions import make_deterministic
from mmfuse.encoders.preprocessing import refuse_frames, refuse_size
from mmfuse.encoders.supported import IMAGE
from mmfuse.encoders.tower import Context, Tower, plug
from mmfuse.errors import MmfuseError


class ImageTower(Tower):
    """A frozen image encoder run on every frame of a clip.

    Args:
        model: of an architecture in `mmfuse.encoders.image_records`.
        name: how the user called it.
        mean: pixel mean a channel, on the scale 0…1.
        std: pixel standard deviation a channel, on the scale 0…1.
        native_size: side of the frames that it was trained on, in pixels; by default what the model's configuration
            says.
    """

    kind = "image"
    tubelet = 1
    """Frames that a patch reaches over; so many make one step of time."""
    native_frames: int | None = None
    """Frames that it was trained to read at once; None for an encoder of single frames."""
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
        self.has_summary: bool = self.architecture.summary(model.config.to_dict())
        """Whether it sums a frame up, by a CLS token or a pooling head; else only its patches can be averaged."""
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
        own = self.architecture.side
        side = self._native_size or (own(self.model.config.to_dict()) if own else self.model.config.image_size)
        return int(side if isinstance(side, int) else min(side))

    @property
    def special_tokens(self) -> int:
        """Tokens before the patches: CLS and registers (none in SigLIP)."""
        return self.architecture.special_tokens(self.model.config)

    def steps(self, frames: int) -> int:
        """Steps of time in what it gives of so many frames: as many, or fewer in a video tower."""
        return frames // self.tubelet

    def check_frames(self, frames: int) -> None:
        """Refuse a number of frames that the tower cannot read.

        Raises:
            MmfuseError: with the nearest numbers that it can.
        """
        refuse_frames(frames, tubelet=self.tubelet, name=self.name)

    def check_size(self, size: int) -> None:
        """Refuse a frame side that is not a whole number of patches.

        Raises:
            MmfuseError: with the nearest sides that are.
        """
        refuse_size(size, patch=self.patch_size, name=self.name)

    def forward(self, frames: Tensor, *, first: int | None = None, last: int | None = None) -> Tensor:
        """Encode clips; or a part of that, which goes through here so that `compile` compiles it as well.

        Args:
            frames: uint8 pixels, or floats that are normalised already, (B, T, 3, H, W).
            first: run the layers from this one on, on tokens in the place of frames: see `forward_from`.
            last: run the layers before this one only: see `forward_to`.

        Returns:
            CLS token and patch tokens after the final norm, (B, T, 1 + P, D). In a tower without CLS token its pooled
            output stands in the first place, or the mean of the patches where there is neither. A video tower gives as
            many steps of time as `steps` says, in the place of T.

        Raises:
            MmfuseError: frames of another shape, or ones that cannot be cut into whole patches.
        """
        if last is not None:
            return self._apart(*self._begin(frames, layer=last))
        if first is not None:
            return self._finish(self._together(frames), self._resumed(frames), first=first)
        return self._finish(*self._begin(frames, layer=0), first=0)

    def forward_to(self, frames: Tensor, *, layer: int) -> Tensor:
        """Encode clips as far as a layer.

        Args:
            frames: as in `forward`.
            layer: number of the first layer that is not run.

        Returns:
            All tokens before that layer, (B, T, S, D); T is the steps of time in a video tower, which has its special
            tokens in each.
        """
        return self(frames, last=layer)

    def forward_from(self, tokens: Tensor, *, layer: int) -> Tensor:
        """What `forward` gives of square frames, from the tokens (B, T, S, D) that `forward_to` gave of them."""
        return self(tokens, first=layer)

    def _resumed(self, tokens: Tensor) -> Context:
        """The context of tokens (B, T, S, D) that `forward_to` gave of square frames."""
        self.refresh()
        context = Context(frames=tokens.shape[1], special=self.special_tokens)
        side = math.isqrt(tokens.shape[2] - self.special_tokens) * self.patch_size
        frames = tokens.new_empty(1).expand(1, tokens.shape[1] * self.tubelet, 3, side, side)  # takes no memory
        self._place(context, self._units(frames))
        return context

    def _begin(self, frames: Tensor, *, layer: int) -> tuple[Tensor, Context]:
        if frames.ndim != 5 or frames.shape[2] != 3:
            raise MmfuseError(f"clips are pixels of shape (B, T, 3, H, W); got {tuple(frames.shape)}")
        for side in set(frames.shape[-2:]):
            self.check_size(side)
        self.check_frames(frames.shape[1])
        self.refresh()
        pixels = self._units(frames)
        if not pixels.is_floating_point():
            pixels = pixels * self.pixel_scale + self.pixel_shift
        context = Context(frames=self.steps(frames.shape[1]), special=self.special_tokens)
        tokens = self.architecture.embed(self.model, pixels)  # (N, S, D)
        self._place(context, pixels)
        if self.enabled:
            tokens = plug(self.enter, tokens, context)
        return self.run_layers(tokens, context, last=layer), context

    def _finish(self, tokens: Tensor, context: Context, *, first: int) -> Tensor:
        tokens = self._read_out(self.conclude(self.run_layers(tokens, context, first=first), context), context)
        if self.enabled:
            tokens = plug(self.finish, tokens, context)
        return tokens.unflatten(0, (-1, context.frames))  # (B, T, 1 + P, D)

    def _units(self, frames: Tensor) -> Tensor:
        """Clips (B, T, 3, H, W) as what is encoded at once: frames (N, 3, H, W)."""
        return frames.flatten(0, 1)

    def _read_out(self, tokens: Tensor, context: Context) -> Tensor:
        """Normed tokens (N, S, D) to a summary and the patches, (N, 1 + P, D), without registers."""
        patches = tokens[:, self.special_tokens :]
        if self.architecture.pool is not None and self.has_summary:
            return torch.cat([self.architecture.pool(self.model, tokens).unsqueeze(1), patches], dim=1)
        first = tokens[:, :1] if self.has_summary else patches.mean(dim=1, keepdim=True)
        return torch.cat([first, patches], dim=1)

    def _apart(self, tokens: Tensor, context: Context) -> Tensor:
        """Tokens as the layers take them, (N, S, D), by clip and frame: (B, T, S, D)."""
        return tokens.unflatten(0, (-1, context.frames))

    def _together(self, tokens: Tensor) -> Tensor:
        """The reverse of `_apart`."""
        return tokens.flatten(0, 1)

    def try_out(self) -> Tensor:
        """See `Tower.try_out`: the fewest black frames, of two by two patches."""
        side = 2 * self.patch_size
        return self(torch.zeros(1, self.tubelet, 3, side, side, device=self.pretrained[0].device))

    def _place(self, context: Context, pixels: Tensor) -> None:
        """Note where the patches of what is encoded at once are; of the pixels only the size matters."""
        if self.architecture.places is not None:
            context.places = self.architecture.places(self.model, pixels)

    def _attention_arguments(self, hidden: Tensor, context: Context) -> dict[str, Any]:
        return self.architecture.attention_arguments(context.places, hidden)

    def attend_over_time(self, layer: nn.Module, hidden: Tensor, context: Context) -> Tensor:
        """A layer's own attention, among the tokens that stand at the same place in all frames of a clip.

        Rotary positions are places in a frame, so that none is applied here.

        Shapes: normed tokens (N, S, D), N = B·T, to the same.
        """
        clips = hidden.unflatten(0, (-1, context.frames))  # (B, T, S, D)
        places = clips.transpose(1, 2).flatten(0, 1)  # (B·S, T, D)
        none = None if context.places is None else (context.places[0][:0], context.places[1][:0])
        attended = self.attend(layer, places, replace(context, places=none))
        return attended.unflatten(0, (-1, hidden.shape[1])).transpose(1, 2).flatten(0, 1)

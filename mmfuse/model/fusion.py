"""Fusions: from frame features and class embeddings to one logit a class.

`joint` is the fusion transformer of this suite; the others are the plainer rivals that it must beat. All share one
interface, `fusion(frames, classes) -> logits`, and differ in what may interact with what:

    mean, pool      no transformer: pooled frames against classes
    late            a transformer over the frames alone, then against classes
    cross           classes ask the frames
    joint, plain    one transformer over [VIDEO], frames and classes
    linear, concat  no text at all: linear probes

Shapes: B clips, T frames, F width of a frame feature, C classes, E width of a class embedding, W width of the fusion.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfuse.errors import MmfuseError, unknown, unknown_argument
from mmfuse.utils.seeding import seeded

INITIAL_TEMPERATURE = 14.0  # about CLIP's 1/0.07


def centred(classes: Tensor) -> Tensor:
    """Class embeddings without what they have in common.

    The embeddings of one template are nearly collinear (cosines of 0.98), so what tells classes apart is small beside
    what they share. Each is L2-normalised, the mean over the classes is taken away, and the rest is rescaled to a mean
    square of one a channel. The order of the classes plays no part.

    Args:
        classes: class embeddings, (C, E).

    Returns:
        (C, E); zeros where there is one class only, which has nothing to be told apart from.
    """
    unit = functional.normalize(classes, dim=-1)
    rest = unit - unit.mean(dim=0, keepdim=True)
    return rest / rest.square().mean().sqrt().clamp_min(1e-6)


class OrderedPooling(nn.Module):
    """Temporal pooling that knows the order: each channel has a learned weight for each frame.

    A depth-wise filter as long as the clip. The filters start as the first cosines over the clip, dealt out to the
    channels in turn: the mean, the drift from beginning to end, and faster swings. Motions are smooth, so these tell
    more from few clips than random filters do.

    Args:
        frames: T.
        width: W.
        cosines: how many different cosines to start from; at most T are different.

    Shapes: (B, T, W) -> (B, W).
    """

    def __init__(self, frames: int, width: int, *, cosines: int = 4) -> None:
        super().__init__()
        wave = torch.arange(width) % min(cosines, frames)
        place = (torch.arange(frames) + 0.5) / frames
        self.weight = nn.Parameter(math.sqrt(2 / frames) * torch.cos(math.pi * place[:, None] * wave))

    def forward(self, frames: Tensor) -> Tensor:
        """Weighted sum over the frames."""
        return torch.einsum("btw,tw->bw", frames, self.weight)  # (B, T, W) -> (B, W)


class CosineHead(nn.Module):
    """Logit of a class: τ · cos(video, class), with a learned τ (Radford et al. 2021, CLIP, section 2.3).

    Shapes: video (B, W) or (B, C, W), classes (C, W) or (B, C, W) -> (B, C).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(INITIAL_TEMPERATURE)))

    def forward(self, video: Tensor, classes: Tensor) -> Tensor:
        """Scaled cosines."""
        video = video.unsqueeze(1) if video.ndim == 2 else video  # (B, 1 or C, W)
        cosine = functional.cosine_similarity(video, classes.expand(len(video), -1, -1), dim=-1)  # (B, C)
        return self.log_temperature.exp().clamp(max=100) * cosine


class Fusion(nn.Module):
    """Interface of the fusions.

    Args:
        frame_width: F.
        class_width: E.
        frames: T.
        classes: C at training.

    Attributes:
        open_vocabulary: text is an input, so classes may be others than those trained on.
        sees_order: shuffling the frames changes the logits.
    """

    open_vocabulary = True
    sees_order = True

    def __init__(self, *, frame_width: int, class_width: int, frames: int, classes: int) -> None:
        super().__init__()
        for name, value in (("frame_width", frame_width), ("class_width", class_width), ("frames", frames)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """Frame features (B, T, F) and class embeddings (C, E) to logits (B, C)."""
        raise NotImplementedError


class Projected(Fusion):
    """Base of the fusions that read text: projections of both inputs to one width, and a cosine head.

    Args:
        width: W.
        dropout: probability in the transformer and before the head.
    """

    def __init__(
        self, *, frame_width: int, class_width: int, frames: int, classes: int, width: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__(frame_width=frame_width, class_width=class_width, frames=frames, classes=classes)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.width = width
        self.frame_projection = nn.Sequential(nn.LayerNorm(frame_width), nn.Linear(frame_width, width))
        self.class_projection = nn.Linear(class_width, width)
        self.dropout = nn.Dropout(dropout)
        self.head = CosineHead()


class Pool(Projected):
    """Ordered temporal pooling alone, then cosine with the projected text."""

    def __init__(self, *, frames: int, width: int = 256, **shared: Any) -> None:
        super().__init__(frames=frames, width=width, **shared)
        self.pooling = OrderedPooling(frames, width)

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """See `Fusion.forward`."""
        video = self.dropout(self.pooling(self.frame_projection(frames)))  # (B, T, F) -> (B, T, W) -> (B, W)
        return self.head(video, self.class_projection(centred(classes)))  # (B, W), (C, W) -> (B, C)


class Mean(Projected):
    """The mean of the frames against the projected text: no order, no transformer."""

    sees_order = False

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """See `Fusion.forward`."""
        video = self.dropout(self.frame_projection(frames).mean(dim=1))  # (B, T, F) -> (B, T, W) -> (B, W)
        return self.head(video, self.class_projection(centred(classes)))  # (B, W), (C, W) -> (B, C)


class Joint(Projected):
    """The fusion transformer: [VIDEO], frames and classes attend to each other, added through a gate.

    [VIDEO] starts as an ordered pooling of the frames. What the transformer finds is added through a scalar gate that
    starts at zero, so that training begins at `Pool` and leaves it only where that pays.

    Args:
        layers: transformer layers.
        heads: attention heads; W must be a multiple.
        gated: whether the gate and the ordered pooling are there; without them this is `Plain`.
    """

    gated = True

    def __init__(
        self, *, frames: int, width: int = 256, layers: int = 2, heads: int = 4, dropout: float = 0.1, **shared: Any
    ) -> None:
        super().__init__(frames=frames, width=width, dropout=dropout, **shared)
        self.time = nn.Parameter(0.5 * torch.randn(frames, width))
        self.modality = nn.Parameter(0.02 * torch.randn(3, width))
        self.transformer = transformer(width, layers=layers, heads=heads, dropout=dropout)
        if self.gated:
            self.pooling = OrderedPooling(frames, width)
            self.gate = nn.Parameter(torch.zeros(()))
        else:
            self.video = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """See `Fusion.forward`."""
        frames = self.frame_projection(frames)  # (B, T, F) -> (B, T, W)
        video = self.pooling(frames) if self.gated else self.video.expand(len(frames), -1)  # (B, W)
        named = self.class_projection(centred(classes)).expand(len(frames), -1, -1)  # (C, E) -> (B, C, W)
        tokens = torch.cat([video.unsqueeze(1), frames + self.time, named], dim=1)  # (B, 1 + T + C, W)
        kinds = torch.cat(
            [
                self.modality[:1],
                self.modality[1:2].expand(frames.shape[1], -1),
                self.modality[2:].expand(len(classes), -1),
            ]
        )  # (1 + T + C, W)
        mixed = self.transformer(tokens + kinds)  # the same shape as the tokens
        fused = tokens + self.gate * mixed if self.gated else mixed
        return self.head(self.dropout(fused[:, 0]), fused[:, 1 + frames.shape[1] :])  # (B, W), (B, C, W) -> (B, C)


class Plain(Joint):
    """A joint transformer as most papers draw it: a learned [VIDEO] token, neither ordered pooling nor gate."""

    gated = False


class Late(Projected):
    """A transformer over [VIDEO] and the frames alone; text enters at the cosine."""

    def __init__(
        self, *, frames: int, width: int = 256, layers: int = 2, heads: int = 4, dropout: float = 0.1, **shared: Any
    ) -> None:
        super().__init__(frames=frames, width=width, dropout=dropout, **shared)
        self.time = nn.Parameter(0.5 * torch.randn(frames, width))
        self.video = nn.Parameter(0.02 * torch.randn(width))
        self.transformer = transformer(width, layers=layers, heads=heads, dropout=dropout)

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """See `Fusion.forward`."""
        frames = self.frame_projection(frames) + self.time  # (B, T, F) -> (B, T, W)
        tokens = torch.cat([self.video.expand(len(frames), 1, -1), frames], dim=1)  # (B, 1 + T, W)
        video = self.dropout(self.transformer(tokens)[:, 0])  # (B, W)
        return self.head(video, self.class_projection(centred(classes)))  # (B, W), (C, W) -> (B, C)


class Cross(Projected):
    """Classes ask the frames: each class gathers its own view of the clip by cross-attention."""

    def __init__(
        self, *, frames: int, width: int = 256, layers: int = 2, heads: int = 4, dropout: float = 0.1, **shared: Any
    ) -> None:
        super().__init__(frames=frames, width=width, dropout=dropout, **shared)
        _check_sizes(width, layers=layers, heads=heads)
        self.time = nn.Parameter(0.5 * torch.randn(frames, width))
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(width))

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """See `Fusion.forward`."""
        frames = self.frame_projection(frames) + self.time  # (B, T, F) -> (B, T, W)
        named = self.class_projection(centred(classes)).expand(len(frames), -1, -1)  # (C, E) -> (B, C, W)
        gathered = self.dropout(self.transformer(named, frames))  # a view of the clip for each class, (B, C, W)
        return self.head(gathered, named)  # (B, C)


class Linear(Fusion):
    """A linear probe on the mean frame, without text (as in Oquab et al. 2023, DINOv2, table 7)."""

    open_vocabulary = False
    sees_order = False

    def __init__(self, *, frame_width: int, classes: int, **shared: Any) -> None:
        super().__init__(frame_width=frame_width, classes=classes, **shared)
        self.probe = nn.Sequential(nn.LayerNorm(frame_width), nn.Linear(frame_width, classes))

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """See `Fusion.forward`; `classes` only says which ones are asked for, and is not read."""
        return self.probe(frames.mean(dim=1))  # (B, T, F) -> (B, F) -> (B, C)


class Concat(Fusion):
    """A linear probe on the concatenated frames, without text: what a fusion must beat."""

    open_vocabulary = False

    def __init__(self, *, frame_width: int, frames: int, classes: int, **shared: Any) -> None:
        super().__init__(frame_width=frame_width, frames=frames, classes=classes, **shared)
        self.norm = nn.LayerNorm(frame_width)
        self.probe = nn.Linear(frames * frame_width, classes)

    def forward(self, frames: Tensor, classes: Tensor) -> Tensor:
        """See `Fusion.forward`; `classes` is not read."""
        return self.probe(self.norm(frames).flatten(1))  # (B, T, F) -> (B, T·F) -> (B, C)


FUSIONS: dict[str, type[Fusion]] = {
    "joint": Joint,
    "cross": Cross,
    "late": Late,
    "pool": Pool,
    "plain": Plain,
    "mean": Mean,
    "linear": Linear,
    "concat": Concat,
}


def transformer(width: int, *, layers: int, heads: int, dropout: float) -> nn.TransformerEncoder:
    """Pre-norm transformer layers (Xiong et al. 2020) with a final norm; a width of 4·W in the MLP."""
    _check_sizes(width, layers=layers, heads=heads)
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)


def _check_sizes(width: int, *, layers: int, heads: int) -> None:
    if layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    if heads < 1 or width % heads:
        raise ValueError(f"a width of {width} cannot be shared by {heads} heads")


def build_fusion(
    spec: str | dict[str, Any],
    *,
    frame_width: int,
    class_width: int,
    frames: int,
    classes: int,
    generator: torch.Generator,
) -> Fusion:
    """Build a fusion by name, or by name with arguments (`{"kind": "joint", "width": 512, "layers": 2}`).

    Raises:
        MmfuseError: no such fusion, or an argument it does not take or cannot work with.
    """
    given = {"kind": spec} if isinstance(spec, str) else dict(spec)
    kind = given.pop("kind", "joint")
    if kind not in FUSIONS:
        raise unknown("fusion", kind, FUSIONS)
    fixed = {"frame_width": frame_width, "class_width": class_width, "frames": frames, "classes": classes}
    accepted = [name for name in _arguments(FUSIONS[kind]) if name not in fixed]
    for key in given:
        if key not in accepted:
            known = {name: set(_arguments(fusion)) - fixed.keys() for name, fusion in FUSIONS.items()}
            raise unknown_argument("fusion", kind, key, known)
    try:
        with seeded(generator):
            return FUSIONS[kind](**fixed, **given)
    except (TypeError, ValueError) as error:
        raise MmfuseError(f"fusion {kind!r}: {error}") from error


def _arguments(kind: type[Fusion]) -> list[str]:
    """Keyword arguments of a fusion, those of its bases included."""
    names: dict[str, None] = {}
    for base in kind.__mro__:
        if issubclass(base, Fusion) and "__init__" in vars(base):
            for parameter in inspect.signature(base.__init__).parameters.values():
                if parameter.kind is parameter.KEYWORD_ONLY:
                    names[parameter.name] = None
    return list(names)

"""Which of a video's frames decided: each frame's share, by integrated gradients, and a picture of it.

What is shown is exactly this. A frame reaches the fusion as a feature. Let m(x) be the logit of the class that was
named, less the mean of all logits (what softmax sees of it), where x holds the features of all frames; let g hold the
features of an evenly grey clip, in the mean colour of the image tower's pixels, which shows nothing. Along the straight
line from g to x, a frame's contribution is the integral of the gradient of m with respect to its features, times how
far these features move, added up over the features:

    contribution of frame t = sum_f (x_tf - g_tf) · integral over a from 0 to 1 of dm/dx_tf at g + a (x - g)

(M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", ICML 2017, eq. 1 and proposition 1.) The
contributions of all frames add up to m(x) - m(g), a frame that looks as the grey one does gets none, and frames that
are alike, in a fusion that knows no order, get the same. It works for any fusion, needs no random numbers, and its cost
does not grow with the number of subsets of frames as that of Shapley's value does.

It says what the decision rests on in this model. It does not say what would happen if a frame were cut out of the
video, and where the tower itself mixes frames over time (ST-Adapter, AIM), a frame's feature holds some of the others.

Shapes: T frames, F width of a frame feature, C classes, E width of a class embedding, S side of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmfuse.data.batches import Request
from mmfuse.data.frames.sampling import Chooser, Indices, segment_centres
from mmfuse.data.frames.video import Damaged, probe, read_counted
from mmfuse.data.frames.views import ONE_VIEW
from mmfuse.inference.predict import Prediction, Vocabulary, as_prediction, as_test_clips, evaluating, sampling_of

if TYPE_CHECKING:
    from mmfuse.model.fusion import Fusion
    from mmfuse.model.recognizer import ActionRecognizer

POINTS = 32
"""At which the integral is read, by Gauss and Legendre's rule: exact for polynomials of degree 63."""


@dataclass(frozen=True)
class Explanation:
    """A prediction, and what each sampled frame adds to it."""

    prediction: Prediction
    pictures: NDArray[np.uint8]
    """The frames as the model saw them, (T, S, S, 3)."""
    numbers: tuple[int, ...]
    """Which frames of the video they are, from 0."""
    count: int
    """How many frames the video has."""
    frames_per_second: float
    """As the file says; 0 where it does not."""
    contributions: tuple[float, ...]
    """Of each frame, in units of the logit; below 0 where the frame speaks for other classes."""
    grey: float
    """m(g): the logit of the class above the mean of all, for a clip that shows nothing."""
    margin: float
    """m(x): the same for this video. `grey` and all contributions add up to it."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Contributions as parts of the sum of their sizes, with their signs; all 0 where there are none.

        For frames that all speak for the class they are the parts of the whole.
        """
        whole = sum(map(abs, self.contributions))
        return tuple(part / whole if whole else 0.0 for part in self.contributions)


def explain(model: ActionRecognizer, path: str | Path, words: Vocabulary, *, damaged: Damaged = "error") -> Explanation:
    """Name the action in one video by its centre view, and find each frame's share in that decision.

    Args:
        model: a trained recogniser.
        path: the video.
        words: the classes to tell apart, from `mmfuse.inference.predict.vocabulary`.
        damaged: what to do with a damaged video: "error", or "keep" what can be read of it.

    Raises:
        MmfuseError: the video cannot be read, or the recogniser does not know how frames are taken.
    """
    sampling = replace(sampling_of(model), test_views=ONE_VIEW)
    source = _Counting(sampling.short_side, damaged)
    video = as_test_clips([Path(path)], sampling, source)[Request(0, [0])]["video"]
    with torch.no_grad(), evaluating(model):
        seen = model.frame_features(video.to(model.device))
        grey = torch.zeros_like(video, dtype=torch.float32, device=model.device)
        nothing = model.frame_features(grey, normalised=True)
        logits = model.fusion(torch.cat([seen, nothing]), words.embeddings).float()
    named = int(logits[0].argmax())
    margins = (logits[:, named] - logits.mean(dim=1)).tolist()
    with evaluating(model):
        parts = contributions(model.fusion, seen[0], nothing[0], classes=words.embeddings, named=named)
        # A video tower gives one feature for some frames, which share its part.
        together = model.image_tower.tubelet
        parts = parts.repeat_interleave(together) / together
    return Explanation(
        prediction=as_prediction(Path(path), logits[0].softmax(dim=-1).cpu(), words),
        pictures=video[0].permute(0, 2, 3, 1).numpy(),
        numbers=tuple(segment_centres(source.count, sampling.frames).tolist()),
        count=source.count,
        frames_per_second=probe(path).frames_per_second,
        contributions=tuple(parts.cpu().tolist()),
        grey=margins[1],
        margin=margins[0],
    )


class _Counting:
    """Frames from the file, as `mmfuse.data.frames.sources.DecodedFrames` gives them, and how many the file has."""

    def __init__(self, short_side: int, damaged: Damaged) -> None:
        self._short_side = short_side
        self._damaged = damaged
        self.count = 0

    def pick(self, path: str, choose: Chooser) -> tuple[NDArray[np.uint8], Indices]:
        """As in `FrameSource`."""
        frames, self.count = read_counted(path, choose, short_side=self._short_side, damaged=self._damaged)
        return frames, np.arange(len(frames))


def contributions(
    fusion: Fusion, seen: Tensor, nothing: Tensor, *, classes: Tensor, named: int, points: int = POINTS
) -> Tensor:
    """Integrated gradients of a class's logit, less the mean of all logits, added up over each frame's features.

    Args:
        fusion: in evaluation mode.
        seen: features of the frames, (T, F).
        nothing: features of frames that show nothing, (T, F).
        classes: class embeddings, (C, E).
        named: the class.
        points: at which the path from `nothing` to `seen` is looked at.

    Returns:
        One number a frame, (T,).
    """
    places, weights = (torch.from_numpy(part).to(seen) for part in np.polynomial.legendre.leggauss(points))
    places, weights = (places + 1) / 2, weights / 2  # from [-1, 1] to [0, 1]
    way = seen - nothing
    with torch.enable_grad():
        path = (nothing + places[:, None, None] * way).detach().requires_grad_()
        logits = fusion(path, classes.detach())
        [slope] = torch.autograd.grad((logits[:, named] - logits.mean(dim=1)).sum(), path)
    return (torch.einsum("p,ptf->tf", weights, slope) * way).sum(dim=-1)

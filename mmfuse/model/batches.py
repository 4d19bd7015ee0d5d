"""The forms of a batch that a recogniser takes: those of the data module, and those that other loaders give.

Shapes: B clips, V views of a clip, T frames, H × W pixels, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmfuse.errors import MmfuseError

VIEWS_AT_ONCE = 16
"""Of test clips; without gradients they take less memory than a training step on as many clips."""

FORMS = "a batch is a dictionary with video (and label, index), or (video, label)"


def as_batch(given: Any, *, classes: int | None) -> dict[str, Tensor]:
    """A batch as a dictionary, with labels in int64.

    On a GPU the range of the labels is not checked here, as each step would wait for the answer: see `check_range`.

    Args:
        given: `{"video": (B, T, 3, H, W), "label": (B,), "index": (B,)}`, where "features" may stand for "video" and
            "index" may be left out; or a tuple or list (video, label); or, for prediction, the video alone. For tests
            and predictions a video may come in several views, (B, V, T, 3, H, W).
        classes: C, where every clip needs a label from 0 to C - 1; None where labels are not needed.

    Raises:
        MmfuseError: something else, or labels that are missing, no class numbers, or not one for each clip; or places
            in the test list that are not one for each clip.
    """
    if isinstance(given, Mapping):
        batch = dict(given)
    elif isinstance(given, Tensor):
        batch = {"video": given}
    elif isinstance(given, tuple | list) and len(given) in (1, 2, 3):
        batch = dict(zip(("video", "label", "index"), given, strict=False))
    else:
        raise MmfuseError(f"{FORMS}; got {type(given).__name__}")
    clips = batch.get("features", batch.get("video"))
    if not isinstance(clips, Tensor):
        raise MmfuseError(f"{FORMS}; got no tensor of clips, but {', '.join(map(str, batch))[:200] or 'nothing'}")
    if classes is not None:
        labels = batch.get("label")
        if not isinstance(labels, Tensor) or labels.shape != clips.shape[:1] or not _whole(labels):
            hint = "; for one-hot labels give label.argmax(dim=1)" if _one_hot(labels, clips, classes) else ""
            raise MmfuseError(f"{FORMS}, with one whole number a clip for label; got {_described(labels)}{hint}")
        batch["label"] = labels.long()
        if labels.device.type == "cpu":
            check_range(labels, classes=classes)
    index = batch.get("index")
    if index is not None and not (isinstance(index, Tensor) and index.shape == clips.shape[:1] and _whole(index)):
        raise MmfuseError(f"{FORMS}, with one whole number a clip for index; got {_described(index)}")
    return batch


def check_range(labels: Tensor, *, classes: int) -> None:
    """Refuse labels that name no class.

    Torch's cross-entropy leaves out clips of label -100 without a word, so that the loss would be of fewer clips.

    Args:
        labels: whole numbers, (B,).
        classes: C.

    Raises:
        MmfuseError: a label is not in 0 to C - 1.
    """
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        found = ", ".join(map(str, labels[outside].unique().tolist()[:5]))
        raise MmfuseError(f"labels are class numbers from 0 to {classes - 1}; got {found}")


def _whole(numbers: Tensor) -> bool:
    """Whether a tensor is of a type of whole numbers, which truth values are not."""
    return not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)


def _one_hot(labels: Any, clips: Tensor, classes: int) -> bool:
    """Whether labels look one-hot, (B, C)."""
    return isinstance(labels, Tensor) and labels.shape == (*clips.shape[:1], classes)


def mean_over_views(probabilities: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """Probabilities of clips that are seen in several views: the mean of those of each view.

    Args:
        probabilities: from clips in one view each, (B, …), to (B, C).
        clips: (B, V, …); at most `VIEWS_AT_ONCE` views go through at a time.

    Returns:
        (B, C).
    """
    parts = [probabilities(part) for part in clips.flatten(0, 1).split(VIEWS_AT_ONCE)]
    return torch.cat(parts).unflatten(0, clips.shape[:2]).mean(dim=1)


def refuse_floats(video: Tensor) -> None:
    """Refuse pixels of which nobody can tell whether they are 0…1, 0…255 or normalised.

    Raises:
        MmfuseError: the pixels are floats, truth values, or whole numbers outside of 0…255.
    """
    if video.dtype == torch.uint8:
        return
    told = "clips are pixels of 0…255 in whole numbers, such as uint8; got"
    if video.is_floating_point() or video.is_complex():
        raise MmfuseError(
            f"{told} {video.dtype}: "
            "for pixels of 0…1 give (255 * video).round().to(torch.uint8), for pixels of 0…255 video.to(torch.uint8)"
        )
    if video.dtype == torch.bool:
        raise MmfuseError(f"{told} {video.dtype}: for black and white give 255 * video.to(torch.uint8)")
    if video.numel() and (video.min() < 0 or video.max() > 255):
        raise MmfuseError(f"{told} {video.dtype} from {int(video.min())} to {int(video.max())}")


def with_index(batch: Mapping[str, Tensor], *, seen: int, rank: int, processes: int) -> Tensor:
    """The places of a batch's clips in the list, (B,): as it says, or counted where it does not.

    Args:
        batch: the batch.
        seen: clips of earlier batches in this process.
        rank, processes: which process this is, of how many; torch's sampler deals the clips out to them in turn.
    """
    if "index" in batch:
        return batch["index"]
    labels = batch["label"]
    return torch.arange(seen, seen + len(labels), device=labels.device) * processes + rank


def _described(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.60}"

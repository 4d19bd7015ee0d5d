"""Naming the action in videos: where a trained recogniser meets files.

Videos are seen as test clips are: the centre frame of each segment and the centre crop, or the several views that the
checkpoint was tested with, with the frames and sizes that it was trained with.

Shapes: B videos, V views of a video, T frames, S side of a frame, C classes, E width of a class embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from mmfuse.data.batches import ClipBatches, Request
from mmfuse.data.catalogue.walk import described, walk
from mmfuse.data.frames.sources import DecodedFrames, FrameSource
from mmfuse.data.frames.video import Damaged
from mmfuse.data.frames.views import ONE_VIEW, Views
from mmfuse.errors import MmfuseError, MmfuseWarning, one_line
from mmfuse.methods.sentences import check_sentences, of_model
from mmfuse.model.batches import mean_over_views
from mmfuse.utils.processes import usable_cores

if TYPE_CHECKING:
    from mmfuse.model.recognizer import ActionRecognizer

BATCH_SIZE = 8
"""Videos that go through the towers together."""

LONGEST_SIDE = 4096
"""Pixels; what asks for more is no checkpoint to be trusted."""


@dataclass(frozen=True)
class ClipFormat:
    """How frames are taken from a video."""

    frames: int
    """T"""
    size: int
    """S"""
    short_side: int
    """Pixels that the shorter side is scaled to before the centre is cut out."""
    test_views: Views = ONE_VIEW
    """Clips and crops of a video, whose probabilities are averaged."""


@dataclass(frozen=True)
class Prediction:
    """What a recogniser says of one video.

    >>> told = Prediction(Path("a.mp4"), ("waving", "jumping"), (0.75, 0.25))
    >>> told.label, told.probability
    ('waving', 0.75)
    >>> print(told)
    a.mp4: waving 75.0%, jumping 25.0%
    """

    path: Path
    labels: tuple[str, ...] = ()
    """All classes by name, the likeliest first; empty where the video cannot be read."""
    probabilities: tuple[float, ...] = ()
    """Of `labels`, in their order; they add up to 1."""
    zero_shot: bool = False
    """Whether some of the classes are none that the recogniser was trained on."""
    error: str | None = None
    """Why there is no answer, where there is none."""

    @property
    def label(self) -> str:
        """The likeliest class.

        Raises:
            MmfuseError: the video could not be read.
        """
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """Of the likeliest class.

        Raises:
            MmfuseError: the video could not be read.
        """
        return self.top(1)[0][1]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The likeliest classes with their probabilities.

        Raises:
            MmfuseError: the video could not be read.
        """
        if self.error is not None:
            raise MmfuseError(self.error)
        return list(zip(self.labels[:count], self.probabilities[:count], strict=True))

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        more = ", …" if len(self.labels) > 3 else ""
        return f"{self.path}: " + ", ".join(f"{name} {100 * share:.1f}%" for name, share in self.top(3)) + more


@dataclass(frozen=True)
class Vocabulary:
    """The classes that are told apart."""

    names: tuple[str, ...]
    embeddings: Tensor
    """(C, E)"""
    new: tuple[str, ...] = ()
    """Those that the recogniser was not trained on."""


def predict(
    model: ActionRecognizer | str | Path,
    paths: str | Path | Iterable[str | Path],
    *,
    classes: Sequence[str] | None = None,
    prompts: Mapping[str, Sequence[str]] | None = None,
    batch_size: int = BATCH_SIZE,
    damaged: Damaged = "error",
) -> list[Prediction]:
    """Name the action in videos.

    Args:
        model: a trained recogniser that knows how frames are taken (from a checkpoint, or fitted on a data module), the
            folder of a checkpoint, or owner/name of one on the hub.
        paths: video files, and folders whose videos are meant, those in their subfolders included.
        classes: other names than those trained on, as words for prompts ("playing the cello"); see `vocabulary`.
        prompts: the same, with sentences for each class in the place of the templates.
        batch_size: videos that go through the towers together.
        damaged: what to do with damaged files: "error", or "keep" what can be read of them.

    Returns:
        One result a video in the order asked for, folders in name order. A video that cannot be read has an `error`
        and no labels; the others are answered all the same.

    Raises:
        MmfuseError: nothing is named that could be read, the folder holds no checkpoint, or the recogniser cannot do
            what is asked.

    Warns:
        MmfuseWarning: files of a folder were passed over, since they show no video.

    Each video is seen as uint8 (1, T, 3, S, S).

    >>> from mmfuse import ActionRecognizer, FewShotVideoDataModule, predict
    >>> data = FewShotVideoDataModule("tiny", shots=1)
    >>> data.prepare_data()
    >>> model = ActionRecognizer(["waving", "jumping"])
    >>> model.sampling = {"frames": 8, "size": 64, "short_side": 64}  # which training, and a checkpoint, bring along
    >>> [prediction] = predict(model, data.test_clips["path"][0])
    >>> sorted(prediction.labels), round(sum(prediction.probabilities), 3)
    (['jumping', 'waving'], 1.0)
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found = find_videos(given)
    if isinstance(model, str | Path):
        from mmfuse.model.recognizer import ActionRecognizer  # with torch's heavier half

        model = ActionRecognizer.from_checkpoint(model)
    words = vocabulary(model, classes, prompts=prompts)
    return list(iter_predictions(model, found, words, batch_size=batch_size, damaged=damaged))


def find_videos(paths: Sequence[str | Path]) -> dict[Path, str | None]:
    """The videos that files and folders stand for, each once; with the reason, where a name stands for none.

    Raises:
        MmfuseError: there is no video at all.
    """
    found: dict[Path, str | None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            below = walk(path)
            found |= dict.fromkeys(below.videos)
            found |= {place: f"{place}: the folder cannot be read ({why})" for place, why in below.unreadable.items()}
            more = f"{described(below.passed_over.items(), below=path)}" if below.passed_over else ""
            if not below.videos and not below.unreadable:
                inside = f" ({more})" if more else ""
                found[path] = f"{path}: the folder holds no video{inside}; name another folder, or a video by its file"
            elif more:
                warnings.warn(f"{path}: {more}", MmfuseWarning, stacklevel=2)
        else:
            found[path] = None if path.exists() else f"{path}: there is no such video; check its path"
    faults = [fault for fault in found.values() if fault is not None]
    if len(faults) == len(found):
        raise MmfuseError("\n".join(faults) or "no video is named; give a video file, or a folder of them")
    return found


def vocabulary(
    model: ActionRecognizer,
    classes: Sequence[str] | None = None,
    *,
    prompts: Mapping[str, Sequence[str]] | None = None,
) -> Vocabulary:
    """The classes that a recogniser is to tell apart: those it was trained on, or others by name.

    Text is an input of most fusions, so that a class needs no training clip of its own to be named. Class embeddings
    are centred over the classes given: an answer says which of *these* names fits best, and other company changes it.

    Args:
        model: the recogniser.
        classes: names as words for prompts; `None` for those trained on, or for those of `prompts`.
        prompts: sentences by class, in the place of the templates.

    Raises:
        MmfuseError: fewer than two classes, a name twice, sentences of other classes, or a fusion that reads no text.
    """
    if prompts is not None:
        classes = list(check_sentences(prompts)) if classes is None else classes
        prompts = of_model(prompts, classes)
    if classes is None:
        with torch.no_grad(), evaluating(model):
            return Vocabulary(tuple(model.class_names), model.class_embeddings())
    if not model.fusion.open_vocabulary:
        kind = type(model.fusion).__name__.lower()
        raise MmfuseError(
            f"this recogniser's fusion {kind!r} reads no text: it has one output for each class it was trained on, and "
            "cannot name others; leave the class names out, or train with a fusion that reads them, such as joint"
        )
    with torch.no_grad(), evaluating(model):
        embeddings = model.class_embeddings(classes, prompts=prompts)
    known = set(model.class_names)
    return Vocabulary(tuple(classes), embeddings, tuple(name for name in classes if name not in known))


def iter_predictions(
    model: ActionRecognizer,
    found: Mapping[Path, str | None],
    words: Vocabulary,
    *,
    batch_size: int = BATCH_SIZE,
    damaged: Damaged = "error",
) -> Iterator[Prediction]:
    """Predictions one after the other, in the order of `found`, from `find_videos`.

    Raises:
        MmfuseError: the recogniser does not know how frames are taken.
    """
    if batch_size < 1:
        raise MmfuseError(f"batch_size counts from 1; got {batch_size}")
    videos = [path for path, fault in found.items() if fault is None]
    told = _read_and_answer(model, videos, words, batch_size=batch_size, damaged=damaged)
    for path, fault in found.items():
        yield next(told) if fault is None else Prediction(path, zero_shot=bool(words.new), error=fault)


def _read_and_answer(
    model: ActionRecognizer, videos: Sequence[Path], words: Vocabulary, *, batch_size: int, damaged: Damaged
) -> Iterator[Prediction]:
    """Predictions of videos; while a batch is in the towers, the next one is decoded."""
    sampling = sampling_of(model)
    clips = as_test_clips(videos, sampling, DecodedFrames(short_side=sampling.short_side, damaged=damaged))
    batch_size = max(1, batch_size // sampling.test_views.count)
    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding lets other threads run

        def begin(start: int) -> list[tuple[Path, Future[Tensor | str]]]:
            rows = range(start, min(start + batch_size, len(videos)))
            return [(videos[row], pool.submit(_read, clips, row)) for row in rows]

        waiting = begin(0)
        for start in range(batch_size, len(videos) + batch_size, batch_size):
            ahead = begin(start)
            yield from _answer(model, waiting, words)
            waiting = ahead


def _read(clips: ClipBatches, row: int) -> Tensor | str:
    """One video's frames, (1, T, 3, S, S) or in several views (1, V, T, 3, S, S), or why there are none."""
    try:
        return clips[Request(0, [row])]["video"]
    except MmfuseError as error:
        return str(error)


def _answer(
    model: ActionRecognizer, waiting: Sequence[tuple[Path, Future[Tensor | str]]], words: Vocabulary
) -> Iterator[Prediction]:
    read = [(path, future.result()) for path, future in waiting]
    videos = [video for _, video in read if isinstance(video, Tensor)]
    rows = iter(probabilities_of(model, torch.cat(videos), words) if videos else ())
    for path, video in read:
        if isinstance(video, str):
            yield Prediction(path, zero_shot=bool(words.new), error=one_line(video))
        else:
            yield as_prediction(path, next(rows), words)


def probabilities_of(model: ActionRecognizer, video: Tensor, words: Vocabulary) -> Tensor:
    """Probabilities of the classes, (B, C) on the CPU, of clips, uint8 (B, T, 3, S, S) or (B, V, T, 3, S, S)."""

    def of_views(video: Tensor) -> Tensor:
        logits = model.fusion(model.frame_features(video.to(model.device)), words.embeddings)
        return logits.float().softmax(dim=-1)

    with torch.no_grad(), evaluating(model):
        return (of_views(video) if video.ndim == 5 else mean_over_views(of_views, video)).cpu()


@contextmanager
def evaluating(model: ActionRecognizer) -> Iterator[None]:
    """Without drop-out, and then again in the mode that the model was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def as_prediction(path: Path, probabilities: Tensor, words: Vocabulary) -> Prediction:
    """Probabilities of the classes, (C,), in words; equal ones in the order of the classes."""
    ordered = probabilities.sort(descending=True, stable=True)
    return Prediction(
        path,
        tuple(words.names[index] for index in ordered.indices.tolist()),
        tuple(ordered.values.tolist()),
        zero_shot=bool(words.new),
    )


def sampling_of(model: ActionRecognizer) -> ClipFormat:
    """How a recogniser's frames are taken from videos.

    Raises:
        MmfuseError: it does not know, or what it says does not fit it.
    """
    if not model.sampling:
        raise MmfuseError(
            "this recogniser does not know how frames are taken from videos: load it from a checkpoint that "
            "`mmfuse train` wrote, or write one with save_trained(folder, sampling=data.sampling)"
        )
    try:
        size, short_side = int(model.sampling["size"]), int(model.sampling["short_side"])
        told = int(model.sampling.get("frames", model.frames))
        views = Views.parse(model.sampling.get("test_views", str(ONE_VIEW)))
    except (ArithmeticError, KeyError, TypeError, ValueError, MmfuseError):
        told = size = short_side = 0
        views = ONE_VIEW
    if told != model.frames or not 1 <= size <= short_side <= LONGEST_SIDE:
        raise MmfuseError(
            f"the checkpoint's sampling, {model.sampling!r:.200}, does not fit a recogniser of {model.frames} frames; "
            "train it again with mmfuse train"
        )
    model.image_tower.check_size(size)
    return ClipFormat(model.frames, size, short_side, views)


def as_test_clips(videos: Sequence[Path], sampling: ClipFormat, source: FrameSource) -> ClipBatches:
    """Videos, seen as test clips are: centre frames and centre crop, or several views."""
    table = pd.DataFrame({"clip": [path.stem for path in videos], "label": 0, "path": [str(path) for path in videos]})
    return ClipBatches(
        table, source=source, frames=sampling.frames, size=sampling.size, training=False, test_views=sampling.test_views
    )

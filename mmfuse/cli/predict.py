"""`mmfuse predict`: name the action in any video."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmfuse.bench.prompt_files import read_prompts
from mmfuse.bench.run_cell import quiet
from mmfuse.cli.common import DONE, FAILED, complain, notes, out, print_json
from mmfuse.data.frames.video import Damaged
from mmfuse.errors import MmfuseError
from mmfuse.inference.predict import Prediction, Vocabulary, find_videos, iter_predictions, vocabulary
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.utils.files import user_path
from mmfuse.utils.progress import progress_bar


@dataclass(frozen=True)
class PredictRequest:
    """What the user asked for."""

    checkpoint: str
    videos: Sequence[Path]
    top: int = 5
    classes: str | None = None
    prompts: Path | None = None
    explain: Path | None = None
    revision: str | None = None
    image_encoder: str | None = None
    text_encoder: str | None = None
    batch_size: int = 8
    damaged: Damaged = "error"
    json: bool = False


def predict(request: PredictRequest) -> int:
    """Print the likeliest classes of each video; returns the exit code.

    A video that cannot be read is named on stderr, and the others are answered.

    Raises:
        MmfuseError: no checkpoint, no video, or nothing to show.
    """
    if request.top < 1:
        raise MmfuseError(f"--top counts from 1; got {request.top}")
    if request.batch_size < 1:
        raise MmfuseError(f"--batch-size counts from 1; got {request.batch_size}")
    if request.classes is not None and request.prompts is not None:
        raise MmfuseError("--prompts names its classes itself; leave --classes out")
    names = None if request.classes is None else class_names(request.classes)
    prompts = None if request.prompts is None else read_prompts(user_path(request.prompts))
    found = find_videos(request.videos)
    if request.explain is not None:
        _check_picture(request.explain, list(found))
    with quiet():
        model = ActionRecognizer.from_checkpoint(
            request.checkpoint,
            revision=request.revision,
            image_encoder=request.image_encoder,
            text_encoder=request.text_encoder,
        )
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    words = vocabulary(model, names, prompts=prompts)
    if request.explain is not None:
        told = _explained(model, next(iter(found)), words, request)
    else:
        told = _with_bar(
            iter_predictions(model, found, words, batch_size=request.batch_size, damaged=request.damaged), len(found)
        )
    return _tell(request, words, told)


def class_names(given: str) -> list[str]:
    """Class names as `--classes` takes them: with commas between them, or a file with one a line.

    Raises:
        MmfuseError: a file that cannot be read, or fewer than two names.
    """
    path = user_path(given)
    try:
        is_file = path.is_file()
        lines = path.read_text(encoding="utf-8-sig").splitlines() if is_file else given.split(",")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no path at all
        raise MmfuseError(f"--classes {given}: cannot be read ({error}); write a text file, one name a line") from None
    names = [line.strip() for line in lines if line.strip()]
    if len(names) < 2:
        found = f"{given} holds {len(names)}" if is_file else f"there is no file {given!r}, and as a list it holds one"
        raise MmfuseError(f"--classes takes at least two names, with commas between them or one a line; {found}")
    return names


def _check_picture(picture: Path, videos: Sequence[Path]) -> None:
    """Refuse, before anything is loaded, a picture that could not be drawn."""
    from mmfuse.inference.explanation_figure import format_of

    format_of(picture)
    if len(videos) != 1:
        raise MmfuseError(f"--explain draws one video; {len(videos)} are named: name the one you want to look into")
    if not picture.absolute().parent.is_dir():
        raise MmfuseError(f"--explain {picture}: there is no folder {picture.parent}; make it, or name another")


def _explained(
    model: ActionRecognizer, video: Path, words: Vocabulary, request: PredictRequest
) -> Iterator[Prediction]:
    from mmfuse.inference.explain import explain
    from mmfuse.inference.explanation_figure import write_figure

    picture = request.explain
    assert picture is not None
    try:
        explanation = explain(model, video, words, damaged=request.damaged)
    except MmfuseError as error:
        yield Prediction(video, error=str(error))
        return
    write_figure(explanation, picture)
    notes().print(f"the frames and their shares in the decision are in {picture}", markup=False, soft_wrap=True)
    yield explanation.prediction


def _with_bar(told: Iterable[Prediction], count: int) -> Iterator[Prediction]:
    """The same, with a progress bar where there are many."""
    if count < 2:
        yield from told
        return
    with progress_bar("predicting", transient=True) as report:
        report(0, count)
        for number, prediction in enumerate(told, start=1):
            yield prediction
            report(number, count)


def _tell(request: PredictRequest, words: Vocabulary, told: Iterable[Prediction]) -> int:
    """Print predictions as they come, or all of them as one JSON document."""
    if words.new:
        _say_zero_shot(words)
    code, entries, console = DONE, [], out()
    for prediction in told:
        if prediction.error is not None:
            code = FAILED
            complain("mmfuse", prediction.error)
        elif not request.json:
            console.print(str(prediction.path), markup=False, style="bold", soft_wrap=True)
            for name, probability in prediction.top(request.top):
                console.print(f"  {100 * probability:5.1f}%  {name}", markup=False, soft_wrap=True)
        if request.json:
            entries.append(_entry(prediction, request.top))
    if request.json:
        print_json({"zero_shot": bool(words.new), "new_classes": list(words.new), "predictions": entries})
    sys.stdout.flush()
    return code


def _say_zero_shot(words: Vocabulary) -> None:
    few = ", ".join(words.new[:3]) + (", …" if len(words.new) > 3 else "")
    notes().print(
        f"zero-shot: not trained on {len(words.new)} of these {len(words.names)} classes ({few}); the answer is which "
        "of the names given fits best",
        markup=False,
        soft_wrap=True,
    )


def _entry(prediction: Prediction, top: int) -> dict[str, Any]:
    if prediction.error is not None:
        return {"video": str(prediction.path), "error": prediction.error}
    likely = [{"class": name, "probability": round(value, 6)} for name, value in prediction.top(top)]
    return {"video": str(prediction.path), "classes": likely}

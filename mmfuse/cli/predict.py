"""`mmfuse predict`: name the action in any video."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import track

from mmfuse import checkpoint
from mmfuse.bench.cell import quiet
from mmfuse.cli.common import DONE, complain, notes, out, print_json
from mmfuse.data.batches import ClipBatches, Request
from mmfuse.data.locate import videos_below
from mmfuse.data.sources import Decoding
from mmfuse.errors import MmfuseError
from mmfuse.recognizer import ActionRecognizer


def predict(folder: Path, videos: list[Path], *, top: int, json: bool) -> int:
    """Print the likeliest classes of each video; returns the exit code.

    A video that cannot be decoded is named, and the others are done.

    Raises:
        MmfuseError: no checkpoint, no video, or nothing to show.
    """
    if top < 1:
        raise MmfuseError(f"--top counts from 1; got {top}")
    paths = list(_files(videos))
    with quiet():
        model = ActionRecognizer.from_checkpoint(folder)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    sampling = checkpoint.read_description(folder)["sampling"]
    if not sampling:
        raise MmfuseError(f"the checkpoint {folder} does not say how frames were taken; train it with mmfuse train")
    console = notes()
    shown = track(paths, "predicting", console=console, transient=True) if len(paths) > 1 and not json else paths
    code, told = DONE, []
    for path in shown:
        try:
            told.append({"video": str(path), "classes": _likeliest(model, path, sampling, top)})
        except MmfuseError as error:
            code = complain("mmfuse", str(error))
            told.append({"video": str(path), "error": str(error)})
    _show(told, json=json)
    return code


def _files(videos: list[Path]) -> Iterator[Path]:
    """The videos that are named, those in folders included."""
    for path in videos:
        if path.is_dir():
            found = videos_below(path)
            if not found:
                raise MmfuseError(f"there is no video in the folder {path}")
            yield from found
        elif path.exists():
            yield path
        else:
            raise MmfuseError(f"there is no video {path}")


def _likeliest(model: ActionRecognizer, path: Path, sampling: dict[str, Any], top: int) -> list[dict[str, Any]]:
    """Classes and probabilities of one video, seen as a test clip is: centre frames, centre crop."""
    clips = ClipBatches(
        pd.DataFrame({"clip": [path.stem], "label": [0], "path": [str(path)]}),
        source=Decoding(short_side=int(sampling["short_side"])),
        frames=model.frames,
        size=int(sampling["size"]),
        training=False,
        candidates=None,
        flip=False,
        seed=0,
    )
    video = clips[Request(0, [0])]["video"].to(model.device)
    with torch.inference_mode():
        probabilities = model(video)[0].float().softmax(dim=-1).cpu()
    best = probabilities.topk(min(top, len(probabilities)))
    return [
        {"class": model.class_names[index], "probability": round(value, 6)}
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _show(told: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        print_json({"predictions": told})
        return
    console = out()
    for entry in told:
        if "classes" not in entry:
            continue
        console.print(entry["video"], markup=False, style="bold", soft_wrap=True)
        for likely in entry["classes"]:
            console.print(f"  {100 * likely['probability']:5.1f}%  {likely['class']}", markup=False)
    sys.stdout.flush()

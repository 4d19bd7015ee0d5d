"""What `mmfuse data show` does."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmfuse.cli.common import notes, out
from mmfuse.cli.datasets import shots_of
from mmfuse.data.catalogue.custom import named
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.data.frames.video import Damaged, UnreadableVideo
from mmfuse.data.sheet import draw_sheet, shown_clips
from mmfuse.errors import MmfuseError, unknown
from mmfuse.utils.files import user_path, write_atomically

_MOST_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class ShowRequest:
    """What the user asked for."""

    dataset: str
    out: Path
    root: Path | None = None
    annotations: Path | None = None
    split: int = 1
    shots: str = "1"
    draw: int = 0
    test: bool = False
    clip: tuple[str, ...] = ()
    clips: int = 12
    views: int = 1
    test_views: str = "1x1"
    frames: int | None = None
    size: int | None = None
    seed: int = 0
    damaged: Damaged = "error"


def show(request: ShowRequest) -> None:
    """Draw a sheet of clips as a model reads them.

    Raises:
        MmfuseError: an option is wrong, a clip is not there or cannot be read, or the picture cannot be written.
    """
    if request.out.suffix.lower() != ".png":
        raise MmfuseError(f"--out names a picture in PNG, such as sheet.png; got {str(request.out)!r}")
    data = FewShotVideoDataModule(
        named(request.dataset),
        shots=shots_of(request.shots),
        draw=request.draw,
        split=request.split,
        frames=request.frames,
        size=request.size,
        test_views=request.test_views,
        seed=request.seed,
        root=request.root,
        annotations=request.annotations,
        damaged=request.damaged,
    )
    rows = _rows(request, data)
    training = not request.test
    count = len(rows) * (request.views if training else data.test_views.count)
    if count > _MOST_ROWS:
        raise MmfuseError(f"{count} rows are more than a sheet holds ({_MOST_ROWS}); show fewer clips or views")
    data.prepare_data()
    try:
        shown = shown_clips(data, rows, training=training, views=request.views)
    except UnreadableVideo as fault:
        raise MmfuseError(str(fault)) from None
    part = "test" if request.test else f"training, K = {request.shots}, draw {request.draw}"
    title = f"{data.catalogue.name} split {request.split}, {part}: {data.frames} frames of {data.size} x {data.size}"
    picture = io.BytesIO()
    draw_sheet(shown, title=title).save(picture, format="PNG")
    write_atomically(user_path(request.out), picture.getvalue())
    text = f"{len(rows)} clip{'s' * (len(rows) != 1)} in {len(shown)} row{'s' * (len(shown) != 1)}: {request.out}"
    out().print(text, markup=False, highlight=False, soft_wrap=True)


def _rows(request: ShowRequest, data: FewShotVideoDataModule) -> pd.DataFrame:
    """The clips on the sheet: those that are named, or so many, class by class in turn."""
    clips = data.test_clips if request.test else data.train_clips
    if request.clip:
        every = clips["clip"].tolist()
        for name in request.clip:
            if name not in every:
                part = "test list" if request.test else "draw"
                close = unknown(f"clip of this {part}", name, every)
                raise MmfuseError(str(close).partition(" known:")[0].rstrip(";") + "; see mmfuse data split")
        return clips[clips["clip"].isin(request.clip)].reset_index(drop=True)
    turns = clips.groupby("label").cumcount()
    first = clips.assign(turn=turns).sort_values(["turn", "label"], kind="stable")[: request.clips]
    if len(first) < len(clips):
        notes().print(f"{len(first)} of {len(clips):,} clips are shown; --clips shows more", markup=False)
    return first.drop(columns="turn").sort_values("label", kind="stable").reset_index(drop=True)

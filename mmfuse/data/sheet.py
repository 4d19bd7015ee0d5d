"""A sheet of frames: what a model reads of clips, after sampling, crop and mirror, with class, name and times.

Shape legend: V views of a clip, T frames, S side of the square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmfuse.data.batches import Request
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.data.frames.sampling import Chooser, Indices
from mmfuse.data.frames.sources import DecodedFrames, Frames
from mmfuse.data.frames.video import probe

_LEAST_SIDE, _MOST_SIDE = 96, 160  # pixels of a frame on the sheet
_GAP, _LINE = 4, 18
_INK, _FAINT = (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class ShownClip:
    """A view of a clip as a model reads it."""

    clip: str
    class_name: str
    frames: NDArray[np.uint8]
    """(T, S, S, 3) RGB."""
    numbers: list[int]
    """Which frames of the video they are."""
    seconds: list[float]
    """When they are shown, by the frame rate that the file announces; none where it announces none."""
    view: str
    """Which view it is, where there are several."""


class _Noting:
    """Frames from the file, and which ones they were."""

    def __init__(self, source: DecodedFrames) -> None:
        self._source = source
        self.numbers: Indices = np.empty(0, dtype=np.int64)

    def pick(self, path: str, choose: Chooser) -> tuple[Frames, Indices]:
        """As in `mmfuse.data.frames.sources.FrameSource`."""

        def noted(count: int) -> Indices:
            self.numbers = choose(count)
            return self.numbers

        return self._source.pick(path, noted)


def shown_clips(
    data: FewShotVideoDataModule, clips: pd.DataFrame, *, training: bool, views: int = 1
) -> list[ShownClip]:
    """What a model reads of clips. Nothing that training or test read later depends on it.

    Args:
        data: how clips are looked at.
        clips: rows of its `train_clips` or `test_clips`.
        training: as in training, else as in the test with all its views.
        views: how many epochs of a training are shown of each clip.

    Raises:
        UnreadableVideo: a video cannot be decoded.
    """
    sampling = data.sampling
    damaged = data.hparams["data"]["damaged"]
    source = _Noting(DecodedFrames(short_side=sampling["short_side"], damaged=damaged))
    batches = data.clip_batches(
        clips.reset_index(drop=True), source, training=training, views=views, test_views=data.test_views
    )
    shown = []
    for row, (clip, name, path) in enumerate(zip(clips["clip"], clips["class"], clips["path"], strict=True)):
        rate = probe(path).frames_per_second
        for epoch in range(views if training else 1):
            video = batches[Request(epoch, [row])]["video"][0]
            several = video.reshape(-1, data.frames, *video.shape[-3:]).permute(0, 1, 3, 4, 2).numpy()
            for number, frames in enumerate(several):
                numbers = source.numbers.tolist()
                if not training:  # the clips of a test lie between each other, the crops of a clip beside each other
                    numbers = numbers[number // data.test_views.crops :: data.test_views.clips]
                seconds = [place / rate for place in numbers] if rate > 0 else []
                view = _view(data, epoch if training else number, training=training, views=views)
                shown.append(ShownClip(str(clip), str(name), frames, numbers, seconds, view))
    return shown


def _view(data: FewShotVideoDataModule, number: int, *, training: bool, views: int) -> str:
    if training:
        return f"epoch {number + 1}" if views > 1 else ""
    test = data.test_views
    clip, crop = divmod(number, test.crops)
    return f"clip {clip + 1} of {test.clips}, crop {crop + 1} of {test.crops}" if test.count > 1 else ""


def draw_sheet(shown: list[ShownClip], *, title: str) -> Image.Image:
    """The sheet as a picture: a row for each view of a clip, with a line of text above and the times below its frames.

    Args:
        shown: what is on it, at least one.
        title: stands above all.
    """
    size = shown[0].frames.shape[1]
    side = min(max(size, _LEAST_SIDE), _MOST_SIDE)
    count = max(len(one.frames) for one in shown)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12)
    width = max(count * (side + _GAP) + _GAP, 480)
    height = side + 2 * _LINE + 2 * _GAP
    sheet = Image.new("RGB", (width, _LINE + 2 * _GAP + height * len(shown)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, _GAP), _fitting(title, pen, font, width), fill=_INK, font=font)
    for row, one in enumerate(shown):
        top = _LINE + 2 * _GAP + row * height
        told = "   ".join(filter(None, (one.class_name, one.clip, one.view)))
        pen.text((_GAP, top), _fitting(told, pen, font, width), fill=_INK, font=font)
        for place, frame in enumerate(one.frames):
            left = _GAP + place * (side + _GAP)
            picture = Image.fromarray(np.ascontiguousarray(frame)).resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(picture, (left, top + _LINE))
            when = f"{one.seconds[place]:.2f} s" if one.seconds else f"frame {one.numbers[place]}"
            pen.text((left, top + _LINE + side), when, fill=_FAINT, font=font)
    return sheet


def _fitting(text: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A text cut to a width, with its middle left out, since names differ at their ends."""
    kept = len(text)
    while pen.textlength(shortened := _without_middle(text, kept), font=font) > width - 2 * _GAP and kept > 4:
        kept -= 1
    return shortened


def _without_middle(text: str, kept: int) -> str:
    return text if kept >= len(text) else f"{text[: kept // 2]}…{text[len(text) - kept // 2 :]}"

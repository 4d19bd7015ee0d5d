"""The picture of an explanation: the frames that were looked at, and what each adds to the decision."""

from __future__ import annotations

import io
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from mmfuse.errors import MmfuseError, one_line, unknown
from mmfuse.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mmfuse.inference.explain import Explanation

FORMATS = ("pdf", "png", "svg")
FOR, AGAINST, GREY = "#0072B2", "#D55E00", "#595959"  # told apart by the colour-blind, and in grey
IN_A_ROW = 8
_WIDE = 1.35  # inches a frame
_HIGH = 2.75  # inches a row of frames with their bars
_MARGIN = 0.55
_TOP, _BOTTOM = 0.85, 0.8


def format_of(path: Path) -> str:
    """The format that a file's name asks for.

    Raises:
        MmfuseError: none that can be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise unknown(f"kind of picture in {path.name!r}, its name must end in one:", kind, FORMATS)
    return kind


def write_figure(explanation: Explanation, path: str | Path) -> None:
    """Write the picture of an explanation; an older one of that name is replaced.

    Args:
        explanation: what to show.
        path: a file whose name ends in .png, .pdf or .svg.

    Raises:
        MmfuseError: another ending, or a folder that cannot be written.
    """
    path = Path(path)
    kind, content = format_of(path), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in letters that the font does not have
        figure(explanation).savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise MmfuseError(f"{path} cannot be written: {error.strerror or error}; name another file") from None


def figure(explanation: Explanation) -> Figure:
    """Rows of frames, each with a bar under it: upwards for the class that was named, downwards against it."""
    count = len(explanation.contributions)
    columns = min(count, IN_A_ROW)
    rows = -(-count // columns)
    width, height = max(5.6, columns * _WIDE + 2 * _MARGIN), rows * _HIGH + _TOP + _BOTTOM
    drawn = Figure(figsize=(width, height), facecolor="white")
    grid = drawn.add_gridspec(
        2 * rows,
        columns,
        height_ratios=[1.15, 1.0] * rows,
        left=_MARGIN / width,
        right=1 - _MARGIN / width,
        top=1 - _TOP / height,
        bottom=_BOTTOM / height,
        wspace=0.06,
        hspace=0.08,
    )
    limits = _limits(explanation.contributions)
    for place in range(count):
        row, column = divmod(place, columns)
        _picture(drawn.add_subplot(grid[2 * row, column]), explanation, place)
        _bar(drawn.add_subplot(grid[2 * row + 1, column]), explanation, place, limits)
    _words(drawn, explanation)
    return drawn


def _limits(contributions: tuple[float, ...]) -> tuple[float, float]:
    """One scale for all bars, with room for the numbers at their ends."""
    low, high = min(0.0, *contributions), max(0.0, *contributions)
    room = 0.42 * (high - low) or 1.0
    return (low - room if low < 0 else -0.03 * room), high + room


def _picture(axes: Axes, explanation: Explanation, place: int) -> None:
    axes.imshow(explanation.pictures[place], interpolation="nearest", aspect="equal")
    axes.set(xticks=[], yticks=[])
    number, rate = explanation.numbers[place], explanation.frames_per_second
    title = f"frame {number}" + (f" · {number / rate:.1f} s" if rate else "")
    axes.set_title(title, fontsize=7.5, color=GREY, pad=3)
    for spine in axes.spines.values():
        spine.set(color=_colour(explanation.contributions[place]), linewidth=2)


def _bar(axes: Axes, explanation: Explanation, place: int, limits: tuple[float, float]) -> None:
    contribution, share = explanation.contributions[place], explanation.shares[place]
    axes.bar([0], [contribution], width=0.62, color=_colour(contribution))
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlim=(-0.62, 0.62), ylim=limits, xticks=[], yticks=[])
    axes.annotate(
        f"{100 * share:+.0f}%\n({contribution:+.2f})".replace("-", "\N{MINUS SIGN}"),
        (0, contribution),
        xytext=(0, 3 if contribution >= 0 else -3),
        textcoords="offset points",
        ha="center",
        va="bottom" if contribution >= 0 else "top",
        fontsize=7.5,
        linespacing=1.15,
    )
    axes.set_frame_on(False)


def _colour(contribution: float) -> str:
    return FOR if contribution >= 0 else AGAINST


def _words(drawn: Figure, explanation: Explanation) -> None:
    told = explanation.prediction
    width, height = drawn.get_size_inches()
    letters = int(13 * (width - 2 * _MARGIN))
    plain: dict[str, Any] = {"parse_math": False}  # a dollar in a name is a dollar
    zero_shot = ", zero-shot" if told.zero_shot else ""
    heading = f"{_shorten(told.label, letters // 2)}: {100 * told.probability:.1f}%{zero_shot}"
    left = _MARGIN / width
    drawn.text(left, 1 - 0.14 / height, heading, fontsize=13, weight="bold", va="top", **plain)
    others = ", ".join(f"{_shorten(name, 24)} {100 * share:.1f}%" for name, share in told.top(4)[1:])
    line = f"{_shorten(told.path.name, 40)} ({explanation.count} frames); then {others}"
    drawn.text(left, 1 - 0.42 / height, _shorten(line, letters), fontsize=8, color=GREY, va="top", **plain)
    total = sum(explanation.contributions)
    note = (
        f"What each frame adds to the class's logit over the mean of all logits: {explanation.grey:+.2f} for an evenly "
        f"grey clip, {total:+.2f} by the frames, {explanation.margin:+.2f} for this video. Blue speaks for the class, "
        "orange against it; % of the sum of all sizes. Integrated gradients (Sundararajan et al. 2017)."
    ).replace(" -", " \N{MINUS SIGN}")
    drawn.text(left, 0.62 / height, textwrap.fill(note, int(1.35 * letters)), fontsize=7.5, color=GREY, va="top")


def _shorten(text: str, most: int) -> str:
    """A name on one line, without what cannot be drawn, cut where it is too long."""
    drawn = one_line("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))
    return drawn if len(drawn) <= most else drawn[: most - 1] + "…"

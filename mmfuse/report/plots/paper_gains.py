"""The forest plot of paired gains for a paper: a panel a data set, the pairs named once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mmfuse.report.gains import BETTER, EQUIVALENT, WORSE, Gain
from mmfuse.report.plots.forest import Forest, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.15
"""Height of a row in inches."""
ABREAST = 3
"""Panels side by side."""
_NAMES, _NUMBERS = 1.22, 0.82
_COLOURS = {BETTER: "#0072b2", WORSE: "#d55e00", EQUIVALENT: "#008f68"}
_INK, _SOFT, _HAIR = "#222222", "#777777", "#e4e4e4"


def gains(forest: Forest, *, column: float, page: float) -> Figure:
    """Paired gains with their intervals, and the numbers beside them.

    Args:
        forest: the panels.
        column, page: widths in inches; one panel takes a column, several a page.
    """
    across = min(ABREAST, len(forest.panels))
    down = -(-len(forest.panels) // across)
    width = column if across == 1 else page
    rows = ROW * len(forest.pairs)
    tall = rows + 0.58
    figure = Figure(figsize=(width, down * tall))
    share = (width - _NAMES - 0.02) / across
    for at, panel in enumerate(forest.panels):
        line, place = divmod(at, across)
        left, bottom = _NAMES + share * place, (down - 1 - line) * tall + 0.36
        axes = figure.add_axes((left / width, bottom / (down * tall), (share - _NUMBERS) / width, rows / (down * tall)))
        _draw(axes, forest, panel, named=place == 0)
    return figure


def _draw(axes: Axes, forest: Forest, panel: Panel, *, named: bool) -> None:
    scale = forest.scale
    axes.axvline(0, color=_SOFT, linewidth=0.6, zorder=0)
    axes.grid(axis="x", color=_HAIR, linewidth=0.5)
    axes.set_axisbelow(True)
    for at, pair in enumerate(forest.pairs):
        gain = panel.gains.get(pair)
        if gain is not None and gain.mean is not None:
            _row(axes, at, gain)
            axes.annotate(
                _gain_in_words(gain),
                (1, at),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=5.6,
                annotation_clip=False,
            )
    axes.set_xlim(scale.low, scale.high)
    axes.set_xticks(
        forest.labels, [f"{one:+g}".replace("-", "\N{MINUS SIGN}") if one else "0" for one in forest.labels]
    )
    axes.set_ylim(len(forest.pairs) - 0.5, -0.5)
    axes.set_yticks(range(len(forest.pairs)), [_cut(pair) for pair in forest.pairs] if named else [], fontsize=6.4)
    if not named:
        axes.set_yticks([])
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    axes.set_title(_cut(panel.title, 34), loc="left", fontsize=7.5, pad=4)
    axes.set_xlabel(_cut(f"points over {panel.baseline}, {panel.over}", 44), fontsize=6.2, labelpad=2)


def _row(axes: Axes, at: int, gain: Gain) -> None:
    mean = gain.mean
    assert mean is not None
    colour = _COLOURS.get(gain.verdict, _SOFT)
    for half, width in ((mean.half_clips, 0.6), (mean.half, 1.5)):
        if half is not None and (width > 1 or half > (mean.half or 0.0)):
            axes.plot(
                [mean.mean - half, mean.mean + half], [at, at], color=colour, linewidth=width, solid_capstyle="butt"
            )
    filled = colour if gain.verdict in _COLOURS else "white"
    marker = "s" if gain.verdict == WORSE else "D" if gain.verdict == EQUIVALENT else "o"
    axes.plot([mean.mean], [at], marker, color=colour, markerfacecolor=filled, markeredgewidth=0.9, markersize=3.4)


def _gain_in_words(gain: Gain) -> str:
    """The number with its mark, and what it lacks."""
    number = gain.value.number(minus="\N{MINUS SIGN}") + ("*" if gain.value.significant else "")
    return f"{number} ({gain.lacking})" if gain.lacking else number


def _cut(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"

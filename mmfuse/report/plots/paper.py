"""The report's plots for a paper: PDF with embedded fonts and PNG, a column or a page wide, readable in grey."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import font_manager, rc_context, ticker
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerLine2D
from matplotlib.lines import Line2D

from mmfuse.errors import MmfuseError, unknown
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import STATES, Entry
from mmfuse.report.answer import Answer
from mmfuse.report.groups import Group, groups
from mmfuse.report.per_class import ClassGain, Evidence, Watch, gather
from mmfuse.report.plots.forest import Forest
from mmfuse.report.plots.html import accuracy_scale
from mmfuse.report.plots.labels import spread
from mmfuse.report.plots.paper_gains import ABREAST, gains
from mmfuse.report.plots.points import COSTS, Plots, Series, Trade
from mmfuse.report.plots.styles import BASELINE, OTHERS, REST, PairStyle, pair_styles
from mmfuse.report.plots.svg import short
from mmfuse.report.tables.accuracy import METRICS, Comparison
from mmfuse.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN, PAGE = 3.3, 6.9
"""Widths in inches: one column, and both."""
ROW, LINE = 0.135, 0.1
"""Height of a row of a legend, and of a name at the end of a line."""
MOST_NAMES = 30
"""More lines than these are not all named."""
FORMATS = ("pdf", "png")
CLASSES = 24
"""More classes than these are shown by their ends, or without names."""
_MARKERS = {
    "ring": "o",
    "circle": "o",
    "dot": ".",
    "square": "s",
    "triangle": "^",
}
_SCRIPTS = ("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Devanagari", "Arial")
_STATE_MARKS = {
    "done": ("o", "#0072b2"),
    "failed": ("x", "#d55e00"),
    "stale": ("s", "#b07d00"),
    "running": (">", "#008f68"),
}
_INK, _SOFT = "#222222", "#777777"

Draw = Callable[[], Figure]


def draw_figures(
    folder: ResultsFolder, entries: Sequence[Entry], *, out: Path, pair: str | None = None, watch: Watch = iter
) -> Iterator[Path]:
    """Draw the figures of a results folder, and tell each file once it is written.

    Args:
        folder: the results.
        entries: its cells with their states.
        out: the folder to write to.
        pair: whose classes are shown; by default the pair that is highest beside the frozen towers.
        watch: wraps the cells whose predictions are read.

    Raises:
        MmfuseError: no cell is done, or an unknown pair.
        OSError: a file cannot be written.
    """
    if not any(entry.state == "done" for entry in entries):
        raise MmfuseError(f"no cell of {folder.path} is done yet, so there is nothing to draw")
    every = [Plots(Comparison(group)) for group in groups(entries, folder)]
    names = list(dict.fromkeys(name for plots in every for name in plots.group.pairs))
    if pair is not None and pair not in names:
        raise unknown("pair", pair, names)
    shared, used = pair_styles(every), set[str]()
    shown = [plots for plots in every if plots.series]
    if len(shown) > 1:
        for name, draw in _together(shown, shared).items():
            yield from _write(out / f"all-{name}", draw)
    used.add("all")
    for plots in shown:
        stem = _stem(plots.group, used)
        evidence = gather(plots.group, watch=watch)
        for name, draw in _drawings(plots, shared, evidence, pair).items():
            yield from _write(out / f"{stem}-{name}", draw)


def _together(shown: Sequence[Plots], shared: dict[str, PairStyle]) -> dict[str, Draw]:
    """What there is to draw of all data sets at once."""
    forest = Forest([Answer(plots) for plots in shown])
    drawings: dict[str, Draw] = {"gains": lambda: gains(forest, column=COLUMN, page=PAGE)} if forest.panels else {}
    return {**drawings, "shots": lambda: shots_of_all(shown, shared)}


def _stem(group: Group, used: set[str]) -> str:
    """A file name for a group: letters that every system takes, and no folder."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", group.dataset).strip("_")[:60] or "dataset"
    stem = f"{plain}-split{group.split}"
    number = 2
    while stem in used:
        stem = f"{plain}_{number}-split{group.split}"
        number += 1
    used.add(stem)
    return stem


def _drawings(plots: Plots, shared: dict[str, PairStyle], evidence: Evidence, pair: str | None) -> dict[str, Draw]:
    """What there is to draw of one group, by name."""
    drawings: dict[str, Draw] = {
        "overview": lambda: overview(plots, shared),
        **_gains(plots),
        "shots": lambda: against_shots(plots, shared),
        **{cost: lambda cost=cost: against_cost(plots, shared, cost) for cost in COSTS},  # type: ignore[misc]
        "grid": lambda: grid_map(plots.group),
    }
    shown = pair or _highest(plots)
    known = [shots for shots in plots.group.shots if (shown, shots) in evidence.answers]
    if shown is None or not known:
        return drawings
    drawings["confusion"] = lambda: confusion(evidence, shown, known[-1])
    baseline = plots.group.baseline_of(shown)
    gains = evidence.gains(shown, baseline, known[-1]) if baseline is not None and baseline != shown else []
    if gains:
        drawings["classes"] = lambda: class_gains(evidence, gains, f"{shown}, K={known[-1]}", str(baseline))
    return drawings


def _gains(plots: Plots) -> dict[str, Draw]:
    forest = Forest([Answer(plots)])
    return {"gains": lambda: gains(forest, column=COLUMN, page=PAGE)} if forest.panels else {}


def _highest(plots: Plots) -> str | None:
    """The pair with the highest mean at its largest K, beside the frozen towers."""
    means = {
        series.pair: (series.points[-1][0], series.points[-1][1].mean)
        for series in plots.series
        if series.pair != plots.group.baseline_of(series.pair)
    }
    return max(means, key=lambda pair: means[pair]) if means else plots.group.baseline


def _write(stem: Path, draw: Draw) -> Iterator[Path]:
    """Write one figure in each format; the same results give the same bytes."""
    at_hand = set(font_manager.get_font_names())
    style: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", *(name for name in _SCRIPTS if name in at_hand)],
        "font.size": 7.5,
        "axes.titlesize": 8,
        "axes.labelsize": 7.5,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "axes.linewidth": 0.6,
        "axes.edgecolor": _SOFT,
        "axes.labelcolor": _INK,
        "xtick.color": _SOFT,
        "ytick.color": _SOFT,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "text.color": _INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "lines.linewidth": 1.2,
        "lines.markersize": 4,
        "text.parse_math": False,
        "pdf.fonttype": 42,
        "savefig.dpi": 300,
    }
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in letters that no available font has
        figure = draw()
        for kind in FORMATS:
            content = io.BytesIO()
            figure.savefig(content, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
            path = stem.with_name(f"{stem.name}.{kind}")
            write_atomically(path, content.getvalue())
            yield path


# --- accuracy ----------------------------------------------------------------------------------------------------


def against_shots(plots: Plots, shared: dict[str, PairStyle]) -> Figure:
    """Accuracy against shots, a column wide, each line named at its end."""
    named = sorted(plots.series, key=lambda series: shared[series.pair].key == REST)[:MOST_NAMES]
    height = max(2.3, LINE * len(named) + 0.5)
    room = 0.16 + 0.058 * max(len(_cut(series.pair, 22)) for series in named)
    figure = Figure(figsize=(COLUMN, height))
    axes = figure.add_axes((0.47 / COLUMN, 0.42 / height, 1 - (0.47 + room) / COLUMN, 1 - 0.5 / height))
    _draw_shots(axes, plots, shared)
    _name_ends(axes, named, shared, inches=height - 0.5)
    return figure


def _name_ends(axes: Axes, named: Sequence[Series], shared: dict[str, PairStyle], *, inches: float) -> None:
    """Name each line beside its end, no name on another."""
    low, high = axes.get_ylim()
    wanted = [series.points[-1][1].mean for series in named]
    places = spread(wanted, gap=LINE / inches * (high - low), low=low, high=high)
    for series, mean, place in zip(named, wanted, places, strict=True):
        style, (at, _) = shared[series.pair], series.points[-1]
        axes.annotate(
            _cut(series.pair, 22),
            (at, mean),
            xytext=(1.04, place),
            textcoords=("axes fraction", "data"),
            va="center",
            fontsize=6.2,
            color=_SOFT if style.key == REST else style.colour,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": style.colour,
                "linewidth": 0.4,
                "shrinkA": 1,
                "shrinkB": 3,
            },
            annotation_clip=False,
        )


def shots_of_all(every: Sequence[Plots], shared: dict[str, PairStyle]) -> Figure:
    """Accuracy against shots, a panel a data set, a page wide."""
    across = min(ABREAST, len(every))
    down = -(-len(every) // across)
    keys = list(dict.fromkeys(key for plots in every for key in _keys(plots, shared) if key[1].key != REST))
    others = {series.pair for plots in every for series in plots.series if shared[series.pair].key == REST}
    keys += [(f"{len(others)} others", OTHERS)] if others else []
    rows = _legend_rows(keys, PAGE)
    height = 2.1 * down + ROW * rows
    figure = Figure(figsize=(PAGE, height))
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    figure.subplots_adjust(left=0.07, right=0.99, top=1 - 0.24 / height, bottom=(0.42 + ROW * rows) / height,
                           wspace=0.2, hspace=0.5)  # fmt: skip
    for axes, plots in zip(panels, every, strict=False):
        _draw_shots(axes, plots, shared)
        axes.set_title(_cut(plots.group.title, 40), loc="left")
    for axes in panels[len(every) :]:
        axes.set_visible(False)
    for at, axes in enumerate(panels):
        if at % across:
            axes.set_ylabel("")
    _legend(figure, keys, rows)
    return figure


def against_cost(plots: Plots, shared: dict[str, PairStyle], cost: str) -> Figure:
    """Accuracy against cost with the Pareto front, a column wide."""
    keys = _keys(plots, shared)
    rows = _legend_rows(keys, COLUMN)
    figure, axes = _axes(COLUMN, 2.3, below=rows)
    _draw_cost(axes, plots, shared, cost)
    _legend(figure, keys, rows)
    return figure


def overview(plots: Plots, shared: dict[str, PairStyle]) -> Figure:
    """Accuracy against shots, parameters and seconds side by side, a page wide."""
    keys = _keys(plots, shared)
    rows = _legend_rows(keys, PAGE)
    height = 2.1 + ROW * rows
    figure = Figure(figsize=(PAGE, height), layout=None)
    panels = figure.subplots(1, 3)
    figure.subplots_adjust(
        left=0.07, right=0.99, top=1 - 0.1 / height, bottom=(0.42 + ROW * rows) / height, wspace=0.27
    )
    _draw_shots(panels[0], plots, shared)
    for axes, cost in zip(panels[1:], COSTS, strict=True):
        _draw_cost(axes, plots, shared, cost)
    _legend(figure, keys, rows)
    return figure


def _axes(width: float, height: float, *, below: int) -> tuple[Figure, Axes]:
    """One plot with room for rows of a legend below it."""
    whole = height + ROW * below
    figure = Figure(figsize=(width, whole))
    axes = figure.add_axes(
        (0.47 / width, (0.42 + ROW * below) / whole, 1 - 0.55 / width, 1 - (0.5 + ROW * below) / whole)
    )
    return figure, axes


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.5)
    axes.set_axisbelow(True)


def _line(style: PairStyle) -> dict[str, Any]:
    """How a pair is drawn by Matplotlib."""
    dash = tuple(0.55 * length for length in style.dash)
    return {
        "color": style.colour,
        "marker": _MARKERS[style.marker],
        "markerfacecolor": "white" if style.key == BASELINE else style.colour,
        "markeredgecolor": style.colour,
        "markeredgewidth": 0.8,
        "linestyle": (0, dash) if dash else "-",
        "linewidth": 0.6 if style.key == REST else 1.2,
        "zorder": {REST: 2, BASELINE: 3}.get(style.key, 4),
    }


def _draw_shots(axes: Axes, plots: Plots, shared: dict[str, PairStyle]) -> None:
    _bare(axes)
    every, shots = plots.series, plots.group.shots
    marked = [series.pair for series in every if shared[series.pair].key != REST]
    room = min(0.5, 0.09 * max(1, len(marked) - 1))
    for series in every:
        style = shared[series.pair]
        side = (marked.index(series.pair) / max(1, len(marked) - 1) - 0.5) * room if series.pair in marked else 0.0
        xs = [at + side for at, _ in series.points]
        means = [mean.mean for _, mean in series.points]
        axes.plot(xs, means, **_line(style))
        if style.key != REST:
            halves = [mean.half or 0.0 for _, mean in series.points]
            axes.errorbar(xs, means, halves, fmt="none", ecolor=style.colour, elinewidth=0.7, alpha=0.6, zorder=1)
    scale = accuracy_scale([mean for series in every for _, mean in series.points])
    axes.set_ylim(scale.low, scale.high)
    if plots.chance is not None and scale.low <= plots.chance <= scale.high:
        axes.axhline(plots.chance, color=_SOFT, linewidth=0.7, linestyle=(0, (1, 2)))
    axes.set_xlim(-0.5, len(shots) - 0.5)
    axes.set_xticks(range(len(shots)), [str(one) for one in shots])
    axes.set_xlabel("training clips a class (K)")
    axes.set_ylabel(f"{METRICS['top1']} accuracy in %")


def _draw_cost(axes: Axes, plots: Plots, shared: dict[str, PairStyle], cost: str) -> None:
    _bare(axes)
    shots = plots.shots_with_numbers[-1]
    trades = plots.trades(shots, cost)
    paid = [trade.cost for trade in trades if trade.cost > 0]
    nothing = min(paid) / 4 if paid else 0.5
    for trade in trades:
        style = shared[trade.pair]
        line = {**_line(style), "linestyle": "none"}
        x = trade.cost or nothing
        axes.plot([x], [trade.accuracy.mean], **line)
        if style.key != REST:
            half = trade.accuracy.half or 0.0
            axes.errorbar(
                [x], [trade.accuracy.mean], [half], fmt="none", ecolor=style.colour, elinewidth=0.7, alpha=0.6
            )
    _draw_front(axes, trades, nothing)
    if trades:
        scale = accuracy_scale([trade.accuracy for trade in trades])
        axes.set_ylim(scale.low, scale.high)
    _cost_ticks(axes, paid, nothing if len(paid) < len(trades) else None)
    axes.set_xlabel(plots.cost_title(cost))
    axes.set_ylabel(f"{METRICS['top1']} accuracy in %, K={shots}")


def _draw_front(axes: Axes, trades: list[Trade], nothing: float) -> None:
    front = [(trade.cost or nothing, trade.accuracy.mean) for trade in trades if trade.front]
    if front:
        xs, ys = zip(*front, strict=True)
        axes.step([*xs, 4 * max(t.cost or nothing for t in trades)], [*ys, ys[-1]], where="post", color=_SOFT,
                  linewidth=0.7, linestyle=(0, (4, 2)), zorder=0)  # fmt: skip


def _cost_ticks(axes: Axes, paid: list[float], nothing: float | None) -> None:
    """A logarithmic axis on which nothing at all has a place of its own."""
    axes.set_xscale("log")
    low, high = (min(paid), max(paid)) if paid else (1.0, 1.0)
    axes.set_xlim((nothing or low) / 1.5, high * 1.5)
    ticks: list[float] = []
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**e for e in range(-3, 19) for f in factors if low / 1.3 <= f * 10.0**e <= high * 1.3]
        if len(ticks) <= 5:
            break
    ticks = ticks if paid else []
    labels = [short(tick) for tick in ticks]
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xticks([*([nothing] if nothing else []), *ticks], [*(["0"] if nothing else []), *labels])


Keys = list[tuple[str, PairStyle]]


def _keys(plots: Plots, shared: dict[str, PairStyle]) -> Keys:
    """What a legend tells apart: the pairs that stand out, and all others as one."""
    keys = [(_cut(series.pair), shared[series.pair]) for series in plots.series if shared[series.pair].key != REST]
    others = [series.pair for series in plots.series if shared[series.pair].key == REST]
    if others:
        keys.append((_cut(others[0]) if len(others) == 1 else f"{len(others)} others", shared[others[0]]))
    return keys


def _legend_rows(keys: Keys, width: float) -> int:
    columns = max(1, min(len(keys), int(width / (0.42 + 0.062 * max(len(name) for name, _ in keys)))))
    return -(-len(keys) // columns)


def _cut(name: str, most: int = 26) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _legend(figure: Figure, keys: Keys, rows: int) -> None:
    figure.legend(
        [Line2D([], [], **_line(style)) for _, style in keys],
        [name for name, _ in keys],
        loc="lower center",
        ncols=-(-len(keys) // rows),
        frameon=False,
        handlelength=3.0,
        columnspacing=1.2,
        labelspacing=0.25,
        borderaxespad=0.1,
        handler_map={Line2D: HandlerLine2D(numpoints=1)},
    )


# --- classes -----------------------------------------------------------------------------------------------------


def class_gains(evidence: Evidence, gains: list[ClassGain], title: str, baseline: str) -> Figure:
    """Gain over frozen by class with intervals; of many classes those at both ends."""
    ends = CLASSES // 2
    shown = gains if len(gains) <= CLASSES else [*gains[:ends], *gains[-ends:]]
    height = 0.65 + 0.155 * len(shown)
    figure = Figure(figsize=(COLUMN, height))
    axes = figure.add_axes((0.42, 0.38 / height, 0.55, 1 - 0.62 / height))
    axes.axvline(0, color=_SOFT, linewidth=0.6, zorder=0)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.5)
    axes.set_axisbelow(True)
    for at, gain in enumerate(shown):
        colour = "#0072b2" if gain.gain.mean >= 0 else "#d55e00"
        axes.errorbar(gain.gain.mean, at, xerr=gain.gain.half, fmt="o" if gain.gain.mean >= 0 else "s", color=colour,
                      markersize=3.4, markerfacecolor=colour, elinewidth=0.8)  # fmt: skip
    axes.set_yticks(range(len(shown)), [_cut(evidence.class_names[gain.label], 24) for gain in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    reach = min(100.0, max(abs(gain.gain.mean) + (gain.gain.half or 0) for gain in shown) * 1.05) or 1.0
    axes.set_xlim(-reach, reach)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(f"points of recall over {_cut(baseline)}")
    figure.text(0.02, 1 - 0.06 / height, _cut(title, 50), va="top", fontsize=8)
    return figure


def confusion(evidence: Evidence, pair: str, shots: Any) -> Figure:
    """Confusion matrix in per cent of the true class; with names where there is room for them."""
    classes = len(evidence.class_names)
    named = classes <= CLASSES
    counts = np.zeros((classes, classes))
    for (true, taken), count in evidence.answers[pair, shots].pairs.items():
        counts[true, taken] = count
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    width, left, right = (COLUMN, 1.2, 0.08) if named else (PAGE, 0.45, 0.15)
    side = width - left - right
    figure = Figure(figsize=(width, side + 0.75))
    axes = figure.add_axes((left / width, 0.4 / (side + 0.75), side / width, side / (side + 0.75)))
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=100, interpolation="nearest", aspect="auto")
    if named:
        names = [f"{_cut(name, 20)} {at}" for at, name in enumerate(evidence.class_names, 1)]
        axes.set_yticks(range(classes), names, fontsize=6)
        axes.set_xticks(range(classes), [str(at) for at in range(1, classes + 1)], fontsize=6)
    if classes <= 15:
        for true, taken in zip(*np.nonzero(shares >= 0.5), strict=True):
            dark = shares[true, taken] > 50
            axes.text(taken, true, f"{shares[true, taken]:.0f}", ha="center", va="center", fontsize=5.5,
                      color="white" if dark else _INK)  # fmt: skip
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    figure.text(0.02, 1 - 0.05 / (side + 0.75), _cut(f"{pair}, K={shots}, in % of the true class", 60), va="top")
    return figure


# --- the grid ----------------------------------------------------------------------------------------------------


def grid_map(group: Group) -> Figure:
    """Which cells are done, failed, stale, running or missing: a mark a cell."""
    widest = {shots: max(len(group.of(pair, shots)) for pair in group.pairs) for shots in group.shots}
    starts, at = {}, 0.0
    for shots, cells in widest.items():
        starts[shots] = at
        at += cells + 1.2
    height = 0.62 + 0.15 * len(group.pairs)
    width = COLUMN if at < 24 else PAGE
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((1.45 / width, 0.3 / height, 1 - 1.5 / width, 1 - 0.5 / height))
    for row, pair in enumerate(group.pairs):
        for shots in group.shots:
            for place, entry in enumerate(group.of(pair, shots)):
                marker, colour = _STATE_MARKS.get(entry.state, (".", "#bbbbbb"))
                axes.plot(starts[shots] + place, row, marker, color=colour, markersize=3.2, linestyle="none")
    axes.set_xlim(-0.8, at - 0.6)
    axes.set_ylim(len(group.pairs) - 0.4, -0.6)
    axes.set_yticks(range(len(group.pairs)), [_cut(pair, 20) for pair in group.pairs])
    axes.set_xticks([starts[shots] + (widest[shots] - 1) / 2 for shots in group.shots], [f"K={k}" for k in group.shots])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    found = [state for state in STATES if any(entry.state == state for entry in group.entries)]
    marks = [_STATE_MARKS.get(state, (".", "#bbbbbb")) for state in found]
    keys = [Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=3.2) for marker, colour in marks]
    figure.legend(
        keys, found, loc="lower center", ncols=len(found), frameon=False, borderaxespad=0.1, handletextpad=0.1
    )
    return figure

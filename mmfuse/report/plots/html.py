"""The page's plots: paired gains, accuracy against shots, and against what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mmfuse.report.gains import Gain
from mmfuse.report.plots.forest import Forest
from mmfuse.report.plots.labels import spread
from mmfuse.report.plots.points import Plots, Series, Trade
from mmfuse.report.plots.styles import BASELINE, REST, PairStyle
from mmfuse.report.plots.svg import (
    Frame,
    Scale,
    dashes,
    line,
    linear,
    logarithmic,
    mark,
    picture,
    short,
    tag,
    x_axis,
    y_axis,
)
from mmfuse.report.statistics import Mean
from mmfuse.report.tables.accuracy import METRICS

PairStyles = Mapping[str, PairStyle]

LETTER = 6.6
"""About how wide a letter of a label is."""
BOLD = 7.7
"""The same of a bold one."""
LINE = 14.5
"""How high a line of labels is."""
MOST_NAMES = 40
"""More lines than these are not all named."""


def shown(mean: Mean) -> str:
    """A mean with its interval and n, in words."""
    half = "" if mean.half is None else f" ± {mean.half:.1f}"
    return f"{mean.mean:.1f}{half}, n = {mean.n}"


def _behind_first(pairs: list[Any], styles: PairStyles) -> list[Any]:
    """Drawing order: what should lie on top comes last."""
    order = {REST: 0, BASELINE: 1}
    return sorted(pairs, key=lambda one: order.get(styles[one.pair].key, 2))


def _reach(means: list[Mean]) -> list[float]:
    return [edge for mean in means for edge in (mean.mean - (mean.half or 0), mean.mean + (mean.half or 0))]


def accuracy_scale(means: list[Mean]) -> Scale:
    """An axis in per cent around the means and their intervals, none of which leaves 0 to 100."""
    inside = [min(100.0, max(0.0, edge)) for edge in _reach(means)]
    return linear(inside, floor=0.0, ceiling=100.0)


def against_shots(plots: Plots, styles: PairStyles) -> Markup | None:
    """Accuracy against shots with intervals, each line named at its end; `None` before there is a number."""
    every = plots.series
    if not every:
        return None
    named = _with_names(every, styles)
    frame = Frame(
        width=640,
        height=max(330.0, LINE * len(named) + 64),
        right=BOLD * max(len(_cut(series.pair)) for series in named) + 34,
    )
    shots = plots.group.shots
    scale = accuracy_scale([mean for series in every for _, mean in series.points])
    places = [((at + 0.5) / len(shots), str(one)) for at, one in enumerate(shots)]
    parts = y_axis(frame, scale, f"{METRICS['top1']} accuracy in %")
    parts += x_axis(frame, places, "training clips a class (K)")
    if plots.chance is not None and scale.low <= plots.chance <= scale.high:
        y = frame.up(scale.share(plots.chance))
        parts.append(line(frame.left, y, frame.x_end, y, "chance"))
        parts.append(tag("text", "chance", x=frame.left + 4, y=y - 5, class_="tick"))
    marked = [series for series in every if styles[series.pair].key != REST]
    room = min(0.4 / len(shots), 0.022 * max(1, len(marked) - 1))
    labels = _ends(frame, scale, named)
    for series in _behind_first(every, styles):
        side = (marked.index(series) / max(1, len(marked) - 1) - 0.5) * room if series in marked else 0.0
        xs = [x + side for x, _ in places]
        parts.append(_curve(frame, scale, series, styles[series.pair], xs, shots, labels.get(series.pair)))
    label = f"{plots.group.title}: accuracy against shots, a line for each pair. "
    return picture(frame, parts, label=label + "The table of accuracies holds the same numbers.")


def _with_names(every: list[Series], styles: PairStyles) -> list[Series]:
    """The series that are named: all of them, or of very many those that stand out and the highest of the rest."""
    order = sorted(every, key=lambda one: (styles[one.pair].key == REST, -one.points[-1][0], -one.points[-1][1].mean))
    return order[:MOST_NAMES]


def _ends(frame: Frame, scale: Scale, named: list[Series]) -> dict[str, float]:
    """Where the name of each series stands, from top to bottom, beside the end of its line."""
    wanted = [frame.up(scale.share(series.points[-1][1].mean)) for series in named]
    places = spread(wanted, gap=LINE, low=frame.top, high=frame.y_end)
    return {series.pair: place for series, place in zip(named, places, strict=True)}


def _cut(name: str, most: int = 26) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _curve(
    frame: Frame,
    scale: Scale,
    series: Series,
    style: PairStyle,
    xs: list[float],
    shots: list[Any],
    label: float | None,
) -> Markup:
    points = [(frame.across(xs[at]), mean, shots[at]) for at, mean in series.points]
    path = "M" + "L".join(f"{x:.1f} {frame.up(scale.share(mean.mean)):.1f}" for x, mean, _ in points)
    parts = [tag("path", d=path, class_="stroke", stroke_dasharray=dashes(style))]
    for x, mean, one in points:
        if mean.half is not None and style.key != REST:
            parts.append(_whisker(frame, scale, x, mean))
        y = frame.up(scale.share(mean.mean))
        parts.append(mark(style, x, y, f"{series.pair}, K={one}: {shown(mean)}"))
    if label is not None:
        x, mean, _ = points[-1]
        y, edge = frame.up(scale.share(mean.mean)), frame.x_end + 16
        parts.append(tag("path", d=f"M{x + 6:.1f} {y:.1f}L{edge - 4:.1f} {label:.1f}", class_="leader"))
        parts.append(tag("text", tag("title", series.pair), _cut(series.pair), x=edge, y=label + 4, class_="end"))
    return tag("g", *parts, class_=f"series c-{style.key}", data_pair=series.pair)


def _whisker(frame: Frame, scale: Scale, x: float, mean: Mean) -> Markup:
    half = mean.half or 0.0
    low, high = (min(scale.high, max(scale.low, mean.mean + side)) for side in (-half, half))
    return line(x, frame.up(scale.share(low)), x, frame.up(scale.share(high)), "whisker")


# --- accuracy against cost ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """A logarithmic cost axis with a place of its own for nothing at all."""

    scale: Scale | None
    free: bool

    @property
    def start(self) -> float:
        """Where the logarithmic part begins, 0..1."""
        return 0.13 if self.free else 0.0

    def share(self, cost: float) -> float:
        """Where a cost lies, 0..1."""
        if cost <= 0 or self.scale is None:
            return 0.05
        return self.start + (1 - self.start) * self.scale.share(cost)

    @property
    def places(self) -> list[tuple[float, str]]:
        """Labelled places."""
        ticks = self.scale.ticks if self.scale else ()
        return [(0.05, "0")] * self.free + [(self.share(tick), short(tick)) for tick in ticks]


def against_cost(plots: Plots, styles: PairStyles, shots: Any, cost: str) -> Markup | None:
    """Accuracy at one K against trained parameters or seconds, with the Pareto front; `None` without a number."""
    trades = plots.trades(shots, cost)
    if not trades:
        return None
    frame = Frame(height=300)
    scale = accuracy_scale([trade.accuracy for trade in trades])
    paid = [trade.cost for trade in trades if trade.cost > 0]
    axis = _Axis(logarithmic(paid) if paid else None, free=len(paid) < len(trades))
    what = plots.cost_title(cost)
    parts = y_axis(frame, scale, f"{METRICS['top1']} accuracy in %, K={shots}")
    parts += x_axis(frame, axis.places, what)
    places = {
        trade.pair: (frame.across(axis.share(trade.cost)), frame.up(scale.share(trade.accuracy.mean)))
        for trade in trades
    }
    front = [places[trade.pair] for trade in trades if trade.front]
    parts.append(tag("path", d=_stairs(front, frame.x_end), class_="front"))
    for trade in _behind_first(trades, styles):
        parts.append(_dot(frame, scale, trade, styles[trade.pair], *places[trade.pair]))
    parts += _labels(frame, trades, styles, places)
    label = f"{plots.group.title}, K={shots}: accuracy against {what}. On the front: "
    return picture(frame, parts, label=label + ", ".join(trade.pair for trade in trades if trade.front) + ".")


def _stairs(front: list[tuple[float, float]], end: float) -> str:
    """The front as steps: between two of its points, the cheaper one is the best that can be had."""
    path = f"M{front[0][0]:.1f} {front[0][1]:.1f}"
    for x, y in front[1:]:
        path += f"H{x:.1f}V{y:.1f}"
    return f"{path}H{end:.1f}"


def _dot(frame: Frame, scale: Scale, trade: Trade, style: PairStyle, x: float, y: float) -> Markup:
    parts = []
    if trade.accuracy.half is not None and style.key != REST:
        parts.append(_whisker(frame, scale, x, trade.accuracy))
    front = ", on the front" if trade.front else ""
    parts.append(mark(style, x, y, f"{trade.pair}: {shown(trade.accuracy)}; cost {trade.cost:,.0f}{front}"))
    return tag("g", *parts, class_=f"series c-{style.key}", data_pair=trade.pair)


def _labels(
    frame: Frame, trades: list[Trade], styles: PairStyles, places: Mapping[str, tuple[float, float]]
) -> list[Markup]:
    """Names of the pairs, each where it hides no other and no point; those on the front and in colour come first."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places.values()]
    parts = []
    for trade in sorted(trades, key=lambda one: (styles[one.pair].key == REST, not one.front)):
        name = _cut(trade.pair, 24)
        width, (x, y) = LETTER * len(name), places[trade.pair]
        for dx, dy, anchor in ((9, -7, "start"), (-9, -7, "end"), (9, 15, "start"), (-9, 15, "end"), (10, 4, "start")):
            left = x + dx - (width if anchor == "end" else 0)
            box = (left, y + dy - 10, left + width, y + dy + 3)
            inside = (
                frame.left < box[0] and box[2] < frame.x_end + 8 and frame.top - 8 < box[1] and box[3] < frame.y_end
            )
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                kind = f"name c-{styles[trade.pair].key}{' rest' if styles[trade.pair].key == REST else ''}"
                parts.append(
                    tag("text", name, x=x + dx, y=y + dy, class_=kind, text_anchor=anchor, data_pair=trade.pair)
                )
                break
    return parts


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


# --- paired gains ------------------------------------------------------------------------------------------------


def forest_axis(forest: Forest) -> Markup:
    """The labels of the axis of a panel; places are in per cent, so that a panel has any width."""
    scale, parts = forest.scale, []
    for tick in forest.labels:
        anchor = "start" if tick == scale.low else "end" if tick == scale.high else "middle"
        label = f"{tick:+g}" if tick else "0"
        parts.append(tag("text", label, x=_percent(scale.share(tick)), y=13.0, class_="tick", text_anchor=anchor))
    return tag("svg", *parts, class_="bar", aria_hidden="true")


def forest_row(forest: Forest, gain: Gain | None) -> Markup:
    """A gain with its interval; the number stands beside it, so that nothing is lost where it cannot be seen."""
    scale, y = forest.scale, "50%"
    parts = [_upright(scale.share(tick), "zero" if tick == 0 else "grid") for tick in scale.ticks]
    if gain is not None and gain.mean is not None:
        bar = forest.bar(gain.mean)
        for ends, kind in ((bar.clips, "clips"), (bar.draws, "draws")):
            if ends is not None:
                parts.append(
                    tag("line", x1=_percent(ends[0]), x2=_percent(ends[1]), y1=y, y2=y, class_=f"interval {kind}")
                )
        for beyond, share, sign in zip(bar.cut, (0.0, 1.0), (1, -1), strict=True):
            if beyond:  # an arrow: the interval goes on
                head = tag("path", d=f"M{6 * sign} -4L0 0L{6 * sign} 4", class_="arrow")
                parts.append(tag("svg", head, x=_percent(share), y=y, class_="at"))
        parts.append(tag("circle", cx=_percent(bar.at), cy=y, r=4.5))
    verdict = gain.verdict if gain else ""
    return tag("svg", *parts, class_=f"bar {verdict}".strip(), aria_hidden="true")


def _upright(share: float, class_: str) -> Markup:
    return tag("line", x1=_percent(share), x2=_percent(share), y1="0", y2="100%", class_=class_)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"

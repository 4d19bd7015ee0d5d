"""The page's plots: accuracy against shots, and against what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

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
    """Accuracy against shots with intervals; `None` before there is a number."""
    every = plots.series
    if not every:
        return None
    frame, shots = Frame(), plots.group.shots
    scale = accuracy_scale([mean for series in every for _, mean in series.points])
    places = [((at + 0.5) / len(shots), str(one)) for at, one in enumerate(shots)]
    parts = y_axis(frame, scale, f"{METRICS['top1']} accuracy in %")
    parts += x_axis(frame, places, "training clips a class (K)")
    if plots.chance is not None and scale.low <= plots.chance <= scale.high:
        y = frame.up(scale.share(plots.chance))
        parts.append(line(frame.left, y, frame.x_end, y, "chance"))
        parts.append(tag("text", "chance", x=frame.x_end - 2, y=y - 5, class_="tick", text_anchor="end"))
    marked = [series for series in every if styles[series.pair].key != REST]
    room = min(0.5 / len(shots), 0.022 * max(1, len(marked) - 1))
    for series in _behind_first(every, styles):
        side = (marked.index(series) / max(1, len(marked) - 1) - 0.5) * room if series in marked else 0.0
        parts.append(_curve(frame, scale, series, styles[series.pair], [x + side for x, _ in places], shots))
    label = f"{plots.group.title}: accuracy against shots, a line for each pair. "
    return picture(frame, parts, label=label + "The table of accuracies holds the same numbers.")


def _curve(frame: Frame, scale: Scale, series: Series, style: PairStyle, xs: list[float], shots: list[Any]) -> Markup:
    points = [(frame.across(xs[at]), mean, shots[at]) for at, mean in series.points]
    path = "M" + "L".join(f"{x:.1f} {frame.up(scale.share(mean.mean)):.1f}" for x, mean, _ in points)
    parts = [tag("path", d=path, class_="stroke", stroke_dasharray=dashes(style))]
    for x, mean, one in points:
        if mean.half is not None and style.key != REST:
            parts.append(_whisker(frame, scale, x, mean))
        y = frame.up(scale.share(mean.mean))
        parts.append(mark(style, x, y, f"{series.pair}, K={one}: {shown(mean)}"))
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
    parts += _labels(frame, trades, places)
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


def _labels(frame: Frame, trades: list[Trade], places: Mapping[str, tuple[float, float]]) -> list[Markup]:
    """Names of the pairs on the front, each where it hides no other name and no point."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places.values()]
    parts = []
    for trade in trades:
        if not trade.front:
            continue
        name = trade.pair if len(trade.pair) <= 24 else trade.pair[:23] + "…"
        width, (x, y) = LETTER * len(name), places[trade.pair]
        for dx, dy, anchor in ((9, -7, "start"), (-9, -7, "end"), (9, 15, "start"), (-9, 15, "end")):
            left = x + dx - (width if anchor == "end" else 0)
            box = (left, y + dy - 10, left + width, y + dy + 3)
            inside = (
                frame.left < box[0] and box[2] < frame.x_end + 8 and frame.top - 8 < box[1] and box[3] < frame.y_end
            )
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(
                    tag("text", name, x=x + dx, y=y + dy, class_="name", text_anchor=anchor, data_pair=trade.pair)
                )
                break
    return parts


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

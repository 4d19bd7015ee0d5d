"""Small pieces of SVG. Text and attributes are escaped here, once, so that no name from the data can end its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from mmfuse.report.plots.styles import PairStyle

MARKS: dict[str, str] = {
    "ring": "M-4.2 0a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0 -8.4 0z",
    "circle": "M-4.4 0a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0 -8.8 0z",
    "dot": "M-2.6 0a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0 -5.2 0z",
    "square": "M-4-4h8v8h-8z",
    "triangle": "M0-5.2L4.9 3.6H-4.9z",
}
"""Outlines of the markers, about ten units across, centred."""


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. Attributes that are `None` are left out; `_` in their names stands for `-`, at the end for nothing.

    >>> str(tag("text", "a < b", x=1, text_anchor="end", class_="note"))
    '<text x="1" text-anchor="end" class="note">a &lt; b</text>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>") + Markup("").join(children) + Markup(f"</{name}>")


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def mark(style: PairStyle, x: float, y: float, title: str | None = None) -> Markup:
    """A pair's marker at a point, with what it stands for."""
    inside = tag("title", title) if title else ""
    return tag("path", inside, d=MARKS[style.marker], transform=f"translate({x:.2f} {y:.2f})", class_="mark")


def key(style: PairStyle) -> Markup:
    """A pair's line and marker, for a legend."""
    stroke = tag("path", d="M1 8H33", class_="stroke", stroke_dasharray=dashes(style))
    return tag(
        "svg", stroke, mark(style, 17, 8), viewBox="0 0 34 16", class_=f"key-mark c-{style.key}", aria_hidden="true"
    )


def dashes(style: PairStyle) -> str | None:
    """The stroke's pattern as SVG has it."""
    return " ".join(f"{length:g}" for length in style.dash) or None


@dataclass(frozen=True)
class Frame:
    """The area of a plot within its picture, in the picture's units."""

    width: float = 480
    height: float = 310
    left: float = 44
    right: float = 12
    top: float = 12
    bottom: float = 46

    @property
    def x_end(self) -> float:
        """Where the area ends on the right."""
        return self.width - self.right

    @property
    def y_end(self) -> float:
        """Where it ends below."""
        return self.height - self.bottom

    def across(self, share: float) -> float:
        """From 0..1 to x."""
        return self.left + share * (self.x_end - self.left)

    def up(self, share: float) -> float:
        """From 0..1 to y, which grows downwards."""
        return self.y_end - share * (self.y_end - self.top)


@dataclass(frozen=True)
class Scale:
    """From values to 0..1, with the values that carry a label."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends."""
        if self.log:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)


def linear(values: Sequence[float], *, floor: float | None = None, ceiling: float | None = None) -> Scale:
    """A scale with round ticks around all values.

    >>> linear([23.4, 61.0]).ticks
    (20.0, 30.0, 40.0, 50.0, 60.0, 70.0)
    """
    low, high = min(values), max(values)
    step = _step(max(high - low, 1.0))
    first = math.floor(low / step) * step
    last = math.ceil(high / step) * step
    first = first if floor is None else max(first, floor)
    last = last if ceiling is None else min(last, ceiling)
    count = max(1, math.ceil((last - first) / step - 1e-9))
    ticks = tuple(round(first + step * at, 10) for at in range(count + 1))
    return Scale(first, max(last, ticks[-1]), ticks)


def _step(span: float) -> float:
    """The roundest step that cuts a span into about five."""
    raw = span / 5
    size = 10.0 ** math.floor(math.log10(raw))
    return size * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.8)


def logarithmic(values: Sequence[float]) -> Scale:
    """A logarithmic scale with ticks at 1, 2 and 5, or at powers of ten where it is long.

    >>> logarithmic([13, 70]).ticks
    (20.0, 50.0)
    """
    low, high = min(values) / 1.25, max(values) * 1.25
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 100 else (1,)
    ticks = [factor * 10.0**power for power in exponents for factor in factors]
    every = 1 if len(ticks) < 24 else len(ticks) // 8
    return Scale(low, high, tuple(tick for tick in ticks[::every] if low <= tick <= high), log=True)


def short(value: float) -> str:
    """A number as an axis shows it.

    >>> [short(value) for value in (0.5, 20, 50_000, 1_200_000, 3e9)]
    ['0.5', '20', '50k', '1.2M', '3G']
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def y_axis(frame: Frame, scale: Scale, title: str) -> list[Markup]:
    """Grid lines, labels and title of a vertical axis."""
    parts = []
    for tick in scale.ticks:
        y = frame.up(scale.share(tick))
        parts.append(line(frame.left, y, frame.x_end, y, "grid"))
        parts.append(tag("text", f"{tick:g}", x=frame.left - 8, y=y + 4, class_="tick", text_anchor="end"))
    middle = (frame.top + frame.y_end) / 2
    parts.append(
        tag("text", title, class_="axis", text_anchor="middle", transform=f"translate(12 {middle:.1f}) rotate(-90)")
    )
    return parts


def x_axis(frame: Frame, places: Sequence[tuple[float, str]], title: str) -> list[Markup]:
    """Base line, labels and title of a horizontal axis.

    Args:
        frame: the plot's area.
        places: value (0..1) and label.
        title: what the axis shows.
    """
    parts = [line(frame.left, frame.y_end, frame.x_end, frame.y_end, "base")]
    for value, label in places:
        x = frame.across(value)
        parts.append(line(x, frame.y_end, x, frame.y_end + 4, "base"))
        parts.append(tag("text", label, x=x, y=frame.y_end + 18, class_="tick", text_anchor="middle"))
    middle = (frame.left + frame.x_end) / 2
    parts.append(tag("text", title, x=middle, y=frame.height - 8, class_="axis", text_anchor="middle"))
    return parts


def picture(frame: Frame, parts: Sequence[str], *, label: str) -> Markup:
    """The whole picture, with a text for those who cannot see it."""
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        class_="plot",
        role="img",
        aria_label=label,
    )

"""How each pair is drawn, on the page as in the figures: a colour, and a marker and a line that tell it apart in grey.

The colours are Okabe and Ito's, darkened where they would be too faint on white.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mmfuse.report.plots.points import Plots

BASELINE, REST = "base", "rest"


@dataclass(frozen=True)
class PairStyle:
    """How one pair is drawn.

    Args:
        key: names the colour: "1" to "3", "base" for the frozen towers, "rest" for all other pairs.
        colour: on white.
        marker: circle, square, triangle, ring or dot.
        dash: lengths of strokes and gaps; empty for a solid line.
    """

    key: str
    colour: str
    marker: str
    dash: tuple[float, ...] = ()


STYLES = (  # more lines than these and the baseline cannot be followed by eye
    PairStyle("1", "#0072b2", "square"),
    PairStyle("2", "#d55e00", "circle", (7, 2.5)),
    PairStyle("3", "#008f68", "triangle", (2, 2)),
)
FROZEN = PairStyle(BASELINE, "#4a4f57", "ring", (3, 3))
OTHERS = PairStyle(REST, "#b9bdc4", "dot")


def pair_styles(plots: Iterable[Plots]) -> dict[str, PairStyle]:
    """A style for each pair, the same over all data sets: those that are highest on average stand out."""
    members = list(plots)
    pairs = list(dict.fromkeys(pair for one in members for pair in one.group.pairs))
    frozen = {one.group.baseline_of(pair) for one in members for pair in one.group.pairs}
    ranked = sorted((pair for pair in pairs if pair not in frozen), key=lambda pair: -_height(pair, members))
    chosen = set(ranked[: len(STYLES)])
    given = iter(STYLES)
    found = {}
    for pair in pairs:
        found[pair] = FROZEN if pair in frozen else next(given) if pair in chosen else OTHERS
    return found


def _height(pair: str, plots: list[Plots]) -> float:
    """Mean accuracy of a pair over whatever it has numbers for."""
    means = [mean.mean for one in plots for series in one.series if series.pair == pair for _, mean in series.points]
    return sum(means) / len(means) if means else -1.0

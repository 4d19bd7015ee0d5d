"""How cost grows with clips, frames, classes and cells, each doubled three times, all else held.

Cells have a part that does not grow: towers are read, clips of the other list are tested. It falls out of the
differences between one size and the next. Where cost grows as x^p, so do the differences, and p is the slope of their
logarithms. The fits, and a plot of all points, are kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.cells import cache, cell, run
from benchmarks.speed.grids import Case, run_grid
from benchmarks.speed.materials import ClipSet, embedded_towers, listed, tiny_clips
from benchmarks.speed.measuring import Bench, Clock, Figure, Row, in_turns, interleaved

PLOT = "growth.svg"
PAIR = ("lora", "adapter")
LINEAR = 1.1
WHY = {
    "frames": "the fusion's attention is quadratic in its tokens, and tiny",
    "classes": "the fusion's attention is quadratic in its tokens, classes included",
}


def measure(bench: Bench) -> list[Row]:
    """A row for each of the four."""
    clips = tiny_clips(bench.folder / "growth", test=1)
    taken = {
        "clips": _taken(bench, "clips", (4, 8, 16, 32), lambda size: _clips(clips, size)),
        "frames": _taken(bench, "frames", (2, 4, 8, 16), lambda size: _frames(clips, size)),
        "classes": _taken(bench, "classes", (8, 16, 32, 64), lambda size: _classes(bench, size)),
        "cells": _cells(bench, clips, (16, 32, 64, 128)),  # fewer take less than a start may take more
    }
    if bench.keep is not None:
        plot(taken, bench.keep / PLOT)
    rows = []
    for what, points in taken.items():
        slopes = [
            exponent(list(points), [seconds[turn] for seconds in points.values()]) for turn in range(_rounds(points))
        ]
        known = [slope for slope in slopes if slope is not None]
        figure = Figure.of(known) if known else None
        steep = figure is not None and figure.median > LINEAR
        how = WHY.get(what, "") if steep else ("" if known else "differences too small to fit")
        rows.append(
            Row("growth", f"cost over {what}: exponent", "", figure, unit="", at_most=LINEAR, how=how,
                figures={"seconds": {str(size): seconds for size, seconds in points.items()}})
        )  # fmt: skip
    return rows


def _rounds(points: dict[int, list[float]]) -> int:
    return min(len(seconds) for seconds in points.values())


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float | None:
    """p, where seconds are c + a·x^p and each size is twice the one before; `None` where they do not rise.

    >>> round(exponent([1, 2, 4, 8], [5 + 3 * size for size in [1, 2, 4, 8]]), 3)
    1.0
    """
    rises = [after - before for before, after in itertools.pairwise(seconds)]
    if min(rises) <= 0:
        return None
    along = [math.log(size) for size in sizes[:-1]]
    up = [math.log(rise) for rise in rises]
    middle, level = sum(along) / len(along), sum(up) / len(up)
    return sum((x - middle) * (y - level) for x, y in zip(along, up, strict=True)) / sum(
        (x - middle) ** 2 for x in along
    )


def _taken(bench: Bench, what: str, sizes: Sequence[int], make: Callable[[int], Any]) -> dict[int, list[float]]:
    """Processor seconds of a cell of each size, by round."""
    bench.say(f"cells with {', '.join(map(str, sizes))} {what}")
    cells = {str(size): make(size) for size in sizes}
    with cache(bench.folder / f"growth-{what}"):
        ways = {name: (lambda made=made: run(made)) for name, made in cells.items()}
        # The first turn of all sizes fills the kept features; those that keep none need one warm cell alone.
        if what != "classes":
            run(next(iter(cells.values())))
        seen = interleaved(ways, rounds=2, clock=Clock(bench.device), warm=int(what == "classes"))
    return {int(name): seconds for name, seconds in seen.items()}


def _clips(clips: ClipSet, shots: int) -> Any:
    return cell(dataset=clips.keys(), pair=PAIR, shots=shots, epochs=2, clip={"size": 64, "frames": 8})


def _frames(clips: ClipSet, frames: int) -> Any:
    return cell(dataset=clips.keys(), pair=PAIR, shots=8, epochs=3, clip={"size": 64, "frames": frames})


def _classes(bench: Bench, count: int) -> Any:
    """128 clips to learn from and as many to be tested on, dealt out to ever more classes."""
    from mmfuse.data.tiny import dataset

    table, root = dataset.listing(), dataset.generate()
    groups = list(table[table["part"] == "train"].groupby("group", sort=False)["path"])[:64]
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for number, (_, paths) in enumerate(groups):
        for place, path in enumerate(paths):
            rows["train" if place < 2 else "test"].append((path, f"kind{number % count:02d}"))
    clips = listed(f"dealt{count}", root, rows["train"], rows["test"], lists=bench.folder, size=64, flip=False)
    # A frozen image tower, whose features are kept: what is left grows with the classes.
    return cell(
        dataset=clips.keys(), pair=("frozen", "adapter"), shots="all", epochs=16, clip={"size": 64, "frames": 8}
    )


def _cells(bench: Bench, clips: ClipSet, sizes: Sequence[int]) -> dict[int, list[float]]:
    """Whole grids by the command, with ever more draws."""
    case = Case(clips, embedded_towers(), ("frozen+adapter",), (2,), 2, classes=12, width=128)

    def seconds(size: int, turn: int) -> float:
        name = f"cells-{size}-{turn}"  # a folder of its own: what has been run is not run again
        return run_grid(
            bench, case, name=name, pairs=case.pairs, shots=case.shots, epochs=case.epochs, draws=size
        ).processor

    seen = in_turns({str(size): partial(seconds, size) for size in sizes}, range(2))
    return {int(size): taken for size, taken in seen.items()}


def plot(taken: dict[str, dict[int, list[float]]], path: Path) -> None:
    """All points, and a line from the first rise on as if cost were linear."""
    import statistics

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(taken), figsize=(3 * len(taken), 2.8), layout="constrained")
    for axis, (what, points) in zip(axes, taken.items(), strict=True):
        sizes, medians = list(points), [statistics.median(seconds) for seconds in points.values()]
        for size, seconds in points.items():
            axis.plot([size] * len(seconds), seconds, "o", color="0.6", markersize=4)
        slope = (medians[-1] - medians[0]) / (sizes[-1] - sizes[0])
        line = [medians[0] + slope * (size - sizes[0]) for size in sizes]
        axis.plot(sizes, line, "--", color="0.4", label="a straight line")
        axis.plot(sizes, medians, "o-", color="#0072b2", label="median")
        axis.set(xlabel=what, xticks=sizes, ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("processor seconds")
    axes[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)

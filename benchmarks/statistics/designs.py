"""The kinds of tables that are simulated: what a grid may look like, and what may go wrong with it."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.statistics.generate import TRAININGS, Design

UCF101, HMDB51 = (3783, 13), (1530, 5)
"""Test clips, and near what number of them come from one source."""
GAINS = (0.0, 0.06, 0.15, 0.3, 0.6)
"""On the logistic scale: about 1, 2, 5 and 10 points."""


def null() -> list[Design]:
    """Tables in which all pairs are equal."""
    found = [
        replace(_design(rows, draws, clips, of_source), name=f"{rows} pairs, n = {draws}, {clips:,} clips")
        for clips, of_source in ((48, 4), (240, 10), HMDB51, UCF101)
        for rows in (5, 15)
        for draws in (2, 3, 5, 10)
        if clips < 1000 or (rows, draws) in ((5, 3), (15, 3), (15, 10))
    ]
    usual = Design("")
    for draws in (3, 10):
        base = replace(usual, draws=draws, rows=15)
        found += [
            replace(base.quieter(0.5), name=f"half the noise, n = {draws}"),
            replace(base, noise=(TRAININGS,) * 3, name=f"repeated trainings alone, n = {draws}"),
            replace(base, clips=48, of_source=4, noise=(TRAININGS,) * 3, name=f"the same on 48 clips, n = {draws}"),
            replace(base.quieter(0), scale=0.02, name=f"draws that all agree, n = {draws}"),
            replace(base.quieter(0.1), own=(0.0, 0.0), scale=0.05, name=f"pairs that nearly agree, n = {draws}"),
            replace(base, own=(0.9, 0.0), name=f"what differs comes from sources, n = {draws}"),
            replace(base, of_source=1, name=f"every clip its own source, n = {draws}"),
            replace(base, louder=3.0, name=f"one pair three times as noisy, n = {draws}"),
            replace(base, missing=0.15, name=f"15% of the cells missing, n = {draws}"),
            replace(base, shape="uniform", name=f"uniform noise, n = {draws}"),
            replace(base, shape="laplace", name=f"heavy-tailed noise, n = {draws}"),
            replace(base, levels=(2.5, 3.5, 5.0), name=f"accuracies from 90 to 99%, n = {draws}"),
        ]
    return found


def real() -> list[Design]:
    """Tables with true gains."""
    found = []
    for clips, of_source in ((240, 10), HMDB51, UCF101):
        for draws in (3, 5, 10):
            for factor, noise in ((1.0, "full"), (0.25, "a quarter of the")):
                design = replace(_design(5, draws, clips, of_source), gains=GAINS).quieter(factor)
                found.append(replace(design, name=f"n = {draws}, {clips:,} clips, {noise} noise"))
    return found


def _design(rows: int, draws: int, clips: int, of_source: int) -> Design:
    return Design("", rows=rows, draws=draws, clips=clips, of_source=of_source)

"""The page of a search: what was tried, what was chosen and why, and how it did in its one test.

One HTML file that holds everything, asks nothing of any network and runs no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mmfuse.records.record import Record
from mmfuse.report.page.provenance import command_of
from mmfuse.report.page.rendering import page_environment, policy, shipped
from mmfuse.report.per_class import Evidence

HARD = 8
"""Classes, confusions and clips that are shown."""
WIDTH, ROW = 340, 26
"""Of the plot of all trials, in pixels."""


@dataclass(frozen=True)
class Dot:
    """A trial in the plot."""

    x: float
    kind: str
    """chosen, default or other"""
    title: str


def build_search_page(told: Mapping[str, Any], *, record: Record, evidence: Evidence, command: str) -> str:
    """Make the page.

    Args:
        told: what was found, as `mmfuse best --json` prints it.
        record: of the model.
        evidence: its predictions, counted.
        command: that does all this again.
    """
    environment = page_environment()
    environment.filters |= {"percent": percent, "settings": settings_in_words}
    style = shipped("report.css")
    pair, shots = record.cell.pair.name, record.cell.shots
    names = evidence.class_names
    lowest, highest = _scale(told["candidates"])
    return environment.get_template("search.html").render(
        policy=policy(style=style),
        style=style,
        told=told,
        record=record,
        pair=pair,
        rows=[(one, _dots(one, lowest, highest)) for one in told["candidates"]],
        ticks=[(_place(tick, lowest, highest), f"{100 * tick:.0f}") for tick in _ticks(lowest, highest)],
        width=WIDTH,
        row=ROW,
        hardest=_hard_classes(evidence, pair, shots),
        confused=[
            (names[true], names[taken], count, share)
            for true, taken, count, share in evidence.confused(pair, shots, most=HARD)
        ],
        clips=[(clip.clip, names[clip.label], names[clip.answers[0][0]]) for clip in evidence.hardest(most=HARD)],
        chance=1 / max(1, len(names)),
        command=Markup.escape(command_of(command) or command),
        predict=Markup.escape(told["predict"]),
        budget=_budget(told["budget"]),
        tried=next(len(one["trials"]) for one in told["candidates"] if one["pair"] == told["pair"]),
        trials=sum(len(one["trials"]) for one in told["candidates"]),
    )


def percent(value: float | None, error: float | None = None) -> str:
    """A share as per cent, with its standard error in points.

    >>> percent(0.431, 0.02), percent(None)
    ('43.1 ± 2.0', '–')
    """
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + (f" ± {100 * error:.1f}" if error is not None else "")


def settings_in_words(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings that differ from the default, as a reader takes them in."""
    told = [
        f"{'' if group == 'train' else group + ' '}{name} {value}"
        for group, values in settings.items()
        for name, value in values.items()
    ]
    return ", ".join(told) or "default settings"


def _budget(budget: Mapping[str, Any]) -> str:
    if budget.get("trials") is not None:
        return f"{budget['trials']} trials a pair"
    return f"{budget['seconds'] / 60:g} minutes for all pairs, shared out equally"


def _hard_classes(evidence: Evidence, pair: str, shots: Any) -> list[tuple[str, float, int]]:
    """The classes with the lowest recall: name, share recognised, clips."""
    answers = evidence.answers[pair, shots]
    clips = evidence.clips_of_class
    [repetition] = answers.right
    recalls = answers.recalls(repetition, clips)
    found = [(evidence.class_names[label], recalls[label] / 100, int(clips[label])) for label in clips.nonzero()[0]]
    return sorted(found, key=lambda one: (one[1], one[0]))[:HARD]


def _scale(candidates: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Bounds of the plot, whole tenths."""
    values = [trial["top1"] for one in candidates for trial in one["trials"] if trial["top1"] is not None]
    lowest, highest = min(values), max(values)
    low, high = int(10 * lowest) / 10, min(1.0, (int(10 * highest - 1e-9) + 1) / 10)
    return low, high if high > low else low + 0.1


def _ticks(low: float, high: float) -> list[float]:
    return [number / 10 for number in range(round(10 * low), round(10 * high) + 1)]


def _place(value: float, low: float, high: float) -> float:
    return round(10 + (WIDTH - 20) * (value - low) / (high - low), 1)


def _dots(one: Mapping[str, Any], low: float, high: float) -> list[Dot]:
    """The trials that were evaluated on all folds; the chosen one last, so that it lies on top."""
    dots = []
    for trial in one["trials"]:
        if trial["top1"] is None:
            continue
        kind = "chosen" if trial["number"] == one["chosen"] else "default" if trial["number"] == 0 else "other"
        title = f"{percent(trial['top1'], trial['error'])}: {settings_in_words(trial['settings'])}"
        dots.append(Dot(_place(trial["top1"], low, high), kind, title))
    return sorted(dots, key=lambda dot: dot.kind == "chosen")

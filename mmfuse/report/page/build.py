"""The report: one HTML file that holds everything, asks nothing of any network, and runs nothing but its own script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from mmfuse.errors import MmfuseError
from mmfuse.records.folder import Manifest, ResultsFolder
from mmfuse.records.status import MARKS, Entry, counts
from mmfuse.report.groups import Group, finished, groups
from mmfuse.report.page import provenance
from mmfuse.report.page.payload import CELL_COLUMNS, ClassPayload, cells
from mmfuse.report.page.rendering import page_environment, policy, shipped
from mmfuse.report.page.summary import Summary, over_data_sets
from mmfuse.report.page.thumbnails import ReadFrames, Strip, strip
from mmfuse.report.per_class import Evidence, HardClip, Watch, gather
from mmfuse.report.plots import html
from mmfuse.report.plots.forest import Forest
from mmfuse.report.plots.points import COSTS, Plots
from mmfuse.report.plots.styles import PairStyle, pair_styles
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.build import group_tables
from mmfuse.report.tables.overall import Overall
from mmfuse.report.tables.settings import setting_tables
from mmfuse.report.tables.table import Table, Value

PANELS = 3
"""Panels of gains side by side."""


@dataclass(frozen=True)
class Place:
    """One place of the map: the cells of a pair at some K."""

    label: str
    marks: tuple[tuple[str, str], ...]
    behind: tuple[Entry, ...]


class Section:
    """Everything that the page shows of one data set and split."""

    def __init__(self, group: Group, *, number: int) -> None:
        self.group = group
        self.comparison = Comparison(group)
        self.number = number
        self.id = f"group-{number}"
        self.plots = Plots(self.comparison)
        self.summary = Summary(self.plots)
        self.evidence = Evidence()
        self.clips: list[tuple[HardClip, Strip | None]] = []
        self.styles: Mapping[str, PairStyle] = {}
        self.videos_missing = ""

    @property
    def title(self) -> str:
        """The data set's name, and its split."""
        return self.group.title

    @cached_property
    def tables(self) -> list[Table]:
        """The tables, as `mmfuse-bench tables` prints them."""
        return group_tables(self.comparison)

    @cached_property
    def against_shots(self) -> Markup | None:
        """Accuracy against shots."""
        return html.against_shots(self.plots, self.styles)

    @cached_property
    def against_cost(self) -> list[tuple[Any, list[Markup]]]:
        """For each K with numbers: accuracy against parameters and against seconds."""
        made = []
        for shots in self.plots.shots_with_numbers:
            found = [html.against_cost(self.plots, self.styles, shots, cost) for cost in COSTS]
            if drawn := [chart for chart in found if chart is not None]:
                made.append((shots, drawn))
        return made

    @property
    def map(self) -> list[tuple[str, list[Place]]]:
        """The grid: a row for each pair, a place for each K."""
        return [(pair, [self._place(pair, shots) for shots in self.group.shots]) for pair in self.group.pairs]

    def _place(self, pair: str, shots: Any) -> Place:
        entries = self.group.of(pair, shots)
        told = ", ".join(f"{number} {state}" for state, number in counts(entries).items() if number) or "not planned"
        marks = tuple((entry.state, MARKS[entry.state]) for entry in entries)
        return Place(f"{pair}, K={shots}: {told}", marks, tuple(entries))


def build_page(
    folder: ResultsFolder, entries: Sequence[Entry], *, read_frames: ReadFrames | None = None, watch: Watch = iter
) -> str:
    """Make the report of a results folder.

    Args:
        folder: the results.
        entries: its cells with their states.
        read_frames: reads frames of test clips; `None` leaves them out.
        watch: wraps the cells whose predictions are read, so that a command can show how far it is.

    Raises:
        MmfuseError: there is no cell to report on.
    """
    if not entries:
        raise MmfuseError(
            f"{folder.path} holds no cells, so there is nothing to report; "
            f"run a grid first: mmfuse-bench --grid NAME --results {folder.path}"
        )
    plans = folder.manifests()
    sections = [Section(group, number=number) for number, group in enumerate(groups(entries, folder))]
    shared = pair_styles(section.plots for section in sections)
    payload, classes = ClassPayload(), []
    for section in sections:
        section.styles = shared
        section.evidence = gather(section.group, watch=watch)
        classes.append(payload.of(section.plots, section.evidence))
        _add_clips(section, read_frames)
    data = {
        "columns": CELL_COLUMNS,
        "cells": cells(entries, {item.cell.name: plan.command for plan in plans for item in plan.cells}),
        "groups": classes,
    }
    return _render(plans, entries, sections, data, left_out=payload.left_out)


def _add_clips(section: Section, read_frames: ReadFrames | None) -> None:
    """Put the hardest clips into a section, with their frames where they are available."""
    hardest = section.evidence.hardest()
    if read_frames is None:
        section.clips = [(clip, None) for clip in hardest]
        return
    cell = section.group.shown or section.group.entries[0].cell
    strips = [strip(read_frames, cell, clip.clip) for clip in hardest]
    section.clips = list(zip(hardest, strips, strict=True))
    if strips and not any(one.frames for one in strips):
        section.videos_missing = strips[0].missing


def _render(
    plans: Sequence[Manifest],
    entries: Sequence[Entry],
    sections: Sequence[Section],
    data: Mapping[str, Any],
    *,
    left_out: int,
) -> str:
    numbers = {id(entry): number for number, entry in enumerate(entries)}

    def behind(cells: Iterable[Entry]) -> str:
        return " ".join(str(numbers[id(entry.origin or entry)]) for entry in cells)

    environment = page_environment()
    style, script = (shipped(name) for name in ("report.css", "report.js"))
    records = finished(entries)
    forest = Forest([section.summary.answer for section in sections])
    overall = Overall([section.comparison for section in sections if section.group.main])
    cautions = dict.fromkeys(caution for section in sections for caution in section.summary.cautions())
    return environment.get_template("report.html").render(
        policy=policy(style=style, script=script),
        style=style,
        script=script,
        data=embedded(data),
        behind=behind,
        number=_number,
        grids=[plan.grid for plan in plans if plan.cells],
        # A command stays as it was given.
        commands=[Markup.escape(command) for plan in plans if (command := provenance.command_of(plan.command))],
        sections=sections,
        forest=forest,
        forest_blocks=[forest.panels[at : at + PANELS] for at in range(0, len(forest.panels), PANELS)],
        forest_axis=html.forest_axis,
        forest_row=html.forest_row,
        cautions=list(cautions),
        over_data_sets=over_data_sets(overall, margin=min(section.summary.answer.margin for section in sections)),
        overall=overall.table if records else None,
        settings=setting_tables([section.comparison for section in sections]) if records else [],
        datasets=list(dict.fromkeys(section.group.dataset for section in sections)),
        states=[(state, MARKS[state], number) for state, number in counts(entries).items()],
        hours=sum(record.cost.seconds for record in records if record.cost) / 3600,
        until=max((record.provenance.finished for record in records if record.provenance.finished), default=None),
        facts=provenance.facts(entries),
        fingerprints=provenance.fingerprints(entries),
        troubles=provenance.troubles(entries),
        left_out=left_out,
    )


def embedded(data: object) -> Markup:
    """JSON that can stand in a script element: nothing in it can end that element.

    >>> str(embedded("</script>&"))
    '"\\\\u003c/script\\\\u003e\\\\u0026"'
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _number(value: Value) -> float | None:
    """What a table is sorted by."""
    return None if value.mean is None else round(value.mean.mean, 6)

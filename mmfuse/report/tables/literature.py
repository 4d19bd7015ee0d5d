"""Ours beside published rows. What is published is shown as printed by its source, never as a result of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mmfuse.errors import MmfuseError
from mmfuse.records.fields import Shots, Strict
from mmfuse.report.groups import Group
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.notes import views_of
from mmfuse.report.tables.table import Row, Table, Value
from mmfuse.utils.resources import literature_file

BLOCKS = {
    "none": "published, no video before",
    "kinetics-400": "published, Kinetics-400 before",
    "other": "published, other video before or not stated",
}

UNKNOWN = "not stated"
BASE_SHOTS = 16
"""K of the base classes in all published base-to-novel numbers."""

Percent = Annotated[float, Field(gt=0, lt=100)]
Number = Annotated[int, Field(ge=1)]


class ZeroShot(Strict):
    """Accuracy on classes never trained on: the mean, and its sd over the test splits where the source gives it."""

    mean: Percent
    sd: Annotated[float, Field(ge=0)] | None = None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.sd is None else f"{self.mean:.1f} ± {self.sd:.1f}"


class BaseToNovel(Strict):
    """Accuracies on base and on novel classes, and their harmonic mean."""

    base: Percent
    novel: Percent
    harmonic_mean: Percent


class Published(Strict):
    """One published row; see the head of `benchmarks/literature.yaml`."""

    dataset: str
    method: str
    backbone: str
    frames: Number | None = None
    clips: Number | None = None
    crops: Number | None = None
    protocol: str | None = None
    best_on_test: bool = False
    pretraining: Literal["none", "kinetics-400", "other"]
    top1: Annotated[dict[Shots, Percent], Field(min_length=1)] | None = None
    zero_shot: ZeroShot | None = None
    base_to_novel: BaseToNovel | None = None
    source: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _one_setting(self) -> Published:
        if sum(value is not None for value in (self.top1, self.zero_shot, self.base_to_novel)) != 1:
            raise ValueError("a row holds one of top1, zero_shot and base_to_novel")
        return self

    @property
    def name(self) -> str:
        """The row's name: method and backbone, and whether its number is one of a best epoch on the test list."""
        return f"{self.method} ({self.backbone}{', best epoch on test' if self.best_on_test else ''})"

    @property
    def views(self) -> str:
        """Frames × clips × crops of a test video, as far as the source says."""
        known = (self.frames, self.clips, self.crops)
        return UNKNOWN if known == (None, None, None) else "×".join("?" if one is None else str(one) for one in known)


@lru_cache
def published(path: Path | None = None) -> tuple[Published, ...]:
    """The rows of `benchmarks/literature.yaml`.

    Raises:
        MmfuseError: a row that lacks its source, or holds anything else than a row does.
    """
    place = path or literature_file()
    content = yaml.load(place.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    rows: list[Published] = []
    for number, row in enumerate(content["rows"], 1):
        try:
            rows.append(Published.model_validate(row))
        except ValidationError as fault:
            error = fault.errors()[0]
            where = ".".join(["", *map(str, error["loc"])])
            raise MmfuseError(f"{place}: row {number}{where}: {error['msg']}") from None
    return tuple(rows)


class Sources:
    """Numbers for the sources of a table's rows, in the order in which they come."""

    def __init__(self) -> None:
        self._known: list[str] = []

    def named(self, row: Published) -> str:
        """A row's name with the number of its source."""
        if row.source not in self._known:
            self._known.append(row.source)
        return f"{row.name} [{self._known.index(row.source) + 1}]"

    @property
    def note(self) -> str:
        """What the numbers stand for."""
        return "Sources: " + "; ".join(f"[{at}] {source}" for at, source in enumerate(self._known, 1)) + "."


def literature_table(comparison: Comparison) -> Table | None:
    """A data set's pairs beside what is published on it; `None` where nothing is."""
    group, shots = comparison.group, comparison.group.shots
    rows = [row for row in published() if row.dataset == group.dataset and row.top1 is not None]
    if not rows:
        return None
    lists, seen, sources = _lists(group), views_of(group), Sources()
    drawn = " and ".join(f"{name} lists" if name else "drawn here" for name in lists)
    made = [
        Row(
            f"{row.name} (ours)",
            (_text(seen.get(row.name, UNKNOWN)), _text(drawn), *row.values[: len(shots)]),
            axes={"pair": row.name},
        )
        for row in comparison.table.rows
    ]
    for block, title in BLOCKS.items():
        members = [row for row in rows if row.pretraining == block and any(k in (row.top1 or {}) for k in shots)]
        if members:
            made.append(Row(title, tuple(_text("") for _ in range(len(shots) + 2)), rule_above=True, axes={}))
        for row in members:
            values = [f"{row.top1[one]:.1f}" if row.top1 and one in row.top1 else "" for one in shots]
            texts = (row.views, _clips(row, lists), *values)
            axes = {"published": row.name, "source": row.source}
            made.append(Row(sources.named(row), tuple(map(_text, texts)), axes=axes))
    return Table(
        key="literature",
        title=f"{group.title}: beside published numbers, top-1 in %",
        corner="method",
        columns=("frames×clips×crops", "training clips", *(f"K={one}" for one in shots)),
        rows=tuple(made),
        notes=(
            "Published rows are quoted, not rerun: towers and what else is not told here differ from ours.",
            _about_clips(rows, lists, group.dataset),
            sources.note,
        ),
        context={"dataset": group.dataset, "split": str(group.split), "metric": "top1"},
        axes=(
            {"quantity": "test views"},
            {"quantity": "training clips"},
            *({"shots": str(one), "quantity": "accuracy"} for one in shots),
        ),
        caption=f"Top-1 accuracy in % on {group.title} beside published numbers, by training clips a class (K).",
    )


def base_to_novel_table(ours: Table, group: Group) -> Table | None:
    """Base, novel and harmonic mean at K = 16 beside what is published of them; `None` where nothing is.

    Args:
        ours: our own, three columns for each number of shots.
        group: its cells on base classes.
    """
    dataset = group.dataset.removesuffix(" (base)")
    rows = [row for row in published() if row.dataset == dataset and row.base_to_novel is not None]
    if not rows or BASE_SHOTS not in group.shots:
        return None
    first = 3 * group.shots.index(BASE_SHOTS)
    lists = _lists(group)
    made = _ours(ours, group, range(first, first + 3))

    def texts(row: Published) -> list[str]:
        assert row.base_to_novel is not None
        return [_clips(row, lists), *(f"{value:.1f}" for value in row.base_to_novel.model_dump().values())]

    title = f"{dataset}, split {group.split}: base to novel beside published numbers, K={BASE_SHOTS}, top-1 in %"
    heads = ("training clips", "base", "novel", "harmonic mean")
    return _beside(ours, made, rows, texts, title=title, heads=heads, about=_about_clips(rows, lists, dataset))


def zero_shot_table(ours: Table, group: Group) -> Table | None:
    """Means over splits of classes never trained on, beside what is published of them; `None` where nothing is.

    Args:
        ours: our own, one column for each number of shots.
        group: the cells of its first split.
    """
    dataset, _, trained_on = group.dataset.partition(" (trained on ")
    rows = [row for row in published() if row.dataset == dataset and row.zero_shot is not None]
    if not rows or not (trained_on or group.shots == [0]):
        return None
    made = []
    for row in _ours(ours, group, range(len(ours.columns))):
        seen, _, *values = row.values  # what is trained on is no draw of this data set
        made.append(replace(row, values=(seen, *values, _text(""))))
    blank = [""] * len(ours.columns)
    return _beside(
        ours,
        made,
        rows,
        lambda row: [*blank, str(row.zero_shot)],
        title=f"{dataset}: classes never trained on beside published numbers, top-1 in % over the test splits",
        heads=(*ours.columns, "published"),
        about=f"Published rows were trained on Kinetics-400, ours on {trained_on.removesuffix(')') or 'nothing'}.",
    )


def _ours(table: Table, group: Group, columns: Iterable[int]) -> list[Row]:
    """Our rows with what they saw, what they were trained on, and some of their columns."""
    seen, wanted = views_of(group), list(columns)
    drawn = " and ".join(f"{name} lists" if name else "drawn here" for name in _lists(group))
    return [
        Row(
            f"{row.name} (ours)",
            (_text(seen.get(row.name, UNKNOWN)), _text(drawn), *(row.values[at] for at in wanted)),
            axes={"pair": row.name},
        )
        for row in table.rows
    ]


def _beside(
    ours: Table,
    made: list[Row],
    rows: Sequence[Published],
    texts: Callable[[Published], list[str]],
    *,
    title: str,
    heads: Sequence[str],
    about: str,
) -> Table:
    """Our rows, and the published ones in their blocks; `texts` are the columns behind that of the views."""
    sources = Sources()
    for block, name in BLOCKS.items():
        members = [row for row in rows if row.pretraining == block]
        if members:
            made.append(Row(name, tuple(_text("") for _ in range(len(heads) + 1)), rule_above=True, axes={}))
        for row in members:
            axes = {"published": row.name, "source": row.source}
            made.append(Row(sources.named(row), tuple(map(_text, (row.views, *texts(row)))), axes=axes))
    return Table(
        key="literature",
        title=title,
        corner="method",
        columns=("frames×clips×crops", *heads),
        rows=tuple(made),
        notes=(
            "Published rows are quoted, not rerun: towers and what else is not told here differ from ours.",
            about,
            sources.note,
        ),
        context=ours.context,
        axes=({"quantity": "test views"}, *({"quantity": head} for head in heads)),
    )


def _text(text: str) -> Value:
    return Value(text=text)


def _lists(group: Group) -> list[str]:
    """The protocols whose lists our cells are trained on; "" stands for draws made here, and for all clips."""
    return sorted({entry.cell.dataset.protocol or "" for entry in group.entries})


def _clips(row: Published, ours: Sequence[str]) -> str:
    """Whether a published row was trained on the clips that ours are trained on."""
    if row.top1 is not None and set(row.top1) == {"all"}:
        return "all"
    if row.protocol is None:
        return UNKNOWN
    return "same as ours" if list(ours) == [row.protocol] else f"other ({row.protocol} lists)"


def _about_clips(rows: Iterable[Published], ours: Sequence[str], dataset: str) -> str:
    same = any(list(ours) == [row.protocol] for row in rows)
    if same:
        return (
            "Only rows marked so were trained on the same clips as ours; differences between draws are several points."
        )
    known = sorted({row.protocol for row in rows if row.protocol is not None})
    lists = f" (protocol: {' or '.join(known)} trains on theirs)" if known else ""
    return f"No few-shot row of {dataset} here was trained on the clips that ours are trained on{lists}."

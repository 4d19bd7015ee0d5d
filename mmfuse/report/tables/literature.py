"""Ours beside published rows. What is published is shown as printed by its source, never as a result of ours."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Shots, Strict
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.table import Row, Table, Value
from mmfuse.utils.resources import literature_file

BLOCKS = {
    "none": "published, no video before",
    "kinetics-400": "published, Kinetics-400 before",
    "other": "published, other video before or not stated",
}


class Published(Strict):
    """One published row."""

    dataset: str
    method: str
    backbone: str
    frames: int | None = None
    pretraining: Literal["none", "kinetics-400", "other"]
    top1: dict[Shots, float]
    source: str

    @property
    def name(self) -> str:
        """The row's name: method, backbone, frames."""
        frames = f", {self.frames} frames" if self.frames else ""
        return f"{self.method} ({self.backbone}{frames})"


@lru_cache
def published(path: Path | None = None) -> tuple[Published, ...]:
    """The rows of `benchmarks/literature.yaml`.

    Raises:
        MmfuseError: a row that lacks its source, or holds anything else than a row does.
    """
    place = path or literature_file()
    content = yaml.load(place.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    try:
        return tuple(Published.model_validate(row) for row in content["rows"])
    except ValidationError as fault:
        error = fault.errors()[0]
        raise MmfuseError(f"{place}: {'.'.join(map(str, error['loc']))}: {error['msg']}") from None


def literature_table(comparison: Comparison) -> Table | None:
    """A data set's pairs beside what is published on it; `None` where nothing is."""
    group = comparison.group
    rows = [row for row in published() if row.dataset == group.dataset]
    if not rows:
        return None
    ours = comparison.table
    shots = group.shots
    made = [Row(f"{row.name} (ours)", row.values[: len(shots)], axes={"pair": row.name}) for row in ours.rows]
    sources: list[str] = []
    for block, title in BLOCKS.items():
        members = [row for row in rows if row.pretraining == block and any(k in row.top1 for k in shots)]
        if members:
            made.append(Row(title, tuple(Value(text="") for _ in shots), rule_above=True, axes={}))
        made += [_row(row, shots, sources) for row in members]
    return Table(
        key="literature",
        title=f"{group.title}: beside published numbers, top-1 in %",
        corner="method",
        columns=tuple(f"K={one}" for one in shots),
        rows=tuple(made),
        notes=(
            "Published rows are quoted, not rerun: towers, frames, views and draws differ from ours.",
            "Sources: " + "; ".join(f"[{at}] {source}" for at, source in enumerate(sources, 1)) + ".",
        ),
        context={"dataset": group.dataset, "split": str(group.split), "metric": "top1"},
        axes=tuple({"shots": str(one), "quantity": "accuracy"} for one in shots),
        caption=f"Top-1 accuracy in % on {group.title} beside published numbers, by training clips a class (K).",
    )


def _row(row: Published, shots: list[Shots], sources: list[str]) -> Row:
    if row.source not in sources:
        sources.append(row.source)
    number = sources.index(row.source) + 1
    values = tuple(Value(text=f"{row.top1[one]:.1f}" if one in row.top1 else "") for one in shots)
    return Row(f"{row.name} [{number}]", values, axes={"published": row.name, "source": row.source})

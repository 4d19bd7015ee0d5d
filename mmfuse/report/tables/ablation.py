"""What the fusion and the frames are worth: pairs of the same methods under other settings."""

from __future__ import annotations

from collections import defaultdict

from mmfuse.records.cell import Cell
from mmfuse.report.tables.accuracy import METRICS, Comparison
from mmfuse.report.tables.table import Row, Table, Value
from mmfuse.utils.files import sha256_of_json

SETTINGS = ("fusion", "frames", "test views", "feature")


def ablation_table(comparison: Comparison) -> Table | None:
    """Variants of the same methods by fusion, frames and frame feature; `None` where the grid has none."""
    group = comparison.group
    families: dict[str, dict[str, Cell]] = defaultdict(dict)
    for row, entry in zip(group.row_of, group.entries, strict=True):
        cell = entry.cell
        families[sha256_of_json([cell.pair.image, cell.pair.text])].setdefault(row, cell)
    variants = {name: cell for family in families.values() if _differ(family) for name, cell in family.items()}
    if not variants:
        return None
    ours = {row.name: row for row in comparison.table.rows}
    shots = group.shots
    rows = [
        Row(
            name,
            (*(Value(text=text) for text in settings(cell)), *ours[name].values[: len(shots)]),
            rule_above=at > 0 and not _same_methods(cell, list(variants.values())[at - 1]),
        )
        for at, (name, cell) in enumerate(variants.items())
    ]
    return Table(
        key="ablation",
        title=f"{group.title}: fusion and frames, {METRICS[comparison.metric]} in %",
        corner="variant",
        columns=(*SETTINGS, *(f"K={one}" for one in shots)),
        rows=tuple(rows),
        notes=("Variants of the same methods, on the same draws. Marks are those of the whole table.",),
        context={"dataset": group.dataset, "split": str(group.split), "metric": comparison.metric},
        axes=(
            *({"quantity": setting} for setting in SETTINGS),
            *({"shots": str(one), "quantity": "accuracy"} for one in shots),
        ),
        caption=f"{METRICS[comparison.metric].capitalize()} accuracy in % on {group.title} by fusion and frames.",
    )


def settings(cell: Cell) -> tuple[str, ...]:
    """Fusion with its arguments, frames, views at test, and frame feature, as text."""
    arguments = {key: value for key, value in cell.fusion.model_dump().items() if key != "kind"}
    told = ", ".join(f"{key} {value}" for key, value in arguments.items())
    fusion = f"{cell.fusion.kind} ({told})" if told else cell.fusion.kind
    views = " × ".join(map(str, cell.clip.test_clips_and_crops))
    return fusion, str(cell.clip.frames or "card's"), views, cell.encoders.feature


def _differ(family: dict[str, Cell]) -> bool:
    return len({settings(cell) for cell in family.values()}) > 1


def _same_methods(one: Cell, other: Cell) -> bool:
    return (one.pair.image, one.pair.text) == (other.pair.image, other.pair.text)

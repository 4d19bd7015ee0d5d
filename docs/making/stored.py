"""Tables of what is stored: grids, data sets, fusions, and timings where some were taken."""

from __future__ import annotations

import inspect
import json
from typing import Any

from mmfuse.bench.added_draws import first_cells
from mmfuse.bench.grid import load_grid
from mmfuse.cli.run import between
from mmfuse.data.catalogue.cards import card_names, load_card
from mmfuse.methods.recipes import FUSION_RECIPE, RECIPES
from mmfuse.model.fusion import FUSIONS
from mmfuse.records.cell import FUSIONS as ARGUMENTS
from mmfuse.report.tables.literature import published
from mmfuse.utils.resources import cards_folder, grids_folder

NBSP = "\N{NO-BREAK SPACE}"


def grids() -> str:
    """The shipped grids."""
    lines = ["| grid | cells | what it is |", "|:--|--:|:--|"]
    loaded = [load_grid(path.stem) for path in grids_folder().glob("*.yaml")]
    for grid, cells in sorted(((one.grid, one.cells()) for one in loaded), key=lambda one: len(one[1])):
        number = between(f"{len(first_cells(cells, grid.until_decided)):,}", f"{len(cells):,}")
        lines.append(f"| `{grid.name}` | {number} | {grid.description} |")
    return "\n".join(lines)


def sets() -> str:
    """The data sets that are known by name, with their official numbers."""
    lines = [
        "| name | classes | train / test clips by split | frames | most shots | licence |",
        "|:--|--:|:--|--:|--:|:--|",
    ]
    for name in card_names():
        card = load_card(name)
        splits = "<br>".join(
            f"{split}: {count['train']:,} / {count['test']:,}" for split, count in sorted(card.splits.items())
        )
        dead = f" ({len(card.dead_classes)} without clips)" if card.dead_classes else ""
        licence = " ".join(card.licence.split())
        row: list[Any] = [f"`{name}`", f"{card.class_count}{dead}", splits, card.frames, card.max_shots, licence]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def published_rows(setting: str) -> str:
    """What is published in a setting besides few-shot, data set by data set."""
    extra = {"zero_shot": [], "base_to_novel": ["lists", "video before"]}[setting]
    numbers = {"zero_shot": ["top-1"], "base_to_novel": ["base", "novel", "harmonic mean"]}[setting]
    heads = ["data set", "method", "frames×clips×crops", *extra, *numbers, "source"]
    lines = [f"| {' | '.join(heads)} |", f"|:--|:--|:--|{':--|' * len(extra)}{'--:|' * len(numbers)}:--|"]
    for row in published():
        found = getattr(row, setting)
        if found is not None:
            shown = (
                [str(found).replace(" ", NBSP)]
                if setting == "zero_shot"
                else [f"{one:.1f}" for one in found.model_dump().values()]
            )
            more = [row.protocol or "not stated", row.pretraining] if extra else []
            texts = (row.dataset, row.name, row.views, *more, *shown, row.source.split(",")[0])
            lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def recipes() -> str:
    """How each family of methods, and every fusion, is trained where a grid says nothing else."""
    lines = ["| family | learning rate | weight decay | warm-up |", "|:--|--:|--:|--:|"]
    for family, recipe in {**RECIPES, "the fusion": FUSION_RECIPE}.items():
        lines.append(f"| {family} | {recipe.lr:g} | {recipe.weight_decay:g} | {recipe.warmup:.0%} of the steps |")
    return "\n".join(lines)


def fusions() -> str:
    """The fusions with what they see and their arguments."""
    lines = ["| fusion | what it is | text | order of frames | arguments |", "|:--|:--|:-:|:-:|:--|"]
    for name, kind in FUSIONS.items():
        summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        marks = ["yes" if flag else "no" for flag in (kind.open_vocabulary, kind.sees_order)]
        given = ", ".join(f"`{key}: {value}`" for key, value in ARGUMENTS[name].items())
        lines.append(f"| `{name}` | {summary} | {marks[0]} | {marks[1]} | {given} |")
    return "\n".join(lines)


def speed() -> str:
    """Timings that were taken and stored; nothing where none were."""
    path = cards_folder().parent / "benchmarks" / "speed" / "results.json"
    if not path.is_file():
        return ""
    stored = json.loads(path.read_text(encoding="utf-8"))
    lines = ["| what | against | measured | aim | met | on |", "|:--|:--|--:|--:|:-:|:--|"]
    for row in stored["rows"]:
        aims = [f"{sign} {row[key]:g}" for sign, key in (("≥", "at_least"), ("≤", "at_most")) if row[key] is not None]
        met = {True: "yes", False: "no", None: ""}[row["met"]]
        on = _kind_of(row.get("run", {}).get("machine", stored["machine"]))
        lines.append(f"| {row['what']} | {row['against']} | {_figure(row)} | {', '.join(aims)} | {met} | {on} |")
    machine = stored["machine"]
    where = machine.get("device") or f"{machine['processor']}, {machine['threads']} thread"
    # Rows that a later command did not measure again keep the run that they came from.
    runs = sorted({(run["date"], run["command"]) for run in (row.get("run", stored) for row in stored["rows"])})
    commands = ", ".join(f"`{command}` ({date})" for date, command in runs)
    note = f"Median (lowest–highest) of the rounds of {commands}, on {where}."
    return "\n".join(["## Measured", "", *lines, "", note])


def _kind_of(machine: dict[str, Any]) -> str:
    """What a figure was taken on: a GPU by name, a CPU by what it computes with, on which ratios depend."""
    if machine.get("device"):
        return str(machine["device"])
    return f"CPU, {'AMX' if machine.get('bf16_tiles') else machine.get('computes_in', 'kind not known')}"


def _figure(row: dict[str, Any]) -> str:
    """A measured figure with its spread."""
    found = row["measured"]
    if found is None:
        return "not measured"
    spread = f" ({found['low']:.3g}–{found['high']:.3g})" if found["count"] > 1 else ""
    return f"{found['median']:.3g}{'' if row['unit'] == '×' else ' '}{row['unit']}{spread}"

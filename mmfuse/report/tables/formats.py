"""Tables in every format: for the terminal, as Markdown, LaTeX, HTML, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from mmfuse.report.tables.html import as_page
from mmfuse.report.tables.latex import as_document
from mmfuse.report.tables.table import Table, Value
from mmfuse.report.tables.tidy import as_csv, document
from mmfuse.utils.terminal import visible

TIE = "="
VERDICTS = {"gain": "*", "loss": "* loss"}
"""Marks of differences that hold; a loss says that it is one."""


def as_rich(table: Table, *, width: int | None = None) -> RenderableType:
    """A table for the terminal; where it is wider than that, several below each other, and no number is cut."""
    parts = [_rich_table(table, columns) for columns in _fitting(table, width)]
    return Group(Text(table.title, style="bold"), *parts, *(Text(note, style="dim") for note in table.notes), Text(""))


def _rich_table(table: Table, columns: list[int]) -> RichTable:
    """Some of a table's columns."""
    made = RichTable()
    made.add_column(Text(table.corner), no_wrap=True)
    for at in columns:
        made.add_column(Text(table.columns[at]), justify="right", no_wrap=True)
    for row in table.rows:
        if row.rule_above:
            made.add_section()
        made.add_row(Text(row.name), *(_rich_value(row.values[at], _room(table, at)) for at in columns))
    return made


def _room(table: Table, column: int) -> int:
    """For marks: numbers stay below each other where only some of a column carry one."""
    return max((len(_marks(row.values[column])) for row in table.rows), default=0)


def _fitting(table: Table, width: int | None) -> list[list[int]]:
    """The columns in groups that fit beside the names of the rows; at least one in each."""
    if width is None:
        return [list(range(len(table.columns)))]
    frame = 3  # a column's padding and rule
    names = max(cell_len(text) for text in (table.corner, *(row.name for row in table.rows))) + frame + 1
    groups: list[list[int]] = [[]]
    used = names
    for at, title in enumerate(table.columns):
        values = (_rich_value(row.values[at], _room(table, at)).plain for row in table.rows)
        needed = max(map(cell_len, (title, *values))) + frame
        if groups[-1] and used + needed > width:
            groups.append([])
            used = names
        groups[-1].append(at)
        used += needed
    return groups


def _rich_value(value: Value, room: int) -> Text:
    if value.text is not None:
        return Text(value.text)
    text = Text()
    text.append(value.number(), style="bold" if value.best else "")
    text.append(_marks(value).ljust(room) if value.mean else "")
    if gap := value.gap():
        text.append(f" ({gap})" if value.mean else gap, style="red" if value.gaps.get("failed") else "yellow")
    return text


def _marks(value: Value) -> str:
    mark = VERDICTS.get(value.verdict)
    return (f" {TIE}" if value.tie else "") + (f" {mark}" if mark else "")


def as_markdown(table: Table) -> str:
    """A table for a README."""
    lines = [f"**{_markdown(table.title)}**", ""]
    header = [table.corner, *table.columns]
    lines.append("| " + " | ".join(map(_markdown, header)) + " |")
    lines.append("|" + "|".join([":--"] + ["--:"] * len(table.columns)) + "|")
    for row in table.rows:
        places = [_markdown(row.name), *(_markdown_value(value) for value in row.values)]
        lines.append("| " + " | ".join(places) + " |")
    if table.notes:
        lines += ["", "<br>".join(_markdown(note) for note in table.notes)]
    return "\n".join(lines) + "\n"


def _markdown_value(value: Value) -> str:
    if value.text is not None:
        return _markdown(value.text)
    number = f"**{value.number()}**" if value.best and value.mean else value.number()
    gap = value.gap()
    return (
        number + _marks(value).replace("*", "\\*") + (f" ({gap})" if gap and value.mean else f"*{gap}*" if gap else "")
    )


def _markdown(text: str) -> str:
    """Text of a table's place: nothing in it may end the place, or begin a tag."""
    for letter in "\\&|*_`<>[]~$^#":
        text = text.replace(letter, {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(letter, "\\" + letter))
    return " ".join(text.split())


def written(tables: Sequence[Table], style: str) -> str:
    """Tables as the text of a file.

    Args:
        tables: what is written.
        style: one of `STYLES` but rich.
    """
    if style == "csv":
        return visible(as_csv(tables))
    if style == "json":
        return json.dumps(document(tables), indent=1, ensure_ascii=True) + "\n"
    if style == "html":
        return visible(as_page(tables))
    if style == "latex":
        return visible(as_document(tables))
    return visible("\n".join(as_markdown(table) for table in tables))


def show(tables: Sequence[Table], *, style: str, console: Console) -> None:
    """Print tables in one of the formats."""
    if style == "rich":
        for table in tables:
            console.print(as_rich(table, width=console.width))
    else:
        print(written(tables, style), end="")

"""One table in four formats: rich for the terminal, Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from mmfuse.report.tables.table import Table, Value
from mmfuse.utils.terminal import visible

STYLES = ("rich", "markdown", "latex", "csv")
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
    for letter in "\\|*_`<>[]":
        text = text.replace(letter, {"<": "&lt;", ">": "&gt;"}.get(letter, "\\" + letter))
    return " ".join(text.split())


def as_latex(table: Table) -> str:
    """A table for a paper: booktabs, notes below."""
    columns = "l" + "r" * len(table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_latex, [table.corner, *table.columns])) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        if row.rule_above:
            lines.append(r"\midrule")
        lines.append(" & ".join([_latex(row.name), *(_latex_value(value) for value in row.values)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {_latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_value(value: Value) -> str:
    if value.text is not None:
        return _latex(value.text)
    number = value.number(plus_minus=r"\pm", minus="-")
    parts = []
    if number:
        parts.append(rf"$\mathbf{{{number}}}$" if value.best else f"${number}$")
    if value.tie:
        parts.append("$=$")
    if mark := VERDICTS.get(value.verdict):
        parts.append(mark.replace("*", "$^{*}$"))
    if gap := value.gap():
        parts.append(rf"\emph{{{_latex(f'({gap})' if number else gap)}}}")
    return " ".join(parts)


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # At the head of a row these two would belong to the end of the row above.
    "[": "{[}",
    "*": "{*}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "Δ": r"$\Delta$",
    "µ": r"$\mu$",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u ",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r ",
    "\u030b": "H ",
    "\u030c": "v ",
    "\u0327": "c ",
}
"""Combining marks that LaTeX has in every font."""


def _latex(text: str) -> str:
    return "".join(_latex_letter(letter) for letter in unicodedata.normalize("NFC", text))


def _latex_letter(letter: str) -> str:
    """A letter that every LaTeX engine prints with nothing but booktabs loaded; others by their number."""
    if letter in _LATEX:
        return _LATEX[letter]
    if letter.isascii():
        return letter if letter.isprintable() else " "
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return f"\\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"{{[}}U+{ord(letter):04X}]"


CSV_COLUMNS = (
    "table",
    "context",
    "row",
    "column",
    "mean",
    "half_width",
    "half_width_clips",
    "n",
    "planned",
    "state",
    "best",
    "tie",
    "p_holm",
    "verdict",
    "text",
)


def as_csv(tables: Iterable[Table]) -> str:
    """All tables as one tidy CSV: a line for each place."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        context = "; ".join(f"{key}={value}" for key, value in table.context.items())
        for row in table.rows:
            for column, value in zip(table.columns, row.values, strict=True):
                writer.writerow([table.key, context, _csv(row.name), column, *_csv_value(value)])
    return file.getvalue()


def _csv_value(value: Value) -> list[object]:
    mean = value.mean
    halves = ["" if half is None else half for half in (mean.half, mean.half_clips)] if mean else ["", ""]
    numbers = [mean.mean, *halves, mean.n] if mean else ["", *halves, 0]
    p = "" if value.p is None else value.p
    return [
        *numbers,
        value.planned,
        value.gap() or ("done" if mean else ""),
        value.best,
        value.tie,
        p,
        value.verdict,
        _csv(value.text or ""),
    ]


def _csv(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def show(tables: list[Table], *, style: str, console: Console) -> None:
    """Print tables in one of the formats."""
    if style == "rich":
        for table in tables:
            console.print(as_rich(table, width=console.width))
    elif style == "csv":
        print(visible(as_csv(tables)), end="")
    else:
        make = as_markdown if style == "markdown" else as_latex
        print(visible("\n".join(make(table) for table in tables)), end="")

r"""A table for a paper: booktabs alone is needed, any engine compiles it, and any name may stand in it.

Numbers of a column stand below each other by their points and their ±: shorter ones are filled with `\phantom`. That
asks for no package, and unlike the number columns of siunitx it takes a second ±, marks, and words in one column.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from mmfuse.report.tables.table import Table, Value

NARROW = 46
"""Characters in small type that fit a column of a two-column paper."""
SIZES = {92: r"\small", 122: r"\footnotesize\setlength{\tabcolsep}{3pt}"}
"""Type by the characters that fit its page; more want the smallest."""
SMALLEST = r"\scriptsize\setlength{\tabcolsep}{2pt}"
HEAD, NAME = 14, 32
"""Characters of a head before it is broken, and of a row's name where the smallest type is too wide."""
WIDEST = 136
"""Characters in the smallest type that fit a page."""
TIE = r"\dagger"
HOLDS = "*"


def as_document(tables: Iterable[Table]) -> str:
    """Several tables, each with a label of its own."""
    made, seen = [], Counter[str]()
    for table in tables:
        name = label(table)
        seen[name] += 1
        made.append(as_latex(table, name=name if seen[name] == 1 else f"{name}-{seen[name]}"))
    return "\n".join(made)


def as_latex(table: Table, *, name: str | None = None) -> str:
    r"""A `table`, or `table*` where one column of a paper is too narrow, with caption, label and notes.

    Args:
        table: the table.
        name: its label.
    """
    columns = [[row.values[at] for row in table.rows] for at in range(len(table.columns))]
    gaps = _gaps(table)
    shown = [_column(values, gaps) for values in columns]
    width = _width(table, columns)
    kind = "table*" if width > NARROW else "table"
    alignments = [_alignment(values) for values in columns]
    heads = [
        _stacked(text, side, HEAD)
        for text, side in zip((table.corner, *table.columns), "l" + "".join(alignments), strict=True)
    ]
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{{kind}}}[t]",
        r"\centering",
        next((size for fits, size in SIZES.items() if width <= fits), SMALLEST),
        rf"\caption{{{_latex(table.caption or table.title)}}}",
        rf"\label{{{name or label(table)}}}",
        r"\smallskip",
        rf"\begin{{tabular}}{{@{{}}l{''.join(alignments)}@{{}}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for at, row in enumerate(table.rows):
        lines += [r"\midrule"] if row.rule_above else []
        name = _stacked(row.name, "l", NAME) if width > WIDEST else _latex(row.name)
        lines.append(" & ".join([name, *(column[at] for column in shown)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [_note(note) for note in table.notes]
    notes += [f"$^{{{letter}}}$ {_latex(gap)}." for gap, letter in gaps.items()]
    if notes:
        text = "\n".join(notes)
        lines.append(rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright {text}\end{{minipage}}")
    return "\n".join([*lines, rf"\end{{{kind}}}"]) + "\n"


def _gaps(table: Table) -> dict[str, str]:
    """What is lacking behind numbers, each with the letter that marks it; in the table the words would have no room."""
    found = dict.fromkeys(
        gap
        for row in table.rows
        for value in row.values
        if value.mean is not None and value.text is None and (gap := value.gap())
    )
    return {gap: rf"\mathrm{{{_letters(number)}}}" for number, gap in enumerate(found)}


def _letters(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    first, last = divmod(number, 26)
    return (_letters(first - 1) if first else "") + chr(ord("a") + last)


def label(table: Table) -> str:
    """A label of letters, digits and hyphens.

    >>> label(Table("gain", "", "", (), (), context={"dataset": "UCF101", "split": "1", "metric": "top1"}))
    'tab:gain-ucf101-1-top1'
    """
    text = "-".join([table.key, *table.context.values()]).lower()
    return "tab:" + re.sub("[^a-z0-9]+", "-", text).strip("-")


def _width(table: Table, columns: Sequence[Sequence[Value]]) -> int:
    """Characters of the widest row, about."""
    widths = [max(len(text) for text in (table.corner, *(row.name for row in table.rows)))]
    for head, values in zip(table.columns, columns, strict=True):
        words = max((len(line) for line in _broken(head, HEAD)), default=0)
        widths.append(max([words, *(len(_plain_cell(value)) for value in values)]))
    return sum(widths) + 2 * len(table.columns)


def _plain_cell(value: Value) -> str:
    return value.text if value.text is not None else value.number() or value.gap()


def _alignment(values: Sequence[Value]) -> str:
    """Filled numbers are equally wide and may stand at the right; intervals in brackets differ in width."""
    return "l" if any(value.bounds is not None for value in values) else "r"


def _stacked(text: str, side: str, most: int) -> str:
    """A text in as many lines as it takes."""
    lines = [_latex(line) for line in _broken(text, most)]
    return lines[0] if len(lines) < 2 else rf"\shortstack[{side}]{{" + r" \\ ".join(lines) + "}"


def _broken(text: str, most: int) -> list[str]:
    """A text in lines that are no longer than that, where its words allow."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _column(values: Sequence[Value], gaps: Mapping[str, str]) -> list[str]:
    """The places of a column, with numbers filled up to the longest."""
    numbers = [value.number() if value.text is None else "" for value in values]
    split = [re.split(" ± | (?=\\[)", number) if number else [] for number in numbers]
    widths = [max(map(len, part)) for part in zip_longest(*split, fillvalue="")]
    marks = [_superscript([*_marks(value), gaps.get(value.gap(), "")]) for value in values]
    widest = max((mark for mark, number in zip(marks, numbers, strict=True) if number), key=len, default="")
    return [_place(value, part, widths, mark, widest) for value, part, mark in zip(values, split, marks, strict=True)]


def _place(value: Value, parts: Sequence[str], widths: Sequence[int], mark: str, widest: str) -> str:
    if value.text is not None:
        return _latex(value.text)
    if not parts:
        return rf"\emph{{{_latex(value.gap())}}}" if value.gap() else ""
    filled = [_filled(part, width) for part, width in zip(parts, widths, strict=False)]
    if value.best:
        filled[0] = rf"\mathbf{{{filled[0]}}}"
    number = (r"\ " if value.bounds is not None else r" \pm ").join(filled)
    # Behind a number that has fewer parts than others stands as much room, so that all begin below each other.
    room = (
        "" if value.bounds is not None else "".join(rf"{{}} \pm {'0' * (width - 1)}." for width in widths[len(parts) :])
    )
    room = room if mark else room + widest
    return f"${number}{mark}" + (rf"\phantom{{{room}}}" if room else "") + "$"


def _filled(part: str, width: int) -> str:
    missing = 0 if part.startswith("[") else width - len(part)
    return rf"\phantom{{{'0' * missing}}}{part}" if missing > 0 else part


def _marks(value: Value) -> list[str]:
    """A loss needs no word of its own: its number is below zero."""
    return [TIE if value.tie else "", HOLDS if value.verdict in ("gain", "loss") else ""]


def _superscript(marks: Sequence[str]) -> str:
    shown = [mark for mark in marks if mark]
    return "^{" + "".join(shown) + "}" if shown else ""


def _note(note: str) -> str:
    """A note whose marks are those of the table."""
    text = _latex(note)
    text = re.sub(r"(^|(?<=[.:;] ))= ", lambda _: f"${_superscript([TIE])}$ ", text)
    return re.sub(r"(^|(?<=[.:;] ))\{\*\} ", lambda _: f"${_superscript([HOLDS])}$ ", text)


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
    "†": r"$^{\ddagger}$",
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

"""Tables as a page of HTML, to open, to send, or to paste into another page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mmfuse.report.tables.table import Table, Value

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color-scheme: light dark; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: .5rem; }
caption { caption-side: top; font-weight: 600; text-align: left; padding: .5rem 0; }
th, td { padding: .25rem .75rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; }
thead th { border-top: 2px solid; border-bottom: 1px solid; }
tbody tr:last-child > * { border-bottom: 2px solid; }
tr.rule > * { border-top: 1px solid; }
.gap { color: #b3261e; }
.notes { color: gray; font-size: .875rem; margin: 0 0 2rem; max-width: 60rem; }
"""  # noqa: E501


def as_page(tables: Sequence[Table]) -> str:
    """A whole page that asks nothing of any network."""
    title = escape(tables[0].title if len(tables) == 1 else "Tables")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(as_html(table) for table in tables)
    head = f'<!doctype html>\n<html lang="en">\n<head>{head}<style>{STYLE}</style></head>\n'
    return f"{head}<body>\n{body}\n</body>\n</html>\n"


def as_html(table: Table) -> str:
    """One table with its notes. Everything in it is text."""
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in (table.corner, *table.columns))
    lines = [
        f'<div class="scroll"><table><caption>{escape(table.title)}</caption>',
        f"<thead><tr>{heads}</tr></thead>",
        "<tbody>",
    ]
    for row in table.rows:
        values = "".join(f"<td>{_value_cell(value)}</td>" for value in row.values)
        rule = ' class="rule"' if row.rule_above else ""
        lines.append(f'<tr{rule}><th scope="row">{escape(row.name)}</th>{values}</tr>')
    lines += ["</tbody></table></div>", f'<p class="notes">{"<br>".join(escape(note) for note in table.notes)}</p>']
    return "\n".join(lines)


def _value_cell(value: Value) -> str:
    if value.text is not None:
        return escape(value.text)
    number = escape(value.number())
    shown = f"<strong>{number}</strong>" if value.best and number else number
    shown += " =" if value.tie else ""
    shown += {"gain": " *", "loss": " * loss"}.get(value.verdict, "")
    gap = escape(value.gap())
    return shown + (f' <span class="gap">{f"({gap})" if number else gap}</span>' if gap else "")

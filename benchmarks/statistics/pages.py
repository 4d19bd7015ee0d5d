"""Where simulated tables stand in the documentation."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tables.md"


def publish(text: str, *, name: str, write: bool) -> None:
    """Put tables into the page of the documentation, in the place of the earlier ones; or print them.

    Args:
        text: the tables, in Markdown.
        name: of the place, which the page marks by the comments `<!-- name:begin -->` and `<!-- name:end -->`.
        write: into the page.
    """
    if not write:
        print(text)
        return
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    PAGE.write_text(before + begin + text + end + rest.partition(end)[2], encoding="utf-8")

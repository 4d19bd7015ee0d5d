"""Names that others chose reach a terminal as letters and signs, never as something that controls it."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from mmfuse.utils.terminal import UNSAFE, SafeConsole, visible

HOSTILE = [
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\rb",
    "a\bb",
    "a\x00b",
    "\u202emp4.exe",
    "\u2028",
    "\udcff",
    "\x7f",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_unsafe_is_left(text: str) -> None:
    assert UNSAFE.search(text)
    assert not UNSAFE.search(visible(text))
    assert len(visible(text)) == len(text)


@pytest.mark.parametrize("text", ["plain", "playing the cello", "走路", "é ± ☃ 🤸", "a\nb\tc", "[bold]x[/]", ":smile:"])
def test_everything_else_stays(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_console_lets_only_its_own_codes_through(text: str) -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, force_terminal=True, color_system="standard", width=80, legacy_windows=False)
    table = Table(text)
    table.add_row(Text(text, style="red"))
    console.print(table)
    console.print(text, markup=False, soft_wrap=True)
    console.print("x", style="red")
    written = file.getvalue()
    assert "\x1b[31mx\x1b[0m" in written
    for own in ("\x1b[31m", "\x1b[1m", "\x1b[0m"):
        written = written.replace(own, "")
    assert not UNSAFE.search(written)


def test_what_looks_like_an_emoji_or_markup_stays_text() -> None:
    file = io.StringIO()
    SafeConsole(file=file).print(":smile: [b]")
    assert file.getvalue() == ":smile: [b]\n"

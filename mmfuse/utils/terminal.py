"""Writing to a terminal what others have named: files, classes, pairs, messages of other libraries.

A name may hold anything, also what makes a terminal move its cursor, hide text or change its title. Such characters
are shown as signs; none of them reaches the terminal as itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Control characters but newline and tab; what turns the direction of writing; halves of a pair of UTF-16, which stand
# for bytes of a file's name that are no UTF-8.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_INVISIBLE = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
UNSAFE = re.compile(f"[{_CONTROLS}{_INVISIBLE}]")
_PICTURES = 0x2400  # Unicode has a picture for each control character, in their order


def visible(text: str) -> str:
    r"""A text in which nothing but newlines and tabs controls a terminal.

    >>> visible("clip\x1b[2J.mp4"), visible("a\x00b\x7f")
    ('clip␛[2J.mp4', 'a␀b␡')
    """
    return UNSAFE.sub(lambda found: _sign(found.group()), text)


def _sign(letter: str) -> str:
    if letter < " ":
        return chr(_PICTURES + ord(letter))
    return "\u2421" if letter == "\x7f" else "\N{REPLACEMENT CHARACTER}"


class SafeConsole(Console):
    """A console of rich through which only rich's own control codes reach the terminal.

    Square brackets in a text are square brackets: what is to be bold or coloured says so by a style.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            if segment.control or not UNSAFE.search(segment.text):
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)

"""What is made when the documentation is built: tables from the code, in place of `<!-- made: NAME -->`.

Marks of the form `<!-- check: ... -->`, which tell the tests how to run a block, are left out of the pages.
"""

from __future__ import annotations

import re
from typing import Any

from making import MAKERS
from mkdocs.exceptions import PluginError

MADE = re.compile(r"^<!-- made: (.+?) -->$", flags=re.MULTILINE)
CHECK = re.compile(r"^<!-- check:.*?-->\n", flags=re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Fill a page in.

    Raises:
        PluginError: nothing is made under the name that the page asks for, or it cannot be made.
    """
    try:
        return MADE.sub(lambda found: made(found[1]), CHECK.sub("", markdown))
    except (LookupError, ValueError) as error:
        raise PluginError(f"{page.file.src_path}: {error}") from error


def made(name: str) -> str:
    """Markdown by name; words after the first are arguments."""
    first, *arguments = name.split()
    return MAKERS[first](*arguments)

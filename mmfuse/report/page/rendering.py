"""What every page shares: how its template is filled, and what a browser may run of it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmfuse.report.page.provenance import without_folders

TEMPLATES = Path(__file__).parent / "templates"


def page_environment() -> Environment:
    """Templates of pages. Autoescape is on for every template: whatever is not Markup is text."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_without_folders,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _without_folders(value: object) -> object:
    """What an expression of a template puts on the page: what is not Markup, without the folders of this machine."""
    return without_folders(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def shipped(name: str) -> Markup:
    """A style or a script that ships beside the templates."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def policy(*, style: str, script: str | None = None) -> Markup:
    """A content security policy under which only the page's own style and script count, and nothing is fetched.

    Should a name from the data ever get through as markup, a browser would still run nothing of it.
    """

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    scripts = "" if script is None else f"script-src 'sha256-{digest(script)}'; "
    return Markup(
        f"default-src 'none'; {scripts}style-src 'sha256-{digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )

"""Lays out what installing a package with entry points leaves, so that a page's example is found without installing it.

    python -m tests.docs.announced PROJECT PAGE

PROJECT holds a pyproject.toml with one entry point; the module that it names gets the first python block of PAGE.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Write the module and the entry point into the current folder."""
    project, page = Path(sys.argv[1]), Path(sys.argv[2])
    content = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [(group, points)] = content["entry-points"].items()
    [(name, target)] = points.items()
    module = Path(*target.split(":")[0].split(".")).with_suffix(".py")
    code = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)[0]
    module.parent.mkdir()
    module.write_text(code, encoding="utf-8")
    metadata = Path(f"{content['name'].replace('-', '_')}-{content['version']}.dist-info")
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {content['name']}\nVersion: {content['version']}\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The blocks of a page, and what it means to run them.

A block runs as it stands unless a mark stands above it, `<!-- check: {key: value} -->`, with the keys

    why       the reason for the mark, in words; always there, unless all that is marked is an exit code
    exit      the exit code of the block's last command, where it is not 0
    swap      texts that are replaced in the block before it runs, such as a number of epochs by a smaller one
    instead   commands that run in place of the block, which go as far as possible without data, weights or a GPU
    shown     true: the block is for the eye only (a folder's layout, a text of another program)

What runs: `console` blocks, command by command (`$ `), the lines between compared with the output; `bash` blocks, line
by line; `python` blocks, in one namespace a page, a `text` block after one compared with what it prints; blocks with a
`title`, which are files and are written; other `yaml` blocks, which must be parts of a grid. `...` stands for anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```[ ]*$", flags=re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")
MARK = re.compile(r"<!-- check:((?:(?!-->).)*)-->\s*\Z", flags=re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
KEYS = {"why", "exit", "swap", "instead", "shown"}


class UnmarkedBlock(Exception):
    """A block that can neither be run nor says why not."""


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Args:
        page: the page's name.
        line: where its text begins.
        language: of the fence; `bash` for a block by indentation.
        title: the file's name, where the block is a file.
        text: what stands in it.
        mark: what stands above it.
        fenced: whether it stands between fences, and not indented.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str
    mark: dict[str, Any] = field(default_factory=dict)
    fenced: bool = True


Step = dict[str, Any]


def blocks_of(path: Path, *, indented: bool = False, marks: dict[str, dict[str, Any]] | None = None) -> list[Block]:
    """The blocks of a page in order.

    Args:
        path: the page.
        indented: whether blocks by indentation count too.
        marks: marks by how a block begins, for a page that holds none itself.
    """
    text = path.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        marked = MARK.search(text[: fence.start()])
        title = TITLE.search(fence[2])
        mark = yaml.safe_load(marked[1]) if marked else None
        found.append((fence.start(3), fence[1], title and title[1], fence[3], mark, True))
    if indented:
        outside = FENCE.sub(lambda fence: re.sub(r"[^\n]", ".", fence[0]), text)
        found += [
            (lines.start(), "bash", None, re.sub("^    ", "", lines[0], flags=re.MULTILINE), None, False)
            for lines in INDENTED.finditer(outside)
        ]
    blocks = []
    for start, language, title, content, mark, fenced in sorted(found, key=lambda one: one[0]):
        mark = mark or next((given for begin, given in (marks or {}).items() if content.startswith(begin)), {})
        blocks.append(Block(path.name, text.count("\n", 0, start) + 1, language, title, content, mark, fenced))
    return blocks


def steps_of(blocks: list[Block]) -> list[Step]:
    """What running the blocks of a page consists of.

    Raises:
        UnmarkedBlock: a block is skipped, and does not say why; or its mark is wrong.
    """
    steps: list[Step] = []
    for block in blocks:
        _check_mark(block)
        where = f"{block.page}:{block.line}"
        text = block.text
        for old, new in block.mark.get("swap", {}).items():
            if old not in text:
                raise UnmarkedBlock(f"{where}: there is no {old!r} to swap")
            text = text.replace(old, new)
        if block.mark.get("shown"):
            continue
        instead = block.mark.get("instead")
        if instead is not None:
            commands = [instead] if isinstance(instead, str) else instead
            made = [{"kind": "command", "line": command, "expected": []} for command in commands]
        else:
            made = _steps(block, text, steps)
        if "exit" in block.mark:
            made[-1]["exit"] = block.mark["exit"]
        steps += [{"where": where, **step} for step in made]
    return steps


def _check_mark(block: Block) -> None:
    where = f"{block.page}:{block.line}"
    if surplus := block.mark.keys() - KEYS:
        raise UnmarkedBlock(f"{where}: a mark has the keys {sorted(KEYS)}, not {sorted(surplus)}")
    if block.mark.keys() - {"exit"} and len(str(block.mark.get("why", ""))) < 10:
        raise UnmarkedBlock(f"{where}: the mark does not say why")


def _steps(block: Block, text: str, before: list[Step]) -> list[Step]:
    if block.title is not None:
        return [{"kind": "file", "path": block.title, "text": text}]
    if block.language == "console":
        return _console(block, text)
    if block.language == "bash":
        lines = [re.sub(r"\s+#.*", "", line).strip() for line in text.splitlines()]
        return [{"kind": "command", "line": line, "expected": []} for line in lines if line]
    if block.language == "python":
        return [{"kind": "python", "code": "\n" * (block.line - 1) + text, "expected": []}]
    if block.language == "yaml":
        return [{"kind": "grid", "text": text}]
    if block.language == "text" and before and before[-1]["kind"] == "python" and not before[-1]["expected"]:
        before[-1]["expected"] = text.splitlines()
        return []
    raise UnmarkedBlock(f"{block.page}:{block.line}: a {block.language or 'nameless'} block is neither run nor marked")


def _console(block: Block, text: str) -> list[Step]:
    steps: list[Step] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append({"kind": "command", "line": line[2:], "expected": []})
        elif steps and steps[-1]["line"].endswith("\\"):
            steps[-1]["line"] = steps[-1]["line"][:-1] + line.strip()
        elif steps:
            steps[-1]["expected"].append(line)
        else:
            raise UnmarkedBlock(f"{block.page}:{block.line}: a console block begins with '$ '")
    return steps


def fits(expected: list[str], output: str) -> bool:
    """Whether an output is what a page shows of it: all of it but for `...`, whatever the number of blanks."""
    shown = [" ".join(line.split()) for line in expected]
    while shown and not shown[-1]:
        shown.pop()
    if not shown:
        return True
    pattern = "".join(
        r"(?:[^\n]*\n)*" if line == "..." else r"[^\n]*".join(map(re.escape, line.split("..."))) + r"\n"
        for line in shown
    )
    lines = [" ".join(line.split()) for line in output.strip("\n").splitlines()]
    return re.fullmatch(pattern, "\n".join(lines) + "\n") is not None

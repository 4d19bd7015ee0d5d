"""Texts that name no place of this machine, for what is shown to others."""

from __future__ import annotations

import re
import shlex

NEEDLESS = ("--data-root", "--annotations", "--workers", "--engine", "--store")
"""Options that say where a run found its data and how it was run, and change none of its numbers."""
FOLDERS = {"--out": "DIR", "--results": "DIR"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PATH_INSIDE = re.compile(r"(?<![\w:/.-])(?:~[\w.-]*|\.{1,2})?/[^\s'\",{}\[\]]+")


def is_hub_id(name: str) -> bool:
    """Whether a tower's name can be that of a repository of the hub: owner/name.

    >>> is_hub_id("facebook/dinov2-base"), is_hub_id("tiny-dinov2"), is_hub_id("/home/me/vit")
    (True, False, False)
    """
    return HUB_ID.fullmatch(name) is not None


def portable_command(command: str) -> str:
    """A command without the paths of the machine that it ran on.

    >>> portable_command("mmfuse train --dataset '/home/me/my clips' --out /tmp/x --data-root ~/data --draw 1")
    "mmfuse train --dataset 'my clips' --out DIR --draw 1"
    >>> portable_command("mmfuse train --set encoders.image=/home/me/vit --set encoders.text=openai/clip")
    'mmfuse train --set encoders.image=vit --set encoders.text=openai/clip'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return "mmfuse"
    kept: list[str] = []
    option = ""
    for word in words:
        if word.startswith("--") and "=" in word:
            kept += _option_with(*word.split("=", 1))
        elif option in NEEDLESS:
            option = ""
            continue
        elif word in NEEDLESS:
            option = word
            continue
        else:
            kept.append(FOLDERS.get(option) or without_paths(word))
        option = word if word.startswith("--") else ""
    return shlex.join(kept)


def _option_with(option: str, value: str) -> list[str]:
    return [] if option in NEEDLESS else [f"{option}={FOLDERS.get(option) or without_paths(value)}"]


def without_paths(text: str) -> str:
    """A text in which each path is its last part.

    >>> without_paths("image=/home/me/vit"), without_paths("facebook/dinov2-base"), without_paths("../me/a b.csv")
    ('image=vit', 'facebook/dinov2-base', 'a b.csv')
    """
    key, equals, value = text.partition("=") if re.match(r"[\w.]+=", text) else ("", "", text)
    if value.startswith(("/", "~", "./", "../")) or value.count("/") > 1 or "\\" in value:
        return f"{key}{equals}{last_part(value)}"
    return PATH_INSIDE.sub(lambda found: last_part(found.group()), text)


def last_part(path: str) -> str:
    r"""What a path ends in, whichever system wrote it.

    >>> last_part("/home/me/vit/"), last_part("C:\\Users\\me\\vit"), last_part("tiny-dinov2")
    ('vit', 'vit', 'tiny-dinov2')
    """
    return re.split(r"[/\\]+", path.rstrip("/\\"))[-1] or "FOLDER"

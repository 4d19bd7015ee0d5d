"""Finding the videos of a data set on the disk, whatever the copy calls its folders."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmfuse.data.catalogue.walk import walk
from mmfuse.utils.files import user_path


@dataclass(frozen=True)
class Found:
    """Where the videos of a table lie."""

    paths: list[str]
    """One a row, absolute; the published path where the video was not found."""
    missing: list[str]
    """Clips that were not found."""
    extra: list[Path]
    """Videos in the folder that no row asks for."""
    passed_over: dict[Path, str]
    """Files and folders that might have been meant, and why they were not taken."""


def dataset_folder(root: Path, name: str) -> Path:
    """The data set's own folder, absolute: `root` itself, or the folder in it that carries the data set's name.

    `UCF-101`, `ucf101` and `UCF101` are one name.
    """
    root = user_path(root).absolute()
    if not root.is_dir():
        return root
    wanted = {_plain_name(name)}
    inside = [entry for entry in sorted(root.iterdir()) if _plain_name(entry.name) in wanted and entry.is_dir()]
    return inside[0] if inside else root


def find_videos(table: pd.DataFrame, folder: Path) -> Found:
    """Match rows with files by name, without case; by folder and name where a name occurs twice."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    below = walk(folder)
    for path in below.videos:
        by_name[path.stem.casefold()].append(path)
    paths, missing, used = [], [], set()
    for clip, published in zip(table["clip"], table["path"], strict=True):
        wanted = Path(published)
        match = _best_match(by_name.get(wanted.stem.casefold(), []), wanted)
        if match is None:
            missing.append(clip)
            paths.append(str(published))
        else:
            used.add(match)
            paths.append(str(match))
    extra = sorted(path for matches in by_name.values() for path in matches if path not in used)
    return Found(paths, missing, extra, below.passed_over | below.unreadable)


def _best_match(matches: list[Path], wanted: Path) -> Path | None:
    if len(matches) <= 1:
        return matches[0] if matches else None
    # The same name twice: a copy in another folder, or the same clip converted to another container.
    same_folder = [path for path in matches if path.parent.name.casefold() == wanted.parent.name.casefold()]
    candidates = same_folder or matches
    return min(candidates, key=lambda path: (path.suffix.lower() != wanted.suffix.lower(), str(path)))


def _plain_name(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())

"""What `mmfuse data divide` does."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfuse.cli.common import complain, notes, out, print_json
from mmfuse.data.catalogue.divide import Division, divide
from mmfuse.data.catalogue.undivided import Undivided, read_undivided
from mmfuse.data.catalogue.written import refuse_taken, write_division
from mmfuse.data.frames.video import Damaged
from mmfuse.utils.files import user_path
from mmfuse.utils.processes import usable_cores
from mmfuse.utils.progress import progress_bar
from mmfuse.version import __version__


@dataclass(frozen=True, kw_only=True)
class DivideRequest:
    """What the user asked for."""

    clips: Path
    test: float
    groups: str | None = None
    out: Path | None = None
    seed: int = 0
    frames: bool = True
    damaged: Damaged = "error"
    workers: int | None = None
    force: bool = False
    json: bool = False


def divide_clips(request: DivideRequest) -> None:
    """Divide clips, write the lists and print what came of it.

    Raises:
        MmfuseError: the clips or an option are wrong; nothing is written then.
    """
    place = user_path(request.clips).absolute()
    target = (place if place.is_dir() else place.parent) if request.out is None else user_path(request.out).absolute()
    refuse_taken(target, force=request.force)
    clips = read_undivided(place)
    with progress_bar(f"comparing the frames of {clips.name}") as report:
        division = divide(
            clips.table,
            test=request.test,
            name=clips.name,
            groups=request.groups,
            seed=request.seed,
            frames=request.frames,
            damaged=request.damaged,
            workers=request.workers or usable_cores(),
            report=report,
        )
    how = {
        "made_by": f"mmfuse {__version__}",
        "command": shlex.join(["mmfuse", *sys.argv[1:]]),
        "name": clips.name,
        "test": request.test,
        "seed": request.seed,
        "groups": request.groups,
        "frames": request.frames,
    }
    write_division(division, clips, target, how=how, force=request.force)
    if request.json:
        print_json({**how, **_counts(division, clips), "out": str(target), "notes": [*division.notes, *clips.warnings]})
    else:
        _print(division, clips, target)


def _counts(division: Division, clips: Undivided) -> dict[str, Any]:
    """Clips and sources in all and by class."""
    rows = {"train": division.train, "test": division.test}
    classes = {
        name: {
            **{part: int((table["class"] == name).sum()) for part, table in rows.items()},
            "sources": len({group for table in rows.values() for group in table["group"][table["class"] == name]}),
        }
        for name in clips.class_names
    }
    return {"clips": len(clips.table), "sources": division.groups, "classes": classes}


def _print(division: Division, clips: Undivided, target: Path) -> None:
    found = _counts(division, clips)
    lines: list[tuple[str, ...]] = [("class", "sources", "train", "test", "share")]
    lines += [_line(name, counts) for name, counts in found["classes"].items()]
    whole = {"sources": division.groups, "train": len(division.train), "test": len(division.test)}
    lines.append(_line("all", whole))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    console = out()
    for line in lines:
        cells = [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        console.print("  ".join(cells), markup=False, highlight=False, soft_wrap=True)
    for note in division.notes:
        console.print(f"sources: {note}", markup=False, highlight=False, soft_wrap=True)
    for warning in clips.warnings:
        complain("mmfuse", f"warning: {warning}")
    console.print(
        f"wrote train.csv, test.csv and division.json into {target}", markup=False, highlight=False, soft_wrap=True
    )
    notes().print(f"next: {shlex.join(['mmfuse', 'data', 'check', str(target)])}", markup=False, soft_wrap=True)


def _line(name: str, counts: dict[str, int]) -> tuple[str, ...]:
    share = counts["test"] / (counts["train"] + counts["test"])
    return (name, *(f"{counts[key]:,}" for key in ("sources", "train", "test")), f"{share:.0%}")

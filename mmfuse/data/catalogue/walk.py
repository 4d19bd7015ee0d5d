"""The one way that folders are searched for videos: by check, predict, train, cache and the report alike.

A suffix that is a video's is believed, one that is certainly something else's is too; any other file is asked. What
might have been meant and is not taken is named, so that no clip, and no class, vanishes in silence.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_VIDEOS = """
.3g2 .3gp .asf .avi .divx .f4v .flv .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mxf .ogv .qt .rm .rmvb .vob .webm .wmv
"""
_OTHERS = """
.ass .bib .csv .doc .docx .htm .html .ini .ipynb .json .jsonl .lock .log .lrc .md .ods .odt .pdf .ppt .pptx .rst .rtf
.srt .ssa .sub .tex .toml .tsv .txt .url .vtt .xls .xlsx .xml .yaml .yml
.bmp .heic .ico .jpeg .jpg .npy .npz .pgm .png .ppm .psd .svg .tga .tif .tiff .webp
.aac .flac .m4a .mid .mp3 .opus .wav .wma
.7z .bz2 .gz .rar .tar .tgz .xz .zip .zst
.bat .c .cfg .cmd .cpp .css .db .dll .exe .h .h5 .hdf5 .js .lmdb .lnk .m .mat .onnx .parquet .pickle .pkl .pt .pth .py
.pyc .r .safetensors .sh .so .sqlite .tmp
"""
VIDEO_SUFFIXES = frozenset(_VIDEOS.split())
"""Of files that are taken for videos unseen, so that a damaged one is told of. Not `.ts`, `.mts`, `.dat` or `.gif`:
these name other things as well, so the files are asked."""
OTHER_SUFFIXES = frozenset(_OTHERS.split())
"""Of texts, tables, pictures, sounds, archives and programs: nobody misses them among videos."""

_LEFT_BY_SYSTEMS = frozenset({"desktop.ini", "thumbs.db"})
_STILLS = ("adf", "bin", "idf", "image2", "tty", "xbin")  # what FFmpeg calls pictures and screens of text
HIDDEN = "hidden, as its name begins with a dot"


@dataclass
class Walk:
    """What a folder holds."""

    videos: list[Path] = field(default_factory=list)
    """In the order of their names."""
    passed_over: dict[Path, str] = field(default_factory=dict)
    """What might have been meant as a video, or as a folder of them, and why it is not taken."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Folders that could not be looked into, and why."""


def walk(folder: Path) -> Walk:
    """Search a folder and those below it, links to folders included, for videos.

    A folder that can be reached in several ways is entered once, by its own name rather than by a link. Hidden folders
    are left out, as are the `._` files that macOS leaves beside others.
    """
    found = Walk()
    entered: set[tuple[int, int]] = set()
    ahead: list[Path] = [folder]
    links: list[Path] = []
    while ahead or links:
        # Links wait until every real folder has been entered: what they lead to keeps its own name then.
        place = ahead.pop() if ahead else links.pop(0)
        inside, linked = _look_into(place, entered, found)
        ahead += inside
        links += linked
    found.videos.sort()
    return found


def described(passed_over: Iterable[tuple[Path, str]], *, below: Path | None = None, most: int = 3) -> str:
    """Files that were passed over, in words: how many, for which reasons, and the first of them.

    >>> described([(Path("a.ts"), "no video"), (Path("b.ts"), "no video")], most=1)
    '2 were passed over (no video), such as a.ts'
    """
    named = sorted(passed_over)
    reasons = ", ".join(reason for reason, _ in Counter(reason for _, reason in named).most_common(most))
    shown = [str(path.relative_to(below) if below and path.is_relative_to(below) else path) for path, _ in named[:most]]
    verb = "was" if len(named) == 1 else "were"
    return f"{len(named):,} {verb} passed over ({reasons}), such as {', '.join(shown)}"


def _look_into(place: Path, entered: set[tuple[int, int]], found: Walk) -> tuple[list[Path], list[Path]]:
    """Take the videos of one folder; returns the folders in it, real ones and links, last name first."""
    try:
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:
            return [], []
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError as fault:
        found.unreadable[place] = fault.strerror or str(fault)
        return [], []
    entered.add((status.st_dev, status.st_ino))
    inside: list[Path] = []
    linked: list[Path] = []
    for entry in entries:
        path = place / entry.name
        if _is_folder(entry):
            if not entry.name.startswith("."):
                (linked if entry.is_symlink() else inside).append(path)
        elif (reason := why_no_video(path)) is None:
            found.videos.append(path)
        elif reason:
            found.passed_over[path] = reason
    return inside[::-1], linked


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def why_no_video(path: Path) -> str | None:
    """Why a file is not taken for a video: `None` where it is, empty where nobody would take it for one."""
    suffix = path.suffix.lower()
    if path.name.startswith("._") or path.name.lower() in _LEFT_BY_SYSTEMS or suffix in OTHER_SUFFIXES:
        return ""
    if path.name.startswith("."):
        return HIDDEN if suffix in VIDEO_SUFFIXES else ""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a file"
        if suffix in VIDEO_SUFFIXES or _shows_video(path):
            return None
        return "" if _is_text(path) else "no video that can be opened"
    except OSError as fault:
        return "a link that leads nowhere" if path.is_symlink() else f"cannot be read: {fault.strerror or fault}"


def _shows_video(path: Path) -> bool:
    """Whether the content is a video's, whatever the name says."""
    from mmfuse.data.frames.containers import UnreadableVideo, probe  # heavy, and seldom needed

    try:
        header = probe(path)
    except UnreadableVideo:
        return False
    kind = header.container
    still = kind in _STILLS or kind.endswith("_pipe") or (kind == "gif" and header.frames == 1)
    return not still


def _is_text(path: Path) -> bool:
    """Whether a file begins as a text in UTF-8 does."""
    with path.open("rb") as file:
        head = file.read(1024)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # whose last letter may be cut
    except UnicodeDecodeError:
        return False
    return bool(head) and 0 not in head

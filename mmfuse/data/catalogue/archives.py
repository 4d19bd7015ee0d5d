"""Unpacking downloaded archives: nothing is ever written outside the folder, nothing half-unpacked stays.

Zip and tar are read by Python. Rar needs a program; whichever of the usual ones is installed is used. Archives inside
archives (HMDB51 comes as one rar a class inside one rar) are unpacked as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmfuse.errors import MmfuseError

_STAGING = ".unpacking-"
_DEEPEST = 3  # archives in archives in an archive; one that holds itself would never end
_NESTED = (".rar", ".zip", ".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class _Program:
    """A program that unpacks rar: how it lists names, one a line, and how it extracts."""

    name: str
    lists: tuple[str, ...]
    extracts: tuple[str, ...]
    prefix: str = ""
    """What stands before a name in the list; other lines say something else."""


# {archive} and {folder} are filled in; the folder ends with a slash, as unrar wants it.
_PROGRAMS = (
    _Program("unrar", ("lb", "-p-", "--", "{archive}"), ("x", "-o+", "-p-", "-idq", "--", "{archive}", "{folder}")),
    _Program("bsdtar", ("-tf", "{archive}"), ("-xf", "{archive}", "-C", "{folder}")),
    _Program(
        "7z", ("l", "-slt", "-ba", "--", "{archive}"), ("x", "-y", "-bd", "-o{folder}", "--", "{archive}"), "Path = "
    ),
    _Program(
        "7zz", ("l", "-slt", "-ba", "--", "{archive}"), ("x", "-y", "-bd", "-o{folder}", "--", "{archive}"), "Path = "
    ),
)


def unpack(archive: Path, folder: Path, *, report: Callable[[str], None] | None = None) -> int:
    """Unpack an archive, and the archives in it, into a folder.

    Everything is unpacked beside its place and moved there when it is complete; files that are there are replaced.

    Args:
        archive: zip, tar, tar.gz or rar.
        folder: made if absent.
        report: told the name of each archive that is begun.

    Returns:
        How many files were unpacked.

    Raises:
        MmfuseError: not an archive, damaged, with a name that leads outside the folder, no program for rar, or no room.
    """
    if not archive.is_file():
        raise MmfuseError(f"{archive}: there is no such file; check its path")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(f"{_STAGING}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_STAGING) as staging:
            _unpack_all(archive, Path(staging), report or (lambda name: None))
            return _move(Path(staging), folder)
    except OSError as fault:
        raise MmfuseError(f"{archive}: cannot be unpacked to {folder} ({fault.strerror or fault})") from fault


def _unpack_all(archive: Path, staging: Path, report: Callable[[str], None], *, depth: int = 1) -> None:
    if depth > _DEEPEST:
        raise MmfuseError(f"{archive.name}: an archive in more than {_DEEPEST - 1} others; nothing was unpacked")
    report(archive.name)
    _unpack_one(archive, staging)
    for nested in sorted(path for path in staging.rglob("*") if path.name.lower().endswith(_NESTED)):
        inside = Path(tempfile.mkdtemp(dir=nested.parent, prefix=_STAGING))
        _unpack_all(nested, inside, report, depth=depth + 1)
        nested.unlink()
        _move(inside, nested.parent)
        inside.rmdir()


def _unpack_one(archive: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                _check_room(archive, folder, sum(entry.file_size for entry in file.infolist()))
                _check_names(archive, file.namelist())
                file.extractall(folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as file:
                file.extractall(folder, filter="data")
        elif _is_rar(archive):
            _unrar(archive, folder)
        else:
            raise MmfuseError(f"{archive}: not a zip, tar or rar archive; download it again")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError) as fault:
        raise MmfuseError(f"{archive}: damaged or not to be trusted ({fault}); download it again") from fault
    _check_links(archive, folder)


def _is_rar(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(4) == b"Rar!"


def _unrar(archive: Path, folder: Path) -> None:
    programs = [program for program in _PROGRAMS if shutil.which(program.name)]
    if not programs:
        usual = ", ".join(program.name for program in _PROGRAMS)
        raise MmfuseError(f"{archive}: unpacking rar needs one of these programs, and none is installed: {usual}")
    for program in programs:  # not every one knows every version of rar
        try:
            listed = _run(program, program.lists, archive, folder).splitlines()
            names = [line.removeprefix(program.prefix) for line in listed if line.startswith(program.prefix)]
            _check_names(archive, names)
            _run(program, program.extracts, archive, folder)
            return
        except _Failed as fault:
            failure = fault
            _empty(folder)
    raise MmfuseError(f"{archive}: cannot be unpacked ({failure}); download it again") from failure


class _Failed(Exception):
    """A program could not read an archive."""


def _run(program: _Program, arguments: Iterable[str], archive: Path, folder: Path) -> str:
    filled = [argument.format(archive=archive.absolute(), folder=f"{folder.absolute()}/") for argument in arguments]
    done = subprocess.run([program.name, *filled], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise _Failed(f"{program.name}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="surrogateescape")


def _check_names(archive: Path, names: Iterable[str]) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.parts and (path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":")):
            raise MmfuseError(f"{archive}: holds {name!r}, which leads outside the folder; nothing was unpacked")


def _check_links(archive: Path, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise MmfuseError(f"{archive}: holds a link or a device ({path.name}); nothing was unpacked")


def _check_room(archive: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MmfuseError(
            f"{archive}: needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free below {folder}; make room"
        )


def _move(source: Path, target: Path) -> int:
    """Move every file to the same place below `target`; returns their number."""
    count = 0
    for base, _folders, names in os.walk(source):
        place = target / Path(base).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(Path(base, name), place / name)
            count += 1
    _empty(source)
    return count


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

"""Unpacking downloaded archives: nothing is ever written outside the folder, nothing half-unpacked stays.

Zip and tar are read by Python. Rar needs a program; whichever of the usual ones is installed is used. Archives inside
archives (HMDB51 comes as one rar a class inside one rar) are unpacked as well. What would fill the disk is stopped: an
archive and all in it may not grow far beyond its own size, as videos are compressed already.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import shlex
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath

from mmfuse.errors import MmfuseError, one_line

_STAGING = ".unpacking-"
_DEEPEST = 3  # archives in archives in an archive; one that holds itself would never end
_NESTED = (".rar", ".zip", ".tar", ".tar.gz", ".tgz")
MOST_FILES = 500_000
LARGEST_GROWTH = 100  # an archive's size times this is the most that it may hold; lists shrink to a tenth or so
SMALL = 10**9  # bytes that any archive may hold, however small it is
_DEEPEST_FOLDER = 64  # folders in folders: what goes on for thousands cannot be removed again
_LOOK_EVERY = 0.2  # seconds, while a program unpacks
_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
)


class _Limits:
    """How much an archive, with the archives in it, may still write."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive = archive
        self._folder = folder
        self._bytes = max(LARGEST_GROWTH * archive.stat().st_size, SMALL)
        self._files = MOST_FILES

    def take(self, *, size: int, files: int = 1) -> None:
        """Count what is about to be written, or has been.

        Raises:
            MmfuseError: it is more than such an archive can honestly hold.
        """
        self.check(size=size, files=files)
        self._bytes -= size
        self._files -= files

    def check(self, *, size: int = 0, files: int = 0) -> None:
        """Whether so much more may be written; raises as `take`."""
        if size > self._bytes or files > self._files:
            raise MmfuseError(
                f"{self._archive}: holds more than {MOST_FILES:,} files, or more than {LARGEST_GROWTH} times its own "
                "size, as no data set does; nothing was unpacked"
            )

    def check_room(self, size: int) -> None:
        """Whether the disk has room for so much.

        Raises:
            MmfuseError: it has not.
        """
        free = shutil.disk_usage(self._folder).free
        if size > free:
            raise MmfuseError(
                f"{self._archive}: needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free below {self._folder}; "
                "make room"
            )


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
            _unpack_all(archive, Path(staging), report or (lambda name: None), _Limits(archive, folder))
            return _move(Path(staging), folder)
    except OSError as fault:
        raise MmfuseError(f"{archive}: cannot be unpacked to {folder} ({fault.strerror or fault})") from fault


def _unpack_all(
    archive: Path, staging: Path, report: Callable[[str], None], limits: _Limits, *, depth: int = 1
) -> None:
    if depth > _DEEPEST:
        raise MmfuseError(f"{archive.name}: an archive in more than {_DEEPEST - 1} others; nothing was unpacked")
    report(archive.name)
    _unpack_one(archive, staging, limits)
    for nested in sorted(path for path in staging.rglob("*") if path.name.lower().endswith(_NESTED)):
        inside = Path(tempfile.mkdtemp(dir=nested.parent, prefix=_STAGING))
        _unpack_all(nested, inside, report, limits, depth=depth + 1)
        nested.unlink()
        _move(inside, nested.parent)
        inside.rmdir()


def _unpack_one(archive: Path, folder: Path, limits: _Limits) -> None:
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder, limits)
        elif tarfile.is_tarfile(archive):
            _untar(archive, folder, limits)
        elif _is_rar(archive):
            _unrar(archive, folder, limits)
        else:
            raise MmfuseError(f"{archive}: not a zip, tar or rar archive; {_advice(archive)}")
    except _UNREADABLE as fault:
        raise MmfuseError(f"{archive}: damaged or not to be trusted ({one_line(fault)}); {_advice(archive)}") from fault
    _check_links(archive, folder)


def _advice(archive: Path) -> str:
    """What to do about an archive that cannot be read: it may be one of the parts that a large one was cut into."""
    stem = archive.name.rstrip("0123456789")
    parts = [path for path in archive.parent.glob(f"{escape(stem)}*") if path.name.removeprefix(stem).isdecimal()]
    if stem == archive.name or len(parts) < 2:
        return "download it again"
    names = shlex.join(str(path) for path in sorted(parts))
    return f"it looks like one of {len(parts)} parts: put them together first (cat {names} > WHOLE) and unpack that"


def _unzip(archive: Path, folder: Path, limits: _Limits) -> None:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        _check_names(archive, (entry.filename for entry in entries))
        size = sum(entry.file_size for entry in entries)
        limits.check(size=size, files=len(entries))
        limits.check_room(size)
        for entry in entries:
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise _link(archive, entry.filename)
            limits.take(size=entry.file_size)  # no more than that is ever read of it
            file.extract(entry, folder)


def _untar(archive: Path, folder: Path, limits: _Limits) -> None:
    with tarfile.open(archive) as file:
        for entry in file:  # one by one: a list of all of them would be read to the end of the archive first
            _check_names(archive, [entry.name], outside=False)
            if not (entry.isreg() or entry.isdir()):
                tarfile.data_filter(entry, str(folder))  # says what is wrong with a link that leads outside
                raise _link(archive, entry.name)
            limits.take(size=entry.size)
            limits.check_room(entry.size)
            file.extract(entry, folder, filter="data")


def _is_rar(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(4) == b"Rar!"


def _unrar(archive: Path, folder: Path, limits: _Limits) -> None:
    programs = [program for program in _PROGRAMS if shutil.which(program.name)]
    if not programs:
        usual = ", ".join(program.name for program in _PROGRAMS)
        raise MmfuseError(f"{archive}: unpacking rar needs one of these programs, and none is installed: {usual}")
    for program in programs:  # not every one knows every version of rar
        try:
            listed = _run(program, program.lists, archive, folder).splitlines()
            names = [line.removeprefix(program.prefix) for line in listed if line.startswith(program.prefix)]
            _check_names(archive, names)
            limits.check(files=len(names))
            _run(program, program.extracts, archive, folder, limits)
            size, files = _written(folder)
            limits.take(size=size, files=files)
            return
        except _Failed as fault:
            failure = fault
            _empty(folder)
    raise MmfuseError(f"{archive}: cannot be unpacked ({failure}); download it again") from failure


class _Failed(Exception):
    """A program could not read an archive."""


def _run(
    program: _Program, arguments: Iterable[str], archive: Path, folder: Path, limits: _Limits | None = None
) -> str:
    """What a program prints; it is stopped as soon as it has written more than it may."""
    filled = [argument.format(archive=archive.absolute(), folder=f"{folder.absolute()}/") for argument in arguments]
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            [program.name, *filled], stdin=subprocess.DEVNULL, stdout=printed, stderr=said
        ) as running:
            try:
                while limits is not None and running.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        running.wait(_LOOK_EVERY)
                    size, files = _written(folder)
                    limits.check(size=size, files=files)
            except BaseException:
                _kill(running)
                raise
        printed.seek(0)
        said.seek(0)
        if running.returncode:
            lines = (said.read() or printed.read()).decode(errors="replace").strip().splitlines()
            raise _Failed(f"{program.name}: {lines[-1] if lines else f'exit code {running.returncode}'}")
        return printed.read().decode(errors="surrogateescape")


def _kill(running: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started, which would write on otherwise."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(running.pid, signal.SIGKILL)
    running.kill()


def _written(folder: Path) -> tuple[int, int]:
    """Bytes and files below a folder, in which a program may be at work."""
    size = files = 0
    for base, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(base, name)).st_size
                files += 1
    return size, files


def _check_names(archive: Path, names: Iterable[str], *, outside: bool = True) -> None:
    """Refuse names that lead outside (unless something else sees to that) or too far down."""
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        leads_outside = path.parts and (path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"))
        if outside and leads_outside:
            raise MmfuseError(f"{archive}: holds {name!r}, which leads outside the folder; nothing was unpacked")
        if len(path.parts) > _DEEPEST_FOLDER:
            raise MmfuseError(
                f"{archive}: holds {name!r:.60}..., in more than {_DEEPEST_FOLDER} folders; nothing was unpacked"
            )


def _link(archive: Path, name: str) -> MmfuseError:
    return MmfuseError(f"{archive}: holds a link or a device ({name}); nothing was unpacked")


def _check_links(archive: Path, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _link(archive, path.name)


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

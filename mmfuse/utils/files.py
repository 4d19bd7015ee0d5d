"""Where files are kept, and how they are written so that nothing half-written is ever read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from mmfuse.errors import MmfuseError


def user_path(path: Path | str) -> Path:
    """A path with `~` and `~name` filled in; where there is no such user, the tilde is a part of the name.

    >>> user_path("~no-such-user.mp4")
    PosixPath('~no-such-user.mp4')
    """
    return Path(os.path.expanduser(path))


def absolute_path(given: Path | str | None) -> Path | None:
    """As `user_path`, from the root; nothing for nothing."""
    return None if given is None else user_path(given).absolute()


def cache_folder() -> Path:
    """The folder for what can be made again: `$MMFUSE_CACHE`, else `mmfuse` in the user's cache folder."""
    if own := os.environ.get("MMFUSE_CACHE"):
        return user_path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "mmfuse"


def default_data_root() -> Path:
    """Where data sets are looked for: `$MMFUSE_DATA`, else `data` in the current folder."""
    return user_path(os.environ.get("MMFUSE_DATA") or "data")


def write_atomically(path: Path, content: bytes | str, *, sync: bool = True) -> None:
    """Write a file whole or not at all: temporary name in the same folder, sync, rename.

    Args:
        path: the file.
        content: what it is to hold.
        sync: wait until the disk has it; without that a power cut may leave a file with holes, which is good enough
            only for what has a checksum and can be made again.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old file, if any, is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        # mkstemp makes private files; results are meant to be shared as the umask allows.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(path.parent)


def refresh_listing(folder: Path) -> None:
    """Make this machine see what others have written to a folder.

    A client of NFS keeps the listing of a folder, and which names are not there, for up to a minute, but asks anew
    after it has changed the folder itself.
    """
    with contextlib.suppress(OSError):  # a full disk, or a folder that can only be read
        handle, probe = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
        os.close(handle)
        os.unlink(probe)


def parse_json(text: str | bytes) -> Any:
    """Read JSON that others have written.

    Raises:
        ValueError: it is none, or one that nests so deeply, or holds such numbers, that Python cannot hold it.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def refuse_name(name: str, *, what: str) -> None:
    r"""Refuse a name that, as part of a path or a table, could lead out of a folder or control a terminal.

    Raises:
        MmfuseError: saying what is wrong with it.

    >>> refuse_name("my clips (2)", what="data set")
    >>> refuse_name("../clips", what="data set")
    Traceback (most recent call last):
    mmfuse.errors.MmfuseError: a data set cannot be called '../clips': no slashes, and neither . nor ..; rename it
    """
    refuse_unprintable(name, what=what)
    if name in (".", "..") or "/" in name or "\\" in name:
        raise MmfuseError(f"a {what} cannot be called {name!r:.100}: no slashes, and neither . nor ..; rename it")


def refuse_unprintable(name: str, *, what: str) -> None:
    """Refuse a name that holds what cannot be printed, such as control characters and line breaks.

    Raises:
        MmfuseError: saying so.
    """
    if not name.isprintable():
        raise MmfuseError(
            f"a {what} cannot be called {name!r:.100}: it holds what cannot be printed; call it otherwise"
        )


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can sync a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def sha256_of_json(value: Any) -> str:
    """Hex digest of a JSON value that does not depend on the order of its keys.

    >>> sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

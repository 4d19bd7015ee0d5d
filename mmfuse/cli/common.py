"""What both commands share: exit codes, one-line errors, output."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
import typer.core
from rich.console import Console

from mmfuse.errors import MmfuseError, MmfuseWarning
from mmfuse.utils.interrupts import never_lost
from mmfuse.utils.resources import grids_folder
from mmfuse.utils.streams import prepare_streams, silence_stdout
from mmfuse.utils.terminal import UNSAFE, SafeConsole, visible

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


class WholeHelp(typer.core.TyperGroup):
    """A group of commands whose help tells of each command in a whole sentence, which is wrapped and never cut off."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See `TyperGroup`."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.help and not command.short_help:
            command.short_help = " ".join(command.help.partition("\n\n")[0].split())
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See `TyperGroup`; a grid in the place of a command is told how to be run."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            told = getattr(error, "message", None)  # of a usage error, whose kind typer does not export
            if told is None or "run" not in self.commands or not _is_grid(args[0]):
                raise
            error.message = f"{told.rstrip('.')}, but there is such a grid: {ctx.command_path} run {args[0]}"  # type: ignore[attr-defined]
            raise


def _is_grid(word: str) -> bool:
    named = (grids_folder() / f"{word}.yaml").is_file()
    return named or (word.endswith((".yaml", ".yml")) and Path(word).is_file())


def run_app(app: typer.Typer, name: str) -> NoReturn:
    """Run a command; a wrong request gets one line on stderr and exit code 2, never a traceback."""
    prepare_streams()
    try:
        with _told_warnings(name), never_lost():
            code = app(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        # What the libraries that print make of a broken pipe is the end of the process; of a pipe it is none.
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # The reader of our output has seen enough (`| head`); Python must not complain at exit.
        silence_stdout()
        code = DONE
    except Exception as error:
        told = _error_message(error)
        if told is None:
            raise
        code = complain(name, told)
    raise SystemExit(code if isinstance(code, int) else DONE)


@contextmanager
def _told_warnings(name: str) -> Iterator[None]:
    """Say our own warnings as errors are said: each once, on one line, without the place in the code."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, MmfuseWarning):
            complain(name, f"warning: {message}")
        else:
            shown(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=MmfuseWarning)
        warnings.showwarning = show
        yield


def _error_message(error: Exception) -> str | None:
    """What a user has to know of a fault; `None` where it is a fault of ours."""
    if isinstance(error, MmfuseError):
        return str(error)
    if isinstance(error, OSError):
        # No folder, no permission, no room: the system says what, and a traceback would say no more.
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; see to that, or name another place"
    # Typer does not export the base of its usage errors; what they share is that they format themselves.
    message = getattr(error, "format_message", None)
    # Pydantic, which reads the values of options, puts its own kind of error before what is wrong.
    return None if message is None else message().replace(": Value error, ", ": ") + _dash_hint(error)


def _dash_hint(error: Exception) -> str:
    """What to do about a file whose name looks like an option."""
    option = getattr(error, "option_name", None)
    if not isinstance(option, str) or not any(word.startswith(option) and Path(word).exists() for word in sys.argv):
        return ""
    return " (a file whose name begins with '-' is given as ./-name)"


def complain(name: str, message: str) -> int:
    """Say on stderr what is wrong: one line, or one for each of several faults."""
    for line in message.split("\n"):
        print(f"{name}: {visible(' '.join(line.split()))}", file=sys.stderr)
    return WRONG


def out() -> Console:
    """The console for results: stdout. Its width follows the terminal; a pipe gets lines as long as they need be."""
    console = SafeConsole()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200
    return console


def notes() -> Console:
    """The console for progress and remarks: stderr, so that results can be piped."""
    return SafeConsole(stderr=True)


def print_json(value: Any) -> None:
    """Print one JSON document; what could control a terminal stands in it as JSON's own escapes."""
    utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    text = json.dumps(value, indent=1, ensure_ascii=not utf8)
    print(re.sub(UNSAFE, lambda found: f"\\u{ord(found.group()):04x}", text))


def duration(seconds: float | None) -> str:
    """A duration as people say it.

    >>> duration(None), duration(42), duration(600), duration(7300), duration(400000)
    ('?', '42 s', '10 min', '2.0 h', '4.6 days')
    """
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def amount(size: int | None) -> str:
    """Bytes as people say them.

    >>> amount(None), amount(8_800), amount(3_400_000), amount(5_600_000_000)
    ('?', '9 kB', '3.4 MB', '5.6 GB')
    """
    if size is None:
        return "?"
    if size < 1e6:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

"""Standard streams of a command: closed, full or broken ones must neither end a run nor lead its files astray."""

from __future__ import annotations

import errno
import io
import os
import sys


def prepare_streams() -> None:
    """Make the three standard streams safe to use; called once, at the start of a command.

    A stream that was closed (`>&-`) is opened on the null device: Python has none then, and the next file that is
    opened would get its number, so that whatever native libraries write to that number would go into this file. What
    is written to standard error is a remark, and a remark that cannot be written is no reason to stop: see
    `RemarkStream`. No text is refused for signs that a stream's encoding does not know.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if _is_closed(number):
            _open_null(number)
        if getattr(sys, name) is None:
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - stays
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    for written in (sys.stdout, sys.stderr):
        if isinstance(written, io.TextIOWrapper):
            # Names of files may hold bytes, and results signs, that the terminal's encoding does not know.
            written.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:  # no stand-in for it
        sys.stderr = RemarkStream(
            sys.stderr.buffer, encoding=sys.stderr.encoding, errors="backslashreplace", line_buffering=True
        )


class RemarkStream(io.TextIOWrapper):
    """A text stream whose writer is not told that the disk is full or that nobody reads any more.

    For progress and remarks: a run of days must not end because the pager that showed them was closed.
    """

    def write(self, text: str) -> int:
        """As in `io.TextIOWrapper`; what cannot be written is dropped."""
        try:
            return super().write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """As in `io.TextIOWrapper`; what cannot be written is dropped."""
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        if error.errno in (errno.EPIPE, errno.EIO):  # the reader, or the terminal, is gone for good
            _open_null(self.fileno())


def silence_stdout() -> None:
    """Send what is still to be written to standard output nowhere: its reader has seen enough."""
    _open_null(sys.stdout.fileno())


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _open_null(number: int) -> None:
    """Let a file descriptor stand for the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    else:
        os.set_inheritable(number, True)

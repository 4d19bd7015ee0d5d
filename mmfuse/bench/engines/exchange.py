"""The folder over which a runner and the jobs of a scheduler talk: cells in, records out, each file whole or not there.

A cell is a file that one job takes by renaming it, which no other can do then. What a job took and brought to no end
stays with its task, which runs it again when the scheduler has started it anew.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mmfuse.bench.job import Job, Outcome
from mmfuse.records.record import Record
from mmfuse.utils.files import parse_json, refresh_listing, write_atomically

_JOB = TypeAdapter(Job)
_RECORD = "record.json"


class Exchange:
    """Both ends of it.

    Args:
        path: a folder that the runner and all jobs see.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue, self._taken, self._done, self._signs = (
            path / name for name in ("queue", "taken", "done", "signs")
        )

    # -- the runner's end

    def prepare(self) -> None:
        """Make the folder, for its owner alone."""
        for folder in (self._queue, self._taken, self._done, self._signs):
            folder.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def give(self, number: int, job: Job) -> None:
        """Put a cell into the queue."""
        write_atomically(self._queue / f"{number:06}.json", _JOB.dump_json(job))

    def is_queued(self, number: int) -> bool:
        """Whether nobody has taken a cell yet."""
        return (self._queue / f"{number:06}.json").exists()

    def taken_by(self) -> dict[int, str]:
        """By which task each cell was taken."""
        refresh_listing(self._taken)
        names = (path.name.split(".") for path in self._taken.glob("*.json"))
        return {int(number): task for number, task, _ in names}

    def ended(self) -> dict[int, Outcome]:
        """What has come back since the last time."""
        refresh_listing(self._done)
        found = {}
        for path in sorted(self._done.glob("*.zip")):
            found[int(path.stem)] = _unpacked(path.read_bytes())
            path.unlink()
        return found

    def signs(self) -> dict[str, dict[str, Any]]:
        """The last sign of life of each task."""
        refresh_listing(self._signs)
        found = {}
        for path in self._signs.glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                found[path.stem] = parse_json(path.read_bytes())
        return found

    def clear(self) -> None:
        """Remove what was exchanged; logs stay."""
        for folder in (self._queue, self._taken, self._done, self._signs):
            shutil.rmtree(folder, ignore_errors=True)

    # -- a job's end

    def take(self, task: str) -> tuple[int, Job] | None:
        """The next cell of the queue; `None` where there is none."""
        refresh_listing(self._queue)
        for path in sorted(self._queue.glob("*.json")):
            mine = self._taken / f"{path.stem}.{task}.json"
            with contextlib.suppress(OSError):
                path.rename(mine)
            if mine.exists():  # a server that is asked twice may say that there was nothing to rename
                return int(path.stem), _JOB.validate_json(mine.read_bytes())
        return None

    def unfinished(self, task: str) -> Iterator[tuple[int, Job]]:
        """Cells that a task has taken and not brought to their end, as when it was stopped in the middle."""
        for path in sorted(self._taken.glob(f"*.{task}.json")):
            yield int(path.name.split(".")[0]), _JOB.validate_json(path.read_bytes())

    def bring(self, number: int, task: str, outcome: Outcome) -> None:
        """Hand over what has come of a cell."""
        write_atomically(self._done / f"{number:06}.zip", _packed(outcome))
        (self._taken / f"{number:06}.{task}.json").unlink(missing_ok=True)

    def sign(self, task: str, content: dict[str, Any]) -> None:
        """Give a sign of life."""
        write_atomically(self._signs / f"{task}.json", json.dumps(content), sync=False)


def _packed(outcome: Outcome) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr(_RECORD, outcome.record.to_json())
        for name, content in outcome.files.items():
            file.writestr(f"files/{name}", content)
    return data.getvalue()


def _unpacked(data: bytes) -> Outcome:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        names = [name for name in file.namelist() if name != _RECORD]
        record = Record.from_json(file.read(_RECORD).decode())
        return Outcome(record, {name.removeprefix("files/"): file.read(name) for name in names})

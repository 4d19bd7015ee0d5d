"""Trials as they are kept: a journal that grows by a line a trial, and from which a killed search goes on.

A line is written once a trial has come to its end, so what a search knows is the same whether it was ever killed or
not. A trial that was only begun counts for nothing but for this: one whose process died again and again is not begun
for ever (a machine may end a process that takes too much memory without a word).
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmfuse.errors import MmfuseError
from mmfuse.records.locks import Claims
from mmfuse.utils.files import parse_json, sha256_of_json

FORMAT = 1
MOST_BEGINNINGS = 3
"""How often a trial is begun that never comes to its end."""

State = Literal["complete", "pruned", "stopped", "failed"]
"""Evaluated on all folds; given up early because others were better; out of time, which is not kept; failed."""


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Args:
        search: the search it belongs to.
        number: counted from 0 in each search; 0 is the default setting.
        point: the setting, by the keys of the space.
        state: how it ended.
        hits: one character a validation clip, fold after fold: 1 where it was recognised; empty unless complete.
        steps: the share of clips recognised so far, by how far the trial was.
        rungs: what it had at each rung that it reached, by which later trials are judged.
        seconds: that it took.
        error: why it failed.
    """

    search: str
    number: int
    point: Mapping[str, Any]
    state: State
    hits: str = ""
    steps: Mapping[int, float] = field(default_factory=dict)
    rungs: Sequence[float] = ()
    seconds: float = 0.0
    error: str | None = None

    @property
    def accuracy(self) -> float | None:
        """The share of the validation clips that was recognised; `None` unless all of them were looked at."""
        return self.hits.count("1") / len(self.hits) if self.state == "complete" else None

    def document(self) -> dict[str, Any]:
        """The trial as plain values."""
        return {
            "search": self.search,
            "number": self.number,
            "point": dict(self.point),
            "state": self.state,
            "accuracy": self.accuracy,
            "hits": self.hits,
            "steps": {str(step): value for step, value in self.steps.items()},
            "rungs": list(self.rungs),
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Trial:
        """A trial from its document."""
        steps = {int(step): float(value) for step, value in document["steps"].items()}
        known = {
            key: document[key] for key in ("search", "number", "point", "state", "hits", "rungs", "seconds", "error")
        }
        return cls(**known, steps=steps)


class Journal:
    """The trials of one or several searches in a file.

    Only one process writes: the journal is locked as long as it is open. A last line that was cut short, as by a power
    cut, is dropped; its trial is made again.

    Args:
        path: the file; made with the first line.
        request: all that decides what a trial gives. A journal of another request is refused.

    Raises:
        MmfuseError: another process writes it, another request wrote it, or it was damaged.
    """

    def __init__(self, path: Path, request: Mapping[str, Any]) -> None:
        self.path = path
        self._request = dict(request)
        self.trials: list[Trial] = []
        self._begun: Counter[tuple[str, int]] = Counter()
        self._seconds_before = 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = Claims(path.parent).take_or_wait(path.name)
        if lock is None:
            raise MmfuseError(f"another process is searching in {path.parent}; wait for it, or name another folder")
        self._lock = lock
        try:
            self._read()
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def is_new(self) -> bool:
        """Whether there was nothing yet when it was opened, or nothing has been written since."""
        return not self.path.exists()

    @property
    def seconds(self) -> float:
        """What all trials took, those that were interrupted as well."""
        return self._seconds_before + math.fsum(trial.seconds for trial in self.trials)

    def of(self, search: str) -> list[Trial]:
        """The trials of one search, in order."""
        return [trial for trial in self.trials if trial.search == search]

    def begin(self, search: str, number: int) -> bool:
        """Note that a trial begins; false where it was begun too often without coming to its end."""
        if self._begun[search, number] >= MOST_BEGINNINGS:
            return False
        self._begun[search, number] += 1
        self._append({"begun": [search, number]})
        return True

    def settle(self, trial: Trial) -> None:
        """Keep a trial that has come to its end."""
        self.trials.append(trial)
        self._append({"trial": trial.document()})

    def interrupt(self, search: str, number: int, *, seconds: float) -> None:
        """Note that a trial was interrupted on purpose: it will be made again, and what it took is counted."""
        self._begun[search, number] -= 1
        self._seconds_before += seconds
        self._append({"interrupted": [search, number], "seconds": round(seconds, 3)})

    def _append(self, entry: Mapping[str, Any]) -> None:
        lines = [] if self.path.exists() else [self._header()]
        text = "".join(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in [*lines, entry])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _header(self) -> dict[str, Any]:
        return {"format": FORMAT, "request": self._request, "digest": sha256_of_json(self._request)}

    def _read(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole, _, rest = content.rpartition(b"\n")
        if not whole:  # not even the first line was finished
            self.path.unlink()
            return
        if rest:
            with self.path.open("r+b") as file:
                file.truncate(len(whole) + 1)
        lines = whole.decode("utf-8").split("\n")
        try:
            header, *entries = [parse_json(line) for line in lines]
            self._refuse_other(header)
            for entry in entries:
                self._take(entry)
        except (ValueError, KeyError, TypeError) as fault:
            raise MmfuseError(f"{self.path} was damaged ({fault}); remove it to search anew") from None

    def _refuse_other(self, header: Mapping[str, Any]) -> None:
        if header["format"] != FORMAT:
            raise MmfuseError(f"{self.path} was written by another version; remove it to search anew")
        if header["digest"] == sha256_of_json(self._request):
            return
        before = header["request"]
        changed = [key for key in {**before, **self._request} if before.get(key) != self._request.get(key)]
        raise MmfuseError(
            f"{self.path.parent} holds a search with other {' and '.join(changed).replace('_', ' ')}; name another "
            "folder or file by --out, or remove it to search anew"
        )

    def _take(self, entry: Mapping[str, Any]) -> None:
        if "trial" in entry:
            self.trials.append(Trial.of(entry["trial"]))
        elif "begun" in entry:
            search, number = entry["begun"]
            self._begun[search, number] += 1
        else:
            search, number = entry["interrupted"]
            self._begun[search, number] -= 1
            self._seconds_before += entry["seconds"]

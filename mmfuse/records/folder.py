"""The results folder: which files it holds, how they are written, and how they are read again.

A results folder holds::

    mmfuse-results.json                     format of the folder
    manifests/<grid>.json                   the cells of a grid, as last planned
    records/<name>--<identity>.json         one record for each cell and identity; nothing finished is overwritten
    records/<name>--<identity>.csv.gz       per-clip predictions of that record
    checkpoints/<name>--<identity>/         trained weights, where the grid keeps them
    running/<config hash>.lock              held while a runner works on a cell, with its progress
    superseded/                             records that a rerun replaced
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path

from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell, Inputs, identity
from mmfuse.records.record import FORMAT, Record, stem_of
from mmfuse.records.until_decided import UntilDecided
from mmfuse.records.verification import Verified
from mmfuse.utils.files import parse_json, sha256_of_file, write_atomically


@dataclass(frozen=True)
class Damaged:
    """A file among the records that is none any more."""

    path: Path
    reason: str


@dataclass(frozen=True)
class PlannedCell:
    """A cell of a grid with what was known of its inputs when the grid was planned."""

    cell: Cell
    inputs: Inputs = field(default_factory=Inputs)


@dataclass
class Manifest:
    """The cells of a grid, in table order, with the command that ran it.

    Where draws are added until all is decided, the cells are those that are wanted so far.
    """

    grid: str
    cells: list[PlannedCell] = field(default_factory=list)
    command: str = ""
    until_decided: UntilDecided | None = None


MARK = "mmfuse-results.json"
"""The file that makes a folder a results folder."""


class ResultsFolder:
    """Reads and writes a results folder.

    Raises:
        MmfuseError: the folder is of another version, or something else than a results folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = path / "records"
        self.running = path / "running"
        self._mark = path / MARK
        self._records_read: dict[Path, tuple[object, Record]] = {}
        self._manifests_read: dict[Path, tuple[object, Manifest]] = {}
        self._names: dict[str, set[str]] | None = None
        self._check_format()

    def _check_format(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise MmfuseError(f"{self.path} is a file; --results names a folder")
        if not self._mark.exists():
            return
        try:
            found = parse_json(self._mark.read_bytes())["format"]
        except (ValueError, KeyError, TypeError, OSError):
            raise MmfuseError(f"{self._mark} cannot be read; restore it, or name another folder by --results") from None
        if found != FORMAT:
            raise MmfuseError(
                f"{self.path} holds results of format {found}, this version writes {FORMAT}; "
                "name another folder by --results, or install the version that wrote it"
            )

    @property
    def exists(self) -> bool:
        """Whether a runner ever wrote here."""
        return self._mark.exists()

    @classmethod
    def existing(cls, path: Path) -> ResultsFolder:
        """A folder that a runner wrote to.

        Raises:
            MmfuseError: it is none, or holds results of another version.
        """
        folder = cls(path)
        if not folder.exists:
            told = f"{path} holds no results" if path.exists() else f"there is no folder {path}"
            raise MmfuseError(f"{told}; run a grid first: mmfuse-bench --grid NAME --results {shlex.quote(str(path))}")
        return folder

    def prepare(self) -> None:
        """Make the folder ready for writing.

        Raises:
            MmfuseError: it cannot be written.
        """
        try:
            for folder in (self.records, self.running):
                folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._mark, json.dumps({"format": FORMAT}) + "\n")
        except OSError as error:
            reason = error.strerror or error
            raise MmfuseError(
                f"the results folder {self.path} cannot be written: {reason}; name one by --results"
            ) from None

    # Manifests

    def write_manifest(self, manifest: Manifest) -> None:
        """Keep which cells a grid has, so that tables can tell what is missing."""
        cells = [
            {"cell": planned.cell.model_dump(mode="json", exclude_defaults=True), "inputs": planned.inputs.model_dump()}
            for planned in manifest.cells
        ]
        content = {"format": FORMAT, "grid": manifest.grid, "command": manifest.command, "cells": cells}
        if manifest.until_decided is not None:
            content["until_decided"] = manifest.until_decided.to_json()
        path = self.path / "manifests" / f"{manifest.grid}.json"
        write_atomically(path, json.dumps(content, ensure_ascii=False) + "\n")

    def manifests(self) -> list[Manifest]:
        """The manifests of all grids that were run into this folder, by name.

        Raises:
            MmfuseError: a manifest that cannot be read.
        """
        found = []
        for path in sorted((self.path / "manifests").glob("*.json")):
            version, (known, manifest) = _versions([path]), self._manifests_read.get(path, (None, None))
            if manifest is None or known is None or known != version:
                manifest = _read_manifest(path)
                self._manifests_read[path] = (version, manifest)
            found.append(replace(manifest, cells=list(manifest.cells)))
        return found

    # Records

    def write(self, record: Record, files: dict[str, bytes] | None = None) -> Record:
        """Write a record, and before it the files that it names.

        Args:
            record: the record.
            files: content by kind: `predictions`, those of its other tests as `predictions/<file>`, and the files of a
                checkpoint as `checkpoint/<name>`.

        Raises:
            OSError: the disk is full or the folder cannot be written; no record appears then.
        """
        files = dict(files or {})
        if record.state == "failed" and self._is_done(record):
            self._keep_failure_of_done(record)
            return record
        self._set_aside(self.records / f"{record.stem}.json", replaced_by=record)
        if (predictions := files.pop("predictions", None)) is not None and record.predictions is not None:
            write_atomically(self.records / record.predictions.file, predictions)
        for name, content in files.items():
            kind, _, file = name.partition("/")
            place = self.records if kind == "predictions" else self.path / "checkpoints" / record.stem
            write_atomically(place / _inside(file), content)
        write_atomically(self.records / f"{record.stem}.json", record.to_json())
        if record.state == "done":
            self._set_failures_aside(record)
        self._names_of(record.cell).add(f"{record.stem}.json")
        return record

    def _is_done(self, record: Record) -> bool:
        path = self.records / f"{record.stem}.json"
        old = read_record(path) if path.exists() else None
        return isinstance(old, Record) and old.state == "done"

    def _keep_failure_of_done(self, record: Record) -> None:
        """A rerun that failed takes no finished number away; what went wrong is kept beside."""
        write_atomically(self._superseded(record.stem), record.to_json())

    def _superseded(self, stem: str) -> Path:
        """The next free name for a record that has no place among the current ones."""
        folder = self.path / "superseded"
        folder.mkdir(exist_ok=True)
        number = sum(1 for _ in folder.glob(f"{escape(stem)}.*.json"))
        return folder / f"{stem}.{number}.json"

    def _set_failures_aside(self, done: Record) -> None:
        """A cell that has its numbers has no open failure any more."""
        for name in sorted(self._names_of(done.cell) - {f"{done.stem}.json"}):
            path = self.records / name
            old = read_record(path)
            if isinstance(old, Record) and old.state == "failed" and old.config_hash == done.config_hash:
                self._set_aside(path, replaced_by=done)

    def _names_of(self, cell: Cell) -> set[str]:
        """The records under a cell's name that were there when this folder was first written, or written since.

        A folder of ten thousand cells is not listed after each of them. A failure that another runner has left in the
        meantime stays where it is; `status` goes by what is done.
        """
        if self._names is None:
            self._names = {}
            for name in os.listdir(self.records):
                if name.endswith(".json"):
                    self._names.setdefault(name.rpartition("--")[0], set()).add(name)
        return self._names.setdefault(cell.file_stem, set())

    def finished(self, cell: Cell, known: Inputs) -> Iterator[Record]:
        """Records of a cell that are done, as they are on the disk now and whoever wrote them.

        Args:
            cell: whose.
            known: its inputs. Where they are told in full, so is the record's name, and no folder is listed.
        """
        if None in (known.dataset, known.train_clips, known.test_clips, known.image_tower, known.text_tower):
            paths: Iterable[Path] = self.records.glob(f"{escape(cell.file_stem)}--*.json")
        else:
            paths = [self.records / f"{stem_of(cell, identity(cell.config_hash, known))}.json"]
        for path in paths:
            found = read_record(path)
            if isinstance(found, Record) and found.state == "done" and found.config_hash == cell.config_hash:
                yield found

    def _set_aside(self, path: Path, *, replaced_by: Record) -> None:
        """Move a record that is about to be replaced out of the way; an equal number is simply written again."""
        if not path.exists():
            return
        old = read_record(path)
        if isinstance(old, Record) and _numbers(old) == _numbers(replaced_by):
            return
        path.rename(self._superseded(path.stem))

    def discard_damaged(self, damaged: Iterable[Damaged]) -> None:
        """Put files that are no records any more among the superseded ones."""
        for item in damaged:
            if item.path.exists():
                item.path.rename(self._superseded(item.path.stem))

    def read(self) -> tuple[list[Record], list[Damaged]]:
        """All records, and the files among them that are none any more.

        Finished records are compared with their predictions: see `mmfuse.records.verification`.
        """
        records, damaged = [], []
        verified = Verified(self.records)
        for path in sorted(self.records.glob("*.json")):
            found = self._unchanged(path) or self._read(path, verified)
            if isinstance(found, Record):
                records.append(found)
            else:
                damaged.append(found)
        verified.keep()
        return records, damaged

    def _unchanged(self, path: Path) -> Record | None:
        """A record that was read before, if neither it nor its predictions have changed since."""
        version, record = self._records_read.get(path, (None, None))
        return record if record is not None and version == _versions([path, *self._predictions(record)]) else None

    def _read(self, path: Path, verified: Verified) -> Record | Damaged:
        found = read_record(path)
        if isinstance(found, Damaged):
            return found
        if found.state == "done" and (fault := verified.contradiction(found)):
            return Damaged(path, f"edited, or separated from its predictions: {fault}")
        if (version := _versions([path, *self._predictions(found)])) is not None:
            self._records_read[path] = (version, found)
        return found

    def _predictions(self, record: Record) -> list[Path]:
        """The files of predictions that a record names."""
        told = [record.predictions, *(test.predictions for test in (record.evaluations or {}).values())]
        return [self.records / Path(one.file).name for one in told if one is not None]

    def predictions_of(self, record: Record) -> Path:
        """The file of a record's per-clip predictions, checked.

        Raises:
            MmfuseError: there is none, or it is not the one that was written.
        """
        if record.predictions is None:
            raise MmfuseError(f"{record.name} has no predictions")
        path = self.records / Path(record.predictions.file).name
        try:
            sound = sha256_of_file(path) == record.predictions.sha256
        except (OSError, ValueError):  # not there, a folder, or no name of a file at all
            sound = False
        if not sound:
            raise MmfuseError(
                f"the predictions {str(path)[:300]} are missing or damaged; rerun the cell: {record.command}"
            )
        return path


def _versions(paths: Iterable[Path]) -> object:
    """What changes when one of these files does; `None` where one is not there."""
    try:
        return [(one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in map(os.stat, paths)]
    except (OSError, ValueError):
        return None


def _numbers(record: Record) -> tuple[object, ...]:
    """What of a record must never be lost without a trace."""
    return record.state, record.metrics, {name: test.metrics for name, test in (record.evaluations or {}).items()}


def _inside(name: str) -> Path:
    """A file's name that cannot lead out of the folder it is meant for."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise MmfuseError(f"a checkpoint's file cannot be called {name!r}")
    return path


def read_record(path: Path) -> Record | Damaged:
    """A record's file, or why it is none any more."""
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except MmfuseError as error:
        return Damaged(path, str(error))
    except (OSError, UnicodeDecodeError) as error:
        return Damaged(path, f"cannot be read: {error}")


def _read_manifest(path: Path) -> Manifest:
    try:
        content = parse_json(path.read_bytes())
        if content["format"] != FORMAT:
            raise MmfuseError(f"{path} is of format {content['format']}, this version reads {FORMAT}")
        cells = [
            PlannedCell(Cell.model_validate(item["cell"]), Inputs.model_validate(item["inputs"]))
            for item in content["cells"]
        ]
        rule = content.get("until_decided")
        until_decided = None if rule is None else UntilDecided.model_validate(rule)
        return Manifest(str(content["grid"]), cells, str(content.get("command", "")), until_decided)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MmfuseError(
            f"the manifest {path} is damaged ({type(error).__name__}); remove it, and run its grid once more, which "
            "writes it again and repeats no finished cell"
        ) from None

"""Putting a checkpoint on the Hugging Face hub: which of its files, in what form, and in one commit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants, get_token

from mmfuse.bench.model_card import CARD, checkpoint_files, model_card
from mmfuse.errors import MmfuseError
from mmfuse.model.description import DESCRIPTION, SIDES, WEIGHTS, read_description, refuse_damaged
from mmfuse.records.record import Record
from mmfuse.utils.files import user_path
from mmfuse.utils.hub import LOG_IN, hub_errors, repository_id, why_unreachable
from mmfuse.utils.portable import last_part, portable_command, without_paths
from mmfuse.version import __version__

RECORD, PREDICTIONS = "record.json", "predictions.csv.gz"


@dataclass(frozen=True)
class Upload:
    """What would be written, and what the one who writes it should know.

    Args:
        files: contents by name in the repository; a path where a file goes as it is.
        card: the model card among them.
        warnings: one line each.
    """

    files: Mapping[str, bytes | Path]
    card: str
    warnings: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by name."""
        return {
            name: content.stat().st_size if isinstance(content, Path) else len(content)
            for name, content in self.files.items()
        }


@dataclass(frozen=True)
class Pushed:
    """What was written: the address of the repository or of the pull request, and the commit."""

    address: str
    commit: str


def prepare_upload(folder: Path, *, records: bool = False, licence: str | None = None) -> Upload:
    """Choose a checkpoint's files, without a request.

    Args:
        folder: what `mmfuse train` left, or a cell that keeps its checkpoint.
        records: the record and the per-clip predictions too, without the places and the name of this machine.
        licence: identifier of the licence of the trained weights, for the card.

    Raises:
        MmfuseError: the folder holds no checkpoint, a damaged one, or no record where it is asked for.
    """
    folder = user_path(folder)
    description = read_description(folder)
    if not (folder / WEIGHTS).is_file():
        raise MmfuseError(f"{folder} has no {WEIGHTS}: its training did not come to its end; train it again")
    refuse_damaged(folder)
    record, predictions = _record_of(folder)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = checkpoint_files(sorted({*present, CARD}))
    card = _card(folder, description, record, present, licence)
    files: dict[str, bytes | Path] = {name: folder / name for name in names}
    files[CARD] = card.encode()
    files[DESCRIPTION] = _portable_description(description, folder)
    if records:
        if record is None or predictions is None:
            raise MmfuseError(f"{folder} has no record of its training with its predictions; leave --records out")
        files[RECORD] = _portable_record(record).encode()
        files[PREDICTIONS] = predictions
    return Upload(files, card, tuple(_warnings(description, record, records=records)))


def push(
    upload: Upload,
    repository: str,
    *,
    private: bool = False,
    branch: str | None = None,
    message: str | None = None,
    create_pr: bool = False,
) -> Pushed:
    """Write an upload to the hub, in one commit; the repository is made where there is none.

    Args:
        upload: what to write.
        repository: owner/name.
        private: make a new repository private; one that exists stays as it is.
        branch: where to write, made where there is none; by default the main one.
        message: of the commit.
        create_pr: open a pull request in place of writing; the repository must exist then.

    Raises:
        MmfuseError: no token, the hub cannot be reached or refuses; no file is there then.
    """
    repository_id(repository)
    if get_token() is None:
        raise MmfuseError(f"there is no token of the hub on this machine: {LOG_IN}")
    if (reason := why_unreachable()) is not None:
        raise MmfuseError(f"the hub cannot be reached ({reason}); nothing was pushed: try again later")
    api = HfApi(endpoint=constants.ENDPOINT, library_name="mmfuse", library_version=__version__)
    operations = [
        CommitOperationAdd(name, str(content) if isinstance(content, Path) else content)
        for name, content in upload.files.items()
    ]
    with hub_errors(repository, revision=branch, doing="written"):
        if not create_pr:
            api.create_repo(repository, private=private or None, exist_ok=True)
            if branch is not None:
                api.create_branch(repository, branch=branch, exist_ok=True)
        done = api.create_commit(
            repository,
            operations,
            commit_message=message or "Upload a model of mmfuse",
            revision=branch,
            create_pr=create_pr,
        )
        listed = set(api.list_repo_files(repository, revision=done.oid))
    # A .gitignore in the repository leaves files out, of which the hub's client says nothing.
    if lacking := [name for name in upload.files if name not in listed]:
        raise MmfuseError(
            f"{repository} did not take {', '.join(lacking)}: its .gitignore names them; change it, and push again"
        )
    return Pushed(done.pr_url or f"{constants.ENDPOINT}/{repository}", done.oid)


def _record_of(folder: Path) -> tuple[Record | None, Path | None]:
    """The record of a checkpoint's training and its predictions: beside it, or in the results folder of its grid."""
    results = folder.absolute().parent.parent / "records"
    places = [(folder / RECORD, folder / PREDICTIONS)]
    places += [(results / f"{folder.name}.json", results / f"{folder.name}.csv.gz")]
    for path, predictions in places:
        if path.is_file():
            try:
                record = Record.from_json(path.read_text(encoding="utf-8"))
            except (MmfuseError, OSError, UnicodeDecodeError) as error:
                raise MmfuseError(f"{path} cannot be told of in the card: {error}; train it again") from None
            return record, predictions if predictions.is_file() else None
    return None, None


def _card(
    folder: Path, description: Mapping[str, Any], record: Record | None, files: set[str], licence: str | None
) -> str:
    """The card: the one that lies there, with the licence, or a new one."""
    made = model_card(description, record, files=files)
    kept = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else made
    if licence is None:
        return kept
    if kept == made:
        return model_card(description, record, files=files, licence=licence)
    try:
        card = ModelCard(kept)
    except ValueError as error:
        raise MmfuseError(f"{folder / CARD} begins with no block of metadata that can be read: {error}") from None
    card.data["license"] = licence
    return str(card)


def _portable_description(description: Mapping[str, Any], folder: Path) -> bytes:
    """The description without paths: a tower that is a local folder goes by the folder's name."""
    local = _local_towers(description)
    if not local:
        return (folder / DESCRIPTION).read_bytes()
    told = json.loads((folder / DESCRIPTION).read_bytes())
    for side in local:
        told["towers"][side]["name"] = last_part(told["towers"][side]["name"])
    return (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode()


def _local_towers(description: Mapping[str, Any]) -> list[str]:
    return [side for side in SIDES if PurePath(description["towers"][side]["name"]).is_absolute()]


def _portable_record(record: Record) -> str:
    """A record without the paths and the name of the machine that made it; its numbers and hashes stay."""
    cell = record.cell
    places = {key: f"/{last_part(value)}" for key in ("root", "train", "test") if (value := getattr(cell.dataset, key))}
    towers = {
        side: f"/{last_part(name)}" for side in SIDES if PurePath(name := getattr(cell.encoders, side)).is_absolute()
    }
    lists = cell.dataset.train_lists
    if lists:
        places["train_lists"] = {shots: f"/{last_part(path)}" for shots, path in lists.items()}  # type: ignore[assignment]
    portable = cell.model_copy(
        update={
            "dataset": cell.dataset.model_copy(update=places),
            "encoders": cell.encoders.model_copy(update=towers),
            "test_on": tuple(
                target.model_copy(
                    update={k: f"/{last_part(v)}" for k in ("root", "train", "test") if (v := getattr(target, k))}
                )
                for target in cell.test_on
            ),
        }
    )
    return record.model_copy(
        update={
            "cell": portable,
            "command": portable_command(record.command),
            "provenance": record.provenance.model_copy(update={"host": None}),
            "predictions": record.predictions and record.predictions.model_copy(update={"file": PREDICTIONS}),
            "notes": tuple(without_paths(note) for note in record.notes),
        }
    ).to_json()


def _warnings(description: Mapping[str, Any], record: Record | None, *, records: bool) -> list[str]:
    found = []
    for side in _local_towers(description):
        name = last_part(description["towers"][side]["name"])
        found.append(
            f"the {side} tower is a folder of this machine, {name!r}: who loads the model has to bring it, by "
            f"--{side}-encoder or from_checkpoint(..., {side}_encoder=FOLDER)"
        )
    if record is None:
        found.append("there is no record of the training, so the card tells of no result")
    elif record.cell.dataset.own:
        what = "their names of classes, and the names of the test clips," if records else "their names of classes"
        found.append(f"the model was trained on clips of your own: {what} are published with it")
    return found

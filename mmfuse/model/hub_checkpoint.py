"""Checkpoints by name: a folder of this machine, or a model of the Hugging Face hub.

Of a repository only the description and the trained weights are fetched, into the hub's own cache. They are JSON and
safetensors: nothing is unpickled, whatever else lies there.
"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache

from mmfuse.errors import MmfuseError
from mmfuse.model.description import DESCRIPTION, WEIGHTS, refuse_damaged
from mmfuse.utils.files import user_path
from mmfuse.utils.hub import hub_errors, repository_id, why_unreachable
from mmfuse.utils.portable import is_hub_id

FILES = (DESCRIPTION, WEIGHTS)
COMMIT = re.compile(r"[0-9a-f]{40}")


def find_checkpoint(name: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a checkpoint; that of a hub model is fetched first, where it is not in the cache.

    Args:
        name: a folder, or owner/name of a repository. A folder that exists is what is meant.
        revision: branch, tag or commit of a repository.

    Raises:
        MmfuseError: there is no such repository, it is private or gated, it holds no model of mmfuse, the hub cannot
            be reached, or a revision is asked for of a folder.
    """
    folder = user_path(name)
    if folder.exists() or isinstance(name, Path) or not is_hub_id(name):
        if revision is not None:
            raise MmfuseError(f"a revision belongs to a model of the hub, and {name} is a folder; leave it out")
        return folder
    return _fetch(repository_id(name), revision)


def _fetch(name: str, revision: str | None) -> Path:
    """A repository's checkpoint. A branch or tag may have moved, so the hub is asked where it can be."""
    kept = _in_cache(name, revision)
    if kept is not None and not _sound(kept):
        kept = None  # such as after a full disk; it is fetched anew
    if kept is not None and revision is not None and COMMIT.fullmatch(revision):
        return kept
    reason = why_unreachable()
    if reason is not None:
        if kept is not None:
            return kept
        raise MmfuseError(
            f"there is no folder {name}, and as a model of the hub it is not in the cache and the hub cannot be "
            f"reached ({reason}); check the name, or run `hf download {name}` where the hub can be reached"
        )
    endpoint = constants.ENDPOINT
    with hub_errors(name, revision=revision):
        listed = HfApi(endpoint=endpoint).list_repo_files(name, revision=revision)
        lacking = [file for file in FILES if file not in listed]
        if lacking:
            raise MmfuseError(
                f"{name} is no model of mmfuse: it has no {lacking[0]}; name one that `mmfuse push` wrote"
            )
        for force in (False, True):
            found = Path(
                snapshot_download(
                    name, revision=revision, allow_patterns=list(FILES), endpoint=endpoint, force_download=force
                )
            )
            if _sound(found):
                break
    return found


def _sound(folder: Path) -> bool:
    """Whether the weights are those that the description was written for."""
    try:
        refuse_damaged(folder)
    except (MmfuseError, OSError):
        return False
    return True


def _in_cache(name: str, revision: str | None) -> Path | None:
    """The snapshot in the hub's cache, where it has all that is needed."""
    found = [try_to_load_from_cache(name, file, revision=revision) for file in FILES]
    return Path(found[0]).parent if all(isinstance(path, str) for path in found) else None  # type: ignore[arg-type]

"""Finding the folder that a tower is read from: embedded, local, in the hub's cache, or downloaded from the hub.

Whatever the name, reading starts from a folder in hub layout, so that the network is asked once, and only for a hub id
that is not in the cache yet.
"""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session

from mmfuse.errors import MmfuseError, one_line
from mmfuse.utils.files import parse_json
from mmfuse.utils.resources import assets_folder

EMBEDDED = {"tiny-dinov2": "image", "tiny-clip-text": "text"}
SAFE, OLD = ("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))
CONFIGURATIONS = ("config.json", "preprocessor_config.json", "processor_config.json")
VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "spiece.model")
VOCABULARY_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
REACHED_WITHIN = 10  # seconds for the hub's first answer


def find_folder(name: str, kind: str) -> Path:
    """The folder in hub layout that a tower's name stands for; complete, as far as names of files tell.

    Args:
        name: an embedded tower, a local folder, or a hub id.
        kind: "image" or "text".

    Raises:
        MmfuseError: there is none, a file is missing in it, or it is on the hub and that cannot be reached.
    """
    if name in EMBEDDED:
        if EMBEDDED[name] != kind:
            wanted = "an image tower" if kind == "image" else "a text tower"
            raise MmfuseError(f"{name!r} is the embedded {EMBEDDED[name]} tower; {wanted} is wanted")
        return _complete(assets_folder() / name, name, kind)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _complete(folder, name, kind)
    if folder.exists():
        raise MmfuseError(f"{kind} tower {name!r} is a file; give the folder in hub layout that holds it")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise MmfuseError(
            f"{kind} tower {name!r} is neither embedded ({', '.join(EMBEDDED)}), nor a folder that exists, nor a hub "
            "id of the form owner/name"
        )
    return _complete(_in_cache(name, kind) or _download(name, kind), name, kind)


def weight_files(folder: Path) -> list[str]:
    """Names of the files with weights, those of one format; empty where there are none."""
    for single, index in (SAFE, OLD):
        if (folder / single).is_file():
            return [single]
        if (folder / index).is_file():
            return _parts(folder / index)
    return []


def _parts(index: Path) -> list[str]:
    """The files that an index names, which lie beside it."""
    try:
        parts = sorted({str(part) for part in parse_json(index.read_bytes())["weight_map"].values()})
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise MmfuseError(f"{index} cannot be read: {one_line(error)}; fetch the tower again") from error
    for part in parts:
        if Path(part).name != part or part == "..":
            raise MmfuseError(f"{index} names {part!r:.80}, which leads out of its folder; do not use this tower")
    return parts


def _complete(folder: Path, name: str, kind: str) -> Path:
    """The folder, if it has what a tower needs."""
    if not (folder / "config.json").is_file():
        raise MmfuseError(f"{kind} tower {name!r}: {folder} has no config.json; bring the folder in hub layout")
    weights = weight_files(folder)
    if not weights:
        raise MmfuseError(f"{kind} tower {name!r}: {folder} has no weights, neither {SAFE[0]} nor {OLD[0]}")
    missing = [file for file in weights if not (folder / file).is_file()]
    if missing:
        raise MmfuseError(f"{kind} tower {name!r}: {folder} lacks {', '.join(missing)}, which its index names")
    if kind == "text" and not _has_tokenizer(folder):
        raise MmfuseError(
            f"text tower {name!r}: {folder} has no tokenizer, neither tokenizer.json nor vocab.json with merges.txt"
        )
    return folder


def _has_tokenizer(folder: Path) -> bool:
    return any(all((folder / file).is_file() for file in files) for files in TOKENIZERS)


def _in_cache(name: str, kind: str) -> Path | None:
    """The snapshot in the hub's cache, if it has all that is needed: it is used without asking the network."""
    config = huggingface_hub.try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    try:
        return _complete(Path(config).parent, name, kind)
    except MmfuseError:
        return None


def _download(name: str, kind: str) -> Path:
    """Fetch what a tower needs, and nothing else of the repository."""
    _ask_hub(name, kind)
    try:
        files = huggingface_hub.list_repo_files(name)
        chosen = [file for file in files if file in (*CONFIGURATIONS, *VOCABULARIES, *VOCABULARY_SETTINGS)]
        for single, index in (SAFE, OLD):
            if single in files or index in files:
                stem, ending = single.rsplit(".", 1)
                chosen += [file for file in files if file.startswith(stem) and file.endswith((f".{ending}", index))]
                break
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=chosen))
    except (HfHubHTTPError, OSError, ValueError) as error:
        refused = getattr(getattr(error, "response", None), "status_code", None)
        if refused in {401, 403, 404}:
            raise MmfuseError(
                f"{kind} tower {name!r}: the hub has no such repository, or it asks for a log-in and an agreement to "
                "its terms (`hf auth login`)"
            ) from error
        raise _unreachable(name, kind, error) from error


def _ask_hub(name: str, kind: str) -> None:
    """One request with a time limit: the library itself would try again for half a minute or more."""
    if constants.HF_HUB_OFFLINE:
        raise _unreachable(name, kind, "HF_HUB_OFFLINE is set")
    try:
        get_session().head(constants.ENDPOINT, timeout=REACHED_WITHIN)
    except Exception as error:  # the kind depends on which HTTP library the hub's client is built on
        raise _unreachable(name, kind, error) from error


def _unreachable(name: str, kind: str, reason: object) -> MmfuseError:
    return MmfuseError(
        f"{kind} tower {name!r} is not in the hub's cache and the hub cannot be reached ({one_line(reason)}); on a "
        f"machine that can, run `hf download {name} --local-dir FOLDER`, and give the path of that folder instead"
    )

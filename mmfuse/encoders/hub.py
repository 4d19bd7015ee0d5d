"""Finding the folder that a tower is read from: embedded, local, in the hub's cache, or downloaded from the hub.

Whatever the name, reading starts from a folder in hub layout, so that the network is asked once, and only for a hub id
that is not in the cache yet. `check_available` tells in milliseconds, and without torch, whether a tower could be
loaded; `find_folder` and the loader make the same checks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from mmfuse.encoders import unsupported
from mmfuse.encoders.pooling import FILES as POOLING
from mmfuse.encoders.pooling import read_pooling
from mmfuse.encoders.supported import CHECKPOINTS, TEXT_CHECKPOINTS
from mmfuse.errors import MmfuseError, one_line
from mmfuse.utils.files import parse_json, user_path
from mmfuse.utils.hub import why_unreachable
from mmfuse.utils.resources import assets_folder

EMBEDDED = {"tiny-dinov2": "image", "tiny-clip-text": "text"}
SAFE, OLD = ("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",), ("spiece.model",))
CONFIGURATIONS = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")
VOCABULARY_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", *POOLING)
NO_TOKENIZER = "has no tokenizer, neither tokenizer.json nor vocab.json with merges.txt"
SMALL = 2**24
"""Weights that a configuration may always ask for: a model of so many is built in seconds, and what it lacks named."""


def check_available(name: str, kind: str) -> None:
    """Refuse a tower that could not be loaded: before a run, not when its first cell comes to it.

    No weights are read and none are fetched. A hub id that is not in the cache costs three short requests.

    Args:
        name: an embedded tower, a local folder, or a hub id.
        kind: "image" or "text".

    Raises:
        MmfuseError: one line that says what is missing, or what the folder is instead, and what to do.
    """
    folder = _on_this_machine(name, kind)
    if folder is None:
        _check_on_hub(name, kind)
    else:
        check_config(folder, name, kind)


def check_config(folder: Path, name: str, kind: str) -> None:
    """Refuse a complete folder by its config.json: one of another architecture, or of a model beyond its weights.

    Raises:
        MmfuseError: saying what the checkpoint is, and which are supported.
    """
    config = read_config(folder, name, kind)
    _refuse_unsupported(config, name, kind)
    if kind == "text" and TEXT_CHECKPOINTS[str(config["model_type"])].sees == "text":
        read_pooling(folder, name)
    size = sum((folder / file).stat().st_size for file in weight_files(folder))
    if (described := _fewest_weights(config, kind)) > max(size, SMALL):
        raise MmfuseError(
            f"{kind} tower {name!r} cannot be loaded: its config.json describes at least {described:.3g} weights, and "
            f"its files have {size:,} bytes; fetch it again"
        )


def read_config(folder: Path, name: str, kind: str) -> Mapping[str, Any]:
    """The content of a tower's config.json.

    Raises:
        MmfuseError: it cannot be read, or holds no keys.
    """
    try:
        config = parse_json((folder / "config.json").read_bytes())
        if not isinstance(config, dict):
            raise ValueError("it holds no keys")
    except (OSError, ValueError) as error:
        raise MmfuseError(f"{kind} tower {name!r}: config.json cannot be read: {one_line(error)}") from error
    return config


def _refuse_unsupported(config: Mapping[str, Any], name: str, kind: str) -> None:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CHECKPOINTS[kind]:
        raise MmfuseError(f"{kind} tower {name!r} {unsupported.of_config(config, kind)}{unsupported.nearest(name)}")


def _fewest_weights(config: Mapping[str, Any], kind: str) -> float:
    """A lower bound of the weights that a configuration describes; a configuration may leave sizes out."""
    nested = config.get("vision_config" if kind == "image" else "text_config")
    sizes = {**config, **nested} if isinstance(nested, dict) else config

    def of(key: str) -> float:
        value = sizes.get(key, 0)
        return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0

    width, patch = of("hidden_size"), of("patch_size")
    hidden = of("intermediate_size") or of("mlp_ratio") * width
    layers = of("num_hidden_layers") * (4 * width + 2 * hidden)  # attention's four maps and the MLP's two, by column
    rows = of("vocab_size") + of("max_position_embeddings") if kind == "text" else of("num_register_tokens")
    patches = 3 * patch**2 + (of("image_size") / patch) ** 2 if patch else 0
    return width * (layers + rows + patches)


def find_folder(name: str, kind: str) -> Path:
    """The folder in hub layout that a tower's name stands for; complete, as far as names of files tell.

    Args:
        name: an embedded tower, a local folder, or a hub id.
        kind: "image" or "text".

    Raises:
        MmfuseError: there is none, a file is missing in it, or it is on the hub and that cannot be reached.
    """
    return _on_this_machine(name, kind) or _complete(_download(name, kind), name, kind)


def _on_this_machine(name: str, kind: str) -> Path | None:
    """The complete folder of a tower; None for a hub id that is not in the cache.

    Raises:
        MmfuseError: the name leads nowhere, or the folder lacks a file.
    """
    if name in EMBEDDED:
        if EMBEDDED[name] != kind:
            wanted = "an image tower" if kind == "image" else "a text tower"
            raise MmfuseError(f"{name!r} is the embedded {EMBEDDED[name]} tower; {wanted} is wanted")
        return _complete(assets_folder() / name, name, kind)
    folder = user_path(name)
    if folder.is_dir():
        return _complete(folder, name, kind)
    if folder.exists():
        raise MmfuseError(f"{kind} tower {name!r} is a file; give the folder in hub layout that holds it")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise MmfuseError(
            f"{kind} tower {name!r} is neither embedded ({', '.join(EMBEDDED)}), nor a folder that exists, nor a hub "
            "id of the form owner/name"
        )
    return _in_cache(name, kind)


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
        raise MmfuseError(f"{kind} tower {name!r}: {folder} {unsupported.without_config(_listing(folder))}")
    weights = weight_files(folder)
    if not weights:
        raise MmfuseError(f"{kind} tower {name!r}: {folder} {unsupported.without_weights(_listing(folder))}")
    missing = [file for file in weights if not (folder / file).is_file()]
    if missing:
        raise MmfuseError(f"{kind} tower {name!r}: {folder} lacks {', '.join(missing)}, which its index names")
    if kind == "text" and not _has_tokenizer({path.name for path in folder.iterdir()}):
        raise MmfuseError(f"text tower {name!r}: {folder} {NO_TOKENIZER}")
    return folder


def _listing(folder: Path) -> list[str]:
    """Names of a folder's files and of those in its folders."""
    return [str(path.relative_to(folder)) for pattern in ("*", "*/*") for path in folder.glob(pattern)]


def _has_tokenizer(files: Collection[str]) -> bool:
    return any(all(file in files for file in needed) for needed in TOKENIZERS)


def _in_cache(name: str, kind: str) -> Path | None:
    """The snapshot in the hub's cache, if it has all that is needed: it is used without asking the network."""
    config = huggingface_hub.try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    try:
        return _complete(Path(config).parent, name, kind)
    except MmfuseError:
        return None


def _check_on_hub(name: str, kind: str) -> list[str]:
    """The files that a tower needs of its repository on the hub, of which only config.json is fetched for this.

    Raises:
        MmfuseError: no tower could be loaded from there, or the hub cannot be reached.
    """
    if (one := unsupported.by_name(name)) is not None:
        raise MmfuseError(
            f"{kind} tower {name!r}: {one.title} is not supported ({one.why}); the nearest that is: {one.nearest}"
        )
    _ask_hub(name, kind)
    with _hub_errors(name, kind):
        files = huggingface_hub.list_repo_files(name)
        if "config.json" not in files:
            raise MmfuseError(f"{kind} tower {name!r} {unsupported.without_config(files)}")
        folder = Path(huggingface_hub.hf_hub_download(name, "config.json")).parent
    _refuse_unsupported(read_config(folder, name, kind), name, kind)
    wanted = _wanted_files(files)
    if not any(file.endswith((".safetensors", ".bin")) for file in wanted):
        raise MmfuseError(f"{kind} tower {name!r} {unsupported.without_weights(files)}")
    if kind == "text" and not _has_tokenizer(files):
        raise MmfuseError(f"text tower {name!r} {NO_TOKENIZER}")
    return wanted


def _download(name: str, kind: str) -> Path:
    """Fetch what a tower needs, and nothing else of the repository."""
    wanted = _check_on_hub(name, kind)
    with _hub_errors(name, kind):
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))


def _wanted_files(files: Collection[str]) -> list[str]:
    """What a tower needs of the files of a repository: weights in one format, settings, and the tokenizer."""
    chosen = [file for file in files if file in (*CONFIGURATIONS, *VOCABULARIES, *VOCABULARY_SETTINGS)]
    for single, index in (SAFE, OLD):
        if single in files or index in files:
            stem, ending = single.rsplit(".", 1)
            return chosen + [file for file in files if file.startswith(stem) and file.endswith((f".{ending}", index))]
    return chosen


@contextmanager
def _hub_errors(name: str, kind: str) -> Iterator[None]:
    """Say in one line why a request to the hub fails."""
    try:
        yield
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
    if (reason := why_unreachable()) is not None:
        raise _unreachable(name, kind, reason)


def _unreachable(name: str, kind: str, reason: object) -> MmfuseError:
    return MmfuseError(
        f"{kind} tower {name!r} is not in the hub's cache and the hub cannot be reached ({one_line(reason)}); on a "
        f"machine that can, run `hf download {name} --local-dir FOLDER`, and give the path of that folder instead"
    )


def no_summary(name: str, feature: str) -> str:
    """Why a frame feature cannot be made of a tower's output, and what to do."""
    return (
        f"{name!r} has neither a CLS token nor a pooling head, which the feature {feature!r} is made of; "
        "set feature to patch, the mean of the patches"
    )


def apart(image: str, text: str) -> str:
    """Why frames and texts of two checkpoints cannot be compared without training, and what to do."""
    return (
        f"{image!r} and {text!r} were not trained together, so without training nothing ties frames to class names; "
        "name one vision-language checkpoint for both towers, such as openai/clip-vit-base-patch16"
    )

"""Digests of what a cell reads, found without torch: the data set's card or lists, its videos, the towers' files.

They are of content, so that a copy on another machine counts as the same. Nothing is remembered by name alone: what is
kept from one call to the next is kept by the size of a file and the time of its last change.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mmfuse.data.catalogue.cards import load_card
from mmfuse.data.catalogue.custom import CLASSES_FILE, lists_in
from mmfuse.encoders.pooling import FILES as POOLING
from mmfuse.encoders.preprocessing import FILES as PREPROCESSING
from mmfuse.encoders.preprocessing import Preprocessing, read_preprocessing
from mmfuse.encoders.supported import reading_revision
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell, Inputs, Source
from mmfuse.utils.content import Report, digests_of, file_version
from mmfuse.utils.files import sha256_of_file, sha256_of_json, user_path
from mmfuse.utils.resources import assets_folder, cards_folder
from mmfuse.utils.yaml12 import parse_yaml

if TYPE_CHECKING:
    from mmfuse.data.catalogue.load import Catalogue

# The files that decide what a tower does. Weights: safetensors where there are any, else the older format.
WEIGHTS = ("*.safetensors", "*.bin")
SETTINGS = {
    "image": ("config.json", *PREPROCESSING),
    "text": (
        "config.json",
        *("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model"),
        *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
        *POOLING,
    ),
}


def known_inputs(cell: Cell, *, report: Report | None = None) -> Inputs:
    """What can be told of a cell's inputs before it runs, and without data of a known data set.

    Towers and lists that are not on this machine stay unknown, as do the videos of a data set with a card, whose place
    only a run knows (`videos_digest`).

    Args:
        cell: the cell.
        report: told how many videos are read, where they are the user's own and were not read before.
    """
    return Inputs(
        dataset=dataset_digest(cell.dataset),
        videos=own_videos_digest(cell.dataset, report=report),
        image_tower=tower_digest(cell.encoders.image, "image"),
        text_tower=tower_digest(cell.encoders.text, "text"),
    )


def dataset_digest(dataset: Source) -> str | None:
    """Digest of a data set's card, whatever its comments; of the lists, or of the names, where it is the user's own."""
    if not dataset.own:
        return _card_digest(*_versioned(cards_folder() / f"{dataset.name}.yaml"))
    classes = _path_below(dataset.root, CLASSES_FILE)  # the words of the prompts and the order of the labels
    named = [_file_digest(*_versioned(classes))] if dataset.root and not dataset.classes and classes.is_file() else []
    found = [name for name in (dataset.train, dataset.test) if name is not None]
    if not found and dataset.root:
        found = list(lists_in(user_path(dataset.root)).values())  # which readers prefer to folders
    if not found:
        names = _names_digest(Path(dataset.root or "."))
        return sha256_of_json([names, *named]) if names and named else names
    lists = [_path_below(dataset.root, name) for name in found]
    if not all(path.is_file() for path in lists):
        return None
    return sha256_of_json([_file_digest(*_versioned(path)) for path in lists] + named)


def own_videos_digest(dataset: Source, *, report: Report | None = None) -> str | None:
    """Digest of the videos of a data set of the user's own; `None` for others, and where the lists are not in order."""
    if not dataset.own:
        return None
    from mmfuse.data.catalogue.load import load_catalogue  # pandas, which plans of known data sets do without

    try:
        return videos_digest(load_catalogue(dataset.request()), report=report)
    except MmfuseError:  # whoever needs the data says what is wrong with them
        return None


def videos_digest(catalogue: Catalogue, *, report: Report | None = None) -> str | None:
    """Digest of the content of every video of a data set's split, so that a replaced one is noticed.

    Args:
        catalogue: the clips with the places of their videos.
        report: told how many videos are read, where they were not read before.

    Returns:
        `None` where the data set generates its videos, or one of them is not there.
    """
    if catalogue.card.generated:
        return None
    paths = [Path(path) for path in catalogue.table["path"]]
    try:
        digests = digests_of(paths, report=report)
    except OSError:
        return None
    return sha256_of_json(sorted(zip(catalogue.table["clip"], digests, strict=True)))


def _path_below(root: str | None, name: str) -> Path:
    path = user_path(name)
    return path if root is None or path.is_absolute() else Path(root) / path


def _names_digest(root: Path) -> str | None:
    """Digest of the names of the clips in train/<class> and test/<class>."""
    names = sorted(str(path.relative_to(root)) for part in ("train", "test") for path in root.glob(f"{part}/*/*"))
    return sha256_of_json(names) if names else None


@lru_cache
def _card_digest(path: Path, _version: tuple[int, ...]) -> str:
    return sha256_of_json(parse_yaml(path.read_text(encoding="utf-8")))


def tower_digest(name: str, kind: str) -> str | None:
    """Digest of a tower's files: weights, settings, and for text the tokenizer.

    Args:
        name: embedded name, folder or hub id.
        kind: "image" or "text".

    Returns:
        `None` where the tower is not on this machine.
    """
    folder = tower_folder(name)
    if folder is None:
        return None
    weights = next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    if not weights:
        return None
    settings = [path for name in SETTINGS[kind] if (path := folder / name).is_file()]
    files = {str(path.relative_to(folder)): _content_digest(path) for path in [*weights, *settings]}
    revision = reading_revision(folder, kind)
    return sha256_of_json({**files, "revision": revision} if revision else files)


def tower_folder(name: str) -> Path | None:
    """The folder that holds a tower on this machine; `None` where there is none."""
    embedded = assets_folder() / name
    if "/" not in name and embedded.is_dir():
        return embedded
    if Path(name).is_absolute():
        return Path(name) if Path(name).is_dir() else None
    repository = _hub_cache() / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / "main"
    if not reference.is_file():
        return None
    snapshot = repository / "snapshots" / reference.read_text(encoding="utf-8").strip()
    return snapshot if snapshot.is_dir() else None


def frame_size(cell: Cell) -> int | None:
    """Side of the frames that a cell looks at: what it says itself, else its data set's card, else its image tower.

    Returns:
        `None` where the tower is asked and is not on this machine, or does not say.

    Raises:
        MmfuseError: the tower's files cannot be read.
    """
    card_size = None if cell.dataset.own else load_card(cell.dataset.name).size
    if (size := cell.clip.size or card_size) is not None:
        return size
    told = frames_read_by(cell.encoders.image)
    return None if told is None else told.size


def clip_frames(cell: Cell) -> int | None:
    """Frames a clip: what a cell says itself, else its tower where that reads whole clips.

    Returns:
        `None` where the data set's card says it, or the tower is asked and is not on this machine.

    Raises:
        MmfuseError: the tower's files cannot be read.
    """
    if cell.clip.frames is not None:
        return cell.clip.frames
    told = frames_read_by(cell.encoders.image)
    return None if told is None or told.clip is None else told.clip.frames


def frames_read_by(encoder: str) -> Preprocessing | None:
    """What an image or video tower was trained on; `None` where it is not on this machine.

    Raises:
        MmfuseError: its files cannot be read.
    """
    folder = tower_folder(encoder)
    if folder is None:
        return None
    files = (path for name in SETTINGS["image"] if (path := folder / name).is_file())
    return _preprocessing(folder, encoder, tuple(_versioned(path) for path in files))


@lru_cache
def _preprocessing(folder: Path, name: str, _files: tuple[tuple[Path, tuple[int, ...]], ...]) -> Preprocessing | None:
    return read_preprocessing(folder, name) if (folder / "config.json").is_file() else None


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it has fetched, by its documented environment variables."""
    if own := os.environ.get("HF_HUB_CACHE"):
        return user_path(own)
    if home := os.environ.get("HF_HOME"):
        return user_path(home) / "hub"
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "huggingface" / "hub"


def _content_digest(path: Path) -> str:
    """SHA-256 of a file; the hub's cache names large files by it, which saves reading them."""
    target = path.resolve()
    if target.parent.name == "blobs" and len(target.name) == 64:
        return target.name
    return _file_digest(*_versioned(target))


def _versioned(path: Path) -> tuple[Path, tuple[int, ...]]:
    """A file with what changes when its content does, so that one process reads it once."""
    return path, tuple(file_version(path))


@lru_cache(maxsize=4096)
def _file_digest(path: Path, _version: tuple[int, ...]) -> str:
    return sha256_of_file(path)

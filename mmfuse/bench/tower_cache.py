"""What stays in a worker's memory from one cell to the next: towers with their fingerprints."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from mmfuse.bench.digests import tower_digest
from mmfuse.encoders import ImageTower, TextTower, load_image_tower, load_text_tower
from mmfuse.records.cell import Encoders

T = TypeVar("T", ImageTower, TextTower)


@dataclass(frozen=True)
class LoadedTower(Generic[T]):
    """A tower as it was read from disk."""

    tower: T
    fingerprint: str
    """Of its weights: hashing them takes most of a second for a tower of 100 million, so it is done once."""

    def fresh(self) -> T:
        """A copy to put a method on: methods change a tower in place."""
        return copy.deepcopy(self.tower)


def image_tower(name: str) -> LoadedTower[ImageTower]:
    """The image tower of a name, read once a process, and again when its files have changed."""
    return _image_tower(name, _files(name, "image"))


def text_tower(name: str) -> LoadedTower[TextTower]:
    """The text tower of a name, read once a process, and again when its files have changed."""
    return _text_tower(name, _files(name, "text"))


def _files(name: str, kind: str) -> str | None:
    """Digest of a tower's files as they are now, those of a folder below the current one included."""
    folder = Path(name).expanduser()
    return tower_digest(str(folder.absolute()) if folder.is_dir() else name, kind)


# A grid has one tower of each kind but for its overrides; more than two would be memory for nothing.
@lru_cache(maxsize=2)
def _image_tower(name: str, _files: str | None) -> LoadedTower[ImageTower]:
    tower = load_image_tower(name)
    return LoadedTower(tower, tower.weights_fingerprint())


@lru_cache(maxsize=2)
def _text_tower(name: str, _files: str | None) -> LoadedTower[TextTower]:
    tower = load_text_tower(name)
    return LoadedTower(tower, tower.weights_fingerprint())


@dataclass(frozen=True)
class LoadedTowers:
    """The two towers of a cell."""

    image: LoadedTower[ImageTower]
    text: LoadedTower[TextTower]

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of both towers' pretrained weights."""
        return {"image": self.image.fingerprint, "text": self.text.fingerprint}


def load_towers(encoders: Encoders) -> LoadedTowers:
    """Both towers of a cell, read once a process, and again when their files have changed."""
    return LoadedTowers(image_tower(encoders.image), text_tower(encoders.text))

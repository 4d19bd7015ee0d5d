"""Published few-shot protocols: which list of clips is used at which K, and whether a file is that list.

Most lists come without a licence, so none is shipped. `data_splits/protocols/<name>.yaml` says which file of which
public repository each list is, with its SHA-256 and number of clips; the user brings the files.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmfuse.errors import MmfuseError, unknown
from mmfuse.utils.resources import cards_folder

DEPTH = 7
"""Folders below a place in which a list is looked for: a repository keeps its lists up to five folders down."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListFile(_Strict):
    """One published list: its path in the repository, its content's digest and its number of clips."""

    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    clips: Annotated[int, Field(gt=0)]

    @property
    def name(self) -> str:
        """The name of the file without its folders."""
        return self.file.rpartition("/")[2]


class BaseToNovel(_Strict):
    """Lists of the base-to-novel setting: K shots of the base classes, one list a seed, and the two test lists."""

    shots: int
    train: tuple[ListFile, ...]
    base: ListFile
    novel: ListFile

    @property
    def files(self) -> tuple[ListFile, ...]:
        """All lists of the setting."""
        return (*self.train, self.base, self.novel)


class Protocol(_Strict):
    """What is known of one published protocol.

    `few_shot`: data set -> K -> the lists of draws 0, 1, …; `split`: the official split that all lists belong to;
    `corrected`: data set -> what is wrong with what was published, and is put right here.
    """

    name: str
    title: str
    source: str
    repository: str
    commit: str
    licence: str
    split: int = 1
    notes: tuple[str, ...] = ()
    corrected: Mapping[str, str] = Field(default_factory=dict)
    few_shot: Mapping[str, Mapping[int, tuple[ListFile, ...]]] = Field(default_factory=dict)
    base_to_novel: Mapping[str, BaseToNovel] = Field(default_factory=dict)

    def files(self, dataset: str) -> list[ListFile]:
        """All lists of a data set, in the order of K and draw."""
        few_shot = [file for lists in self.few_shot.get(dataset, {}).values() for file in lists]
        return few_shot + list(self.base_to_novel[dataset].files if dataset in self.base_to_novel else ())

    def training_list(self, dataset: str, *, shots: object, draw: int, split: int = 1) -> ListFile:
        """The list that stands for a draw.

        Raises:
            MmfuseError: the protocol has no list for this data set, split, K or draw; what it has is named.
        """
        if dataset not in self.few_shot:
            raise MmfuseError(f"{self.title} has no few-shot lists of {dataset!r}; it has {', '.join(self.few_shot)}")
        if split != self.split:
            raise MmfuseError(f"{self.title} has lists of split {self.split} of {dataset} only; not split {split}")
        lists = self.few_shot[dataset]
        if shots not in lists:
            known = ", ".join(map(str, lists))
            raise MmfuseError(f"{self.title} has no list of {dataset} at K = {shots}; it has K = {known}")
        draws = lists[shots]  # type: ignore[index]
        if not 0 <= draw < len(draws):
            has = "draw 0 only" if len(draws) == 1 else f"draws 0 to {len(draws) - 1}"
            raise MmfuseError(f"{self.title} has {has} of {dataset} at K = {shots}; not draw {draw}")
        return draws[draw]

    def halves(self, dataset: str, *, split: int = 1) -> BaseToNovel:
        """The lists of the base-to-novel setting.

        Raises:
            MmfuseError: the protocol has none for this data set and split.
        """
        if dataset not in self.base_to_novel:
            known = ", ".join(self.base_to_novel) or "none"
            raise MmfuseError(f"{self.title} has no base-to-novel lists of {dataset!r}; it has those of {known}")
        if split != self.split:
            raise MmfuseError(f"{self.title} has lists of split {self.split} of {dataset} only; not split {split}")
        return self.base_to_novel[dataset]

    def base_list(self, dataset: str, *, shots: object, draw: int, split: int = 1) -> ListFile:
        """The list of base clips that stands for a draw.

        Raises:
            MmfuseError: the protocol has no list for this data set, split, K or draw; what it has is named.
        """
        lists = self.halves(dataset, split=split)
        if shots != lists.shots:
            told = f"{self.title} has base-to-novel lists of {dataset} at K = {lists.shots} only"
            raise MmfuseError(f"{told}; not at K = {shots}")
        if not 0 <= draw < len(lists.train):
            told = f"{self.title} has base-to-novel draws 0 to {len(lists.train) - 1} of {dataset}"
            raise MmfuseError(f"{told}; not draw {draw}")
        return lists.train[draw]


def protocol_names() -> list[str]:
    """The protocols that are known by name."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


@functools.cache
def load_protocol(name: str) -> Protocol:
    """Read what is known of a protocol.

    >>> load_protocol("vifi").training_list("hmdb51", shots=2, draw=0).clips
    102

    Raises:
        MmfuseError: there is no such protocol.
    """
    if name not in protocol_names():
        raise unknown("protocol", name, protocol_names())
    path = _folder() / f"{name}.yaml"
    return parse_protocol(yaml.safe_load(path.read_text(encoding="utf-8")), path)


def parse_protocol(content: Any, path: Path) -> Protocol:
    """A protocol from what its file says.

    Raises:
        MmfuseError: a key is unknown, missing or of another kind.
    """
    try:
        return Protocol.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise MmfuseError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def find_list(wanted: ListFile, places: Sequence[Path], *, protocol: Protocol) -> Path:
    """The file that is a published list, by its name and content.

    Many lists of one repository have the same file name, so that of several candidates the content decides. Line ends
    may differ, as in a checkout on Windows.

    Args:
        wanted: the list.
        places: folders that may hold the repository, or the lists alone.
        protocol: whose list it is, for messages.

    Raises:
        MmfuseError: no such file, or only files of that name with another content.
    """
    others = []
    for candidate in _candidates(wanted, places):
        if content_digest(candidate) == wanted.sha256:
            return candidate
        others.append(candidate)
    where = f"{wanted.file} of github.com/{protocol.repository}"
    # A file at the published place itself was meant to be the list; a namesake elsewhere may be another list.
    meant = next((path for path in others if path.as_posix().endswith(wanted.file)), None)
    if meant is not None:
        raise MmfuseError(
            f"{meant} is not the list that {protocol.title} published (another SHA-256); fetch {where} at commit "
            f"{protocol.commit[:12]} again"
        )
    looked = ", ".join(map(str, places)) or "no folder was given"
    raise MmfuseError(
        f"the list {wanted.name} of {protocol.title} was not found (looked below: {looked}); fetch {where} and name "
        "its folder with --annotations or MMFUSE_ANNOTATIONS"
    )


def content_digest(path: Path) -> str | None:
    """SHA-256 of a text file with its line ends as LF; `None` where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    except OSError:
        return None


def _candidates(wanted: ListFile, places: Sequence[Path]) -> Iterator[Path]:
    """Files of the list's name: at the published path first, then anywhere down to `DEPTH`."""
    seen = set()
    for place in places:
        for path in itertools.chain([place / wanted.file], _files_below(place, wanted.name)):
            if path not in seen and path.is_file():
                seen.add(path)
                yield path


def _files_below(place: Path, name: str) -> Iterator[Path]:
    """Files called `name` down to `DEPTH` folders below a place, nearest first in each branch."""
    for folder, folders, files in os.walk(place, followlinks=True):
        if name in files:
            yield Path(folder, name)
        deep = len(Path(folder).relative_to(place).parts) >= DEPTH
        folders[:] = [] if deep else sorted(inner for inner in folders if not inner.startswith("."))


def _folder() -> Path:
    return cards_folder() / "protocols"

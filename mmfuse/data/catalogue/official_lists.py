"""Readers of the official annotation files, one a data set; nothing but those files decides what a clip's label is.

A row's part is "train", "test", or "unused" where the lists name a clip without using it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from mmfuse.data.catalogue.cards import DataCard
from mmfuse.errors import MmfuseError
from mmfuse.utils.files import parse_json


class Row(NamedTuple):
    """One clip: the columns of a catalogue's table, in order."""

    clip: str
    label: int
    class_name: str
    group: str
    part: str
    path: str


Reader = Callable[[DataCard, int, list[Path]], list[Row]]
Content = TypeVar("Content", list[Any], dict[str, Any])
_JSON_NAMES: Mapping[type, str] = {list: "list", dict: "mapping"}


def _ucf101(card: DataCard, split: int, places: list[Path]) -> list[Row]:
    """`trainlistNN.txt`: `Class/v_Class_gXX_cYY.avi label`; `testlistNN.txt`: the path alone."""
    folder = find_folder(card, places, "ucfTrainTestlist", f"trainlist{split:02d}.txt")
    numbered = [line.partition(" ") for line in _lines(folder / "classInd.txt")]
    _check_classes(card, [name.strip() or number for number, _, name in numbered], folder / "classInd.txt")
    # Names are matched without case: copies in the wild rename HandstandPushups to HandStandPushups or back.
    label_of = {name.casefold(): label for label, name in enumerate(card.class_names)}
    rows = []
    for part in ("train", "test"):
        path = folder / f"{part}list{split:02d}.txt"
        for number, line in enumerate(_lines(path), start=1):
            entry, *given = line.split()
            published = PurePosixPath(entry.replace("\\", "/"))
            label = label_of.get(published.parent.name.casefold())
            group = re.fullmatch(r"(v_.+_g\d\d)_c\d\d", published.stem)
            if label is None or group is None:
                raise MmfuseError(f"{path}:{number}: not a clip of UCF101: {line!r}")
            if given and given != [str(label + 1)]:
                raise MmfuseError(f"{path}:{number}: {_other_list(given, label)} {card.class_names[label]}")
            rows.append(_row(card, published.stem, label, group[1], part, str(published)))
    return rows


def _other_list(given: list[str], label: int) -> str:
    """What stands behind a clip in lists that are not the official ones."""
    if len(given) > 1:
        return "this is a list of raw frames (path frames label), not the official one of videos; here of"
    from_0 = " (this list counts from 0, the official one from 1)" if given == [str(label)] else ""
    return f"label {given[0]}{from_0} is not that of"


def _hmdb51(card: DataCard, split: int, places: list[Path]) -> list[Row]:
    """`<class>_test_split<N>.txt`: `name.avi 1`, where 1 is train, 2 test, 0 unused. The class is in the name only."""
    ending = f"_test_split{split}.txt"
    folder = find_folder(card, places, "testTrainMulti_7030_splits", f"{card.class_names[0]}{ending}")
    # Names are built from the classes: sorting or globbing file names mixes up kick and kick_ball.
    found = {path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending)}
    _check_classes(card, sorted(found), folder)
    parts = {"0": "unused", "1": "train", "2": "test"}
    rows = []
    for label, name in enumerate(card.class_names):
        path = folder / f"{name}{ending}"
        for number, line in enumerate(_lines(path), start=1):
            video, _, use = line.rpartition(" ")
            if use not in parts or not video:
                raise MmfuseError(f"{path}:{number}: expected '<name>.avi <0, 1 or 2>', found {line!r}")
            clip = Path(video).stem
            rows.append(_row(card, clip, label, _hmdb_source(clip, name), parts[use], f"{name}/{video}"))
    return rows


def _hmdb_source(clip: str, class_name: str) -> str:
    """The film that a clip was cut from: `<source>_<class>_<body>_<camera>_np<n>_<view>_<quality>_<i>`."""
    named = re.fullmatch(rf"(.+)_{re.escape(class_name)}_[a-z]+_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+", clip)
    return named[1] if named else clip


def _diving48(card: DataCard, split: int, places: list[Path]) -> list[Row]:
    """`Diving48_V2_<part>.json`: a list of {"vid_name", "label", "start_frame", "end_frame"}."""
    folder = find_folder(card, places, "diving48", "Diving48_V2_train.json", outdated="Diving48_train.json")
    vocabulary = folder / "Diving48_vocab.json"
    if vocabulary.exists():
        _check_classes(card, ["_".join(parts) for parts in read_json(vocabulary, list)], vocabulary)
    rows = []
    for part in ("train", "test"):
        path = folder / f"Diving48_V2_{part}.json"
        entries = read_json(path, list)
        _refuse_first_version(card, len(entries), path)
        for number, entry in enumerate(entries, start=1):
            name, label = (entry.get("vid_name"), entry.get("label")) if isinstance(entry, dict) else (None, None)
            if not isinstance(name, str) or not isinstance(label, int) or not 0 <= label < len(card.class_names):
                raise MmfuseError(f"{path}: entry {number} is not a clip of {card.title}: {entry!r}")
            rows.append(_row(card, name, label, name.rpartition("_")[0] or name, part, f"rgb/{name}.mp4"))
    return rows


_FIRST_VERSION = (15_943, 2_096)


def _refuse_first_version(card: DataCard, count: int, path: Path) -> None:
    if count in _FIRST_VERSION:
        raise MmfuseError(_outdated(card, path))


def _outdated(card: DataCard, path: Path) -> str:
    return (
        f"{path}: this is version 1 of Diving48, whose labels are wrong; fetch Diving48_V2_train.json and "
        f"Diving48_V2_test.json (mmfuse data get {card.name})"
    )


READERS: Mapping[str, Reader] = {"ucf101": _ucf101, "hmdb51": _hmdb51, "diving48": _diving48}


def _row(card: DataCard, clip: str, label: int, group: str, part: str, path: str) -> Row:
    return Row(clip, label, card.class_names[label], group, part, path)


def find_folder(card: DataCard, places: list[Path], usual: str, file: str, *, outdated: str | None = None) -> Path:
    """The folder that holds `file`: a place itself, or up to two folders below it."""
    for place in places:
        if not place.is_dir():
            continue
        for folder in (place, place / usual, place / "annotations", *_subfolders(place)):
            if (folder / file).is_file():
                return folder
            if outdated is not None and (folder / outdated).is_file():
                raise MmfuseError(_outdated(card, folder / outdated))
    looked = ", ".join(map(str, places)) or "no folder was given"
    raise MmfuseError(
        f"{card.title}: the official list {file} was not found (looked below: {looked}); name its folder with "
        f"--annotations or MMFUSE_ANNOTATIONS (mmfuse data get {card.name} tells where it is published)"
    )


def _subfolders(place: Path) -> Iterator[Path]:
    # Folders of videos can be many and large: only the first two levels are looked at, names that hold lists first.
    below = sorted((entry for entry in place.iterdir() if entry.is_dir()), key=lambda entry: entry.name)
    yield from below
    for folder in below:
        yield folder / "annotations"
        yield folder / "ucfTrainTestlist"
        yield folder / "testTrainMulti_7030_splits"


def _check_classes(card: DataCard, found: Iterable[str], where: Path) -> None:
    names = list(found)
    pairs = list(zip(names, card.class_names, strict=False))
    wrong = next((pair for pair in pairs if pair[0].casefold() != pair[1].casefold()), None)
    if wrong or len(names) != len(card.class_names):
        how = f"{wrong[0]!r} stands where {wrong[1]!r} should" if wrong else f"{len(names)} of {len(card.class_names)}"
        raise MmfuseError(f"{where}: not the classes of {card.title} ({how}); fetch the official lists again")


def _lines(path: Path) -> list[str]:
    """The lines that say something, without trailing blanks, whatever ends them."""
    return [line.rstrip() for line in _text(path).splitlines() if line.strip()]


def read_json(path: Path, kind: type[Content]) -> Content:
    """An official list in JSON.

    Raises:
        MmfuseError: the file is missing, is no JSON, or holds something else than a `kind`.
    """
    try:
        content = parse_json(_text(path))
    except ValueError as fault:
        raise MmfuseError(f"{path}: not readable as JSON ({fault}); fetch the official lists again") from fault
    if not isinstance(content, kind):
        raise MmfuseError(f"{path}: expected a {_JSON_NAMES[kind]}; fetch the official lists again")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MmfuseError(f"{path}: the file is missing; fetch the official lists again") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise MmfuseError(f"{path}: cannot be read ({fault})") from fault

"""Before the first cell runs: are the data there, can every class give K clips, and which draws are these?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mmfuse.bench.digests import frame_size, frames_read_by, videos_digest
from mmfuse.bench.estimate import frames_of
from mmfuse.bench.precision import warn_of_slow_precision
from mmfuse.bench.prompt_files import check_classes
from mmfuse.bench.resolve import dataset_root
from mmfuse.bench.tested_data import TestList, other_tests_digest, test_lists, trained_part, training_clips_of
from mmfuse.data.catalogue.cards import DataCard, Source, load_card
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.data.few_shot import fingerprint, hold_out
from mmfuse.data.protocols import load_protocol
from mmfuse.encoders.hub import check_available, no_summary
from mmfuse.encoders.preprocessing import refuse_frames, refuse_size
from mmfuse.errors import MmfuseError, MmfuseWarning
from mmfuse.methods.registry import IMAGE, lookup, refuse_clips
from mmfuse.records.cell import Cell
from mmfuse.records.folder import PlannedCell
from mmfuse.records.status import Entry
from mmfuse.utils.progress import progress_bar


def lists_of(cell: Cell, data_root: str | Path | None, *, annotations: Path | None = None) -> Catalogue:
    """A cell's catalogue; whether its videos are there is not looked at.

    Raises:
        MmfuseError: lists that are missing or wrong.
    """
    root = dataset_root(cell.dataset, data_root)
    return load_catalogue(cell.dataset.request(), split=cell.split, root=root, annotations=annotations)


def prepare(
    entries: Sequence[Entry],
    *,
    data_root: Path,
    will_run: Callable[[Sequence[Entry]], list[Entry]],
    annotations: Path | None = None,
) -> list[PlannedCell]:
    """Look at the data of a plan.

    Args:
        entries: the plan with what is known of it without data.
        data_root: the folder that holds the data sets.
        will_run: which of the entries are to be run.
        annotations: the folder with official lists, where they do not lie below the data.

    Returns:
        The cells with the fingerprints of their draws and test lists, where the data are there to tell.

    Raises:
        MmfuseError: data that a cell to be run needs are missing, or a class has too few clips. One line a data set.
    """
    needed = {_key(entry.cell) for entry in will_run(entries)}
    catalogues: dict[str, Catalogue] = {}
    problems: dict[str, None] = {}
    for cell in {_key(entry.cell): entry.cell for entry in entries}.values():
        try:
            catalogues[_key(cell)] = _load(cell, data_root, annotations, check_files=_key(cell) in needed)
        except MmfuseError as error:
            if _key(cell) in needed:
                problems.setdefault(str(error))
    others: dict[str, list[TestList]] = {}
    for cell in {_tests_key(entry.cell): entry.cell for entry in entries if _key(entry.cell) in catalogues}.values():
        is_needed = _key(cell) in needed
        try:
            lists = test_lists(cell, catalogues[_key(cell)], data_root=data_root, annotations=annotations)
            for tested in lists if is_needed else ():
                _check_test_files(tested)
            others[_tests_key(cell)] = lists
        except MmfuseError as error:
            if is_needed:
                problems.setdefault(str(error))
    if problems:
        raise MmfuseError("\n".join(problems))
    check_classes((entry.cell, catalogues[_key(entry.cell)]) for entry in will_run(entries))
    warn_of_slow_precision(entry.cell for entry in will_run(entries))
    for key in needed & catalogues.keys():
        catalogues[key].warn()
    _tell_overlaps(others, {_tests_key(entry.cell) for entry in will_run(entries)})
    ready = list(_fingerprinted(entries, catalogues, others, needed))
    _tell_corrections(entry.cell for entry in will_run(entries))
    return ready


def _tell_overlaps(others: dict[str, list[TestList]], needed: Collection[str]) -> None:
    """Warn, once a data set, of classes that a test shares with the training."""
    told: dict[str, None] = {}
    for key in sorted(needed & others.keys()):
        for tested in others[key]:
            if not tested.overlap:
                continue
            what = "left out of the test are" if tested.left_out else "trained on as well are"
            classes = ", ".join(theirs for _, theirs in tested.overlap)
            told.setdefault(f"{tested.catalogue.card.title}: {what} {len(tested.overlap)} of its classes: {classes}")
    for text in told:
        warnings.warn(text, MmfuseWarning, stacklevel=3)


def _tell_corrections(cells: Iterable[Cell]) -> None:
    """Warn, once each, of faults of published files that are put right here."""
    named = {(cell.dataset.protocol, cell.dataset.name) for cell in cells if cell.dataset.protocol is not None}
    for name, dataset in sorted(named):
        protocol = load_protocol(name)
        if dataset in protocol.corrected:
            warnings.warn(f"{protocol.title}: {protocol.corrected[dataset]}", MmfuseWarning, stacklevel=3)


def check_towers(cells: Iterable[Cell]) -> None:
    """Refuse a run whose towers could not be loaded, or cannot do what cells ask of them: before the first cell.

    Raises:
        MmfuseError: one line for each tower that is missing, broken or of an unsupported kind; or, where there is none,
            for each size, number of frames, method and feature that does not fit a tower.
    """
    cells = list(cells)
    wanted = {(getattr(cell.encoders, kind), kind) for cell in cells for kind in ("image", "text")}
    problems = []
    for name, kind in sorted(wanted):
        try:
            check_available(name, kind)
        except MmfuseError as error:
            problems.append(str(error))
    if not problems:
        problems = list(_misfits(cells))
    if problems:
        raise MmfuseError("\n".join(problems))


def _misfits(cells: Iterable[Cell]) -> Iterator[str]:
    """What cells ask of an image or video tower that it cannot do, once each, by the tower's configuration alone."""
    told: set[object] = set()
    for cell in cells:
        method = cell.pair.image["method"]
        asked = (cell.encoders.image, method, frames_of(cell), frame_size(cell), cell.encoders.feature, cell.shots == 0)
        if asked in told:
            continue
        told.add(asked)
        read = frames_read_by(cell.encoders.image)
        if read is None:
            continue
        feature = "cls" if cell.shots == 0 else cell.encoders.feature
        try:
            refuse_size(frame_size(cell), patch=read.patch, name=cell.encoders.image)
            if not read.has_summary and feature in ("cls", "grid"):
                raise MmfuseError(no_summary(cell.encoders.image, feature))
            if read.clip is not None:
                refuse_frames(frames_of(cell), tubelet=read.clip.tubelet, name=cell.encoders.image)
                refuse_clips(lookup(method, IMAGE), cell.encoders.image)
        except MmfuseError as error:
            yield str(error)


def _key(cell: Cell) -> str:
    return f"{cell.dataset.model_dump_json()} {cell.split}"


def _tests_key(cell: Cell) -> str:
    return f"{_key(cell)} {cell.setting} {[target.model_dump_json() for target in cell.test_on]}"


def _load(cell: Cell, data_root: Path, annotations: Path | None, *, check_files: bool) -> Catalogue:
    dataset = cell.dataset
    root = dataset_root(dataset, data_root)
    try:
        catalogue = lists_of(cell, data_root, annotations=annotations)
        if check_files and not catalogue.card.generated:
            _check_files(catalogue)
    except MmfuseError as error:
        if dataset.own or root is None:
            raise
        raise MmfuseError(f"{error}; {where_to_get(load_card(dataset.name), data_root)}") from None
    return catalogue


def _check_test_files(tested: TestList) -> None:
    """Refuse another data set that lacks videos of its test list."""
    catalogue = tested.catalogue
    if tested.test.target is not None and not catalogue.card.generated:
        _check_files(replace(catalogue, table=catalogue.part("test")))


def _check_files(catalogue: Catalogue) -> None:
    """Refuse a data set that lacks videos: a silent gap would change the numbers."""
    root = catalogue.root or Path()
    clips, paths = catalogue.table["clip"], catalogue.table["path"]
    missing = [str(clip) for clip, path in zip(clips, paths, strict=True) if not (root / path).exists()]
    if len(missing) == len(paths):
        raise MmfuseError(f"{catalogue.card.title}: no video was found below {root}")
    if missing:
        names = ", ".join(missing[:3])
        raise MmfuseError(
            f"{catalogue.card.title}: {len(missing):,} of {len(paths):,} videos are missing below {root}, "
            f"such as {names} (all of them: mmfuse data check {catalogue.name} --root {root})"
        )


def where_to_get(card: DataCard, data_root: Path) -> str:
    """Where a data set is published and where its files go, in one line."""
    sources = [
        f"{source.file} from {source.address}" if isinstance(source, Source) else str(source) for source in card.sources
    ]
    place = data_root.absolute() / card.name
    layout = f" as {' '.join(card.layout.split())}" if card.layout else ""
    what = " and ".join(sources) or card.title
    return f"get {what}; put it below {place}{layout}, or name the folder by --data-root"


def _fingerprinted(
    entries: Iterable[Entry],
    catalogues: dict[str, Catalogue],
    others: dict[str, list[TestList]],
    needed: Collection[str],
) -> Iterable[PlannedCell]:
    draws: dict[tuple[str, object, int, float], str | None] = {}
    tests: dict[str, str] = {}
    videos: dict[str, str | None] = {}
    beside: dict[str, str | None] = {}
    for entry in entries:
        cell, known = entry.cell, entry.planned.inputs
        key = _key(cell)
        if (catalogue := catalogues.get(key)) is None:
            yield entry.planned
            continue
        same_clips = cell.shots == "all" or cell.train_list is not None
        part = f"{key} {cell.setting}"
        place = (part, cell.shots, 0 if same_clips else cell.draw, cell.train.validation)
        if place not in draws:
            try:
                rows = training_clips_of(cell, catalogue)
                hold_out(trained_part(cell, catalogue), rows, share=cell.train.validation)  # refuses what it cannot cut
                draws[place] = fingerprint(rows)
            except MmfuseError:
                if key in needed:
                    raise
                draws[place] = None  # of cells that are done, whose lists may have been put away since
        if part not in tests:
            tests[part] = fingerprint(trained_part(cell, catalogue).part("test"))
        if key not in videos:
            videos[key] = known.videos or _videos(catalogue)
        if (tested := _tests_key(cell)) not in beside:
            beside[tested] = _other_tests(others.get(tested, []))
        found = {"train_clips": draws[place], "test_clips": tests[part], "videos": videos[key]}
        found["other_tests"] = beside[tested]
        yield PlannedCell(cell, known.model_copy(update=found))


def _videos(catalogue: Catalogue) -> str | None:
    with progress_bar(f"reading the videos of {catalogue.name}", transient=True) as report:
        return videos_digest(catalogue, report=report)


def _other_tests(lists: list[TestList]) -> str | None:
    with progress_bar("reading the videos of further tests", transient=True) as report:
        return other_tests_digest(lists, report=report)

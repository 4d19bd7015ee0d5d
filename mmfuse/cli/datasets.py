"""What the commands of `mmfuse data` do, but for `cache`."""

from __future__ import annotations

import csv
import json as json_format
import shlex
import sys
from pathlib import Path

from mmfuse.cli.common import notes, out, print_json
from mmfuse.data import few_shot
from mmfuse.data.catalogue import check as checking
from mmfuse.data.catalogue.archives import unpack as unpack_archive
from mmfuse.data.catalogue.cards import Source, card_names, load_card
from mmfuse.data.catalogue.custom import named
from mmfuse.data.catalogue.divide import told_of_leaks
from mmfuse.data.catalogue.load import Catalogue, load_catalogue, published
from mmfuse.data.catalogue.locate import dataset_folder
from mmfuse.data.catalogue.same_frames import find_same_frames
from mmfuse.data.few_shot import Shots
from mmfuse.data.protocols import ListFile, Protocol, find_list, load_protocol
from mmfuse.data.published_lists import training_clips
from mmfuse.data.tiny import make_clips
from mmfuse.errors import MmfuseError, unknown
from mmfuse.utils.files import user_path, write_atomically
from mmfuse.utils.processes import usable_cores
from mmfuse.utils.progress import progress_bar

_SHOWN = 10


def _published_name(dataset: str, instead: str) -> None:
    """Refuse a folder of a user's own where only published data sets are known.

    Raises:
        MmfuseError: it is one, with what looks after it instead.
    """
    if isinstance(named(dataset), dict):
        raise MmfuseError(f"{dataset} is a folder of your own, which is published nowhere; {instead}")


def shots_of(text: str) -> Shots:
    """K as it is written on the command line.

    Raises:
        MmfuseError: neither a whole number nor "all".
    """
    if text == "all":
        return "all"
    if not text.isdecimal() or not int(text):
        raise MmfuseError(f"shots is a whole number from 1, or 'all'; not {text!r}")
    return int(text)


def check(
    dataset: str,
    *,
    root: Path | None,
    annotations: Path | None,
    split: int,
    decode: bool,
    workers: int | None,
    json: bool,
    leaks: bool = False,
) -> bool:
    """Print the findings; returns whether the data set is whole and sound.

    With `leaks`, clips of training and test that show the same frames are among the warnings.
    """
    catalogue, place = _placed(dataset, root=root, annotations=annotations, split=split)
    with progress_bar(f"{'decoding' if decode else 'opening'} {catalogue.card.title}") as report:
        findings = checking.check(
            catalogue,
            place,
            decode=decode,
            workers=workers or usable_cores(),
            journal=checking.journal_for(catalogue, place) if decode else None,
            report=report,
        )
    if leaks:
        with progress_bar(f"comparing the frames of {catalogue.card.title}") as report:
            paths = [str(place / path) for path in catalogue.table["path"]]
            # What cannot be read is among the findings already.
            same = find_same_frames(paths, damaged="keep", workers=workers or usable_cores(), report=report).same
        findings.warnings += told_of_leaks(same, catalogue.table)
    if json:
        print_json(findings.as_json())
    else:
        _print_findings(findings)
    return findings.good


def _note(text: str) -> None:
    notes().print(text, soft_wrap=True)


def _placed(dataset: str, *, root: Path | None, annotations: Path | None, split: int) -> tuple[Catalogue, Path]:
    """A data set, and the folder that its videos are looked for in."""
    if root is None and dataset in card_names() and load_card(dataset).generated:
        catalogue = published(dataset, split=split)
        make_clips(catalogue)
        return catalogue, catalogue.root or Path()
    request, folder = named(dataset), _folder(dataset, root)
    catalogue = published(request, split=split, root=folder, annotations=annotations)
    return catalogue, folder if isinstance(request, dict) else dataset_folder(folder, catalogue.name)


def _folder(dataset: str, root: Path | None) -> Path:
    named(dataset)  # a path where nothing is deserves to be told of as one
    given = root or user_path(dataset)
    if not given.is_dir():
        if root is None:
            # A mistyped name deserves to hear of the right one first.
            raise (
                MmfuseError("say where the videos are: --root DIR")
                if dataset in card_names()
                else unknown("data set", dataset, card_names())
            )
        raise MmfuseError(f"{root}: there is no such folder; name the right one by --root")
    return given


def _print_findings(findings: checking.Findings) -> None:
    console = out()
    listed = ", ".join(f"{count:,} {part}" for part, count in sorted(findings.listed.items()))
    console.print(f"{findings.dataset} split {findings.split} in {findings.root}", soft_wrap=True)
    console.print(f"  listed      {listed}" + (" (the official counts)" if findings.official else ""))
    console.print(f"  present     {findings.present:,}")
    _print_some("missing", findings.missing)
    _print_some("empty", findings.empty)
    _print_some("unreadable", [f"{path}: {why}" for path, why in findings.unreadable.items()])
    _print_some("truncated", [f"{path}: {why}" for path, why in findings.truncated.items()])
    _print_some("extra", findings.extra)
    _print_some("passed over", [f"{path}: {why}" for path, why in findings.passed_over.items()])
    _print_some("warnings", findings.warnings)
    if findings.frames:
        seen = findings.frames
        kind = "decoded" if findings.decoded else "announced"
        console.print(f"  frames      {seen['least']:,} to {seen['most']:,} a clip, {seen['total']:,} {kind}")
        console.print(f"  codecs      {_counts(findings.codecs)}")
        console.print(f"  sizes       {_counts(findings.sizes)}")
    console.print("good" if findings.good else "NOT good: a run on these files would stop or differ")


def _print_some(kind: str, names: list[str]) -> None:
    if not names:
        return
    console = out()
    console.print(f"  {kind:<11} {len(names):,}")
    for name in names[:_SHOWN]:
        console.print(f"    {name}", markup=False, soft_wrap=True)
    if len(names) > _SHOWN:
        console.print(f"    and {len(names) - _SHOWN:,} more (all of them: --json)")


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name} ({count:,})" for name, count in list(counts.items())[:6]]
    return ", ".join(shown) + (f" and {len(counts) - 6} more" if len(counts) > 6 else "")


def print_draw(
    dataset: str,
    *,
    shots: str,
    draw: int,
    split: int,
    root: Path | None,
    annotations: Path | None,
    protocol: str | None = None,
) -> None:
    """Print a draw, or the published list that stands for it, as CSV."""
    number = shots_of(shots)
    if protocol is not None:  # what it has no list for is refused before any list is read
        chosen = load_protocol(protocol)
        chosen.training_list(dataset, shots=number, draw=draw, split=split)
        if dataset in chosen.corrected:
            _note(f"{chosen.title}: {chosen.corrected[dataset]}")
    catalogue = load_catalogue(named(dataset), split=split, root=root, annotations=annotations)
    catalogue.warn()
    rows = training_clips(catalogue, shots=number, draw=draw, protocol=protocol)
    if protocol is None:
        few_shot.certify(catalogue, rows, shots=number, draw=draw)
    else:
        few_shot.certify_test_list(catalogue)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = ["clip", "label", "class", "group"]
    writer.writerow(columns)
    writer.writerows(rows[columns].itertuples(index=False, name=None))


def get(dataset: str, *, root: Path | None, unpack: list[Path]) -> None:
    """Tell where a data set is published, or unpack its archives."""
    _published_name(dataset, f"to look into it: {shlex.join(['mmfuse', 'data', 'check', dataset])}")
    card = load_card(dataset)
    console = out()
    if unpack:
        if root is None:
            raise MmfuseError("say where to unpack to: --root DIR")
        for archive in unpack:
            count = unpack_archive(archive, root, report=lambda name: _note(f"unpacking {name}"))
            console.print(f"{count:,} files of {archive.name} are in {root}", markup=False, soft_wrap=True)
        following = shlex.join(["mmfuse", "data", "check", dataset, "--root", str(root)])
        console.print(f"next: {following}", markup=False, soft_wrap=True)
        return
    clips = f", {card.clips:,} clips" if card.clips else ""
    console.print(f"{card.title}: {card.class_count} classes{clips}")
    for source in card.sources:
        if isinstance(source, Source):
            console.print(f"  {source.file} ({source.holds})\n    {source.address}", markup=False, soft_wrap=True)
        else:
            console.print(f"  {source}", markup=False, soft_wrap=True)
    console.print(f"layout    {card.layout}", markup=False, soft_wrap=True)
    if card.annotations:
        console.print(f"lists     {card.annotations}, anywhere below the same folder", markup=False, soft_wrap=True)
    console.print(f"licence   {card.licence}", markup=False, soft_wrap=True)
    if card.clips:
        usual = f"mmfuse data get {dataset} --root DIR --unpack ARCHIVE [--unpack ARCHIVE]"
        console.print(f"unpack    {card.unpack or usual}", markup=False, soft_wrap=True)


def get_protocol(dataset: str, name: str, *, annotations: Path | None) -> bool:
    """Tell where a protocol's lists of a data set are published; with a folder, check that it holds them.

    Returns:
        False where a list is not in the folder, or is another one.
    """
    load_card(dataset)  # an unknown data set is named as such
    protocol, console = load_protocol(name), out()
    files = protocol.files(dataset)
    if not files:
        has = ", ".join({**protocol.few_shot, **protocol.base_to_novel})
        raise MmfuseError(f"{protocol.title} has no lists of {dataset!r}; it has lists of {has}")
    for line in (
        f"{protocol.title}: {protocol.source}",
        f"  github.com/{protocol.repository}, commit {protocol.commit}",
        f"  licence: {protocol.licence}",
        *(f"  {note}" for note in protocol.notes),
        *(f"  Corrected: {protocol.corrected[name]}." for name in (dataset,) if name in protocol.corrected),
    ):
        console.print(line, markup=False, soft_wrap=True)
    lacking: list[str] = []
    for file in files:
        place = "" if annotations is None else _file_state(file, annotations, lacking, protocol=protocol)
        console.print(f"  {file.file}  {file.clips:,} clips{place}", markup=False, soft_wrap=True)
    if lacking:
        _note(f"{len(lacking)} of {len(files)} lists are not there; {lacking[0]}")
    return not lacking


def _file_state(file: ListFile, folder: Path, lacking: list[str], *, protocol: Protocol) -> str:
    """Whether a folder holds a published list, in words; why not is added to `lacking`."""
    try:
        return f"  found at {find_list(file, [folder], protocol=protocol)}"
    except MmfuseError as fault:
        lacking.append(str(fault))
        return "  not there"


def certify(dataset: str, *, annotations: Path | None, write: Path | None) -> bool:
    """Compute the fingerprints of a data set's draws; returns whether they are those on record."""
    again = shlex.join(["mmfuse", "data", "split", dataset, "--shots", "2", "--draw", "0"])
    _published_name(dataset, f"to see one of its draws: {again}")
    card = load_card(dataset)
    computed = {}
    for split in sorted(card.splits):
        try:
            catalogue = load_catalogue(dataset, split=split, annotations=annotations)
        except MmfuseError as fault:
            _note(f"split {split}: not computed: {fault}")
            continue
        computed[str(split)] = few_shot.certificate_of(catalogue)
    if write is not None:
        write_atomically(write, json_format.dumps(computed, indent=1) + "\n")
        return True
    path = few_shot.fingerprints_file(dataset)
    recorded = json_format.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, certificate in computed.items():
        same = "as on record" if recorded.get(name) == certificate else "NOT as on record"
        print(f"{dataset} split {name}: {same if name in recorded else 'not on record'}")
    return bool(computed) and all(recorded.get(name) == found for name, found in computed.items())

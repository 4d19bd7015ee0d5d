"""What is said below the tables of accuracies and gains: what each number is over, and what each mark claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mmfuse.records.record import Record
from mmfuse.report.groups import Group, finished
from mmfuse.report.statistics import FEWEST_DRAWS, LEVEL
from mmfuse.report.tables.table import Value

if TYPE_CHECKING:
    from mmfuse.report.tables.accuracy import Comparison

MIXED = {"torch": "versions of torch", "device": "devices", "precision": "precisions"}
"""What should be the same for all cells of a table."""

ADDED = (
    "Draws were added where a comparison was open, so rows have unequal numbers of them and are not tested here; "
    "the table of verdicts says what is decided."
)

ADDED_BESIDE = (
    "Draws were added by what the main test of these trainings showed, so rows have unequal numbers of them; nothing "
    "is tested here."
)


def accuracy_notes(comparison: Comparison, columns: Sequence[Sequence[Value]]) -> tuple[str, ...]:
    """Notes of the table of accuracies.

    Args:
        comparison: what the table is made from.
        columns: its values.
    """
    group = comparison.group
    values = [value for column in columns for value in column]
    notes = [*_intervals(group, values), *views_note(group), *same_clips(group), *published_lists(group)]
    notes += tuned_note(finished(group.entries))
    if len(comparison.averaged) > 1:
        notes.append("The mean column and the gain average their K within each draw first.")
    if any(value.best for value in values):
        notes.append("Bold: highest of the column.")
    if comparison.tests_accuracies:
        notes.append(f"= not shown to be below the best (model confidence set, {LEVEL:.0%} over the table).")
    notes += _stars(values, "the column")
    if not comparison.tests_accuracies:
        notes += _untested(group)
    return (*notes, *cautions(group, values))


def gain_notes(comparison: Comparison, columns: Sequence[Sequence[Value]]) -> tuple[str, ...]:
    """Notes of the table of gains."""
    group = comparison.group
    values = [value for column in columns for value in column]
    notes = ["Paired differences on the same draws.", *_intervals(group, values), *same_clips(group)]
    return (*notes, *(_stars(values, "the table") or _untested(group)))


def _stars(values: Iterable[Value], family: str) -> list[str]:
    """What a star claims, where a gain was tested."""
    if all(value.significant is None for value in values):
        return []
    return [
        "* the difference holds for other draws and other test clips (Behrens-Fisher test, "
        f"{LEVEL:.0%}, Holm over {family}): a gain, or below zero a loss."
    ]


def _untested(group: Group) -> list[str]:
    """Why a table has no tests, where several rows could have been compared."""
    if group.draws_added:
        return [ADDED if group.main else ADDED_BESIDE]
    if len(group.draws) < 2 or len(group.pairs) < 2:
        return []  # that there are no tests with one draw is said with the intervals
    return [f"Nothing is tested: that needs {FEWEST_DRAWS} draws of both rows."]


def _intervals(group: Group, values: Sequence[Value]) -> list[str]:
    """What ± is over."""
    clips = sorted({record.metrics.test_clips for record in finished(group.entries) if record.metrics})
    tested = f"{', '.join(map(str, clips)) or 'no'} test clips"
    if group.recognised.sources:
        tested += f" from {group.recognised.sources} sources"
    if len(group.draws) < 2:
        seeds = len({entry.cell.seed for entry in group.entries})
        several = f" Numbers are means over {seeds} seeds, which say nothing of other draws." if seeds > 1 else ""
        return [f"One draw of the training clips: no intervals and no tests. {tested}.{several}"]
    numbers = sorted({value.planned for value in values if value.mean}) or [len(group.draws)]
    n = "–".join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))
    notes = [f"± is the 95% Student-t interval of the mean over n = {n} draws of the training clips; {tested}."]
    halves = [value.mean.half_clips for value in values if value.mean and value.mean.half_clips is not None]
    if halves:
        notes.append(
            "A second ±, shown where it is the wider one, is the 95% interval over test clips, by source: "
            f"{min(halves):.1f} to {max(halves):.1f} here."
        )
    return notes


def views_of(group: Group) -> dict[str, str]:
    """What the models of each row saw of a test video, frames × clips × crops, where the records tell."""
    by_row: dict[str, dict[str, None]] = {}
    for row, entry in zip(group.row_of, group.entries, strict=True):
        if entry.state == "done" and entry.record is not None and entry.record.test_views is not None:
            by_row.setdefault(row, {})[str(entry.record.test_views)] = None
    return {row: " and ".join(found) for row, found in by_row.items()}


def views_note(group: Group) -> list[str]:
    """What was seen of a test video; rows that differ in it are named."""
    by_row = views_of(group)
    kinds = list(dict.fromkeys(by_row.values()))
    if len(kinds) < 2:
        return [f"Each test video is seen in {kind} frames×clips×crops." for kind in kinds]
    told = "; ".join(f"{row} in {found}" for row, found in by_row.items())
    return [f"Test videos are seen in frames×clips×crops: {told}."]


def same_clips(group: Group) -> list[str]:
    """Where the interval over draws is over repeated trainings."""
    same = [one for one in group.shots if one == "all" or _is_from_list(group, one)]
    if len(group.draws) < 2 or not same:
        return []
    which = " and ".join(f"K={one}" for one in same)
    return [f"At {which} every draw holds the same clips: there ± is over repeated trainings."]


def published_lists(group: Group) -> list[str]:
    """Whose lists the training clips are from, where they are no draws of ours."""
    names = sorted({entry.cell.dataset.protocol for entry in group.entries if entry.cell.dataset.protocol is not None})
    return [
        f"Training clips: the published lists {name} (mmfuse data get NAME --protocol {name} tells of them)."
        for name in names
    ]


def tuned_note(done: Sequence[Record]) -> list[str]:
    """Whether settings were searched, with how many trials a pair, and where the default stayed."""
    tuned = {record.cell.pair.name: found for record in done if (found := record.provenance.tuned) is not None}
    if not tuned:
        return []
    numbers = sorted({found.trials for found in tuned.values()})
    trials = "–".join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))
    kept = sum(found.default for found in tuned.values())
    stayed = f"; the default stayed for {kept} of {len(tuned)}" if kept else ""
    untuned = sorted({record.cell.pair.name for record in done if record.provenance.tuned is None} - set(tuned))
    beside = f" Not tuned, and so at a disadvantage: {', '.join(untuned)}." if untuned else ""
    return [f"Settings were tuned with {trials} trials a pair on clips held out of the training clips{stayed}.{beside}"]


def _is_from_list(group: Group, shots: Any) -> bool:
    """Whether a published list takes the place of the draws."""
    return any(entry.cell.shots == shots and entry.cell.train_list is not None for entry in group.entries)


def cautions(group: Group, values: Iterable[Value]) -> list[str]:
    """What may make numbers of one table incomparable."""
    notes = []
    if any(entry.state != "done" for entry in group.entries):
        notes.append("(2/3, 1 failed): the mean is over 2 of 3 planned draws; stale numbers are left out.")
    if len({value.mean.n for value in values if value.mean and not value.signed}) > 1:
        notes.append("Rows with other draws than most are never bold: their draws may be easier.")
    done = finished(group.entries)
    if any(record.provenance.certified is False for record in done):
        notes.append(_uncertified(group, done))
    notes += _other_clips(done)
    if group.recognised.problems:
        count = len(group.recognised.problems)
        notes.append(
            f"The predictions of {count} cell{'s' * (count > 1)} cannot be used, so what rests on them is not tested: "
            f"{group.recognised.problems[0]}"
        )
    for key, what in MIXED.items():
        found = sorted({value for record in done if (value := _provenance(record, key)) is not None})
        if len(found) > 1:
            notes.append(f"Cells were trained with different {what}: {', '.join(found)}.")
    return notes


def _other_clips(done: Iterable[Record]) -> list[str]:
    """Where rows under one draw number were trained on different clips, as of several lists in one results folder."""
    clips: dict[tuple[Any, int], set[str]] = {}
    for record in done:
        if record.inputs.train_clips is not None:
            clips.setdefault((record.cell.shots, record.cell.draw), set()).add(record.inputs.train_clips)
    mixed = sorted({f"K={shots}" for (shots, _), found in clips.items() if len(found) > 1})
    if not mixed:
        return []
    return [
        f"At {' and '.join(mixed)} rows were trained on different clips under one draw number: differences there are "
        "not paired, and no mark holds."
    ]


def _provenance(record: Record, key: str) -> str | None:
    """One fact of where a record comes from."""
    if key == "torch":
        return record.provenance.versions.get("torch")
    value = getattr(record.provenance, key)
    return None if value is None else str(value)


def _uncertified(group: Group, done: Iterable[Record]) -> str:
    """Which columns hold draws without a fingerprint that others could compare theirs with."""
    found = {record.cell.shots for record in done if record.provenance.certified is False}
    columns = [one for one in group.shots if one in found]
    where = "" if columns == group.shots else f" at {', '.join(f'K={one}' for one in columns)}"
    return f"Draws{where} are not certified: no fingerprint of theirs ships with the package."

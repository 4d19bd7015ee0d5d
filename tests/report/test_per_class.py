"""What per-clip predictions tell, against numbers counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmfuse.records.cell import Inputs
from mmfuse.records.folder import PlannedCell, ResultsFolder
from mmfuse.records.status import Entry
from mmfuse.report.groups import groups
from mmfuse.report.per_class import Evidence, gather
from mmfuse.report.statistics import mean_of
from tests.report.scenes import cell_of, record_of

NAMES = ("walk", "run", "jump")
LABELS = [0, 0, 1, 1, 2, 2]


def evidence(path: Path, answers: dict[tuple[str, int], list[int]], **changes: Any) -> Evidence:
    """Evidence of cells at K=2, from their answers by pair and draw to six clips, two a class."""
    planned = [
        PlannedCell(cell_of(pair, *pair.split("+"), dataset="tiny", shots=2, draw=draw), Inputs(dataset="c"))
        for pair, draw in answers
    ]
    folder = ResultsFolder(path)
    folder.prepare()
    entries = []
    for item, given in zip(planned, answers.values(), strict=True):
        rows = [
            [f"clip{at}", LABELS[at], answer, 0.1 * at, 0.5, 0, f"clip{at}", 1 + (answer != LABELS[at])]
            for at, answer in enumerate(given)
        ]
        record, files = record_of(item, rows, names=changes.get(f"names{item.cell.draw}", NAMES))
        folder.write(record, files)
        entries.append(Entry(item, "done", record=record))
    [group] = groups(entries, folder)
    return gather(group)


def test_gains_by_class_are_paired_over_draws(tmp_path: Path) -> None:
    found = evidence(
        tmp_path,
        {
            ("frozen+frozen", 0): [0, 1, 1, 1, 0, 0],  # recall 50, 100, 0
            ("frozen+frozen", 1): [0, 0, 1, 0, 0, 0],  # recall 100, 50, 0
            ("dora+adapter", 0): [0, 0, 1, 0, 2, 2],  # recall 100, 50, 100
            ("dora+adapter", 1): [0, 0, 0, 0, 2, 2],  # recall 100, 0, 100
            ("dora+adapter", 2): [1, 1, 1, 1, 1, 1],  # no frozen cell of that draw
        },
    )
    gains = found.gains("dora+adapter", "frozen+frozen", 2)
    assert [(gain.label, gain.gain.mean, gain.gain.n) for gain in gains] == [(2, 100, 2), (0, 25, 2), (1, -50, 2)]
    jump, walk, run = gains
    assert (walk.ours, walk.theirs, walk.clips) == (100, 75, 2)
    by_hand = mean_of([50.0, 0.0], grain=2**0.5 * 25)  # a class has two clips
    assert walk.gain == by_hand
    for gain in (jump, run):  # the same in both draws, which does not make it certain
        assert gain.gain.half is not None
        assert gain.gain.half > 100


def test_one_draw_has_gains_without_interval_or_test(tmp_path: Path) -> None:
    answers = {("frozen+frozen", 0): [0, 0, 0, 0, 0, 0], ("dora+adapter", 0): LABELS}
    gains = evidence(tmp_path, answers).gains("dora+adapter", "frozen+frozen", 2)
    assert [gain.gain.half for gain in gains] == [None] * 3
    assert gains[0].gain.mean == 100


def test_nothing_in_common_is_no_gain(tmp_path: Path) -> None:
    found = evidence(tmp_path, {("frozen+frozen", 0): LABELS, ("dora+adapter", 1): LABELS})
    assert found.gains("dora+adapter", "frozen+frozen", 2) == []
    assert found.gains("lora+frozen", "frozen+frozen", 2) == []


def test_the_most_confused_classes_are_counted_over_draws(tmp_path: Path) -> None:
    found = evidence(tmp_path, {("dora+adapter", 0): [1, 1, 1, 1, 2, 0], ("dora+adapter", 1): [1, 0, 1, 1, 2, 2]})
    assert found.confused("dora+adapter", 2) == [(0, 1, 3, 0.75), (2, 0, 1, 0.25)]
    assert found.confused("dora+adapter", 2, most=1) == [(0, 1, 3, 0.75)]
    assert found.answers["dora+adapter", 2].pairs[1, 1] == 4


def test_the_hardest_clips_come_first(tmp_path: Path) -> None:
    found = evidence(
        tmp_path,
        {
            ("frozen+frozen", 0): [1, 0, 0, 2, 0, 2],
            ("dora+adapter", 0): [2, 0, 0, 1, 1, 2],
            ("dora+adapter", 1): [1, 0, 0, 1, 0, 2],
        },
    )
    hardest = found.hardest()
    # Clips 0, 2 and 4 are wrong in all three; the lower probability of the right class comes first.
    assert [(clip.clip, clip.wrong, clip.tested) for clip in hardest] == [
        ("clip0", 3, 3),
        ("clip2", 3, 3),
        ("clip4", 3, 3),
        ("clip3", 1, 3),
    ]
    assert hardest[0].answers == ((1, 2), (2, 1))
    assert hardest[1].probability == pytest.approx(0.2)
    assert [clip.clip for clip in found.hardest(most=1)] == ["clip0"]


def test_what_does_not_fit_is_left_out_and_told(tmp_path: Path) -> None:
    answers = {("dora+adapter", draw): LABELS for draw in range(3)}
    found = evidence(tmp_path / "a", answers, names1=("walk", "run", "leap"))
    assert found.models == 2
    assert ["draw1" in problem and "classes are not those" in problem for problem in found.problems] == [True]
    found = evidence(tmp_path / "b", answers, names2=("walk", "run"))
    assert found.models == 2
    assert "not among the 2 of the record" in found.problems[0]


@pytest.mark.parametrize("answer", [-1, 3, 10**30])
def test_answers_that_are_no_classes_are_left_out(tmp_path: Path, answer: int) -> None:
    found = evidence(tmp_path, {("dora+adapter", 0): [*LABELS[:-1], answer], ("dora+adapter", 1): LABELS})
    assert found.models == 1
    assert len(found.problems) == 1


def test_nameless_classes_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    found = evidence(tmp_path, {("dora+adapter", 0): [*LABELS[:-1], 10**9]}, names0=None)
    assert found.models == 0
    assert "class 1000000000" in found.problems[0]


def test_no_predictions_tell_nothing(tmp_path: Path) -> None:
    found = evidence(tmp_path, {("dora+adapter", 0): []})
    assert found.models == 0
    assert found.hardest() == []
    assert "hold no clips" in found.problems[0]
    assert np.size(found.clips_of_class) == 0

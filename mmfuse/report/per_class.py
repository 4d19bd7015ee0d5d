"""What the per-clip predictions tell: which classes gain, which are confused, which clips nobody recognises.

Shape legend: N test clips, C classes.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmfuse.errors import MmfuseError
from mmfuse.records.predictions import decode
from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from mmfuse.report.groups import Group
from mmfuse.report.statistics import Mean, mean_of

Place = tuple[str, Any]
"""A pair's name and K."""
_READ = ("clip", "label", "predicted", "probability_of_label")
Counts = NDArray[np.int64]
Watch = Callable[[list[Entry]], Iterable[Entry]]
"""Wraps the cells that are read, so that a command can show how far it is."""


@dataclass(frozen=True)
class ClassGain:
    """What a pair gains over the frozen towers in one class.

    Args:
        label: the class.
        gain: paired difference in points over the repetitions that both sides share.
        ours, theirs: recall in per cent, means over the repetitions.
        clips: test clips of the class.
    """

    label: int
    gain: Mean
    ours: float
    theirs: float
    clips: int


@dataclass(frozen=True)
class HardClip:
    """A test clip with how often it was mistaken.

    Args:
        clip: its id.
        label: its class.
        tested: trained models that saw it.
        wrong: how many of them were wrong.
        probability: what they gave its class, on average.
        answers: wrong answers by class, most frequent first.
    """

    clip: str
    label: int
    tested: int
    wrong: int
    probability: float
    answers: tuple[tuple[int, int], ...]


@dataclass
class Answers:
    """What the models of one place of the table answered.

    Args:
        right: (C,) clips recognised of each class, by repetition; seeds of one draw are added up.
        models: trained models behind each of these.
        pairs: how often a class (first) was taken for a class (second), over all models.
    """

    right: dict[Hashable, Counts] = field(default_factory=dict)
    models: Counter[Hashable] = field(default_factory=Counter)
    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, labels: Counts, predicted: Counts, classes: int, repetition: Hashable) -> None:
        """Count the answers of one model, (N,) each."""
        right = np.bincount(labels[labels == predicted], minlength=classes)
        self.right[repetition] = self.right[repetition] + right if repetition in self.right else right
        self.models[repetition] += 1
        codes, counts = np.unique(labels * classes + predicted, return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self.pairs[divmod(code, classes)] += count

    def recalls(self, repetition: Hashable, clips: Counts) -> NDArray[np.float64]:
        """(C,) per cent of each class's clips that were recognised; `clips`: (C,) their numbers."""
        return 100 * self.right[repetition] / np.maximum(clips * self.models[repetition], 1)


@dataclass
class Evidence:
    """The predictions of all finished cells of one data set and split, counted.

    Args:
        class_names: C names in label order.
        answers: what was answered, by place of the table.
        clips: ids of the N test clips.
        labels: (N,) their classes.
        answered: (N, C) how many trained models gave a clip which answer.
        models: trained models that were counted.
        probability: (N,) sum of what the models gave the true class.
        problems: cells whose predictions cannot be used, and why.
    """

    class_names: tuple[str, ...] = ()
    answers: dict[Place, Answers] = field(default_factory=lambda: defaultdict(Answers))
    clips: NDArray[Any] = field(default_factory=lambda: np.array([], dtype=str))
    labels: Counts = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    answered: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))
    models: int = 0
    probability: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    problems: list[str] = field(default_factory=list)

    @cached_property
    def clips_of_class(self) -> Counts:
        """(C,) test clips of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def add(self, record: Record, table: dict[str, NDArray[Any]], *, row: str) -> None:
        """Count the predictions of one cell.

        Args:
            record: its record.
            table: its predictions.
            row: the row of the tables that it belongs to.

        Raises:
            MmfuseError: they are of other clips or classes than those counted so far.
        """
        self._fits(record, table)
        if self.models == 0:
            self.class_names = _names(record, table)
            self.clips, self.labels = table["clip"], table["label"]
            self.probability = np.zeros(len(self.clips))
            self.answered = np.zeros((len(self.clips), len(self.class_names)), dtype=np.int32)
        place = self.answers[row, record.cell.shots]
        place.add(self.labels, table["predicted"], len(self.class_names), record.cell.draw)
        self.answered[np.arange(len(self.clips)), table["predicted"]] += 1
        self.models += 1
        self.probability += np.clip(np.nan_to_num(table["probability_of_label"]), 0, 1)

    def _fits(self, record: Record, table: dict[str, NDArray[Any]]) -> None:
        if len(table["clip"]) == 0:
            raise MmfuseError("its predictions hold no clips")
        classes = len(_names(record, table))
        both = np.concatenate([table["label"], table["predicted"]])
        if both.min() < 0 or both.max() >= classes:
            raise MmfuseError(f"its predictions name classes that are not among the {classes} of the record")
        if self.models == 0:
            return
        if _names(record, table) != self.class_names:
            raise MmfuseError("its classes are not those of the other cells")
        if not (np.array_equal(self.clips, table["clip"]) and np.array_equal(self.labels, table["label"])):
            raise MmfuseError("its test clips are not those of the other cells")

    # What is told

    def gains(self, pair: str, baseline: str, shots: Any) -> list[ClassGain]:
        """Gain of each class over the frozen towers, largest first; empty where either side has no predictions."""
        if (pair, shots) not in self.answers or (baseline, shots) not in self.answers:
            return []
        ours, theirs = self.answers[pair, shots], self.answers[baseline, shots]
        shared = [key for key in ours.right if key in theirs.right]
        if not shared:
            return []
        our_recalls = {key: ours.recalls(key, self.clips_of_class) for key in shared}
        their_recalls = {key: theirs.recalls(key, self.clips_of_class) for key in shared}
        gains = []
        for label in map(int, np.flatnonzero(self.clips_of_class)):
            values = [our_recalls[key][label] - their_recalls[key][label] for key in shared]
            gains.append(
                ClassGain(
                    label,
                    # Two clips, one of each side, that go either way: few clips move recall in large steps.
                    mean_of(values, grain=math.sqrt(2) * 50 / int(self.clips_of_class[label])),
                    ours=mean_of([our_recalls[key][label] for key in shared]).mean,
                    theirs=mean_of([their_recalls[key][label] for key in shared]).mean,
                    clips=int(self.clips_of_class[label]),
                )
            )
        return sorted(gains, key=lambda gain: (-gain.gain.mean, gain.label))

    def confused(self, pair: str, shots: Any, *, most: int = 10) -> list[tuple[int, int, int, float]]:
        """The most confused classes of a place: true class, answer, count, and share of the true class."""
        place = self.answers[pair, shots]
        models = sum(place.models.values())
        mistakes = sorted(
            ((i, j, count) for (i, j), count in place.pairs.items() if i != j), key=lambda item: (-item[2], item[:2])
        )
        return [(i, j, count, count / (models * int(self.clips_of_class[i]))) for i, j, count in mistakes[:most]]

    def hardest(self, *, most: int = 12) -> list[HardClip]:
        """The clips that were mistaken most often, by the lowest probability of their class where that is equal."""
        if self.models == 0:
            return []
        wrong = self.models - self.answered[np.arange(len(self.labels)), self.labels]
        order = sorted(
            np.flatnonzero(wrong).tolist(),
            key=lambda at: (-int(wrong[at]), float(self.probability[at]), str(self.clips[at])),
        )
        return [self._hard(at, int(wrong[at])) for at in order[:most]]

    def _hard(self, at: int, wrong: int) -> HardClip:
        label = int(self.labels[at])
        given = {other: count for other, count in enumerate(self.answered[at].tolist()) if count and other != label}
        return HardClip(
            clip=str(self.clips[at]),
            label=label,
            tested=self.models,
            wrong=wrong,
            probability=float(self.probability[at]) / self.models,
            answers=tuple(sorted(given.items(), key=lambda item: (-item[1], item[0]))),
        )


def _names(record: Record, table: dict[str, NDArray[Any]]) -> tuple[str, ...]:
    """A record's class names; their numbers where it has none."""
    if record.class_names:
        return record.class_names
    highest = int(max(table["label"].max(), table["predicted"].max()))
    if not 0 <= highest < 10_000:
        raise MmfuseError(f"its predictions name a class {highest}, and the record no classes")
    return tuple(str(number) for number in range(highest + 1))


def gather(group: Group, *, watch: Watch = iter) -> Evidence:
    """Count the predictions of a group's finished cells. What cannot be used is told and left out.

    Args:
        group: the cells of one data set and split.
        watch: wraps the cells that are read.
    """
    evidence = Evidence()
    rows = {id(entry): row for entry, row in zip(group.entries, group.row_of, strict=True)}
    for entry in watch([entry for entry in group.entries if entry.state == "done" and entry.record is not None]):
        assert entry.record is not None
        try:
            table = decode(group.folder.predictions_of(entry.record), columns=_READ)
            evidence.add(entry.record, table, row=rows[id(entry)])
        except MmfuseError as error:
            evidence.problems.append(f"{entry.cell.name}: {error}")
    return evidence

"""Which clips and classes a cell is trained and tested on: in the base-to-novel setting, and on other data sets.

No torch: a plan is refused here before the heavy libraries load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mmfuse.bench.class_overlap import overlapping, seen_classes
from mmfuse.bench.digests import dataset_digest, videos_digest
from mmfuse.bench.resolve import dataset_root
from mmfuse.data.base_to_novel import base_clips, part_of
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.data.class_subsets import Half, with_classes
from mmfuse.data.few_shot import fingerprint
from mmfuse.data.published_lists import training_clips
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from mmfuse.records.evaluations import NOVEL, Test, tests_of
from mmfuse.utils.content import Report
from mmfuse.utils.files import sha256_of_json


def trained_half(cell: Cell) -> Half | None:
    """The half of the classes that a cell trains on; `None` where it trains on all."""
    return "base" if cell.setting == "base-to-novel" else None


def trained_part(cell: Cell, whole: Catalogue) -> Catalogue:
    """The data set that a cell trains on, with the classes that it trains on."""
    return part_of(whole, trained_half(cell), protocol=cell.dataset.protocol)


def training_clips_of(cell: Cell, whole: Catalogue) -> pd.DataFrame:
    """The training clips of a cell: those of its draw, or of the published list that takes its place.

    Args:
        cell: the cell.
        whole: its data set with all classes.

    Raises:
        MmfuseError: a class has too few clips, or a published list is missing or another one.
    """
    part, shots, draw, protocol = trained_part(cell, whole), cell.shots, cell.draw, cell.dataset.protocol
    if cell.shots == 0:
        return part.part("train").iloc[:0]
    if protocol is not None and part is not whole:
        return base_clips(whole, part, shots=shots, draw=draw, protocol=protocol)
    return training_clips(part, shots=shots, draw=draw, train_list=cell.train_list, protocol=protocol)


@dataclass(frozen=True)
class TestList:
    """What an evaluation beside the main one tests.

    Args:
        test: which evaluation.
        catalogue: the classes and clips that are tested.
        overlap: classes that were trained on, each with the class here that its name resembles.
        left_out: classes that are not tested for that.
    """

    __test__ = False  # for pytest: not a test

    test: Test
    catalogue: Catalogue
    overlap: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def request(self) -> dict[str, Any]:
        """What the data module is given to test on these."""
        target = self.test.target
        if target is None:
            return {}
        classes = list(self.catalogue.class_names) if self.left_out else None
        return {"dataset": target.request(), "split": self.test.split, "damaged": target.damaged, "classes": classes}


def test_lists(
    cell: Cell, trained: Catalogue, *, data_root: Path | str | None, annotations: Path | None
) -> list[TestList]:
    """What a cell is tested on beside the main test list.

    Args:
        cell: the cell.
        trained: the data set that it trains on, with all classes.
        data_root: the folder that holds the data sets.
        annotations: the folder with official lists, where they do not lie below the data.

    Raises:
        MmfuseError: lists that are missing or wrong; in the zero-shot setting, classes that were trained on.
    """
    found = []
    for test in tests_of(cell)[1:]:
        if test.name == NOVEL and test.target is None:
            found.append(TestList(test, part_of(trained, "novel", protocol=cell.dataset.protocol)))
            continue
        assert test.target is not None
        root = dataset_root(test.target, data_root)
        whole = load_catalogue(test.target.request(), split=test.split, root=root, annotations=annotations)
        found.append(_target_list(test, whole, trained, zero_shot=cell.setting == "zero-shot"))
    return found


def _target_list(test: Test, whole: Catalogue, trained: Catalogue, *, zero_shot: bool) -> TestList:
    """The classes of another data set that are tested."""
    assert test.target is not None
    overlap = overlapping(trained.class_names, whole.class_names)
    if not test.target.drop_overlap:
        if overlap and zero_shot:
            raise MmfuseError(seen_classes(trained.card.title, whole.card.title, test.target.name, overlap))
        return TestList(test, whole, overlap)
    seen = {theirs for _, theirs in overlap}
    left = [name for name in whole.class_names if name not in seen]
    if not overlap:
        return TestList(test, whole)
    return TestList(test, with_classes(whole, set(left)), overlap, tuple(sorted(seen)))


def other_tests_digest(lists: Sequence[TestList], *, report: Report | None = None) -> str | None:
    """Digest of all that the tests beside the main one read; `None` where there are none, or videos are missing."""
    if not lists:
        return None
    parts: dict[str, Any] = {}
    for one in lists:
        read = replace(one.catalogue, table=one.catalogue.part("test"))
        videos = videos_digest(read, report=report)
        if videos is None and not read.card.generated:
            return None
        card = None if one.test.target is None else dataset_digest(one.test.target)
        parts[one.test.name] = [fingerprint(read.table), videos, card]
    return sha256_of_json(parts)

"""The tests of a trained cell beside its main one: novel classes, and other data sets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmfuse.bench import environment
from mmfuse.bench.tested_data import TestList
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.model.other_classes import other_classes
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.records.predictions import encode, metrics_of, tabulate
from mmfuse.records.record import Evaluation, Metrics, Predictions


@dataclass(frozen=True)
class Tested:
    """One test that was read.

    Args:
        tested: which classes and clips.
        data: those clips.
        predictions: of the model: `index`, `label`, `predicted` (N,), `probabilities` (N, C).
    """

    tested: TestList
    data: FewShotVideoDataModule
    predictions: Mapping[str, Any]


def run_other_tests(
    lists: Sequence[TestList],
    model: ActionRecognizer,
    *,
    make_data: Callable[[TestList], FewShotVideoDataModule],
    templates: Sequence[str] | None,
    sentences: Callable[[TestList], Mapping[str, Sequence[str]] | None],
    test: Callable[[FewShotVideoDataModule], None],
) -> list[Tested]:
    """Test a trained model on classes that it was not trained on; each list is read once.

    Args:
        lists: what is tested.
        model: trained.
        make_data: the clips of a list, as the model looks at clips.
        templates: prompts that the cell names; by default those of each data set's card.
        sentences: of the classes of a list, which take the place of the templates; `None` where there are none.
        test: tests the model on such clips.
    """
    found = []
    for tested in lists:
        data = make_data(tested)
        prompts, own = templates or data.templates, sentences(tested)
        with other_classes(model, data.class_names, templates=prompts, sentences=own):
            test(data)
            found.append(Tested(tested, data, dict(model.test_predictions)))
    return found


def evaluation_of(one: Tested, *, stem: str, train_clips: int) -> tuple[Evaluation, bytes]:
    """What a record keeps of a test, and the file of its predictions.

    Args:
        one: the test.
        stem: name of the record's files, without their ends.
        train_clips: clips that the model was trained on.
    """
    data, test = one.data, one.tested.test
    told = tabulate(data.test_clips, one.predictions)
    table, clips = encode(told), len(data.test_clips)
    evaluation = Evaluation(
        dataset=data.catalogue.name,
        split=test.split,
        class_names=tuple(data.class_names),
        test_clips=data.test_fingerprint,
        metrics=Metrics(**metrics_of(told), test_clips=clips, train_clips=train_clips),
        predictions=Predictions(
            file=f"{stem}--{part_of_file(test.name)}.csv.gz", sha256=environment.digest(table), clips=clips
        ),
        certified=data.certified,
        overlap=one.tested.overlap,
        left_out=one.tested.left_out,
    )
    return evaluation, table


def part_of_file(name: str) -> str:
    """A test's name as part of a file name that every file system takes, and that no other test has.

    >>> part_of_file("ucf101"), part_of_file("My clips!")
    ('ucf101', 'My-clips-39fb0428')
    """
    plain = re.sub("[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    return plain if plain == name.lower() else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

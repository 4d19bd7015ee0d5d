"""Something-Something V2, on lists of the official numbers of clips that these tests write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmfuse.data import few_shot
from mmfuse.data.catalogue.cards import load_card
from mmfuse.data.catalogue.load import Catalogue, load_catalogue
from mmfuse.errors import MmfuseError

CLASSES = 174
COUNTS = {"train.json": 168_913, "validation.json": 24_777}


def template(label: int) -> str:
    return f"Moving [something] past mark {label} of [something else]"


def entries(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": str(number),
            "label": f"moving cup {number} past mark {number % CLASSES} of jar",
            "template": template(number % CLASSES),
            "placeholders": [f"cup {number}", "jar"],
        }
        for number in range(first, first + count)
    ]


def write(folder: Path, *, prefix: str = "", counts: dict[str, int] | None = None, labels: Any = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {template(label).replace("[", "").replace("]", ""): str(label) for label in range(CLASSES)}
    (folder / f"{prefix}labels.json").write_text(json.dumps(names if labels is None else labels), encoding="utf-8")
    first = 1
    for name, count in (counts or COUNTS).items():
        (folder / f"{prefix}{name}").write_text(json.dumps(entries(first, count)), encoding="utf-8")
        first += count


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("ssv2")
    write(folder / "annotations")
    return load_catalogue("ssv2", annotations=folder)


def test_the_field_tests_on_the_validation_list(catalogue: Catalogue) -> None:
    assert (len(catalogue.part("train")), len(catalogue.part("test"))) == (168_913, 24_777)
    assert len(catalogue.class_names) == load_card("ssv2").class_count == CLASSES


def test_a_template_without_its_brackets_is_the_class_and_its_prompt(catalogue: Catalogue) -> None:
    row = catalogue.table.iloc[8]
    assert (row["clip"], row["label"]) == ("9", 9)
    assert row["class"] == "Moving something past mark 9 of something else"
    assert row["phrase"] == "moving something past mark 9 of something else"
    assert row["path"] == "20bn-something-something-v2/9.webm"


@pytest.mark.parametrize("shots", [1, 2, 16])
def test_draws_are_exact_and_nested(catalogue: Catalogue, shots: int) -> None:
    drawn = few_shot.draw_clips(catalogue, shots=shots, draw=0)
    assert drawn["label"].value_counts().tolist() == [shots] * CLASSES
    assert set(drawn["clip"]) < set(few_shot.draw_clips(catalogue, shots=32, draw=0)["clip"])


def test_other_lists_of_the_right_size_are_not_certified(catalogue: Catalogue) -> None:
    with pytest.raises(MmfuseError, match="not the certified one"):
        few_shot.certify(catalogue, few_shot.draw_clips(catalogue, shots=1, draw=0), shots=1, draw=0)


def test_certificates_cover_every_shots_and_draw() -> None:
    certificate = few_shot.certificates("ssv2")[1]
    assert {shots: len(set(draws)) for shots, draws in certificate.draws.items()} == {
        **dict.fromkeys(("1", "2", "4", "5", "8", "16", "32"), 10),
        "all": 1,
    }


def test_older_names_of_the_lists_are_read_too(tmp_path: Path) -> None:
    write(tmp_path, prefix="something-something-v2-", counts={"train.json": 174, "validation.json": 174})
    with pytest.raises(MmfuseError, match="train list of Something-Something V2 split 1 holds 174 clips"):
        load_catalogue("ssv2", annotations=tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        [],
        {"Doing nothing": "0"},
        {f"a {n}": n + 1 for n in range(CLASSES)},
        {f"a {n}": "x" for n in range(CLASSES)},
    ],
)
def test_other_label_files_are_refused(tmp_path: Path, labels: Any) -> None:
    write(tmp_path, labels=labels, counts={"train.json": 1, "validation.json": 1})
    with pytest.raises(MmfuseError, match=r"labels\.json"):
        load_catalogue("ssv2", annotations=tmp_path)


@pytest.mark.parametrize("entry", [3, {"id": 5, "template": template(0)}, {"id": "5", "template": "Doing nothing"}, {}])
def test_an_entry_that_is_no_clip_is_named(tmp_path: Path, entry: Any) -> None:
    write(tmp_path, counts={"train.json": 1, "validation.json": 1})
    (tmp_path / "train.json").write_text(json.dumps([*entries(1, 1), entry]), encoding="utf-8")
    with pytest.raises(MmfuseError, match=r"train\.json: entry 2 is not a clip of Something-Something V2"):
        load_catalogue("ssv2", annotations=tmp_path)


def test_missing_lists_say_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match=r"labels\.json was not found .*mmfuse data get ssv2"):
        load_catalogue("ssv2", annotations=tmp_path)


def test_sets_of_classes_are_told_where_all_classes_are(catalogue: Catalogue) -> None:
    assert catalogue.class_subsets == load_card("ssv2").subsets
    base = replace(catalogue.card, class_names=catalogue.card.class_names[:87])  # whose labels are counted anew
    assert replace(catalogue, card=base).class_subsets == {}
    assert load_catalogue("tiny").class_subsets == {}


def test_subsets_are_of_the_classes_and_disjoint() -> None:
    subsets = load_card("ssv2").subsets
    assert {name: len(labels) for name, labels in subsets.items()} == {"temporal": 18, "static": 16}
    assert not set(subsets["temporal"]) & set(subsets["static"])
    assert {label for labels in subsets.values() for label in labels} <= set(range(CLASSES))

"""Cells with more than one test: base and novel classes, and other data sets, down to the tables."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import mmfuse
from mmfuse.bench.engines.worker import run_guarded
from mmfuse.bench.estimate import clips_of, frames_of, work_of
from mmfuse.bench.grid import LoadedGrid
from mmfuse.bench.job import Job, Outcome
from mmfuse.bench.other_tests import part_of_file
from mmfuse.bench.preflight import prepare
from mmfuse.bench.run_cell import run_cell
from mmfuse.bench.yaml_source import YamlSource
from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.class_subsets import half_of
from mmfuse.data.datamodule import FewShotVideoDataModule
from mmfuse.errors import MmfuseError, MmfuseWarning
from mmfuse.model.other_classes import other_classes
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.records import evaluations
from mmfuse.records.cell import Cell, Fusion, Train
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.predictions import decode
from mmfuse.records.status import Entry, read_entries
from mmfuse.report.groups import groups
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.build import tables
from mmfuse.report.tables.settings import harmonic_mean
from tests.bench.real import make_cell, make_clips
from tests.towers import save_whole_model

pytestmark = pytest.mark.usefixtures("cache")

ACTIONS = ("walking", "running", "jumping", "waving", "rowing")
OTHERS = ("sliding", "to jump", "bowing")


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_clips(tmp_path_factory.mktemp("five"), name="five", classes=ACTIONS)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_clips(tmp_path_factory.mktemp("others"), name="others", classes=OTHERS)


def run(cell: Cell, **settings: Any) -> Outcome:
    return run_guarded(run_cell, Job(cell=cell, command="again", **settings), lambda progress: None)


def written(path: Path, *outcomes: Outcome) -> list[Entry]:
    folder = ResultsFolder(path)
    folder.prepare()
    folder.write_manifest(Manifest("test", [PlannedCell(one.record.cell) for one in outcomes]))
    for one in outcomes:
        folder.write(one.record, one.files)
    return read_entries(folder)


def test_base_and_novel_classes_are_tested_apart(five: dict[str, str], towers: dict[str, str], tmp_path: Path) -> None:
    few_shot, *cells = (
        make_cell(five, towers, "lora+coop", draw=draw, setting=setting)
        for setting, draw in (("few-shot", 0), ("base-to-novel", 0), ("base-to-novel", 1))
    )
    outcomes = [run(cell) for cell in cells]
    record = outcomes[0].record
    assert record.state == "done", record.error
    whole = load_catalogue(dict(five))
    base, novel = half_of(whole, "base"), half_of(whole, "novel")
    assert (len(base), len(novel)) == (3, 2)
    assert record.class_names == tuple(base)
    assert record.evaluations is not None
    assert record.evaluations["novel"].class_names == tuple(novel)
    assert (record.metrics.test_clips, record.metrics.train_clips) == (3, 6)  # type: ignore[union-attr]
    assert record.evaluations["novel"].metrics.test_clips == 2
    assert few_shot.config_hash != record.config_hash
    # Read again, each test stands under its own name, with its own predictions.
    folder = ResultsFolder(tmp_path / "r")
    entries = written(tmp_path / "r", *outcomes)
    assert [entry.state for entry in entries] == ["done", "done"]
    found = {group.dataset: group for group in groups(entries, folder)}
    assert list(found) == ["five (base)", "five (novel)"]
    seen = found["five (novel)"].entries[0].record
    assert seen is not None
    table = decode(folder.predictions_of(seen))
    assert sorted(table["label"]) == [0, 1]
    assert seen.metrics is not None
    assert np.mean(table["label"] == table["predicted"]) == seen.metrics.top1
    means = [Comparison(group).means((2,))[0] for group in found.values()]
    [mean] = [table.rows[0].values[2].mean for table in tables(entries, folder) if table.key == "base-to-novel"]
    assert mean is not None
    assert mean.mean == pytest.approx(harmonic_mean(*(one.mean for one in means if one is not None)))


def test_a_trained_cell_is_tested_on_another_data_set_as_a_hand_written_test_would(
    five: dict[str, str], others: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    plain = run(make_cell(five, towers, "lora+coop")).record
    outcome = run(make_cell(five, towers, "lora+coop", test_on=[{**others, "splits": [1]}]), keep_checkpoint=True)
    record = outcome.record
    assert record.state == "done", record.error
    assert record.metrics == plain.metrics  # a further test changes nothing of the main one
    assert record.evaluations is not None
    tested = record.evaluations["others"]
    assert tested.overlap == (("jumping", "to jump"),)
    for name, content in outcome.files.items():
        if name.startswith("checkpoint/"):
            path = tmp_path / "model" / name.removeprefix("checkpoint/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    model = ActionRecognizer.from_checkpoint(tmp_path / "model")
    data = FewShotVideoDataModule(dict(others), shots=0, frames=4, size=16)
    with torch.no_grad():
        classes = model.class_embeddings(data.class_names)
        batches = [(model(batch["video"], classes), batch["label"]) for batch in data.test_dataloader()]
    right = torch.cat([logits.argmax(-1) == label for logits, label in batches])
    assert tested.metrics.top1 == pytest.approx(right.double().mean().item())
    entries = written(tmp_path / "r", outcome)
    shown = mmfuse.load_results(tmp_path / "r")
    assert shown.tests == ["five", "others (trained on five)"]
    assert shown.table(test=shown.tests[1])["top1"].tolist() == [tested.metrics.top1]
    assert shown.table()["top1"].tolist() == [plain.metrics.top1]  # type: ignore[union-attr]
    seen = shown.predictions(test=shown.tests[1], draw=0)
    assert (seen["label"] == seen["predicted"]).mean() == pytest.approx(tested.metrics.top1)
    with pytest.raises(MmfuseError, match="unknown test 'others'"):
        shown.table(test="others")
    first = tables(entries, ResultsFolder(tmp_path / "r"))[0]
    assert any("Tested as well" in note and shown.tests[1] in note for note in first.notes)
    # Speed is that of the main test alone.
    assert record.cost is not None
    assert record.cost.test_clips_per_second == pytest.approx(5 / (record.cost.test_seconds or 0))
    [group] = [one for one in groups(written(tmp_path / "r", outcome), ResultsFolder(tmp_path / "r")) if not one.main]
    assert group.dataset == "others (trained on five)"


def test_a_record_that_lacks_or_alters_one_of_its_tests_is_not_believed(
    five: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    outcome = run(make_cell(five, towers, setting="base-to-novel"))
    record = outcome.record
    assert record.evaluations is not None
    novel = record.evaluations["novel"]
    wrong = novel.model_copy(update={"metrics": novel.metrics.model_copy(update={"top1": 0.123})})
    changes: list[tuple[dict[str, Any], str]] = [
        ({"evaluations": None}, "does not tell of its test on novel"),
        ({"evaluations": {"novel": wrong}}, "novel: it tells of a top1 of 0.123000"),
    ]
    for number, (change, told) in enumerate(changes):
        altered = Outcome(record.model_copy(update=change), outcome.files)
        [entry] = written(tmp_path / str(number), altered)
        assert entry.state == "failed"
        assert entry.failure is not None
        assert told in entry.failure.message


def planned(cells: list[Cell], root: Path) -> list[PlannedCell]:
    entries = [Entry(PlannedCell(cell), "missing") for cell in cells]
    return prepare(entries, data_root=root, will_run=list)


def test_what_a_test_shares_with_the_training_is_told_or_refused(
    five: dict[str, str], others: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    target = {**others, "splits": [1]}
    with pytest.warns(MmfuseWarning, match="others: trained on as well are 1 of its classes: to jump"):
        [few_shot] = planned([make_cell(five, towers, test_on=[target])], tmp_path)
    with pytest.raises(MmfuseError, match=r"never trained on, but five has classes of others: jumping \(to jump\)"):
        planned([make_cell(five, towers, setting="zero-shot", test_on=[target])], tmp_path)
    left_out = make_cell(five, towers, setting="zero-shot", test_on=[{**target, "drop_overlap": True}])
    with pytest.warns(MmfuseWarning, match="others: left out of the test are 1 of its classes: to jump"):
        [zero_shot] = planned([left_out], tmp_path)
    assert few_shot.inputs.other_tests != zero_shot.inputs.other_tests
    outcome = run(left_out, known=zero_shot.inputs)
    assert outcome.record.state == "done", outcome.record.error
    assert outcome.record.evaluations is not None
    assert outcome.record.evaluations["others"].class_names == ("bowing", "sliding")


CLIP = "openai/clip-vit-base-patch16"
UNTRAINED = {"setting": "zero-shot", "shots": [0], "encoders": {"image": CLIP, "text": CLIP}}


def loaded(**keys: Any) -> LoadedGrid:
    grid = {"name": "g", "datasets": ["hmdb51"], "shots": [2], "pairs": ["frozen+frozen"], **keys}
    return LoadedGrid(YamlSource(Path("g.yaml"), text=yaml.safe_dump(grid)))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"setting": "zero-shot"}, "needs data sets to test on"),
        ({"setting": "zeroshot"}, "few-shot"),
        ({"test_on": ["hmdb51"]}, "hmdb51 would be tested on itself alone"),
        ({"test_on": ["ucf1"]}, "did you mean 'ucf101'"),
        ({"test_on": [{"name": "ucf101", "splits": [4]}]}, "ucf101 has no split 4; it has 1, 2, 3"),
        ({"test_on": [{"name": "ucf101", "protocol": "vifi"}]}, "unknown key 'protocol'"),
        ({"test_on": ["ucf101", "ucf101"]}, "'ucf101' stands here twice"),
        ({"test_on": [{"name": "ucf101", "splits": [2, 2]}]}, "two tests would be called 'ucf101 split 2'"),
        (
            {"setting": "base-to-novel", "test_on": [{"name": "novel", "root": "/x"}]},
            "two tests would be called 'novel'",
        ),
        ({"test_on": ["ucf101"], "fusion": "linear"}, "'linear' reads no text"),
        ({"setting": "base-to-novel", "fusion": "concat"}, "'concat' reads no text"),
        ({"setting": "base-to-novel", "protocol": "vifi"}, "base-to-novel lists of hmdb51 at K = 16 only"),
        ({"setting": "base-to-novel", "protocol": "ju", "shots": [5]}, "no base-to-novel lists"),
        ({"setting": "zero-shot", "test_on": ["ucf101"]}, "HMDB51 has classes of UCF101"),
        ({"shots": [0]}, "got 0, which trains nothing: that is for 'setting: zero-shot'"),
        ({**UNTRAINED, "shots": [0, 2]}, "K = 0 stands alone"),
        ({**UNTRAINED, "test_on": ["ucf101"]}, "list them under datasets"),
        ({**UNTRAINED, "draws": [0, 1]}, "at K = 0 no clip is drawn"),
        ({**UNTRAINED, "pairs": ["lora+frozen"]}, "'lora+frozen' would be the frozen towers"),
        ({**UNTRAINED, "fusion": "late"}, "fusion: K = 0 trains nothing"),
        ({**UNTRAINED, "encoders": {}}, "'tiny-dinov2' and 'tiny-clip-text' were not trained together"),
    ],
)
def test_settings_that_mean_nothing_are_refused_when_the_grid_is_read(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(MmfuseError, match=r"g\.yaml") as raised:
        loaded(**keys).cells()
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_each_data_set_of_a_grid_is_tested_on_the_others() -> None:
    cells = loaded(datasets=["hmdb51", "ucf101"], test_on=["ucf101", "hmdb51"]).cells()
    assert [[target.name for target in cell.test_on] for cell in cells] == [["ucf101"], ["hmdb51"]]
    zero_shot = loaded(datasets=["diving48"], setting="zero-shot", test_on=[{"name": "ucf101", "drop_overlap": True}])
    assert zero_shot.cells()[0].test_on[0].splits == (1, 2, 3)


def test_towers_that_were_trained_together_are_tested_as_they_are(
    five: dict[str, str], others: dict[str, str], tmp_path: Path
) -> None:
    tower = str(save_whole_model("clip", tmp_path / "clip"))
    keys = {**UNTRAINED, "encoders": {"image": tower, "text": tower}, "datasets": [five, others]}
    cells = loaded(**keys, clip={"frames": 4, "size": 32}).cells()
    inputs = planned(cells, tmp_path)
    outcomes = [run(cell, known=item.inputs) for cell, item in zip(cells, inputs, strict=True)]
    record = outcomes[0].record
    assert record.state == "done", record.error
    assert (record.metrics.test_clips, record.metrics.train_clips) == (5, 0)  # type: ignore[union-attr]
    assert record.parameters is not None
    assert set(record.parameters.model_dump().values()) == {0}
    later = cells[0].model_copy(update={"fusion": Fusion(kind="late"), "train": Train(epochs=3)})
    assert Cell.model_validate(later.model_dump()).config_hash == cells[0].config_hash
    # As a user of Python would test it.
    data = FewShotVideoDataModule(dict(five), shots=0, frames=4, size=32)
    model = ActionRecognizer(
        data.class_names, image_encoder=tower, text_encoder=tower, fusion="aligned", templates=data.templates, frames=4
    ).eval()
    with torch.no_grad():
        right = [(model(one["video"]).argmax(-1) == one["label"]).float() for one in data.test_dataloader()]
    assert record.metrics is not None
    assert record.metrics.top1 == pytest.approx(torch.cat(right).mean().item())
    entries = written(tmp_path / "r", *outcomes)
    shown = {group.dataset: group for group in groups(entries, ResultsFolder(tmp_path / "r"))}
    assert set(shown) == {"five", "others"}
    assert Comparison(shown["five"]).table.columns == ("K=0",)


def test_other_classes_leave_a_model_as_it_was(towers: dict[str, str]) -> None:
    built = {"image_encoder": towers["image"], "text_encoder": towers["text"], "frames": 4}
    model = ActionRecognizer(["a", "b"], fusion={"kind": "mean", "width": 8}, **built).eval()
    before, metrics = model.class_embeddings(), model.metrics
    with contextlib.suppress(KeyError), other_classes(model, ["c", "d", "e"]):
        assert model.class_embeddings().shape[0] == 3
        raise KeyError
    assert torch.equal(model.class_embeddings(), before)
    assert model.metrics is metrics
    closed = ActionRecognizer(["a", "b"], fusion="linear", **built)
    with pytest.raises(MmfuseError, match="'linear' reads no text"), other_classes(closed, ["c", "d"]):
        pass


def test_tests_of_like_names_and_trainings_on_other_splits_are_kept_apart() -> None:
    names = ("a b", "a-b", "a_b", "A-b", "ä", "ö", "x" * 80, "x" * 79, "ucf101 split 2")
    files = [part_of_file(name) for name in names]
    assert len({file.casefold() for file in files}) == len(names)
    assert max(map(len, files)) < 50
    cells = loaded(splits=[1, 2], test_on=["ucf101"]).cells()
    assert [evaluations.tests_of(cell)[1].label for cell in cells] == [
        "ucf101 (trained on hmdb51)",
        "ucf101 (trained on hmdb51 split 2)",
    ]


def test_what_further_tests_take_is_estimated() -> None:
    [plain] = loaded(datasets=["diving48"]).cells()
    [further] = loaded(datasets=["diving48"], test_on=[{"name": "hmdb51", "splits": [1, 2]}]).cells()
    assert work_of(further) - work_of(plain) == frames_of(plain) * 2 * 1530
    [half] = loaded(datasets=["diving48"], setting="base-to-novel").cells()
    assert clips_of(half) == clips_of(plain) / 2

"""Results and draws in the formats of others: they fit their schemas, and tell what the tables tell."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from mmfuse.cli import main
from mmfuse.errors import MmfuseError
from mmfuse.records.folder import ResultsFolder
from mmfuse.report.export.croissant import COLUMNS, CSV_NAME, METADATA, Described, export_croissant
from mmfuse.report.export.eval_results import export_eval_results, parse_benchmarks
from mmfuse.report.export.evaleval import export_evaleval
from mmfuse.report.export.evaleval_schema import check_document
from mmfuse.report.export.source import Context, Facts, entries_of
from mmfuse.report.groups import groups
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.tidy import tidy
from tests.report.made import build, results

NOW = datetime(2026, 11, 25, tzinfo=UTC)
PAIRS = ("frozen+frozen", "dora+adapter")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two pairs, K = 2 and 8, three draws, of which one has failed and one is not there."""
    made = tmp_path_factory.mktemp("results")
    cells = [
        build(pair, shots=shots, draw=draw, dataset="ucf101") for pair in PAIRS for shots in (2, 8) for draw in range(3)
    ]
    gaps = {("dora+adapter", 8, 2): "failed", ("dora+adapter", 8, 1): "missing"}

    def top1(cell: Any) -> float | str:
        gain = 0.1 if cell.pair.name != "frozen+frozen" else 0.0
        return gaps.get((cell.pair.name, cell.shots, cell.draw), 0.5 + 0.02 * cell.draw + gain)

    results(made, cells, top1)
    return made


def context(**more: Any) -> Context:
    return Context(NOW, {"ucf101": Facts("UCF101", ("https://example.org/ucf101",))}, **more)


@pytest.fixture(scope="module")
def documents(folder: Path) -> dict[str, Any]:
    """The files of Every Eval Ever by the name of the pair."""
    with entries_of(folder) as (entries, kept):
        exported = export_evaleval(entries, kept, context(organization="A lab"))
    assert all(name.startswith("data/ucf101-split-1/A-lab/") for name in exported.files)
    assert exported.left_out == (
        "ucf101-split1-dora+adapter-k8-draw1-seed0: missing",
        "ucf101-split1-dora+adapter-k8-draw2-seed0: failed",
    )
    found = [json.loads(content) for content in exported.files.values()]
    return {document["model_info"]["name"]: document for document in found}


# -- Every Eval Ever ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda it: it.pop("eval_library"), "eval_library: Field required"),
        (
            lambda it: it["source_metadata"].update(evaluator_relationship="us"),
            "source_metadata.evaluator_relationship",
        ),
        (lambda it: it["model_info"]["additional_details"].pop("deployment_type"), "model_info lacks deployment_type"),
        (lambda it: it["model_info"].update(id="no-owner"), "model_info.id"),
        (lambda it: it["evaluation_results"][0]["score_details"].update(score=float("nan")), "score_details.score"),
        (
            lambda it: it["evaluation_results"][0]["score_details"]["details"].update(draws=3),
            "score_details.details.draws",
        ),
        (lambda it: it["evaluation_results"][0].update(notes="x"), "evaluation_results.0.notes"),
    ],
)
def test_documents_fit_the_schema_and_others_do_not(
    documents: dict[str, Any], change: Callable[[dict[str, Any]], Any], place: str
) -> None:
    assert set(documents) == set(PAIRS)
    for document in documents.values():
        check_document(document)
    other = copy.deepcopy(next(iter(documents.values())))
    change(other)
    with pytest.raises(MmfuseError, match=re.escape(place)):
        check_document(other)


def test_means_and_intervals_are_those_of_the_tables(documents: dict[str, Any], folder: Path) -> None:
    with entries_of(folder) as (entries, kept):
        [group] = groups(entries, kept)
    for metric in ("top1", "mean_class"):
        comparison = Comparison(group, metric=metric)
        assert comparison.gain_table is not None
        gains = {(one["row"], one["shots"]): one for one in tidy([comparison.gain_table])}
        for line in tidy([comparison.table]):
            if line["quantity"] != "accuracy" or "," in line["shots"]:
                continue
            told = result(documents[line["row"]], f"k{line['shots']}-{metric}-mean")
            assert told["score"] == pytest.approx(line["mean"] / 100)
            assert told["details"]["draws"] == str(line["n"])
            assert told["details"]["state"] == line["state"]
            if line["n"] == 1:  # one draw has no interval over draws, and none is made up
                assert "uncertainty" not in told
            else:
                interval = told["uncertainty"]["confidence_interval"]
                assert (interval["lower"], interval["upper"]) == (line["low"] / 100, line["high"] / 100)
            gain = gains.get((line["row"], line["shots"]))
            if gain is not None and gain["mean"] is not None:
                assert float(told["details"]["gain_in_points"]) == pytest.approx(gain["mean"], abs=1e-4)
                assert told["details"].get("gain_mark") == gain["verdict"]


def test_each_draw_is_told_with_its_record(documents: dict[str, Any], folder: Path) -> None:
    records = {record.name: record for record in ResultsFolder(folder).read()[0] if record.state == "done"}
    told = 0
    for document in documents.values():
        for one in document["evaluation_results"]:
            details = one["score_details"]["details"]
            if "record" in details:
                [record] = [record for record in records.values() if record.identity == details["record"]]
                metric = one["evaluation_result_id"].split("-")[1]
                assert one["score_details"]["score"] == getattr(record.metrics, metric)
                told += metric == "top1"
    assert told == len(records) == 10


def test_the_same_results_give_the_same_files(folder: Path) -> None:
    with entries_of(folder) as (entries, kept):
        first, again = (export_evaleval(entries, kept, context(organization="A lab")) for _ in range(2))
    assert first == again


def result(document: dict[str, Any], identifier: str) -> dict[str, Any]:
    [found] = [one for one in document["evaluation_results"] if one["evaluation_result_id"] == identifier]
    score: dict[str, Any] = found["score_details"]
    return score


# -- the hub's eval results --------------------------------------------------------------------------------------------


def test_eval_results_are_read_by_the_hubs_own_reader(folder: Path) -> None:
    with entries_of(folder) as (entries, kept):
        exported = export_eval_results(entries, kept, benchmarks=parse_benchmarks(["ucf101=lab/ucf101:k{shots}"]))
    assert set(exported.files) == {f"{pair}/.eval_results/ucf101-split-1.yaml" for pair in PAIRS}
    told = parse_eval_result_entries(yaml.safe_load(exported.files["dora+adapter/.eval_results/ucf101-split-1.yaml"]))
    assert [(one.dataset_id, one.task_id, one.value) for one in told] == [
        ("lab/ucf101", "k2", pytest.approx(62.0)),
        ("lab/ucf101", "k8", pytest.approx(60.0)),
    ]
    assert "incomplete: 1/3, 1 failed, 1 missing" in str(told[1].notes)


@pytest.mark.parametrize(
    ("benchmarks", "message"),
    [
        ([], r"none of these data sets \(ucf101\) is known as a benchmark of the hub"),
        (["hmdb51=lab/hmdb51:k"], r"none of these data sets \(ucf101\)"),
        (["ucf101=lab/ucf101:all"], r"several numbers of shots of ucf101 would stand as one task"),
        (["ucf101=lab"], "is written NAME=OWNER/DATASET:TASK"),
    ],
)
def test_benchmarks_are_never_guessed(benchmarks: list[str], message: str, folder: Path) -> None:
    with entries_of(folder) as (entries, kept), pytest.raises(MmfuseError, match=message):
        export_eval_results(entries, kept, benchmarks=parse_benchmarks(benchmarks))


# -- Croissant ---------------------------------------------------------------------------------------------------------


def rows(**first: str) -> list[dict[str, Any]]:
    classes = ("a, b", 'c "d"', "naïve")
    made = [
        {"clip": f"-v [{at}]", "label": at % 3, "class": classes[at % 3], "group": f"s{at // 2}", "part": part}
        for part in ("train", "test")
        for at in range(6)
    ]
    made[0] |= first
    return made


def described(**more: Any) -> Described:
    told = {"licence": "Apache-2.0", "citation": "@misc{x}"} | more
    return Described("x-k2", "X", "A list of clips.", "Drawn.", ("Small.",), "None.", **told)


def test_a_list_is_read_back_as_it_was(tmp_path: Path) -> None:
    exported = export_croissant(rows(), described(), now=NOW)
    assert exported.left_out == ()  # mlcroissant warns of nothing
    for name, content in exported.files.items():
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / METADATA))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    read = list(dataset.records("clips"))
    told = [{column: one[f"clips/{column}"] for column in COLUMNS} for one in read]
    assert [
        {key: value.decode() if isinstance(value, bytes) else value for key, value in one.items()} for one in told
    ] == rows()
    metadata = json.loads(exported.files[METADATA])
    assert metadata["distribution"][0]["sha256"] == sha256((tmp_path / CSV_NAME).read_bytes()).hexdigest()
    assert metadata["rai:dataBiases"][0].startswith("train: 6 clips of 3 classes, 2 a class, from 3 sources;")
    assert dataset.metadata.data_limitations == ["Small."]


def test_what_is_not_known_is_left_out_and_told_of() -> None:
    exported = export_croissant(rows(), described(licence="", citation=""), now=NOW)
    assert not {"license", "citeAs"} & json.loads(exported.files[METADATA]).keys()
    assert len(exported.left_out) == 2


@pytest.mark.parametrize("name", ["NA", "null", "None"])
def test_a_name_that_others_would_read_as_nothing_is_refused(name: str) -> None:
    with pytest.raises(MmfuseError, match=rf"mlcroissant reads the class '{name}' of '-v \[0\]' as"):
        export_croissant(rows(**{"class": name}), described(), now=NOW)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmfuse", "export", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_the_command_writes_and_tells_what_it_left_out(call: Any, folder: Path, tmp_path: Path) -> None:
    code, out, err = call(folder, "--to", "evaleval", "--organization", "A lab", "--out", tmp_path / "eee")
    assert code == 0
    assert sorted(out.splitlines()) == sorted(map(str, (tmp_path / "eee").rglob("*.json")))
    assert err.splitlines()[-1] == "left out: ucf101-split1-dora+adapter-k8-draw2-seed0: failed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "evaleval"), "asks for who ran the evaluation: --organization NAME"),
        (("--to", "eeval"), "unknown format 'eeval'; did you mean 'evaleval'?"),
        (("--to", "evaleval", "--organization", "x", "--shots", "4"), "--shots has no meaning for --to evaleval"),
        (("--to", "eval-results", "--date", "soon"), "--date is written YYYY-MM-DD"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(
    words: tuple[str, ...], message: str, call: Any, folder: Path, tmp_path: Path
) -> None:
    code, out, err = call(folder, *words, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_missing_is_named(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    code, _, err = call("tiny", "--to", "croissant", "--out", tmp_path / "out")
    assert code == 2
    assert "needs mlcroissant: pip install 'mmfuse[share]'" in err
    assert not (tmp_path / "out").exists()

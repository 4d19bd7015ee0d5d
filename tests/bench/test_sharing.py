"""A checkpoint folder as a model of the hub: its card, pushing it, and loading it again by name."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants

from mmfuse import ActionRecognizer, predict
from mmfuse.bench.engines.worker import run_guarded
from mmfuse.bench.job import Job
from mmfuse.bench.model_card import model_card
from mmfuse.bench.run_cell import run_cell
from mmfuse.cli import main
from mmfuse.errors import MmfuseError
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.record import Record
from tests.bench.real import make_cell, make_clips
from tests.hub import TOKEN, Hub, Repository, serving

EMBEDDED = {"image": "tiny-dinov2", "text": "tiny-clip-text"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with clips, and the results of a cell that keeps its checkpoint."""
    folder = tmp_path_factory.mktemp("home") / "alice"
    clips = make_clips(folder / "clips")
    cell = make_cell(clips, EMBEDDED, "dora+adapter")
    command = f"mmfuse train --dataset {folder}/clips --shots 2 --pair dora+adapter --out {folder}/model"
    outcome = run_guarded(run_cell, Job(cell=cell, command=command, keep_checkpoint=True), lambda progress: None)
    results = ResultsFolder(folder / "results")
    results.prepare()
    results.write(outcome.record, outcome.files)
    return folder


@pytest.fixture(scope="module")
def checkpoint(home: Path) -> Path:
    [folder] = (home / "results" / "checkpoints").iterdir()
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "hub", monkeypatch) as made:
        yield made


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmfuse", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main.main()
        captured = capsys.readouterr()
        # The hub's client shows its progress with carriage returns.
        errors = [line for line in captured.err.splitlines() if line.startswith("mmfuse:")]
        return int(end.value.code or 0), captured.out, "\n".join(errors)

    return run


def record_of(checkpoint: Path) -> Record:
    path = checkpoint.parent.parent / "records" / f"{checkpoint.name}.json"
    return Record.from_json(path.read_text())


# -- the card ----------------------------------------------------------------------------------------------------------


def test_the_card_tells_the_record_to_the_hub(checkpoint: Path) -> None:
    record = record_of(checkpoint)
    assert record.metrics is not None
    data = ModelCard((checkpoint / "README.md").read_text()).data
    assert (data.library_name, data.pipeline_tag) == ("mmfuse", "video-classification")
    assert {"peft", "dora", "adapter"} <= set(data.tags)
    told = {result.metric_config: result.metric_value for result in data.eval_results}
    expected = {name: round(getattr(record.metrics, name), 6) for name in ("top1", "top5", "mean_class")}
    assert told == expected
    assert data.eval_results[0].dataset_args["draw"] == record.cell.draw
    # The embedded towers are no models of the hub, and the clips no data set of others.
    assert not {"base_model", "datasets", "license"} & set(data.to_dict())


def test_the_card_tells_nothing_of_the_machine(home: Path, checkpoint: Path) -> None:
    record = record_of(checkpoint)
    for path in [checkpoint / "README.md", *checkpoint.glob("peft-*/adapter_config.json")]:
        text = path.read_text()
        for secret in (str(home), "alice", socket.gethostname(), str(Path(torch.__file__).parents[1])):
            assert secret not in text, path
    assert (
        "mmfuse train --dataset clips --shots 2 --pair dora+adapter --out DIR" in (checkpoint / "README.md").read_text()
    )
    assert record.provenance.host not in model_card(json.loads((checkpoint / "recognizer.json").read_text()), record)


def test_towers_of_the_hub_and_public_data_are_named(checkpoint: Path) -> None:
    description = json.loads((checkpoint / "recognizer.json").read_text())
    description["towers"]["image"]["name"] = "facebook/dinov2-base"
    description["towers"]["text"]["name"] = "openai/clip-vit-base-patch16"
    record = record_of(checkpoint)
    public = record.cell.model_copy(
        update={"dataset": record.cell.dataset.model_copy(update={"name": "ucf101", "root": None, "train": None})}
    )
    card = ModelCard(model_card(description, record.model_copy(update={"cell": public}), licence="mit"))
    assert card.data.base_model == ["facebook/dinov2-base", "openai/clip-vit-base-patch16"]
    assert card.data.datasets == ["ucf101"]
    assert {result.dataset_name for result in card.data.eval_results} == {"UCF101"}
    assert card.data.license == "mit"
    assert "none stated by its authors" in card.text


@pytest.mark.parametrize("name", ["```", "--- \n---", "| a | <b>", "naïve: [x](y)", "#"])
def test_names_of_classes_cannot_break_the_card(name: str, checkpoint: Path) -> None:
    description = json.loads((checkpoint / "recognizer.json").read_text())
    description["arguments"]["class_names"] = [name, "other"]
    card = ModelCard(model_card(description, record_of(checkpoint)))
    assert card.data.library_name == "mmfuse"
    assert card.text.index("## Limits") > card.text.index(name)


# -- pushing and loading -----------------------------------------------------------------------------------------------


def test_what_is_pushed_is_loaded_by_name(
    home: Path, checkpoint: Path, hub: Hub, call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, err = call("push", checkpoint, "user/waves", "--license", "apache-2.0", "--private")
    assert code == 0
    assert "clips of your own" in err
    assert "try next: mmfuse predict user/waves VIDEO" in out
    kept = hub.repositories["user/waves"]
    assert set(kept.files) == {
        "README.md",
        "recognizer.json",
        "trained.safetensors",
        "peft-image/adapter_config.json",
        "peft-image/adapter_model.safetensors",
    }
    assert kept.private
    card = ModelCard(kept.files["README.md"].decode())
    assert card.data.license == "apache-2.0"
    assert "No licence is stated" not in card.text
    hub.requests.clear()

    video = home / "clips" / "test_walking_0.mp4"
    [expected] = predict(checkpoint, video)
    code, out, _ = call("predict", "user/waves", video, "--json")
    assert code == 0
    told = {one["class"]: one["probability"] for one in json.loads(out)["predictions"][0]["classes"]}
    assert told == pytest.approx(dict(expected.top()), abs=1e-6)
    assert not hub.written()
    fetched = {line.rpartition("/")[2] for line in hub.requests if "/resolve/" in line}
    assert fetched == {"recognizer.json", "trained.safetensors"}

    # Without the hub, from its cache; and a folder of that name is what is meant.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    [again] = predict("user/waves", video)
    assert again.probabilities == expected.probabilities
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "waves").mkdir(parents=True)
    with pytest.raises(MmfuseError, match="user/waves holds no checkpoint"):
        ActionRecognizer.from_checkpoint("user/waves")


def test_a_revision_is_what_it_was(checkpoint: Path, hub: Hub, call: Any, tmp_path: Path) -> None:
    assert call("push", checkpoint, "user/waves", "--branch", "first", "--json")[0] == 0
    repository = hub.repositories["user/waves"]
    assert not repository.files  # of the main branch
    first = repository.branches["first"]
    repository.add("first", {"trained.safetensors": b"broken"})
    assert ActionRecognizer.from_checkpoint("user/waves", revision=first).class_names
    with pytest.raises(MmfuseError, match=r"trained\.safetensors cannot be read"):
        ActionRecognizer.from_checkpoint("user/waves", revision="first")
    with pytest.raises(MmfuseError, match="user/waves has no branch, tag or commit 'second'"):
        ActionRecognizer.from_checkpoint("user/waves", revision="second")
    with pytest.raises(MmfuseError, match="a revision belongs to a model of the hub"):
        ActionRecognizer.from_checkpoint(checkpoint, revision="first")
    code, out, _ = call("push", checkpoint, "user/waves", "--create-pr")
    assert code == 0
    assert "/discussions/1" in out
    assert not repository.files


def test_records_are_pushed_where_they_are_asked_for(home: Path, checkpoint: Path, hub: Hub, call: Any) -> None:
    code, _, err = call("push", checkpoint, "user/waves", "--records")
    assert code == 0
    assert "the names of the test clips" in err
    files = hub.repositories["user/waves"].files
    pushed = Record.from_json(files["record.json"].decode())
    mine = record_of(checkpoint)
    assert (pushed.metrics, pushed.identity, pushed.config_hash) == (mine.metrics, mine.identity, mine.config_hash)
    assert pushed.cell.config_hash == pushed.config_hash
    for secret in (str(home), "alice", socket.gethostname()):
        assert secret not in files["record.json"].decode()
    assert "predictions.csv.gz" in files


def test_a_dry_run_asks_nothing(checkpoint: Path, hub: Hub, call: Any) -> None:
    code, out, _ = call("push", checkpoint, "user/waves", "--dry-run")
    assert code == 0
    assert not hub.requests
    assert "trained.safetensors" in out
    assert yaml.safe_load(out.partition("---\n")[2].partition("---\n")[0])["library_name"] == "mmfuse"


@pytest.mark.parametrize(
    ("repository", "fault", "message"),
    [
        ("user/waves", "token", "there is no token of the hub on this machine: log in by"),
        ("user/waves", "offline", "the hub cannot be reached (HF_HUB_OFFLINE is set); nothing was pushed"),
        ("user/waves", "commit", "the hub failed at user/waves (500: out of order); try again later"),
        ("others/waves", "", "the hub does not let others/waves be written with this token"),
        ("waves", "", "'waves' is no repository of the hub"),
        ("user/a b", "", "'user/a b' is no repository of the hub"),
    ],
)
def test_a_refused_push_is_one_line_and_writes_no_file(
    repository: str, fault: str, message: str, checkpoint: Path, hub: Hub, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "token":
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", fault == "offline")
    hub.fail_at = "/commit/" if fault == "commit" else None
    code, out, err = call("push", checkpoint, repository)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert not any(kept.files for kept in hub.repositories.values())


def test_a_push_that_left_files_out_is_told(checkpoint: Path, hub: Hub, call: Any) -> None:
    hub.ignores = "trained.safetensors"  # as a .gitignore in the repository would
    code, _, err = call("push", checkpoint, "user/waves")
    assert code == 2
    assert "user/waves did not take trained.safetensors" in err


def test_what_is_no_checkpoint_is_not_pushed(home: Path, checkpoint: Path, hub: Hub, call: Any, tmp_path: Path) -> None:
    for folder in (home / "results", home / "clips"):
        code, _, err = call("push", folder, "user/waves")
        assert code == 2
        assert "holds no checkpoint" in err
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    content = (damaged / "trained.safetensors").read_bytes()
    (damaged / "trained.safetensors").write_bytes(content[:-8])
    code, _, err = call("push", damaged, "user/waves")
    assert code == 2
    assert "was damaged or changed" in err
    assert not hub.requests


@pytest.mark.parametrize(
    ("files", "setting", "message"),
    [
        (None, {}, "the hub has no repository user/x, or it is private"),
        ({}, {"private": True}, "the hub has no repository user/x, or it is private"),
        ({"pytorch_model.bin": b"pickle"}, {}, r"user/x is no model of mmfuse: it has no recognizer\.json"),
        ({"recognizer.json": b"{}"}, {}, r"user/x is no model of mmfuse: it has no trained\.safetensors"),
        ({"recognizer.json": b"{}", "trained.safetensors": b""}, {}, r"recognizer\.json is broken"),
        ({"recognizer.json": b"{}", "trained.safetensors": b""}, {"gated": True}, "asks for an agreement to its terms"),
    ],
)
def test_models_that_cannot_be_loaded(
    files: dict[str, bytes] | None, setting: dict[str, bool], message: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TOKEN
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    if files is not None:
        hub.repositories["user/x"] = Repository(**setting)
        hub.repositories["user/x"].add("main", files)
    with pytest.raises(MmfuseError, match=message):
        ActionRecognizer.from_checkpoint("user/x")


def test_a_model_that_was_spoilt_in_the_cache_is_fetched_anew(checkpoint: Path, hub: Hub, call: Any) -> None:
    assert call("push", checkpoint, "user/waves")[0] == 0
    sha = hub.repositories["user/waves"].branches["main"]
    for revision in (None, sha):
        ActionRecognizer.from_checkpoint("user/waves", revision=revision)
        [kept] = Path(constants.HF_HUB_CACHE).glob("*/snapshots/*/trained.safetensors")
        content = kept.read_bytes()
        kept.resolve().write_bytes(content[: len(content) // 2])  # as a full disk leaves it
        assert ActionRecognizer.from_checkpoint("user/waves", revision=revision).class_names
        assert kept.read_bytes() == content


def test_a_tower_of_another_machine_is_given_by_an_option(
    home: Path, checkpoint: Path, hub: Hub, call: Any, tmp_path: Path
) -> None:
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    told = json.loads((moved / "recognizer.json").read_text())
    told["towers"]["image"]["name"] = "/home/alice/towers/vit"
    (moved / "recognizer.json").write_text(json.dumps(told))
    code, _, err = call("push", moved, "user/waves")
    assert code == 0
    assert "the image tower is a folder of this machine, 'vit'" in err
    assert b"alice" not in b"".join(hub.repositories["user/waves"].files.values())
    video = home / "clips" / "test_walking_0.mp4"
    code, _, err = call("predict", "user/waves", video)
    assert code == 2
    assert "image tower 'vit'" in err
    assert call("predict", "user/waves", video, "--image-encoder", "tiny-dinov2")[0] == 0


def test_a_hub_that_cannot_be_reached_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        MmfuseError, match=r"^there is no folder user/x, and as a model of the hub [^\n]* cannot be reached"
    ):
        ActionRecognizer.from_checkpoint("user/x")

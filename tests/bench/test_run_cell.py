"""Real cells end to end, on clips and towers small enough for a test."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import shutil
import signal
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmfuse import ActionRecognizer
from mmfuse.bench import tower_cache
from mmfuse.bench.engines.worker import run_guarded
from mmfuse.bench.job import Attempt, Job, Outcome, Progress
from mmfuse.bench.preflight import prepare
from mmfuse.bench.run_cell import run_cell
from mmfuse.data.frames import sources
from mmfuse.errors import MmfuseError
from mmfuse.inference.predict import predict
from mmfuse.methods import registry
from mmfuse.records.cell import Cell
from mmfuse.records.folder import PlannedCell, ResultsFolder
from mmfuse.records.predictions import decode
from mmfuse.records.status import Entry
from tests.bench.real import CLASSES, SIZE, make_cell, make_clips
from tests.data.videos import encode

REPOSITORY = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("cache")


def run(cell: Cell, **settings: Any) -> Outcome:
    return run_guarded(run_cell, Job(cell=cell, command="again", **settings), lambda progress: None)


def test_a_cell_leaves_a_full_record(clips: dict[str, str], towers: dict[str, str], tmp_path: Path) -> None:
    cell = make_cell(clips, towers, "lora+adapter")
    told: list[Progress] = []
    outcome = run_cell(Job(cell=cell, command="again"), progress=told.append)
    record = outcome.record
    assert record.state == "done"
    assert record.metrics is not None
    assert (record.metrics.test_clips, record.metrics.train_clips) == (3, 6)
    assert record.parameters is not None
    assert min(record.parameters.image_method, record.parameters.text_method, record.parameters.fusion) > 0
    assert record.cost is not None
    assert record.cost.seconds > 0
    assert record.cost.peak_memory_bytes is not None
    trained = sum(record.parameters.model_dump().values())
    assert record.cost.checkpoint_bytes is not None
    assert 4 * trained <= record.cost.checkpoint_bytes <= 4 * trained + 20_000
    assert [name for name, digest in record.inputs if digest is None] == ["other_tests"]  # there are none
    assert record.provenance.versions["torch"]
    assert record.provenance.precision == "32-true"
    assert record.seeds.training == cell.training_seed
    assert record.recipes == {part: dataclasses.asdict(recipe) for part, recipe in cell.recipes.items()}
    assert set(record.recipes) == {"image", "text", "fusion"}
    assert {progress.phase for progress in told} == {"loading", "training", "testing"}
    epochs = [progress.epoch for progress in told if progress.phase == "training"]
    assert epochs[0] == 1
    assert epochs == sorted(epochs)
    assert set(epochs) <= {1, 2}
    # Predictions tell the same as the metrics.
    folder = ResultsFolder(tmp_path / "r")
    folder.prepare()
    folder.write(record, outcome.files)
    table = decode(folder.predictions_of(record))
    assert np.mean(table["label"] == table["predicted"]) == pytest.approx(record.metrics.top1)
    assert sorted(table["label"]) == [0, 1, 2]
    assert (table["probability"] >= table["probability_of_label"]).all()
    assert table["group"].tolist() == table["clip"].tolist()  # clips without a named source are their own


def test_the_same_cell_twice_gives_the_same_numbers_whatever_ran_between(
    clips: dict[str, str], towers: dict[str, str]
) -> None:
    for pair in ("frozen+frozen", "lora+coop"):
        first = run(make_cell(clips, towers, pair))
        run(make_cell(clips, towers, "dora+adapter"))
        second = run(make_cell(clips, towers, pair))
        assert first.record.error is None
        assert first.record.metrics == second.record.metrics
        assert first.record.identity == second.record.identity
        assert first.files["predictions"] == second.files["predictions"]


def test_clips_of_ones_own_are_seen_at_the_size_that_the_image_tower_was_trained_on(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    said, left_open = (
        run(make_cell(clips, towers, clip={"frames": 4, "size": size}), keep_checkpoint=True) for size in (SIZE, None)
    )
    assert left_open.record.error is None
    assert left_open.record.metrics == said.record.metrics
    assert left_open.files["predictions"] == said.files["predictions"]
    kept = [json.loads(outcome.files["checkpoint/recognizer.json"]) for outcome in (said, left_open)]
    assert [description["sampling"]["size"] for description in kept] == [SIZE, SIZE]


def test_a_size_that_is_no_whole_number_of_patches_fails_with_sizes_that_are(
    clips: dict[str, str], towers: dict[str, str]
) -> None:
    record = run(make_cell(clips, towers, clip={"frames": 4, "size": 20})).record
    assert record.error is not None
    assert "frames of 20 pixels cannot be cut into the 8-pixel patches" in record.error.message
    assert record.error.message.endswith("use 16 or 24")


def test_seeds_and_draws_change_the_training(clips: dict[str, str], towers: dict[str, str]) -> None:
    base, *others = [
        run(make_cell(clips, towers, **change)).files["predictions"] for change in ({}, {"seed": 1}, {"draw": 1})
    ]
    assert all(other != base for other in others)


def test_a_loss_that_is_not_a_number_fails_the_cell_by_name(clips: dict[str, str], towers: dict[str, str]) -> None:
    record = run(
        make_cell(clips, towers, "lora+frozen", train={"method_lr": 1e6, "fusion_lr": 1e6, "epochs": 9})
    ).record
    assert record.error is not None
    assert record.error.kind == "NonFiniteLoss"
    assert record.metrics is None


def test_loggers_write_where_they_are_told_and_change_no_number(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cell = make_cell(clips, towers, train={"epochs": 6})
    logged = run(cell, loggers=("csv", "tensorboard"), log_folder=str(tmp_path / "logs"))
    bare = run(cell)
    assert logged.files["predictions"] == bare.files["predictions"]
    for part in ("identity", "metrics", "parameters", "inputs", "recipes", "notes", "config_hash"):
        assert getattr(logged.record, part) == getattr(bare.record, part)
    [file] = (tmp_path / "logs").rglob("metrics.csv")
    assert {"train/loss", "test/top1"} <= set(file.read_text().splitlines()[0].split(","))
    assert (file.parent / "clips.png").read_bytes().startswith(b"\x89PNG")
    assert "cell/pair.name" in (file.parent / "hparams.yaml").read_text()
    events = next((tmp_path / "logs").rglob("events.*"))
    read = accumulator.EventAccumulator(str(events.parent)).Reload()
    assert any(name.startswith("lr-") for name in read.Tags()["scalars"])
    assert read.Scalars("test/top1")[-1].value == pytest.approx(logged.record.metrics.top1)
    assert read.Tags()["images"] == ["clips"]


def test_a_logger_that_fails_fails_no_cell_and_is_told_of_once(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("a file in the place of the folder")
    cell = make_cell(clips, towers, train={"epochs": 6})
    record = run(cell, loggers=("csv",), log_folder=str(tmp_path / "logs")).record
    assert record.state == "done"
    [note] = record.notes
    assert note.startswith("the logger 'csv' failed and was left alone (FileExistsError: ")


def test_a_video_that_went_bad_is_named(towers: dict[str, str], tmp_path: Path) -> None:
    clips = make_clips(tmp_path / "clips")
    whole = run(make_cell(clips, towers))
    bad = tmp_path / "clips" / "test_running_0.mp4"
    content = bad.read_bytes()
    bad.write_bytes(b"\0" * len(content))
    record = run(make_cell(clips, towers)).record
    assert record.error is not None
    assert "test_running_0.mp4" in record.error.message
    bad.write_bytes(content)
    assert run(make_cell(clips, towers)).files["predictions"] == whole.files["predictions"]


def test_a_damaged_video_is_kept_as_far_as_it_goes_where_the_grid_says_so(
    towers: dict[str, str], tmp_path: Path
) -> None:
    clips = make_clips(tmp_path / "clips")
    bad = tmp_path / "clips" / "test_running_0.mp4"
    whole = encode(tmp_path / "whole.avi").read_bytes()
    bad.write_bytes(whole[: (whole.index(b"movi") + whole.rindex(b"idx1")) // 2])
    refused = run(make_cell(clips, towers)).record
    assert refused.error is not None
    assert "test_running_0.mp4" in refused.error.message
    for store in (None, str(tmp_path / "store")):
        kept = run(make_cell(clips | {"damaged": "keep"}, towers), store=store).record
        assert kept.error is None
        assert kept.metrics is not None
        assert kept.metrics.test_clips == 3
        assert kept.config_hash != refused.config_hash


@pytest.mark.parametrize("pair", ["frozen+frozen", "lora+adapter"])
def test_several_views_of_a_test_video_are_averaged_here_and_in_predict(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path, pair: str
) -> None:
    cells = [
        make_cell(clips, towers, pair, clip={"frames": 2, "size": SIZE, **views})
        for views in ({}, {"test_views": "1x1"}, {"test_views": "3x1"})
    ]
    assert cells[0].config_hash == cells[1].config_hash != cells[2].config_hash
    one, several = (run(cell, keep_checkpoint=True) for cell in (cells[0], cells[2]))
    assert one.files["predictions"] != several.files["predictions"]
    assert str(one.record.test_views) == "2×1×1"
    assert str(several.record.test_views) == "2×3×1"
    for name, content in several.files.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    table = decode(tmp_path / "predictions")
    for clip, label, probability in zip(table["clip"], table["label"], table["probability_of_label"], strict=True):
        [told] = predict(tmp_path / "checkpoint", Path(clips["root"]) / clip)
        answer = dict(zip(told.labels, told.probabilities, strict=True))
        assert answer[sorted(CLASSES)[label]] == pytest.approx(probability, abs=2e-6)


def test_a_published_list_takes_the_place_of_a_draw(towers: dict[str, str], tmp_path: Path) -> None:
    clips = make_clips(tmp_path / "clips", train=3)
    listed = tmp_path / "k1.txt"
    listed.write_text("".join(f"train_{name}_2.mp4 {label}\n" for label, name in enumerate(sorted(CLASSES))))
    cell = make_cell(clips | {"train_lists": {1: str(listed)}}, towers, shots=1)
    [planned] = prepare([Entry(PlannedCell(cell), "missing")], data_root=tmp_path, will_run=list)
    first, again = run(cell).record, run(cell.model_copy(update={"draw": 1})).record
    assert first.error is None
    assert first.inputs.train_clips == again.inputs.train_clips == planned.inputs.train_clips
    assert first.inputs.train_clips != run(make_cell(clips, towers, shots=1)).record.inputs.train_clips
    assert first.provenance.certified is False
    listed.write_text(listed.read_text().replace("_2.mp4", "_1.mp4"))
    [changed] = prepare([Entry(PlannedCell(cell), "missing")], data_root=tmp_path, will_run=list)
    assert not changed.inputs.agrees_with(first.inputs)
    listed.write_text("train_running_0.mp4 1\n")
    with pytest.raises(MmfuseError, match=r"k1\.txt: 0 clips of 'jumping'; at K = 1 each class has 1"):
        prepare([Entry(PlannedCell(cell), "missing")], data_root=tmp_path, will_run=list)


def test_a_worker_looks_for_the_official_lists_where_the_runner_did(towers: dict[str, str], tmp_path: Path) -> None:
    cell = make_cell({"name": "hmdb51"}, towers)
    record = run(cell, data_root=str(tmp_path), annotations=str(tmp_path / "lists")).record
    assert record.error is not None
    assert f"looked below: {tmp_path / 'lists'}" in record.error.message


def test_wrong_values_fail_in_one_line(clips: dict[str, str], towers: dict[str, str]) -> None:
    record = run(make_cell(clips, towers, templates=["no place for a class"])).record
    assert record.error is not None
    assert record.error.kind == "MmfuseError"
    assert "no place for a class" in record.error.message
    assert "\n" not in record.error.message


def test_two_processes_see_the_same_shots_and_every_test_clip_once(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    """Three test clips do not divide by two, so that any padding would show."""
    fusion = {"kind": "joint", "width": 16, "layers": 1, "heads": 2, "dropout": 0.0}
    cell = make_cell(clips, towers, "lora+adapter", fusion=fusion)
    alone, together = run(cell), run(on_two_devices(cell))
    assert together.record.error is None
    assert together.record.inputs == alone.record.inputs
    # Each rank draws its own drop-out, so it is another cell.
    assert together.record.identity != alone.record.identity
    assert together.record.provenance.devices == 2
    assert together.record.metrics is not None
    assert together.record.metrics.test_clips == 3
    tables = []
    for name, outcome in (("alone", alone), ("together", together)):
        path = tmp_path / f"{name}.csv.gz"
        path.write_bytes(outcome.files["predictions"])
        tables.append(decode(path))
    assert tables[1]["clip"].tolist() == tables[0]["clip"].tolist()
    # The same clips make up each step, so the two trainings differ by rounding alone.
    np.testing.assert_allclose(tables[1]["probability"], tables[0]["probability"], atol=1e-4)


def on_two_devices(cell: Cell, **train: int) -> Cell:
    values = cell.model_dump()
    return Cell.model_validate({**values, "devices": 2, "train": {**values["train"], **train}})


def test_a_rank_that_dies_is_named_and_the_others_are_ended_at_once(
    clips: dict[str, str], towers: dict[str, str]
) -> None:
    """The other one waits for its gradients, by gloo, which tells of a lost connection; by NCCL it would only wait."""
    ranks: dict[str, int] = {}

    def lose(news: Progress) -> None:
        if news.phase == "training" and not ranks:
            ranks.update(running_ranks())
            os.kill(ranks["1"], signal.SIGKILL)

    cell = on_two_devices(make_cell(clips, towers, "lora+adapter"), epochs=100_000)
    outcome = run_guarded(run_cell, Job(cell=cell), lose)
    assert outcome.record.error is not None
    assert outcome.record.error.kind == "RankDied"
    assert outcome.record.error.message.startswith("rank 1 of 2 was lost: its process was ended by SIGKILL")
    assert outcome.record.failed_transiently
    assert set(ranks) == {"0", "1"}
    assert not running_ranks()


def running_ranks() -> dict[str, int]:
    """Process ids of this process's ranks, by rank."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                variables = dict(
                    entry.partition("=")[::2] for entry in (stat.parent / "environ").read_text().split("\0")
                )
                found[variables.get("LOCAL_RANK", "")] = int(stat.parent.name)
    return {rank: process for rank, process in found.items() if rank}


def test_a_batch_that_devices_cannot_share_is_refused(clips: dict[str, str], towers: dict[str, str]) -> None:
    record = run(on_two_devices(make_cell(clips, towers), batch_size=3)).record
    assert record.error is not None
    assert record.error.message == "a batch of 3 clips cannot be shared among 2 devices"


def test_out_of_memory_halves_the_batch_and_keeps_the_effective_one(
    clips: dict[str, str], towers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than two clips at once ask for more memory than any address space has, which fails on every machine."""
    cell = make_cell(clips, towers, "lora+frozen")
    steps: list[tuple[int, int]] = []
    models: list[weakref.ref[ActionRecognizer]] = []
    step = ActionRecognizer.training_step

    def limited(model: ActionRecognizer, batch: Any, *place: Any) -> Any:
        if models[-1:] != [weakref.ref(model)]:
            gc.collect()
            assert not any(earlier() for earlier in models), "the first try still takes memory"
            models.append(weakref.ref(model))
        steps.append((len(batch["label"]), model.trainer.accumulate_grad_batches))
        if len(batch["label"]) > 2:
            torch.empty(2**60, dtype=torch.uint8)
        return step(model, batch, *place)

    tested: list[int] = []
    test_step = ActionRecognizer.test_step

    def tightly(model: ActionRecognizer, batch: Any, *place: Any) -> Any:
        tested.append(len(batch["label"]))
        if len(batch["label"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return test_step(model, batch, *place)

    monkeypatch.setattr(ActionRecognizer, "training_step", limited)
    monkeypatch.setattr(ActionRecognizer, "test_step", tightly)
    peaks: list[None] = []
    monkeypatch.setattr("mmfuse.bench.environment.reset_peak_memory", lambda: peaks.append(None))
    record = run_cell(Job(cell=cell), progress=lambda news: None).record
    assert steps == [(4, 1), *[(2, 2)] * 6]  # two epochs of six clips
    assert tested == [2, 1, 1, 1]  # of the test alone only the batches are halved
    assert record.notes == (
        "out of memory with batches of 4; run again with 2 and accumulated gradients",
        "out of memory in the test; tested 1 at a time",
    )
    assert len(peaks) == 2, "the failed try counts among the peak of the one that went well"
    assert record.provenance.micro_batch == 2
    assert record.cell.train.batch_size == 4
    assert record.metrics is not None
    assert record.metrics.train_clips == 6


def test_batches_are_halved_as_often_as_it_takes_and_always_into_even_parts() -> None:
    attempt, seen = Attempt(micro_batch=12, started="", begun=0.0), []
    while attempt.micro_batch > 1:
        attempt = attempt.with_less()
        seen.append(attempt.micro_batch)
    assert seen == [6, 3, 1]
    assert len(attempt.notes) == 3


def test_the_test_list_is_read_once_and_after_training(
    clips: dict[str, str], towers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    original = sources.read_counted

    def reading(path: Any, *args: Any, **how: Any) -> Any:
        events.append(Path(path).name)
        return original(path, *args, **how)

    monkeypatch.setattr(sources, "read_counted", reading)
    run_cell(
        Job(cell=make_cell(clips, towers, "lora+adapter"), command="again"),
        progress=lambda progress: events.append(progress.phase),
    )
    read = [event for event in events if event.startswith("test_")]
    assert sorted(read) == sorted(set(read))
    assert len(read) == 3
    last_step = max(place for place, event in enumerate(events) if event == "training")
    assert min(events.index(name) for name in read) > last_step


@pytest.mark.parametrize(
    ("pair", "train"), [("lora+adapter", {}), ("dora+coop", {"ema": 0.5, "validation": 0.5, "mixup": 0.5})]
)
def test_a_diagnosis_of_test_selection_touches_no_training(
    clips: dict[str, str], towers: dict[str, str], pair: str, train: dict[str, Any]
) -> None:
    fusion = {"kind": "joint", "width": 16, "layers": 1, "heads": 2, "dropout": 0.3}  # which draws random numbers
    cell = make_cell(clips, towers, pair, train={"epochs": 3, "fusion_lr": 0.01, **train}, fusion=fusion)
    plain, diagnosed = (run(cell, keep_checkpoint=True, diagnose=diagnose) for diagnose in ((), ("test_selection",)))
    assert plain.files == diagnosed.files  # weights and predictions, bit by bit
    assert plain.record.metrics == diagnosed.record.metrics
    assert plain.record.identity == diagnosed.record.identity
    assert plain.record.test_selection is None
    told = diagnosed.record.test_selection
    assert told is not None
    assert diagnosed.record.metrics is not None
    assert len(told.top1) == 3
    assert told.top1[-1] == diagnosed.record.metrics.top1
    assert told.seconds > 0


def test_nothing_is_selected_on_the_test_list(clips: dict[str, str], towers: dict[str, str], tmp_path: Path) -> None:
    other = make_clips(tmp_path / "clips")
    lines = (tmp_path / "clips" / "test.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    wrong = [",".join([rows[i][0], rows[i - 1][1], rows[i][2]]) for i in range(len(rows))]
    (tmp_path / "clips" / "test.csv").write_text("\n".join([lines[0], *wrong]))
    trained = [
        run(make_cell(data, towers, "dora+adapter"), keep_checkpoint=True).files["checkpoint/trained.safetensors"]
        for data in (clips, other)
    ]
    assert trained[0] == trained[1]


def test_a_tower_replaced_between_two_cells_of_one_worker_is_read_again(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    mine = {kind: str(shutil.copytree(folder, tmp_path / kind)) for kind, folder in towers.items()}
    cell = make_cell(clips, mine)
    first = run(cell).record
    weights = tmp_path / "image" / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: -tensor for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    second = run(cell).record
    assert first.inputs.changes(second.inputs) == ["image_tower"]
    assert first.provenance.weights["image"] != second.provenance.weights["image"]
    assert first.identity != second.identity


def test_each_tower_is_asked_for_once_a_cell_and_each_method_parsed_once(
    clips: dict[str, str], towers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = make_cell(clips, towers, "lora+coop", clip={"frames": 4})
    assert cell.config_hash  # which a plan makes of each of its cells
    asked: list[str] = []
    for kind in ("image", "text"):
        read = getattr(tower_cache, f"{kind}_tower")
        monkeypatch.setattr(
            tower_cache,
            f"{kind}_tower",
            lambda name, read=read: (asked.append(f"{Path(name).name} tower"), read(name))[1],
        )
    look_up = registry.lookup
    monkeypatch.setattr(registry, "lookup", lambda name, tower: (asked.append(name), look_up(name, tower))[1])
    outcome = run_cell(Job(cell=cell), progress=lambda news: None)
    assert outcome.record.metrics is not None
    assert sorted(asked) == ["coop", "image tower", "lora", "text tower"]


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_video_replaced_after_the_grid_was_planned_or_in_the_middle_of_a_cell_gives_no_number(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path, part: str
) -> None:
    mine = {**clips, "root": str(shutil.copytree(clips["root"], tmp_path / "clips"))}
    cell = make_cell(mine, towers)
    one, other = (tmp_path / "clips" / f"{part}_{name}_0.mp4" for name in CLASSES[:2])

    def replace(progress: Progress) -> None:
        if progress.phase == "training":
            # Another video; with an empty box at its end, as a plain copy of one under another label is refused.
            one.write_bytes(other.read_bytes() + b"\0\0\0\x08free")

    [planned] = prepare([Entry(PlannedCell(cell), "missing")], data_root=tmp_path, will_run=list)
    outcome = run_guarded(run_cell, Job(cell=cell, known=planned.inputs), replace)
    assert outcome.record.error is not None
    assert outcome.record.error.message.startswith("the videos changed since the cell began")
    later = run(cell, known=planned.inputs).record
    assert later.error is not None
    assert later.error.message.startswith("the videos changed since the grid was planned")
    assert outcome.record.failed_transiently
    assert later.failed_transiently
    assert run(cell).record.error is None

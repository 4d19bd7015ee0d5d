"""What only a GPU can tell: `make gpu` runs these where there is one, and they are skipped elsewhere."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmfuse.bench.engines.local import device_slots
from mmfuse.bench.engines.worker import run_guarded
from mmfuse.bench.job import Job, Outcome, Progress
from mmfuse.bench.run_cell import run_cell, train_and_test
from mmfuse.bench.session import run_grid
from mmfuse.methods import names
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.records.cell import Cell
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.predictions import decode
from tests import towers as small
from tests.bench.real import make_cell
from tests.bench.test_run_cell import on_two_devices, running_ranks

GPUS = torch.cuda.device_count()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("cache"),
    pytest.mark.skipif(GPUS == 0, reason="needs a GPU that torch can use"),
]
several = pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
REPOSITORY = Path(__file__).parents[2]
PAIRS = [f"{name}+frozen" for name in names("image") if name != "peft"]
PAIRS += [f"frozen+{name}" for name in names("text") if name not in ("frozen", "peft")]
FLOOR = 400.0
"""Training clips a second of the small towers, far below what any GPU of the last ten years does."""

RUN_APART = """
import pickle, sys
from mmfuse.bench.run_cell import run_cell
job = pickle.load(sys.stdin.buffer)
outcome = run_cell(job, progress=lambda news: None)
sys.stdout.buffer.write(pickle.dumps(outcome))
"""


def apart(job: Job) -> Outcome:
    """Run a job in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", RUN_APART], input=pickle.dumps(job), env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    outcome: Outcome = pickle.loads(done.stdout)
    return outcome


def probabilities(outcome: Outcome, folder: Path) -> np.ndarray:
    path = folder / "predictions.csv.gz"
    path.write_bytes(outcome.files["predictions"])
    return np.asarray(decode(path)["probability"])


@pytest.mark.parametrize("pair", PAIRS)
def test_a_cell_gives_the_same_numbers_in_two_processes(
    pair: str, clips: dict[str, str], towers: dict[str, str]
) -> None:
    job = Job(cell=make_cell(clips, towers, pair))
    first, second = apart(job), apart(job)
    assert first.record.provenance.device == torch.cuda.get_device_name()
    assert first.files["predictions"] == second.files["predictions"]


def test_two_workers_give_the_numbers_of_one(tmp_path: Path) -> None:
    grid: dict[str, Any] = {
        "name": "g",
        "datasets": ["tiny"],
        "shots": [1],
        "draws": [0, 1],
        "pairs": ["lora+adapter", "vpt-deep+coop"],
        "train": {"epochs": 2},
        "run": {"gpu_share": 0.5},
    }
    found = []
    for workers in (1, 2):
        folder = run_grid(grid, results=tmp_path / str(workers), workers=workers)
        records, _ = ResultsFolder(folder.path).read()
        found.append({record.name: record.predictions.sha256 for record in records if record.predictions})
    assert len(found[0]) == 4
    assert found[0] == found[1]


def adapted_model() -> ActionRecognizer:
    """Small towers of random weights, both adapted."""
    return ActionRecognizer(
        small.PHRASES,
        image_encoder=small.image_tower(),
        text_encoder=small.text_tower(),
        image_method="dora",
        text_method="adapter",
        fusion={"kind": "joint", "width": 16},
        frames=4,
    )


def test_a_gpu_and_the_processor_agree() -> None:
    """In full precision, towers of random weights, before training: only the order of sums differs."""
    model = adapted_model().eval()
    with torch.no_grad():
        on_cpu = model(small.clips())
        on_gpu = model.cuda()(small.clips().cuda()).cpu()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-3)


def test_memory_that_runs_out_halves_the_batch(clips: dict[str, str], towers: dict[str, str]) -> None:
    """Not the allocator's texts but a real lack of memory: what a batch of two takes is all there is."""
    cell = make_cell(clips, towers, "lora+frozen")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train_and_test(Job(cell=cell), 1, lambda news: None)
    small = torch.cuda.max_memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    train_and_test(Job(cell=cell), 4, lambda news: None)
    large = torch.cuda.max_memory_reserved()
    if large - small < 2**22:
        pytest.skip("batches of these towers take no more memory than the allocator's smallest block")
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((small + large) / 2 / whole)
    try:
        record = run_cell(Job(cell=cell), progress=lambda news: None).record
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any(note.startswith("out of memory with batches of 4") for note in record.notes)
    assert record.cost is not None
    assert (record.cost.peak_memory_bytes or 0) < large


def asserting(job: Job, *, progress: Any) -> Outcome:
    """What a worker runs in the next test: a class that is not there trips an assert on the device, for one pair."""
    if job.cell.pair.name == "lora+frozen":
        logits = torch.zeros(2, 3, device="cuda")
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 7], device="cuda")).item()
    return run_cell(job, progress=progress)


def test_an_assert_on_the_device_costs_no_other_cell(clips: dict[str, str], towers: dict[str, str]) -> None:
    from mmfuse.bench.engines.base import Limits
    from mmfuse.bench.engines.local import LocalEngine
    from mmfuse.bench.job import Finished

    pairs = ["frozen+frozen", "lora+frozen", "frozen+coop", "frozen+adapter"]
    jobs = [Job(cell=make_cell(clips, towers, pair)) for pair in reversed(pairs)]
    slots = device_slots(workers=1)
    engine = LocalEngine(slots=slots, limits=Limits(), runner="tests.gpu.test_on_a_gpu:asserting")
    try:
        ended = [event for event in engine.run(lambda: jobs.pop() if jobs else None) if isinstance(event, Finished)]
    finally:
        engine.close()
    states = {event.job.cell.pair.name: event.outcome.record.state for event in ended}
    assert states == {pair: "failed" if pair == "lora+frozen" else "done" for pair in pairs}


def test_no_training_step_waits_for_the_device() -> None:
    model = adapted_model()
    model.cuda().train()
    optimizer, schedule = model.optimizer_and_schedule(steps=4)
    batch = {"video": small.clips().cuda(), "label": torch.tensor([0, 1, 2]).cuda()}
    for step in range(4):
        # The first step loads kernels and moves prompts.
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
            schedule.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@several
def test_a_rank_that_dies_is_named_within_a_minute(clips: dict[str, str], towers: dict[str, str]) -> None:
    killed: list[float] = []

    def lose(news: Progress) -> None:
        if news.phase == "training" and not killed:
            os.kill(running_ranks()["1"], signal.SIGKILL)
            killed.append(time.monotonic())

    cell: Cell = on_two_devices(make_cell(clips, towers, "lora+adapter"), epochs=100_000)
    outcome = run_guarded(run_cell, Job(cell=cell), lose)
    assert time.monotonic() - killed[0] < 60
    assert outcome.record.error is not None
    assert outcome.record.error.message.startswith("rank 1 of 2 was lost")


def test_training_is_faster_than_its_floor(clips: dict[str, str], towers: dict[str, str]) -> None:
    values = make_cell(clips, towers, "lora+adapter").model_dump()
    cell = Cell.model_validate({**values, "train": {**values["train"], "epochs": 200, "batch_size": 6}})
    trained = train_and_test(Job(cell=cell), 6, lambda news: None)
    assert len(trained.data.train_clips) * 200 / trained.train_seconds > FLOOR

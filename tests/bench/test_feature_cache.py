"""Kept features and kept tokens give the numbers of the plain path, in whole cells."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils import deterministic

from mmfuse import ActionRecognizer
from mmfuse.bench import feature_cache
from mmfuse.bench.job import Job, Outcome
from mmfuse.bench.run_cell import run_cell
from mmfuse.model.frame_features import FrameEncoder
from mmfuse.model.optimizations import DEFAULT_OPTIMIZATIONS, Optimizations
from mmfuse.records.cell import Cell
from mmfuse.records.predictions import decode
from tests.bench.real import CLASSES, make_cell
from tests.towers import image_tower, save_in_hub_layout

PLAIN = Optimizations(**dict.fromkeys(asdict(DEFAULT_OPTIMIZATIONS), False))
UPPER = {"method": "lora", "layers": [1]}


pytestmark = pytest.mark.usefixtures("cache")


def run(cell: Cell, optimizations: Optimizations) -> Outcome:
    return run_cell(Job(cell=cell, command="again", optimizations=optimizations), progress=lambda news: None)


def told(outcome: Outcome, folder: Path) -> dict[str, np.ndarray]:
    """What a cell's predictions say of each clip."""
    path = folder / "predictions.csv.gz"
    path.write_bytes(outcome.files["predictions"])
    table = decode(path)
    assert len(table["label"]) == len(CLASSES)
    return {name: table[name] for name in ("probability_of_label", "probability", "predicted")}


def with_image_method(cell: Cell, method: object) -> Cell:
    return Cell.model_validate({**cell.model_dump(), "pair": {"name": "x", "image": method, "text": "adapter"}})


@pytest.mark.parametrize(
    ("method", "keeps"), [("frozen", True), (UPPER, True), ("dora", False)], ids=["frozen", "upper", "dora"]
)
def test_every_switch_off_gives_the_same_cell(
    method: object, keeps: bool, clips: dict[str, str], towers: dict[str, str], cache: Path
) -> None:
    cell = with_image_method(make_cell(clips, towers), method)
    plain = run(cell, PLAIN)
    assert not (cache / "features").exists()
    first, again = run(cell, Optimizations()), run(cell, Optimizations())
    assert (cache / "features").exists() is keeps
    for name, value in told(first, cache.parent).items():
        np.testing.assert_allclose(value, told(plain, cache.parent)[name], atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(value, told(again, cache.parent)[name])
    assert plain.record.identity == first.record.identity
    assert plain.record.provenance is not None
    assert plain.record.provenance.speed == PLAIN.changed()


@pytest.mark.parametrize("method", ["frozen", UPPER], ids=["frozen", "upper"])
def test_what_is_kept_of_a_video_tower_is_of_the_whole_clip(
    method: object, clips: dict[str, str], towers: dict[str, str], cache: Path
) -> None:
    folder = save_in_hub_layout(image_tower("vivit"), cache.parent / "vivit")
    cell = make_cell(clips, {**towers, "image": str(folder)}, clip={"size": 32})
    cell = with_image_method(cell, method)
    plain, first = run(cell, PLAIN), run(cell, Optimizations())
    [shape] = [json.loads(path.read_text()) for path in (cache / "features").glob("*/shape.json")]
    frames, step = 4, 32 * (2 if method == "frozen" else 17)  # frames as the tower was trained; two make one step
    assert shape[2:] == [frames // 2, step]
    for name, value in told(first, cache.parent).items():
        np.testing.assert_allclose(value, told(plain, cache.parent)[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("switch", [True, False])
def test_a_cell_keeps_freed_memory_unless_it_is_told_not_to(
    switch: bool, clips: dict[str, str], towers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []
    monkeypatch.setattr("mmfuse.bench.run_cell.keep_freed_memory", lambda: asked.append(None))
    run(make_cell(clips, towers), Optimizations(chunks=switch))
    assert len(asked) == switch


@pytest.mark.parametrize("switch", [True, False])
def test_memory_is_filled_only_where_it_is_asked_for_and_the_cell_is_the_same(
    switch: bool, clips: dict[str, str], towers: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = told(run(make_cell(clips, towers), Optimizations()), cache.parent)
    seen: list[tuple[int, bool]] = []
    own = ActionRecognizer.training_step

    def step(model: ActionRecognizer, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        seen.append((torch.get_deterministic_debug_mode(), deterministic.fill_uninitialized_memory))
        return own(model, batch, index)

    monkeypatch.setattr(ActionRecognizer, "training_step", step)
    before = deterministic.fill_uninitialized_memory
    found = told(run(make_cell(clips, towers), Optimizations(unfilled=switch)), cache.parent)
    assert set(seen) == {(2, not switch)}  # 2: an operator without a deterministic form is an error
    assert deterministic.fill_uninitialized_memory == before
    for name, value in usual.items():
        np.testing.assert_array_equal(found[name], value)


def test_features_are_computed_a_few_clips_at_a_time_where_memory_runs_out(
    clips: dict[str, str], towers: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = FrameEncoder.frozen_prefix
    asked: list[int] = []

    def limited(encoder: FrameEncoder, video: torch.Tensor) -> torch.Tensor:
        asked.append(len(video))
        if len(video) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return own(encoder, video)

    usual = told(run(make_cell(clips, towers), Optimizations(features=False)), cache.parent)
    monkeypatch.setattr(FrameEncoder, "frozen_prefix", limited)
    outcome = run(make_cell(clips, towers), Optimizations())
    assert asked[:4] == [16, 8, 4, 4]
    assert set(asked[4:]) == {4}
    assert outcome.record.notes == ("out of memory; features computed 4 clips at a time",)
    np.testing.assert_allclose(told(outcome, cache.parent)["probability"], usual["probability"], atol=1e-3)


def test_tokens_that_do_not_fit_are_not_kept(
    clips: dict[str, str], towers: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = with_image_method(make_cell(clips, towers), UPPER)
    monkeypatch.setattr(feature_cache, "LARGEST", 1000)
    run(cell, Optimizations())
    assert not (cache / "features").exists()


@pytest.mark.parametrize(("device", "kept_for"), [("cpu", "cpu"), ("cuda:0", "Tesla T4")])
def test_features_of_one_gpu_are_not_those_of_another_model(
    device: str, kept_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    keys: list[str] = []
    data = SimpleNamespace(views=1, size=32, use_cached_features=lambda compute, width, key, steps: keys.append(key))
    encoder = SimpleNamespace(first_trained_layer=None, prefix_width=lambda size: 8, steps=8)
    model = SimpleNamespace(frame_encoder=encoder, feature="both", augmentation=SimpleNamespace(on=False))
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), precision="16-mixed")
    feature_cache.use_cached_prefix(data, model, trainer, optimizations=Optimizations(), fingerprint="f")  # type: ignore[arg-type]
    assert keys == [f"f/both/16-mixed/{kept_for}"]

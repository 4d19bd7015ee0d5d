"""A short calibration: how long does one training step take on this very device?

Frames are noise, so no data set is needed; decoding is not part of the measure.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
from torch.nn import functional

from mmfuse.bench import measure
from mmfuse.bench.cell import make_model, quiet, resolve_precision
from mmfuse.bench.estimate import BACKWARD, Rate, frames_of, trains_image
from mmfuse.bench.inputs import frame_size
from mmfuse.cells import Cell
from mmfuse.data.cards import load_card
from mmfuse.recognizer import ActionRecognizer

CLIPS = 4
STEPS = 3


def calibrate(cells: Iterable[Cell]) -> list[Rate]:
    """Measure each kind of cell that a plan holds: one a tower, frame size, and whether the tower is trained.

    Raises:
        MmfuseError: a tower is not on this machine, or a setting is wrong.
    """
    kinds: dict[tuple[str, int | None, bool], Cell] = {}
    for cell in cells:
        kinds.setdefault((cell.encoders.image, frame_size(cell), trains_image(cell)), cell)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has it where every core has one
    try:
        return [_measure(cell) for cell in kinds.values()]
    finally:
        torch.set_num_threads(threads)


def _measure(cell: Cell) -> Rate:
    frames = frames_of(cell)
    measure.reset_peak_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with quiet():
        model = make_model(cell, class_names=_classes(cell), templates=["a video of {}."], frames=frames).to(device)
    generator = torch.Generator().manual_seed(0)
    size = frame_size(cell) or model.image_tower.native_size
    video = torch.randint(0, 256, (CLIPS, frames, 3, size, size), dtype=torch.uint8, generator=generator).to(device)
    seconds = _step_seconds(model, video, trained=trains_image(cell), precision=resolve_precision(cell.precision))
    return Rate(
        encoder=cell.encoders.image,
        size=frame_size(cell),
        trained=trains_image(cell),
        seconds_per_frame=seconds / (CLIPS * frames * (BACKWARD if trains_image(cell) else 1.0)),
        memory_bytes=measure.peak_memory(),
        weights_bytes=4 * sum(model.trainable_parameters().values()),
        device=measure.device_name(device),
    )


def _classes(cell: Cell) -> list[str]:
    if cell.dataset.own:
        return [f"class {number}" for number in range(10)]
    return list(load_card(cell.dataset.name).phrases)


def _step_seconds(model: ActionRecognizer, video: torch.Tensor, *, trained: bool, precision: str) -> float:
    """Seconds of one training step, or of one forward where the tower is frozen; the first step is not counted."""
    labels = torch.zeros(len(video), dtype=torch.int64, device=video.device)
    lower = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    begun = 0.0
    for step in range(STEPS + 1):
        if step == 1:
            _wait(video.device)
            begun = time.perf_counter()
        with torch.autocast(video.device.type, dtype=lower, enabled=lower is not None), torch.set_grad_enabled(trained):
            loss = functional.cross_entropy(model(video), labels)
        if trained:
            loss.backward()
            model.zero_grad()
    _wait(video.device)
    return (time.perf_counter() - begun) / STEPS


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

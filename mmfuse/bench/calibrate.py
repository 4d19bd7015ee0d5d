"""A short calibration: how long do a training step, and decoding a clip, take on this very machine?

The frames of the steps are noise, so they need no data set. Where the videos are available, a few of them are decoded.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from mmfuse.bench import environment
from mmfuse.bench.clip_cache import catalogue_of, selection_of
from mmfuse.bench.digests import frame_size
from mmfuse.bench.estimate import BACKWARD, Calibration, DecodingRate, Rate, frames_of, trains_image
from mmfuse.bench.precision import resolve_precision
from mmfuse.bench.run_cell import make_model, quiet
from mmfuse.bench.tower_cache import load_towers
from mmfuse.data.catalogue.cards import load_card
from mmfuse.data.frames.sources import DecodedFrames
from mmfuse.errors import MmfuseError
from mmfuse.model.chunked import keep_freed_memory
from mmfuse.model.recognizer import ActionRecognizer
from mmfuse.records.cell import Cell

CLIPS = 4
STEPS = 3
VIDEOS = 8


def calibrate(cells: Iterable[Cell], *, data_root: Path, annotations: Path | None = None) -> Calibration:
    """Measure each kind of cell that a plan holds: one a tower, frame size, and whether the tower is trained.

    Args:
        cells: of the plan.
        data_root: the folder that holds the data sets; those that are not there are left out.
        annotations: the folder with official lists, where they do not lie below the data.

    Raises:
        MmfuseError: a tower is not on this machine, or a setting is wrong.
    """
    kinds: dict[tuple[str, int | None, bool], Cell] = {}
    clips: dict[tuple[str, int, int | None], Cell] = {}
    for cell in cells:
        kinds.setdefault((cell.encoders.image, frame_size(cell), trains_image(cell)), cell)
        clips.setdefault((cell.dataset.name, frames_of(cell), frame_size(cell)), cell)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has it where every core has one
    try:
        rates = tuple(_measure(cell) for cell in kinds.values())
        found = (_decoding(cell, data_root, annotations) for cell in clips.values())
        return Calibration(rates, tuple(rate for rate in found if rate is not None))
    finally:
        torch.set_num_threads(threads)


def calibrate_apart(cells: Iterable[Cell], *, data_root: Path, annotations: Path | None = None) -> Calibration:
    """`calibrate` in a process of its own: a GPU's memory and context are given back before workers are started.

    Raises:
        MmfuseError: see `calibrate`.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(partial(calibrate, list(cells), data_root=data_root, annotations=annotations)).result()


def _decoding(cell: Cell, data_root: Path, annotations: Path | None) -> DecodingRate | None:
    """Decode a few videos as training looks at them; `None` where they are not available."""
    try:
        catalogue = catalogue_of(cell, data_root, annotations=annotations)
        paths = catalogue.part("train")["path"].tolist()
        sampling = selection_of(cell).sampling(catalogue)
        source = DecodedFrames(short_side=sampling.short_side, damaged=sampling.damaged)
        seconds = []
        for path in paths[:: max(1, len(paths) // VIDEOS)]:
            begun = time.perf_counter()
            source.hold(path, frames=sampling.frames, candidates=catalogue.card.candidates)
            seconds.append(time.perf_counter() - begun)
    except MmfuseError:
        return None
    return DecodingRate(cell.dataset.name, frames_of(cell), frame_size(cell), statistics.median(seconds))


def _measure(cell: Cell) -> Rate:
    frames = frames_of(cell)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        keep_freed_memory()  # as a worker does
    with quiet():
        towers, templates = load_towers(cell.encoders), ["a video of {}."]
        model = make_model(cell, towers, class_names=_classes(cell), templates=templates, frames=frames).to(device)
    generator = torch.Generator().manual_seed(0)
    size = frame_size(cell) or model.image_tower.native_size
    video = torch.randint(0, 256, (CLIPS, frames, 3, size, size), dtype=torch.uint8, generator=generator).to(device)
    precision, peaks = resolve_precision(cell.precision, width=model.image_tower.width), []
    for clips in (CLIPS // 2, CLIPS):  # the first one tells what memory each clip takes
        environment.reset_peak_memory()
        seconds = _step_seconds(model, video[:clips], trained=trains_image(cell), precision=precision)
        peaks.append(environment.peak_memory())
    per_clip = 0 if None in peaks else max(0, (peaks[1] or 0) - (peaks[0] or 0)) // (CLIPS - CLIPS // 2)
    return Rate(
        encoder=cell.encoders.image,
        size=frame_size(cell),
        trained=trains_image(cell),
        seconds_per_frame=seconds / (CLIPS * frames * (BACKWARD if trains_image(cell) else 1.0)),
        memory_bytes=peaks[1],
        memory_clips=CLIPS,
        memory_per_clip=per_clip,
        weights_bytes=4 * sum(model.trainable_parameters().values()),
        device=environment.device_name(device),
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
            loss = model.loss({"video": video, "label": labels})
        if trained:
            loss.backward()
            model.zero_grad()
    _wait(video.device)
    return (time.perf_counter() - begun) / STEPS


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Testing a data set with an adapted tower, against the bare tower's forward on the same frames.

Ours is Lightning's own loop over decoded clips in memory, with all that a test does: merging the method into the
weights, prompts, fusion, metrics, predictions. Theirs is one forward a batch on floats that are normalised already.
"""

from __future__ import annotations

from typing import Any

from benchmarks.speed.materials import image_model
from benchmarks.speed.measuring import Bench, Clock, Row, interleaved, ratios
from benchmarks.speed.steps import CLASSES, FRAMES, MEAN, SIZE, STD, named, recognizer

BATCH = 8


def measure(bench: Bench) -> list[Row]:
    """DoRA, on both sizes of tower."""
    return [_case(bench, "vit-s", batches=4), _case(bench, "vit-b", batches=2)]


def _case(bench: Bench, size: str, *, batches: int) -> Row:
    import lightning as L
    import torch

    from mmfuse.bench.run_cell import quiet

    bench.say(f"a test of {batches * BATCH} clips, DoRA on {size}")
    model, bare = recognizer(size, "dora"), image_model(size).to(bench.device)
    del model.log  # under a trainer, Lightning's own
    clips = held(batches)
    device = bench.device
    pixels = [((part["video"].float() / 255 - MEAN[0]) / STD[0]).flatten(0, 1).to(device) for part in clips]
    with quiet():
        trainer = L.Trainer(
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=1,
            precision="bf16-mixed",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def ours() -> None:
        with quiet():
            trainer.test(model, clips, verbose=False)

    def theirs() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            for part in pixels:
                bare(pixel_values=part)

    seen = interleaved({"ours": ours, "theirs": theirs}, rounds=min(bench.rounds, 4), clock=Clock(device))
    return Row(
        "test",
        f"test of {batches * BATCH} clips, DoRA on {named(size)}, bf16",
        "the bare frozen tower's forward",
        ratios(seen["ours"], seen["theirs"]),
        at_most=1.10,
        figures={"seconds": seen, "clips": batches * BATCH},
    )


def held(batches: int) -> Any:
    """A loader over decoded clips in memory."""
    import torch
    from torch.utils.data import DataLoader

    generator = torch.Generator().manual_seed(0)
    parts = [
        {
            "video": torch.randint(0, 256, (BATCH, FRAMES, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator),
            "label": torch.arange(BATCH) % CLASSES,
            "index": torch.arange(BATCH) + number * BATCH,
        }
        for number in range(batches)
    ]
    return DataLoader(parts, batch_size=None)  # type: ignore[arg-type]

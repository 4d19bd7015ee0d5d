"""A real cell made small: a data set of nine clips in three classes, and towers with random weights."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import transformers

from mmfuse.records.cell import Cell
from tests.towers import randomised, text_tokenizer

CLASSES = ("walking", "running", "jumping")
SIZE = 16


def make_towers(folder: Path) -> dict[str, str]:
    """Towers in hub layout."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = transformers.Dinov2Model(
            transformers.Dinov2Config(
                hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIZE, patch_size=8, mlp_ratio=2
            )
        )
        tokenizer = text_tokenizer("clip-text")
        tokenizer.model_max_length = 77
        text = transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(
                projection_dim=16,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                vocab_size=len(tokenizer),
                max_position_embeddings=77,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        randomised(image).save_pretrained(folder / "image")
        randomised(text).save_pretrained(folder / "text")
        tokenizer.save_pretrained(folder / "text")
    return {"image": str(folder / "image"), "text": str(folder / "text")}


def make_clips(
    folder: Path, *, train: int = 2, test: int = 1, name: str = "drifts", classes: Sequence[str] = CLASSES
) -> dict[str, str]:
    """An own data set: clips of drifting noise, and its two lists."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("test", test)):
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "group"])
            for label, called in enumerate(classes):
                for number in range(count):
                    clip = f"{part}_{called}_{number}.mp4"
                    _encode(folder / clip, seed=100 * label + number + 50 * (part == "test"), step=label - 1)
                    writer.writerow([clip, called, clip])
    return {"name": name, "root": str(folder), "train": "train.csv", "test": "test.csv"}


def _encode(path: Path, *, seed: int, step: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 255, size=(32, 32, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "20"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for frame in range(8):
            moved = np.roll(picture, 4 * step * frame, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())


def make_cell(dataset: dict[str, str], towers: dict[str, str], pair: str = "frozen+frozen", **settings: Any) -> Cell:
    """A cell that takes a second."""
    image, text = pair.split("+")
    train = {"epochs": 2, "batch_size": 4, **settings.pop("train", {})}
    return Cell.model_validate(
        {
            "dataset": dataset,
            "pair": {"name": pair, "image": image, "text": text},
            "shots": 2,
            "encoders": towers,
            "clip": {"frames": 4, "size": SIZE},
            "fusion": {"kind": "joint", "width": 16, "layers": 1, "heads": 2},
            "train": train,
            **settings,
        }
    )


def make_class_folders(folder: Path, *, sources: int = 3, clips: int = 2, classes: Sequence[str] = CLASSES) -> Path:
    """Clips that are sorted into classes and not divided, several of each source, named as in UCF101."""
    for label, called in enumerate(classes):
        (folder / called).mkdir(parents=True)
        for source in range(sources):
            for clip in range(clips):
                file = folder / called / f"{called}_g{source + 1:02d}_c{clip + 1:02d}.mp4"
                _encode(file, seed=1000 * label + 10 * source + clip, step=label - 1)
    return folder

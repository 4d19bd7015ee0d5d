"""What is measured on: towers of real size with random weights, clips like those of public data sets, grid files.

Weights need not be learned to cost what learned ones cost. Everything is made anew, below a folder that is thrown away.
"""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from numpy.typing import NDArray

WIDTHS = {"vit-s": (384, 6), "vit-b": (768, 12)}
"""Width and heads of DINOv2's towers; both have 12 layers and patches of 14 pixels."""
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
LENGTH = 100
"""Frames of a clip that is made here (those of UCF101 have 186 on average, those of HMDB51 95)."""


def image_model(size: str, *, depth: int | None = None) -> Any:
    """DINOv2 of a real size, "vit-s" or "vit-b", with random weights; with fewer layers where `depth` says so."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    width, heads = WIDTHS[size]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(
            hidden_size=width,
            num_attention_heads=heads,
            num_hidden_layers=depth or 12,
            patch_size=14,
            image_size=518,
        )
        return Dinov2Model(config).eval().requires_grad_(False)


def image_tower(folder: Path, size: str) -> Path:
    """The same as a folder in hub layout."""
    place = folder / f"dinov2-{size}"
    if not place.exists():
        image_model(size).save_pretrained(place)
        pixels = {
            "image_processor_type": "BitImageProcessor",
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "do_center_crop": True,
            "crop_size": {"height": 224, "width": 224},
        }
        (place / "preprocessor_config.json").write_text(json.dumps(pixels))
    return place


def text_tower(folder: Path) -> Path:
    """CLIP's text tower as beside ViT-B/16, with random weights, as a folder in hub layout.

    Its tokenizer, and with it the number of words, is that of the embedded tower.
    """
    import torch
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    place = folder / "clip-text-b"
    if place.exists():
        return place
    embedded = embedded_towers()[1]
    said = json.loads((embedded / "config.json").read_text())
    words = {key: said[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = CLIPTextConfig(
            hidden_size=512, intermediate_size=2048, num_attention_heads=8, projection_dim=512, **words
        )
        CLIPTextModelWithProjection(config).save_pretrained(place)
    for file in embedded.glob("*token*.json"):
        shutil.copyfile(file, place / file.name)
    return place


def embedded_towers() -> tuple[Path, Path]:
    """The folders of the two towers that ship with the package."""
    from mmfuse.utils.resources import assets_folder

    return assets_folder() / "tiny-dinov2", assets_folder() / "tiny-clip-text"


@dataclass(frozen=True)
class ClipSet:
    """Clips with their two lists.

    Args:
        name: of the data set.
        root: that the paths of the lists start from.
        train, test: the lists, with the columns path and label.
        size: side of the square that is shown to a tower.
        flip: whether a mirrored clip still shows its class.
        train_clips, test_clips: how many.
    """

    name: str
    root: Path
    train: Path
    test: Path
    size: int
    flip: bool
    train_clips: int
    test_clips: int

    def keys(self) -> dict[str, str]:
        """As a grid file names it."""
        return {"name": self.name, "root": str(self.root), "train": str(self.train), "test": str(self.test)}


def moving_clips(folder: Path, *, train: int = 16, test: int = 20) -> ClipSet:
    """Four classes of 320×240 MPEG-4 AVI clips, as UCF101 has them: a texture that moves in one of four directions.

    Args:
        folder: where to.
        train, test: clips a class.
    """
    root = folder / "moving"
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for label, way in DIRECTIONS.items():
        for number in range(train + test):
            part = "train" if number < train else "test"
            path = f"{label}/{number:03d}.avi"
            rows[part].append((path, label))
            if not (root / path).exists():
                (root / label).mkdir(parents=True, exist_ok=True)
                _encode(root / path, way=way, generator=np.random.default_rng([*label.encode(), number]))
    return listed("moving", root, rows["train"], rows["test"], lists=root, size=224, flip=False)


def _encode(path: Path, *, way: tuple[int, int], generator: np.random.Generator) -> None:
    """A texture of blocks under noise, at a bit rate like that of UCF101."""
    blocks = generator.integers(0, 255, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    noise = generator.integers(-8, 9, (4, *blocks.shape), dtype=np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25), options={"b": "580k", "g": "250"})
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 320, 240, "yuv420p", 1
        for number in range(LENGTH):
            image = np.roll(blocks, (3 * number * way[1], 3 * number * way[0]), axis=(0, 1)) + noise[number % 4]
            pixels: NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def tiny_clips(folder: Path, *, train: int = 32, test: int = 5) -> ClipSet:
    """Some of the generated data set that ships with the package, as a data set of one's own.

    Args:
        folder: for the lists; the clips lie in the user's cache folder, where the package keeps them.
        train, test: clips a class, at most 32 and 20.
    """
    from mmfuse.data.tiny import dataset

    root, table = dataset.generate(), dataset.listing()
    chosen = {
        part: table[table["part"] == part].groupby("label").head(count)[["path", "class"]]
        for part, count in (("train", train), ("test", test))
    }
    rows = {part: list(found.itertuples(index=False, name=None)) for part, found in chosen.items()}
    folder.mkdir(parents=True, exist_ok=True)
    return listed("tiny-clips", root, rows["train"], rows["test"], lists=folder, size=64, flip=False)


def listed(
    name: str,
    root: Path,
    train: list[tuple[str, str]],
    test: list[tuple[str, str]],
    *,
    lists: Path,
    size: int,
    flip: bool,
) -> ClipSet:
    """Write the two lists of (path, label)."""
    files = {}
    for part, rows in (("train", train), ("test", test)):
        files[part] = lists / f"{name}-{part}.csv"
        with files[part].open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "label"))
            writer.writerows(rows)
    return ClipSet(name, root, files["train"], files["test"], size, flip, len(train), len(test))


def few_shot_list(clips: ClipSet, shots: int, folder: Path) -> Path:
    """The first clips of each class of a training list, as a list of its own."""
    with clips.train.open(newline="") as file:
        rows = list(csv.DictReader(file))
    taken: dict[str, int] = {}
    chosen = []
    for row in rows:
        taken[row["label"]] = taken.get(row["label"], 0) + 1
        if taken[row["label"]] <= shots:
            chosen.append((row["path"], row["label"]))
    path = folder / f"{clips.name}-k{shots}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *chosen])
    return path


def grid_file(
    folder: Path,
    name: str,
    *,
    clips: ClipSet | str,
    towers: tuple[Path, Path] | None,
    pairs: list[Any],
    shots: list[int],
    epochs: int,
    draws: int = 1,
    frames: int = 8,
    width: int = 512,
    batch_size: int = 16,
) -> Path:
    """Write a grid with the settings that are measured here: 8 frames, a joint fusion of two layers."""
    shown: dict[str, Any] = {"frames": frames}
    if isinstance(clips, ClipSet):
        shown |= {"size": clips.size, "flip": clips.flip}
    content: dict[str, Any] = {
        "name": name,
        "datasets": [clips.keys() if isinstance(clips, ClipSet) else clips],
        "shots": shots,
        "draws": list(range(draws)),
        "pairs": pairs,
        "clip": shown,
        "fusion": {"kind": "joint", "width": width, "layers": 2},
        "train": {"epochs": epochs, "batch_size": batch_size},
    }
    if towers is not None:
        content["encoders"] = {"image": str(towers[0]), "text": str(towers[1])}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path

"""The embedded towers: they load as any tower of the hub does, and know what they are there to know."""

import itertools
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from torch import Tensor

from mmfuse.data.frames.sampling import segment_centres
from mmfuse.data.tiny import dataset
from mmfuse.data.tiny.dataset import ACTIONS, choreograph
from mmfuse.data.tiny.rendering import COLOUR_NAMES, SHAPE_NAMES, random_pictures
from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.loading import load_image_tower, load_text_tower
from mmfuse.utils.resources import assets_folder

IMAGE, TEXT = assets_folder() / "tiny-dinov2", assets_folder() / "tiny-clip-text"
CLASSES = {IMAGE: transformers.Dinov2Model, TEXT: transformers.CLIPTextModelWithProjection}


def test_both_towers_together_stay_under_four_megabytes() -> None:
    assert sum(file.stat().st_size for file in assets_folder().rglob("*") if file.is_file()) < 4e6
    for folder in CLASSES:
        assert (folder / "model.safetensors").stat().st_mode & 0o044 == 0o044  # readable for everybody


@pytest.mark.parametrize("folder", CLASSES, ids=lambda folder: folder.name)
def test_transformers_loads_every_weight_in_32_bits_without_a_warning(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", FutureWarning)
        model, report = CLASSES[folder].from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    with safe_open(folder / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    weights = model.state_dict()
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name].float(), weights[name]) for name in stored)
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_they_load_from_a_copy_without_network(tmp_path: Path) -> None:
    shutil.copytree(assets_folder(), tmp_path / "towers")
    script = (
        "import socket\n"
        "def refuse(*_, **__): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from mmfuse.encoders.loading import load_image_tower, load_text_tower\n"
        f"load_image_tower({str(tmp_path / 'towers' / 'tiny-dinov2')!r})\n"
        f"load_text_tower({str(tmp_path / 'towers' / 'tiny-clip-text')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_tower_is_as_small_as_it_is_said_to_be() -> None:
    model = transformers.Dinov2Model.from_pretrained(IMAGE)
    assert 4e5 < sum(parameter.numel() for parameter in model.parameters()) < 6e5
    settings = json.loads((IMAGE / "preprocessor_config.json").read_text())
    assert settings["size"] == {"height": 64, "width": 64}
    assert model.config.image_size == dataset.SIZE


def test_the_tokenizer_spells_anything_and_ends_it_where_the_tower_reads() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(TEXT)
    config = transformers.AutoConfig.from_pretrained(TEXT)
    assert isinstance(tokenizer, transformers.CLIPTokenizer)
    assert tokenizer.model_max_length == config.max_position_embeddings == 77
    for name in ("bos", "eos", "pad"):
        assert getattr(tokenizer, f"{name}_token_id") == getattr(config, f"{name}_token_id")
    assert len(tokenizer) == config.vocab_size
    for text in ("a large red arrow.", "naïve Zürich 你好 🙂 #[]&+;~@", "supercalifragilistic 3.5somersaults"):
        ids = tokenizer(text).input_ids
        assert (ids[0], ids[-1]) == (config.bos_token_id, config.eos_token_id)
        assert config.eos_token_id not in ids[1:-1]  # which is also the token for the unknown
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "")


def test_padding_does_not_change_what_is_read() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(TEXT)
    model = transformers.CLIPTextModelWithProjection.from_pretrained(TEXT).eval()
    texts = ["an arrow", "a picture of a small red letter T pointing to the left"]
    with torch.no_grad():
        alone = torch.cat([model(**tokenizer(text, return_tensors="pt")).text_embeds for text in texts])
        padded = model(**tokenizer(texts, padding="max_length", return_tensors="pt")).text_embeds
    assert torch.allclose(alone, padded, atol=1e-5)


def test_ways_of_saying_the_same_are_nearer_than_saying_another_thing() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(TEXT)
    model = transformers.CLIPTextModelWithProjection.from_pretrained(TEXT).eval()
    things = [f"{colour} {shape}" for colour, shape in itertools.product(COLOUR_NAMES, SHAPE_NAMES)]
    first, second = ([opening + thing for thing in things] for opening in ("a drawing of a ", "there is a "))
    with torch.no_grad():
        one, other = (
            torch.nn.functional.normalize(model(**tokenizer(texts, padding=True, return_tensors="pt")).text_embeds)
            for texts in (first, second)
        )
    nearest = (one @ other.T).argmax(dim=1)
    assert (nearest == torch.arange(len(things))).float().mean() > 0.8  # chance is one in 64


# ----------------------------------------------------------------------------- only the order tells the opposites apart


@torch.no_grad()
def _features(tower: ImageTower, *, clips: int, seed: int, frames: int = 8) -> tuple[Tensor, Tensor]:
    """Frame features (N, `frames`, 2D) of freshly drawn clips, `clips` a class, and their labels."""
    rng = np.random.default_rng(seed)
    drawn, labels = [], []
    for label, action in enumerate(ACTIONS):
        for _ in range(clips):
            played = choreograph(random_pictures(1, rng=rng), action, rng=rng)
            wanted = played.rows(segment_centres(len(played), frames))
            drawn.append(dataset.scan_lines(dataset.render_pictures(wanted, size=dataset.SIZE, rng=rng)))
            labels.append(label)
    video = torch.from_numpy(np.stack(drawn)).permute(0, 1, 4, 2, 3)
    tokens = torch.cat([tower(part) for part in video.split(64)])
    return torch.cat([tokens[:, :, 0], tokens[:, :, 1:].mean(2)], dim=-1), torch.tensor(labels)


def _told_apart(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """How often ridge regression tells a clip from the opposite class, over all pairs, from features (N, ...)."""
    right = []
    for pair in range(len(ACTIONS) // 2):
        (known, sign), (asked, wanted) = (
            (x[y // 2 == pair].flatten(1).double(), 2.0 * (y[y // 2 == pair] % 2) - 1) for x, y in (train, test)
        )
        mean, spread = known.mean(0), known.std(0) + 1e-6
        known, asked = (known - mean) / spread, (asked - mean) / spread
        kernel = known @ known.T / known.shape[1]
        dual = torch.linalg.solve(kernel + 0.3 * torch.eye(len(known), dtype=kernel.dtype), sign.double())
        right.append(((asked @ known.T / known.shape[1] @ dual) * wanted > 0).double().mean().item())
    return float(np.mean(right))


@pytest.fixture(scope="module")
def seen() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    tower = load_image_tower("tiny-dinov2").eval()
    return _features(tower, clips=40, seed=0), _features(tower, clips=40, seed=1)


def _shuffled(seen: tuple[Tensor, Tensor], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([clip[torch.randperm(8, generator=generator)] for clip in seen[0]]), seen[1]


def test_in_order_the_opposites_are_told_apart(seen: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    assert _told_apart(*seen) > 0.75


def test_with_frames_shuffled_they_are_not(seen: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    # 480 clips at chance: 0.5 with a standard deviation of 0.023.
    assert abs(_told_apart(_shuffled(seen[0], 0), _shuffled(seen[1], 1)) - 0.5) < 0.08


def test_from_one_frame_at_a_random_time_they_are_not(
    seen: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> None:
    generator = torch.Generator().manual_seed(2)
    stills = [(x[torch.arange(len(y)), torch.randint(8, (len(y),), generator=generator)], y) for x, y in seen]
    assert abs(_told_apart(*stills) - 0.5) < 0.08


def test_from_the_middle_frame_they_are_not() -> None:
    # What a model that looks at one frame a clip is given.
    tower = load_image_tower("tiny-dinov2").eval()
    stills = [_features(tower, clips=40, seed=seed, frames=1) for seed in (0, 1)]
    assert abs(_told_apart(*stills) - 0.5) < 0.08


def test_the_text_tower_and_its_tokenizer_load_as_a_tower() -> None:
    tower = load_text_tower("tiny-clip-text")
    assert not any(parameter.requires_grad for parameter in tower.model.parameters())

"""Makes the two embedded towers, `tiny-dinov2` and `tiny-clip-text`, from rendered still pictures.

    python benchmarks/tiny_towers.py --out mmfuse/assets    # both towers, about 15 minutes on one core
    python benchmarks/tiny_probe.py                         # what the image tower can do

The towers never meet one another, and neither ever sees a clip:

- `tiny-dinov2` (a `Dinov2Model`) learns without labels. From its CLS token and its mean patch token together, a small
  MLP must redraw the still twice: coarsely in colour, and finely as a map of what stands out (a pixel's distance from
  the still's median colour). Beside that, each patch token must redraw its own patch. So the frame feature says where
  things are, how large and how turned, whatever their colour.
- `tiny-clip-text` (a `CLIPTextModelWithProjection` with a byte-level BPE tokenizer) learns to match captions (shape,
  colour, size, place, turn, solidity, ground) with stills, against a small convolutional network that is thrown away.

Weights are rounded to 16 bits before they are saved, so that both towers together stay under 4 MB, and are meant to be
used in 32 bits, as their configurations say. The same seed on the same machine with as many threads gives the
same files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny_captions import CONTEXT, caption, train_tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, Dinov2Config, Dinov2Model

from mmfuse.data.tiny.rendering import Pictures, random_pictures, render_pictures
from mmfuse.utils.resources import assets_folder

SIZE, PATCH = 64, 16
MEAN, STD = 0.5, 0.25  # of a pixel's value in 0..1, the same for the three colours
IMAGE_STEPS, TEXT_STEPS = 5000, 1500
COARSE, FINE = 8, 32  # sides of the two pictures that the image tower's feature must redraw


# ---------------------------------------------------------------------------------------------------------- the stills


@dataclass(frozen=True)
class Stills:
    """N rendered stills and what is in them: pixels (N, 3, 64, 64) uint8."""

    pixels: Tensor
    pictures: list[Pictures]  # in chunks, in the order of the pixels
    chunk: int

    def pictures_at(self, index: Tensor) -> Iterator[tuple[Pictures, int]]:
        """Chunk and row of each of the stills at `index`."""
        for i in index.tolist():
            yield self.pictures[i // self.chunk], i % self.chunk


def render_stills(count: int, *, seed: int, chunk: int = 250) -> Stills:
    """Render stills with everything in them drawn at random; about 1 ms each."""
    rng = np.random.default_rng(seed)
    pixels, pictures = [], []
    for _ in range(count // chunk):
        pictures.append(random_pictures(chunk, rng=rng))
        pixels.append(render_pictures(pictures[-1], size=SIZE, rng=rng))
    return Stills(torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2).contiguous(), pictures, chunk)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 pixels to what the towers take."""
    return (pixels.float() / 255 - MEAN) / STD


def batches(stills: Stills, *, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of `steps` random batches."""
    for _ in range(steps):
        yield torch.randint(len(stills.pixels), (size,), generator=generator)


def schedule(optimiser: torch.optim.Optimizer, steps: int, warmup: int = 200) -> torch.optim.lr_scheduler.LambdaLR:
    """A linear rise, then half a cosine down to a hundredth."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min(1.0, (i + 1) / warmup) * (0.505 + 0.495 * float(np.cos(np.pi * min(i / steps, 1.0))))
    )


# ----------------------------------------------------------------------------------------------------- the image tower


def new_image_tower(*, width: int = 96, depth: int = 4, heads: int = 3) -> Dinov2Model:
    """A DINOv2 with random weights. Its positions start large and orderly: it is to learn where things are."""
    tower = Dinov2Model(
        Dinov2Config(
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            mlp_ratio=4,
            image_size=SIZE,
            patch_size=PATCH,
            layerscale_value=1.0,
            use_mask_token=False,
        )
    )
    with torch.no_grad():
        positions = tower.embeddings.position_embeddings
        positions.zero_()
        positions[0, 1:] = plane_waves(SIZE // PATCH, width)
    return tower


def plane_waves(side: int, width: int) -> Tensor:
    """Sines and cosines of column and row, (side * side, width): from slow (0.35 radians a patch) to fast (3)."""
    row, column = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    pace = torch.logspace(float(np.log10(0.35)), float(np.log10(3.0)), width // 4)
    angles = [place.flatten()[:, None] * pace for place in (column, row)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def standing_out(pixels: Tensor, side: int) -> Tensor:
    """How far each place is from the still's median colour, about 0..1: (B, 3, H, W) -> (B, side, side).

    The strongest place counts almost 1 in every still, so that a shape's colour matters little and its outline much.
    """
    small = F.adaptive_avg_pool2d(pixels, side)
    median = small.flatten(2).median(2).values[:, :, None, None]
    distance = (small - median).norm(dim=1)
    return distance / (distance.amax((1, 2), keepdim=True) + 0.5)


class Redrawing(nn.Module):
    """The image tower's task: redraw the still from the frame feature, and each patch from its token."""

    def __init__(self, tower: Dinov2Model, *, hidden: int = 512) -> None:
        super().__init__()
        width = tower.config.hidden_size
        self.tower = tower
        self.from_feature = nn.Sequential(
            nn.Linear(2 * width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, FINE * FINE + 3 * COARSE * COARSE),
        )
        self.patch = FINE * PATCH // SIZE
        self.from_token = nn.Linear(width, 4 * self.patch**2)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Normalised pixels (B, 3, 64, 64) to the three errors: fine map, coarse colours, patches."""
        tokens = self.tower(pixel_values=pixels).last_hidden_state
        drawn = self.from_feature(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=-1))
        fine, coarse = standing_out(pixels, FINE), F.adaptive_avg_pool2d(pixels, COARSE)
        patches = torch.cat([F.adaptive_avg_pool2d(pixels, FINE), 2 * fine[:, None]], dim=1)
        patches = F.unfold(patches, self.patch, stride=self.patch).transpose(1, 2)
        return {
            "fine": F.mse_loss(drawn[:, : FINE * FINE], fine.flatten(1)),
            "coarse": F.mse_loss(drawn[:, FINE * FINE :], coarse.flatten(1)),
            "patches": F.mse_loss(self.from_token(tokens[:, 1:]), patches),
        }


def train_image_tower(stills: Stills, held_out: Stills, *, steps: int, seed: int, batch: int = 64) -> Dinov2Model:
    """Train by redrawing. Batches are turned and mirrored as a whole: a turned still is as good a still."""
    task = Redrawing(new_image_tower())
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(task.parameters(), lr=2e-3, weight_decay=0.02, betas=(0.9, 0.98))
    rate = schedule(optimiser, steps)
    started = time.monotonic()
    for step, index in enumerate(batches(stills, size=batch, steps=steps, generator=generator), start=1):
        pixels = torch.rot90(stills.pixels[index], int(torch.randint(4, (), generator=generator)), (2, 3))
        if torch.rand((), generator=generator) < 0.5:
            pixels = pixels.flip(3)
        errors = task(normalise(pixels))
        loss = 20 * errors["fine"] + errors["coarse"] + 0.5 * errors["patches"]
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimiser.step()
        rate.step()
        if step % 500 == 0 or step == steps:
            _say("image", step, steps, started, redrawing_error(task, held_out))
    return task.tower.eval()


@torch.no_grad()
def redrawing_error(task: Redrawing, stills: Stills) -> dict[str, float]:
    """Share of the variance over all pixels that is *not* redrawn, on stills that were never trained on."""
    task.eval()
    pixels = normalise(stills.pixels)
    errors = task(pixels)
    task.train()
    fine, coarse = standing_out(pixels, FINE), F.adaptive_avg_pool2d(pixels, COARSE)
    return {
        "fine": (errors["fine"] / fine.var()).item(),
        "coarse": (errors["coarse"] / coarse.var()).item(),
    }


def save_image_tower(tower: Dinov2Model, folder: Path) -> None:
    """Write the tower in hub layout."""
    _save_weights(tower, folder)
    settings = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


# ------------------------------------------------------------------------------------------------------ the text tower


class Looking(nn.Module):
    """The image tower that the captions are matched against, a small convolutional network; thrown away afterwards."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 48, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(48, 96, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(96, 160, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.LayerNorm(160 * 16),
            nn.Linear(160 * 16, width),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 64, 64) to (B, width)."""
        return self.layers(pixels)


def new_text_tower(tokenizer: CLIPTokenizer, *, width: int = 128, depth: int = 2, joint: int = 96) -> Any:
    """A CLIP text tower with random weights."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=joint,
            num_hidden_layers=depth,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Matching(nn.Module):
    """The text tower's task: which caption of the batch belongs to which still."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower
        self.looking = Looking(tower.config.projection_dim)
        self.log_scale = nn.Parameter(torch.tensor(2.66))  # exp gives 1 / 0.07, as in CLIP

    def forward(self, pixels: Tensor, words: dict[str, Tensor]) -> Tensor:
        """Similarities of stills and captions, (B, B), scaled."""
        seen = F.normalize(self.looking(pixels), dim=-1)
        read = F.normalize(self.tower(**words).text_embeds, dim=-1)
        return self.log_scale.exp().clamp(max=50.0) * seen @ read.T


def train_text_tower(
    stills: Stills, held_out: Stills, *, steps: int, seed: int, batch: int = 128
) -> tuple[Any, CLIPTokenizer]:
    """Train contrastively; every visit to a still words its caption anew."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    everything = torch.arange(min(5000, len(stills.pixels)))
    tokenizer = train_tokenizer(captions_of(stills, everything, rng=rng))
    task = Matching(new_text_tower(tokenizer))
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-3, weight_decay=0.02, betas=(0.9, 0.98))
    rate = schedule(optimiser, steps)
    started = time.monotonic()
    for step, index in enumerate(batches(stills, size=batch, steps=steps, generator=generator), start=1):
        words = tokenizer(captions_of(stills, index, rng=rng), padding=True, return_tensors="pt")
        logits = task(normalise(stills.pixels[index]), dict(words))
        pairs = torch.arange(batch)
        loss = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimiser.step()
        rate.step()
        if step % 250 == 0 or step == steps:
            _say("text", step, steps, started, matching_accuracy(task, tokenizer, held_out))
    return task.tower.eval(), tokenizer


def captions_of(stills: Stills, index: Tensor, *, rng: np.random.Generator) -> list[str]:
    """A caption for each still at `index`."""
    return [caption(pictures, row, rng=rng) for pictures, row in stills.pictures_at(index)]


@torch.no_grad()
def matching_accuracy(task: Matching, tokenizer: CLIPTokenizer, stills: Stills, batch: int = 100) -> dict[str, float]:
    """How often the right one of `batch` captions is the most similar to a still, on stills never trained on."""
    task.eval()
    rng, right = np.random.default_rng(0), []
    for start in range(0, len(stills.pixels), batch):
        index = torch.arange(start, start + batch)
        words = tokenizer(captions_of(stills, index, rng=rng), padding=True, return_tensors="pt")
        logits = task(normalise(stills.pixels[index]), dict(words))
        right.append((logits.argmax(dim=1) == torch.arange(batch)).float().mean().item())
    task.train()
    return {f"caption of {batch}": float(np.mean(right))}


def save_text_tower(tower: Any, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the tower and its tokenizer in hub layout."""
    _save_weights(tower, folder)
    tokenizer.save_pretrained(folder)


# ------------------------------------------------------------------------------------------------------------ together


def _save_weights(tower: Any, folder: Path) -> None:
    """16-bit weights beside a configuration that asks for 32 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    tower.config.architectures = [type(tower).__name__]
    tower.config.dtype = "float32"
    tower.config.save_pretrained(folder)
    weights = {name: value.detach().half().contiguous() for name, value in tower.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # it is written for its owner alone, and meant for everybody


def _say(tower: str, step: int, steps: int, started: float, figures: dict[str, float]) -> None:
    told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    print(f"{tower} tower: step {step} of {steps}, {time.monotonic() - started:.0f} s, {told}", flush=True)


def main() -> None:
    """Make the towers."""
    parser = argparse.ArgumentParser(description="Make the embedded tiny towers.")
    parser.add_argument("--out", type=Path, default=assets_folder(), help="the folder that gets one folder a tower")
    parser.add_argument("--tower", choices=["image", "text", "both"], default="both")
    parser.add_argument("--image-steps", type=int, default=IMAGE_STEPS)
    parser.add_argument("--text-steps", type=int, default=TEXT_STEPS)
    parser.add_argument("--stills", type=int, default=40_000, help="rendered once, then drawn from again and again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="another number gives slightly other weights")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    stills = render_stills(options.stills, seed=options.seed)
    held_out = render_stills(1000, seed=options.seed + 1)
    if options.tower != "text":
        tower = train_image_tower(stills, held_out, steps=options.image_steps, seed=options.seed)
        save_image_tower(tower, options.out / "tiny-dinov2")
    if options.tower != "image":
        torch.manual_seed(options.seed)  # the same text tower, whether or not an image tower was made before it
        text, tokenizer = train_text_tower(stills, held_out, steps=options.text_steps, seed=options.seed)
        save_text_tower(text, tokenizer, options.out / "tiny-clip-text")


if __name__ == "__main__":
    main()

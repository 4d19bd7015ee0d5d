"""What the frozen tiny image tower can do: a linear probe on the features of eight frames in a row, from few clips.

    python benchmarks/tiny_probe.py            # a minute on one core

Beside the tower it tries one with random weights, and says for the tower how often the two classes of each opposite
pair are told apart in order, with each clip's frames shuffled, and from the middle frame alone (chance 0.5).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from tiny_towers import new_image_tower
from torch import Tensor

from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.few_shot import draw_clips
from mmfuse.data.frames.sampling import segment_centres
from mmfuse.data.frames.video import read_frames
from mmfuse.data.tiny.dataset import generate
from mmfuse.encoders.image import ImageTower
from mmfuse.encoders.loading import load_image_tower

FRAMES = 8


def read_clips(paths: list[str], *, frames: int = FRAMES) -> Tensor:
    """(N, frames, 3, 64, 64) uint8, the centre of each segment."""
    root = generate()
    clips = [read_frames(root / path, lambda count: segment_centres(count, frames)) for path in paths]
    return torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous()


@torch.no_grad()
def features(tower: ImageTower, clips: Tensor) -> Tensor:
    """CLS and mean patch token of every frame, (N, 8, 2 * width)."""
    tokens = torch.cat([tower(part) for part in clips.split(32)])
    return torch.cat([tokens[:, :, 0], tokens[:, :, 1:].mean(2)], dim=-1)


def probe(known: Tensor, labels: Tensor, asked: Tensor, *, decay: float = 3e-4) -> Tensor:
    """Logistic regression on standardised features, (N, D) and (N,), used on (M, D): the predicted labels (M,)."""
    mean, spread = known.mean(0), known.std(0) + 1e-5
    scale = spread * known.shape[1] ** 0.5
    known, asked = (known - mean) / scale, (asked - mean) / scale
    weight = torch.zeros(known.shape[1], int(labels.max()) + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(known @ weight, labels) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return (asked @ weight).argmax(dim=1).detach()


def few_shot_accuracy(train: Tensor, test: Tensor, *, draws: int) -> dict[str, list[float]]:
    """Accuracy on all test clips for each number of shots and each certified draw."""
    catalogue = load_catalogue("tiny")
    place = {clip: row for row, clip in enumerate(catalogue.part("train")["clip"])}
    labels = torch.tensor(catalogue.part("test")["label"].tolist())
    accuracy: dict[str, list[float]] = {}
    for shots in (2, 4, 8, 16, "all"):
        for number in range(1 if shots == "all" else draws):
            chosen = draw_clips(catalogue, shots=shots, draw=number)
            rows = [place[clip] for clip in chosen["clip"]]
            found = probe(train[rows].flatten(1), torch.tensor(chosen["label"].tolist()), test.flatten(1))
            accuracy.setdefault(str(shots), []).append((found == labels).float().mean().item())
    return accuracy


def told_apart(train: Tensor, test: Tensor) -> list[float]:
    """The accuracy of a probe that must tell the two classes of each opposite pair apart, one number a pair."""
    catalogue = load_catalogue("tiny")
    known, asked = (torch.tensor(catalogue.part(part)["label"].tolist()) for part in ("train", "test"))
    accuracy = []
    for first in range(0, len(catalogue.class_names), 2):
        train_rows, test_rows = known // 2 == first // 2, asked // 2 == first // 2
        found = probe(train[train_rows].flatten(1), known[train_rows] - first, test[test_rows].flatten(1))
        accuracy.append((found == asked[test_rows] - first).float().mean().item())
    return accuracy


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Probe the frozen tiny image tower.")
    parser.add_argument("--tower", default="tiny-dinov2", help="tiny-dinov2, or a folder")
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    catalogue = load_catalogue("tiny")
    train, test = (read_clips(catalogue.part(part)["path"].tolist()) for part in ("train", "test"))
    random = ImageTower(new_image_tower().eval(), name="random", mean=(0.5,) * 3, std=(0.25,) * 3)
    for name, tower in (("random", random), (options.tower, load_image_tower(options.tower))):
        known, asked = features(tower, train), features(tower, test)
        print(name)
        for shots, accuracy in few_shot_accuracy(known, asked, draws=options.draws).items():
            print(f"  {shots:>3} shots: {np.mean(accuracy):.3f}  ({', '.join(f'{value:.3f}' for value in accuracy)})")
    generator = torch.Generator().manual_seed(0)

    def shuffled(clips: Tensor) -> Tensor:
        return torch.stack([clip[torch.randperm(FRAMES, generator=generator)] for clip in clips])

    pairs = " / ".join(catalogue.class_names[::2])
    print(f"told from their opposites: {pairs}")
    middle = [
        features(tower, read_clips(catalogue.part(part)["path"].tolist(), frames=1)) for part in ("train", "test")
    ]
    views = {"in order": (known, asked), "shuffled": (shuffled(known), shuffled(asked)), "middle": middle}
    for name, (left, right) in views.items():
        print(f"  {name:>8}: " + " / ".join(f"{value:.2f}" for value in told_apart(left, right)))


if __name__ == "__main__":
    main()

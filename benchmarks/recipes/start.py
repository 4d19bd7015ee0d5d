"""How far image prompts move the frozen tower's features before anything is trained.

    python -m benchmarks.recipes.start         # half a minute of one core

For training clips of `tiny`: the norm of the change of all tokens, in units of their own spread about their mean.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.frames.sampling import segment_centres
from mmfuse.data.frames.video import read_frames
from mmfuse.data.tiny.dataset import generate
from mmfuse.encoders import load_image_tower
from mmfuse.methods.base import attach

PROMPTS = {"vpt-shallow": (10,), "vpt-deep": (2, 10), "prefix": (2, 10)}


@torch.no_grad()
def main() -> None:
    """Print the changes."""
    torch.set_num_threads(1)
    root, paths = generate(), load_catalogue("tiny").part("train")["path"].tolist()[::12]
    clips = [read_frames(root / path, lambda count: segment_centres(count, 8)) for path in paths]
    video = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3)
    tower = load_image_tower("tiny-dinov2")
    frozen = tower(video)
    spread = (frozen - frozen.mean(dim=(0, 1), keepdim=True)).norm()
    for name, lengths in PROMPTS.items():
        for length in lengths:
            prompted = copy.deepcopy(tower)
            attach(prompted, {"method": name, "length": length}, generator=torch.Generator().manual_seed(0))
            print(f"{name:<12} {length:>2} prompts  {float((prompted(video) - frozen).norm() / spread):.2f}")


if __name__ == "__main__":
    main()

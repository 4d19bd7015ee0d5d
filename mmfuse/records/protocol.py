"""The protocol: which settings every number so far was made with, so that identities survive growth.

A cell's identity is the hash of what differs from the defaults that are pinned here, and of nothing else. Hence a new
setting whose default is what was done before changes no identity, while a default that is changed later changes the
identity of every cell that relied on it: old records then show as stale, instead of standing beside new ones.

The rules:

- A new key of a cell, a fusion or a method is added here with the default that means "as before".
- A default that changes is changed in its own place only; what is pinned stays.
- A change of the code that changes numbers and has no key of its own (the loss, the sampling, the derivation of seeds)
  raises `PROTOCOL`. Only then may the pinned defaults be written anew.
"""

from __future__ import annotations

from typing import Any

PROTOCOL = 2
"""Version of everything that turns a cell into numbers and has no key of its own."""

CELL: dict[str, Any] = {
    "split": 1,
    "draw": 0,
    "seed": 0,
    "dataset.own": False,
    "dataset.classes": None,
    "dataset.damaged": "error",
    "dataset.train_list": None,
    "dataset.protocol": None,
    "encoders.image": "tiny-dinov2",
    "encoders.text": "tiny-clip-text",
    "encoders.feature": "both",
    "clip.frames": None,
    "clip.size": None,
    "clip.flip": None,
    "clip.views": None,
    "clip.test_views": "1x1",
    "train.epochs": 20,
    "train.batch_size": 16,
    "train.label_smoothing": 0.1,
    "train.validation": 0.0,
    "train.mixup": 0.0,
    "train.cutmix": 0.0,
    "train.color_jitter": 0.0,
    "train.random_erasing": 0.0,
    "train.rand_augment": None,
    "train.optimizer": "adamw",
    "train.momentum": None,
    "train.ema": 0.0,
    "templates": None,
    "prompts": None,
    "precision": "auto",
    "devices": 1,
    "setting": "few-shot",
    "test_on": [],
}
"""By setting."""

_PROJECTED: dict[str, Any] = {"width": 256, "dropout": 0.1}
_TRANSFORMER: dict[str, Any] = {**_PROJECTED, "layers": 2, "heads": 4}
FUSIONS: dict[str, dict[str, Any]] = {
    "joint": _TRANSFORMER,
    "cross": _TRANSFORMER,
    "late": _TRANSFORMER,
    "plain": _TRANSFORMER,
    "pool": _PROJECTED,
    "mean": _PROJECTED,
    "linear": {},
    "concat": {},
}
"""By the arguments of each fusion."""

METHODS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "full": {},
    "bitfit": {},
    "ln": {},
    "ssf": {},
    "ia3": {"targets": ["k", "v", "fc2"], "layers": None},
    "vpt-shallow": {"length": 10},
    "vpt-deep": {"length": 10, "depth": None},
    "coop": {"length": 16, "words": None},
    "deep-prompt": {"length": 10, "depth": None, "words": None},
    "prefix": {"length": 10, "layers": None},
    "houlsby": {"bottleneck": 64, "layers": None},
    "pfeiffer": {"bottleneck": 64, "layers": None},
    "adaptformer": {"bottleneck": 64, "scale": 0.1, "layers": None},
    "adapter": {"bottleneck": 64, "layers": None},
    "clip-adapter": {"reduction": 4, "ratio": 0.2},
    "st-adapter": {"bottleneck": 384, "kernel": 3, "layers": None},
    "aim": {"ratio": 0.25, "scale": 0.5, "layers": None},
    "lora": {"rank": 8, "alpha": 16, "dropout": 0.0, "targets": ["q", "v"], "layers": None},
    "dora": {"rank": 8, "alpha": 16, "dropout": 0.0, "targets": ["q", "v"], "layers": None},
    "pissa": {"rank": 8, "alpha": 8, "dropout": 0.0, "targets": ["q", "v"], "layers": None},
    "olora": {"rank": 8, "alpha": 8, "dropout": 0.0, "targets": ["q", "v"], "layers": None},
    "vera": {"rank": 256, "initial": 0.1, "dropout": 0.0, "targets": ["q", "v"], "layers": None},
    "loha": {"rank": 8, "alpha": 8, "targets": ["q", "v"], "layers": None},
    "lokr": {"rank": 8, "alpha": 8, "targets": ["q", "v"], "layers": None},
    "oft": {"block_size": 32, "targets": ["q", "v"], "layers": None},
    "boft": {"block_size": 4, "targets": ["q", "v"], "layers": None},
    "peft": {"type": "required", "targets": ["q", "v"], "layers": None},
}
"""By the arguments of each method. Methods of other packages are not pinned: all their arguments count."""

RECIPES: dict[str, dict[str, float]] = {
    "full": {"lr": 0.0001, "weight_decay": 0.0, "warmup": 0.1},
    "bitfit": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "ln": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "ssf": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "ia3": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "vpt-shallow": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "vpt-deep": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "coop": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "deep-prompt": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "prefix": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "houlsby": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "pfeiffer": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "adaptformer": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "adapter": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "clip-adapter": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "st-adapter": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "aim": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "lora": {"lr": 0.001, "weight_decay": 0.0, "warmup": 0.1},
    "dora": {"lr": 0.001, "weight_decay": 0.0, "warmup": 0.1},
    "pissa": {"lr": 0.001, "weight_decay": 0.0, "warmup": 0.1},
    "olora": {"lr": 0.001, "weight_decay": 0.0, "warmup": 0.1},
    "vera": {"lr": 0.01, "weight_decay": 0.0, "warmup": 0.1},
    "loha": {"lr": 0.001, "weight_decay": 0.0, "warmup": 0.1},
    "lokr": {"lr": 0.001, "weight_decay": 0.0, "warmup": 0.1},
    "oft": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "boft": {"lr": 0.003, "weight_decay": 0.0, "warmup": 0.1},
    "peft": {"lr": 0.001, "weight_decay": 0.0, "warmup": 0.1},
}
"""How each method is trained."""

FUSION_RECIPE: dict[str, float] = {"lr": 4e-3, "weight_decay": 0.0, "warmup": 0.1}
"""How every fusion is trained."""

"""Every method, tower and fusion on a pretended device: one training step, and one test batch, of shapes alone.

Run as a program, which prints what it found as JSON: a pretended device is registered for the whole life of a process.
Tensors have a device, a shape and no values (torch's fake tensors). So an operator that is given tensors of two devices
fails, and so does whatever asks a tensor of the device for a value, which on a GPU would wait for all that was begun.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed.counting import NAME, count, on_device, pretend, summed
from benchmarks.speed.steps import recognizer
from mmfuse.methods import names
from mmfuse.model.frame_features import FEATURES
from mmfuse.model.fusion import FUSIONS
from mmfuse.model.recognizer import ActionRecognizer
from tests import towers
from tests.methods.sweep import SMALL

FRAMES = 4
COUNTED = (("lora", "frozen"), ("dora", "adapter"))
"""Pairs whose kernels are counted, on two layers as wide as ViT-S."""
FLIPS_COINS = {"loha", "lokr"}
"""peft throws a die on the CPU in each of their training steps; it has no value here."""


class Operators(TorchDispatchMode):
    """Notes the names of all operators, those of gradients included."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(operator.overloadpacket.__name__)
        return operator(*args, **(kwargs or {}))


def cases() -> Iterator[tuple[str, str, str, str, str, str]]:
    """Image method, text method, both towers, fusion and frame feature: each of them with several of the others."""
    images, texts = names("image"), names("text")
    rows = [*itertools.zip_longest(images, texts, fillvalue="frozen")]
    rows += [("full", "full")] * (len(towers.IMAGE_KINDS) - 1)  # under which everything in a tower takes gradients
    kinds = itertools.cycle(towers.IMAGE_KINDS)
    for (image, text), kind, words, fusion, feature in zip(
        rows,
        kinds,
        itertools.cycle(towers.TEXT_KINDS),
        itertools.cycle(FUSIONS),
        itertools.cycle(FEATURES),
        strict=False,
    ):
        yield image, text, kind, words, fusion, feature
    for kind in towers.VIDEO_KINDS:
        yield "full", "frozen", kind, "clip-text", "joint", "both"


def built(image: str, text: str, kind: str, words: str, fusion: str, feature: str) -> ActionRecognizer:
    return ActionRecognizer(
        towers.PHRASES,
        image_encoder=towers.image_tower(kind),
        text_encoder=towers.text_tower(words),
        image_method={"method": image, **SMALL.get(image, {})},
        text_method={"method": text, **SMALL.get(text, {})},
        fusion={"kind": fusion, **({} if fusion in {"linear", "concat"} else {"width": 16})},
        frames=FRAMES,
        feature=feature,
    )


def step(model: ActionRecognizer) -> None:
    """A training step, then a test batch, not merged: fake tensors cannot be copied deeply."""
    model.train()
    for module in (
        model.modules() if FLIPS_COINS & {settings["method"] for settings in model.method_settings.values()} else ()
    ):
        if hasattr(module, "rank_dropout"):
            module.eval()
    side = 2 * towers.SIZE  # not the size of the towers' own positions
    video = torch.zeros(3, FRAMES, 3, side, side, dtype=torch.uint8, device=NAME)
    labels = torch.zeros(3, dtype=torch.int64, device=NAME)
    model.loss({"video": video, "label": labels}).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is None or weight.grad.device.type == NAME, name
    with torch.no_grad():
        logits = model.eval()(video)
    assert logits.device.type == NAME


def found(case: tuple[str, ...], mode: FakeTensorMode) -> dict[str, Any]:
    model = built(*case)
    with mode, Operators() as operators:
        try:
            step(on_device(model, mode))
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}", "operators": sorted(operators.seen)}
    return {"error": "", "operators": sorted(operators.seen)}


def controls(mode: FakeTensorMode) -> dict[str, Any]:
    """What the sweep must find, were it there."""
    with mode, Operators() as operators:
        grid = torch.zeros(1, 1, 4, 4, device=NAME, requires_grad=True)
        functional.interpolate(grid, size=(5, 5), mode="bicubic").sum().backward()
        functional.adaptive_avg_pool2d(grid, 3).sum().backward()
        refused = []
        for wrong in (lambda: grid + torch.zeros(1, 1, 4, 4), lambda: grid.sum().item(), lambda: grid.nonzero()):
            try:
                wrong()
                refused.append("")
            except Exception as error:
                refused.append(type(error).__name__)
    return {"refused": refused, "operators": sorted(operators.seen)}


def counts(image: str, text: str) -> dict[str, dict[str, float]]:
    """Kernels of a training step in 16 bits, by phase, and of a pass without gradients."""
    model = recognizer("vit-s", image, text_method=text, depth=2)
    counted = count(model, clips=2, frames=8, side=56)
    phases = {
        phase: [one for one in counted.step if one.phase == phase] for phase in ("forward", "backward", "optimizer")
    }
    return {name: summed(kernels) for name, kernels in {**phases, "frozen": counted.frozen}.items()}


def main() -> None:
    torch.set_num_threads(1)
    pretend()
    mode = FakeTensorMode()  # one for all, since DINOv3 keeps its positions for all models
    # The thread that autograd keeps for a device has crashed when it freed fake tensors.
    with torch.autograd.set_multithreading_enabled(False):
        swept = {"-".join(case): found(case, mode) for case in cases()}
    counted = {f"{image}+{text}": counts(image, text) for image, text in COUNTED}
    json.dump({"cases": swept, "controls": controls(mode), "counts": counted}, sys.stdout)


if __name__ == "__main__":
    main()

"""A training step of the recogniser, against the bare tower's forward and backward with the same method.

Both sides take turns on the same batch in memory: ours as decoded bytes, through everything that training does with
them (normalising, tower, prompts, fusion, loss, backward, optimiser); theirs as floats that are normalised already,
through the model of `transformers` and back from the mean of its output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.materials import WIDTHS, image_model
from benchmarks.speed.measuring import Bench, Clock, Row, interleaved, ratios

CLASSES, FRAMES, SIZE = 16, 8, 224
SIZES = (("vit-s", 2), ("vit-b", 1))
"""Towers, and clips of a step."""
BATCH = 16
"""Clips of a step as grids take them, which ours runs in chunks."""
LENGTH = 10
"""Prompt tokens of VPT."""
MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Sides:
    """Both sides on one batch of clips.

    Args:
        ours, theirs: one training step of each.
        our_test, their_test: one forward of each without gradients.
        recognizer: ours.
        clips: uint8 (B, T, 3, H, W).
    """

    ours: Callable[[], None]
    theirs: Callable[[], None]
    our_test: Callable[[], None]
    their_test: Callable[[], None]
    recognizer: Any
    clips: Any


def measure(bench: Bench) -> list[Row]:
    """DoRA, LoRA and VPT-deep on towers of real size, in both precisions."""
    if bench.quick:
        cases = [("vit-s", "dora", "bf16", 1)]
    else:
        cases = [("vit-s", "dora", "fp32", 2), ("vit-b", "dora", "fp32", 1)]
        cases += [(size, method, "bf16", clips) for size, clips in SIZES for method in ("dora", "lora", "vpt-deep")]
        cases += [("vit-s", "dora", precision, BATCH) for precision in ("fp32", "bf16")]
    return [_case(bench, *case) for case in cases]


def _case(bench: Bench, size: str, method: str, precision: str, clips: int) -> Row:
    bench.say(f"a step of {method} on {size} in {precision}, {clips} clips")
    both = sides(size, method, precision, clips=clips, device=bench.device)
    seen = interleaved({"ours": both.ours, "theirs": both.theirs}, rounds=bench.rounds, clock=Clock(bench.device))
    return Row(
        "step",
        f"a training step, {method} on {named(size)}, {precision}, clips: {clips}",
        "the bare tower with the same method",
        ratios(seen["ours"], seen["theirs"]),
        at_most=1.05,
        figures={"seconds": seen, "clips": clips},
    )


def named(size: str) -> str:
    """A tower as people write it."""
    return {"vit-s": "ViT-S", "vit-b": "ViT-B"}[size]


def sides(size: str, method: str, precision: str, *, clips: int, device: str) -> Sides:
    """Build both sides around copies of one model.

    Args:
        size: "vit-s" or "vit-b".
        method: on the image tower: "dora", "lora", "vpt-deep" or "frozen".
        precision: "fp32" or "bf16", which is autocast.
        clips: B.
        device: "cpu" or "cuda".
    """
    import torch

    model = recognizer(size, method).to(device)
    bare, prompts = bare_tower(size, method)
    bare = bare.to(device)
    prompts = None if prompts is None else prompts.to(device)
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (clips, FRAMES, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator).to(device)
    labels = torch.arange(clips, device=device)
    pixels = ((video.float() / 255 - MEAN[0]) / STD[0]).flatten(0, 1)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)

    def lower() -> Any:
        return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")

    def ours() -> None:
        model.train()
        with lower():
            loss = model.training_step({"video": video, "label": labels}, 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def theirs() -> None:
        with lower():
            out = bare(pixel_values=pixels).last_hidden_state
        out.float().mean().backward()
        bare.zero_grad()
        if prompts is not None:
            prompts.zero_grad()

    def our_test() -> None:
        model.eval()
        with torch.inference_mode(), lower():
            model(video)

    def their_test() -> None:
        with torch.inference_mode(), lower():
            bare(pixel_values=pixels)

    return Sides(ours, theirs, our_test, their_test, model, video)


def recognizer(size: str, method: str, *, depth: int | None = None, **more: Any) -> Any:
    """Ours: a tower of real size, the embedded text tower, a joint fusion; `more` are its further arguments."""
    from mmfuse import ActionRecognizer
    from mmfuse.encoders.image import ImageTower

    model = ActionRecognizer(
        [f"class {number}" for number in range(CLASSES)],
        image_encoder=ImageTower(image_model(size, depth=depth), name=size, mean=MEAN, std=STD),
        image_method=method,
        fusion={"kind": "joint", "width": 256},
        frames=FRAMES,
        **more,
    )
    model.log = lambda *_, **__: None  # type: ignore[method-assign]  # Lightning logs through a trainer alone
    return model


def bare_tower(size: str, method: str) -> tuple[Any, Any]:
    """Theirs: the model of `transformers` with the method as peft, or a few hooks, put it there; and the prompts."""
    import peft

    model = image_model(size)
    if method in ("dora", "lora"):
        config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], use_dora=method == "dora")
        return peft.get_peft_model(model, config), None
    if method == "vpt-deep":
        from benchmarks.speed.straight import DeepPrompts

        return model, DeepPrompts(model.encoder.layer, WIDTHS[size][0], length=LENGTH)
    return model, None

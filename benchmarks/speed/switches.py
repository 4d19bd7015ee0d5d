"""Each optimisation on and off: the same cell, in turns, with what the switch is for.

A ratio above 1 says what the switch saves. `compile` and `checkpointing` are off by default: the one pays only after
minutes of compiling (its start is left out here and told apart), the other buys memory with time.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.speed.cells import cache, cell, run
from benchmarks.speed.grids import Case, run_grid
from benchmarks.speed.materials import embedded_towers, image_tower, moving_clips, text_tower, tiny_clips
from benchmarks.speed.measuring import Bench, Clock, Row, in_turns, interleaved, ratios
from benchmarks.speed.warmth import shortened


@dataclass(frozen=True)
class Try:
    """A switch with a cell on which it has something to do.

    Args:
        key: of `mmfuse-bench --speed`, or "store".
        what: the cell, in words.
        pair: methods.
        epochs, shots: of the cell.
        large: whether it takes a ViT-S on real frames, of as many clips a class as are trained on.
        more: other settings.
    """

    key: str
    what: str
    pair: tuple[Any, Any]
    epochs: int = 8
    shots: int = 4
    large: bool = False
    more: dict[str, Any] = field(default_factory=dict)


TRIES = (
    Try("features", "frozen+frozen, 16 epochs, embedded towers", ("frozen", "frozen"), epochs=16),
    Try("frozen_prefix", "lora on the last layer, 16 epochs, embedded towers",
        ({"method": "lora", "layers": [3]}, "frozen"), epochs=16),
    Try("compose", "dora+frozen, 1 step, ViT-S", ("dora", "frozen"), epochs=1, shots=1, large=True),
    Try("merge", "dora+frozen, 1 step and a test, ViT-S", ("dora", "frozen"), epochs=1, shots=1, large=True),
    Try("trim", "frozen+lora, 16 epochs, embedded towers", ("frozen", "lora"), epochs=16),
    Try("attention", "lora+frozen, 1 step, ViT-S", ("lora", "frozen"), epochs=1, shots=1, large=True),
    Try("unfilled", "lora+frozen, 1 step, ViT-S", ("lora", "frozen"), epochs=1, shots=1, large=True),
    Try("checkpointing", "lora+frozen, 1 step, ViT-S", ("lora", "frozen"), epochs=1, shots=1, large=True),
)  # fmt: skip


def measure(bench: Bench) -> list[Row]:
    """A row a switch, where this version has it."""
    if importlib.util.find_spec("mmfuse.model.optimizations") is None:
        return []
    return [*(_switch(bench, one) for one in TRIES), _chunks(bench), _store(bench), _compile(bench)]


def _cell(bench: Bench, one: Try) -> Any:
    if not one.large:
        clips = tiny_clips(bench.folder / "switches")
        return cell(dataset=clips.keys(), pair=one.pair, shots=one.shots, epochs=one.epochs, clip={"size": 64})
    clips = shortened(moving_clips(bench.folder), bench.folder, each=one.shots)
    towers = {"image": str(image_tower(bench.folder, "vit-s")), "text": str(embedded_towers()[1])}
    return cell(dataset=clips.keys(), pair=one.pair, shots=one.shots, epochs=one.epochs, encoders=towers)


def _switch(bench: Bench, one: Try) -> Row:
    from mmfuse.model.optimizations import Optimizations

    bench.say(f"{one.key} on and off: {one.what}")
    made = _cell(bench, one)
    switched = {state: Optimizations.parse([f"{one.key}={state}"]) for state in ("on", "off")}
    ways = {state: partial(run, made, optimizations=chosen, store="auto") for state, chosen in switched.items()}
    with cache(bench.folder / f"switch-{one.key}"):
        seen = interleaved(ways, rounds=min(bench.rounds, 3), clock=Clock(bench.device))
    return _row(f"--speed {one.key}", one.what, seen)


def _chunks(bench: Bench) -> Row:
    """Grids of one cell by the command: what a process keeps of its memory, it keeps until it ends."""
    towers = (image_tower(bench.folder, "vit-s"), text_tower(bench.folder))
    case = Case(shortened(moving_clips(bench.folder), bench.folder, each=4), towers, ("lora+frozen",), (4,), 4, 4)

    def seconds(state: str, turn: int) -> float:
        return run_grid(
            bench,
            case,
            name=f"chunks-{state}-{turn}",
            pairs=case.pairs,
            shots=case.shots,
            epochs=case.epochs,
            speed=[f"chunks={state}"],
        ).processor

    seen = in_turns({state: partial(seconds, state) for state in ("on", "off")}, range(min(bench.rounds, 2)))
    return _row("--speed chunks", "a grid of one cell from its start, lora+frozen, 4 steps of 16 clips, ViT-S", seen)


def _store(bench: Bench) -> Row:
    bench.say("store on and off")
    clips = shortened(moving_clips(bench.folder), bench.folder)
    made = cell(dataset=clips.keys(), pair=("lora", "frozen"), shots=1, epochs=4, clip={"size": 64})
    with cache(bench.folder / "switch-store"):
        ways = {"on": lambda: run(made, store="auto"), "off": lambda: run(made, store=None)}
        seen = interleaved(ways, rounds=min(bench.rounds, 3), clock=Clock(bench.device))
    return _row("--store", "a further cell, lora+frozen, 4 epochs of 320×240 clips shown at 64 pixels", seen)


def _compile(bench: Bench) -> Row:
    """Compiled once; steps after that against plain ones."""
    import torch

    from benchmarks.speed.steps import sides

    bench.say("compile on and off: a step of lora on ViT-S")
    plain, compiled = (sides("vit-s", "lora", "bf16", clips=1, device=bench.device) for _ in range(2))
    clock = Clock(bench.device)
    compiled.recognizer.image_tower.compile(dynamic=False)
    try:
        first = clock.seconds(compiled.ours)
    except torch._dynamo.exc.TorchDynamoException as error:
        why = f"cannot compile here: {type(error).__name__}"
        return Row("switches", "--speed compile", "off", None, how=why)
    seen = interleaved({"on": compiled.ours, "off": plain.ours}, rounds=min(bench.rounds, 3), clock=clock)
    row = _row("--speed compile", f"a step of lora on ViT-S after the first, which takes {first:.0f} s", seen)
    torch._dynamo.reset()
    return row


def _row(switch: str, what: str, seen: dict[str, list[float]]) -> Row:
    return Row(
        "switches", f"{switch} off, against on", what, ratios(seen["off"], seen["on"]), figures={"seconds": seen}
    )

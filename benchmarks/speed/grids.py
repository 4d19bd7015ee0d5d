"""A grid by the runner, against one process a cell of `straight.py`: what of the work is waste, and is saved.

Both train the same cells: 4 pairs × 4 numbers of shots, 8 frames of 224 pixels, batches of 16, 30 epochs. The runner
starts with an empty cache, so that decoding and features are counted. `straight.py` would take hours for a grid. What
it does in an hour is the same few things over and over, so it is measured on parts, one process a pair: everything up
to the first step, some steps, some batches of the test; and multiplied by the exact numbers of steps and of clips. The
two sides take turns, each turn with an empty cache.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.materials import (
    ClipSet,
    embedded_towers,
    few_shot_list,
    grid_file,
    image_tower,
    moving_clips,
    text_tower,
    tiny_clips,
)
from benchmarks.speed.measuring import Bench, Ended, Figure, Row, command_line, in_turns, ratios, run_process

FROZEN = ("frozen+frozen", "frozen+adapter", "frozen+coop", "frozen+lora")
ADAPTED = ("dora+adapter", "lora+frozen", "vpt-deep+coop", "adapter+frozen")
SHOTS = (2, 4, 8, 16)
EPOCHS, BATCH = 30, 16
ROUNDS = 3
"""At most: a turn of both sides takes a quarter of an hour."""
STRAIGHT = Path(__file__).with_name("straight.py")
Side = Callable[[int], dict[str, Any]]
"""Measures a grid, given the number of the turn; its "seconds", and what is behind them."""


@dataclass(frozen=True)
class Case:
    """One grid: which clips and towers, which cells.

    Args:
        classes: of the clips.
        width: of the fusion.
    """

    clips: ClipSet
    towers: tuple[Path, Path]
    pairs: Sequence[str]
    shots: Sequence[int]
    epochs: int
    classes: int
    width: int = 512

    def full_steps(self, shots: int) -> float:
        """An epoch at K shots, in batches of 16: half a batch counts half, though a text tower costs it the same."""
        return self.classes * shots / BATCH

    def test_batches(self) -> float:
        """The test list in batches of 16."""
        return self.clips.test_clips / BATCH


def frozen(bench: Bench) -> list[Row]:
    """With a frozen image tower; with `quick` a small grid in full, of both kinds."""
    return [_quick(bench) if bench.quick else _grid(bench, "frozen", pairs=FROZEN, aim=40.0)]


def adapted(bench: Bench) -> list[Row]:
    """With an adapted image tower."""
    return [_grid(bench, "adapted", pairs=ADAPTED, aim=3.0)]


def _grid(bench: Bench, name: str, *, pairs: Sequence[str], aim: float) -> Row:
    """One grid of real size."""
    bench.say("making towers and clips")
    towers = (image_tower(bench.folder, "vit-s"), text_tower(bench.folder))
    case = Case(moving_clips(bench.folder), towers, pairs, SHOTS, EPOCHS, classes=4)
    straight: Side = partial(_straight_parts, bench, case, steps=3 if name == "frozen" else 2)
    ours: Side = partial(_ours_whole, bench, case, name)
    said = "ours in full, with an empty cache"
    if bench.whole:
        straight = partial(_straight_whole, bench, case)
    elif name == "adapted":
        ours, said = partial(_ours_in_parts, bench, case), "ours in parts as well, counted high"
    against = "straight.py, a process a cell" + ("" if bench.whole else ", in parts times their number")
    measured, seen = _compared(straight, ours, rounds=1 if bench.whole else min(bench.rounds, ROUNDS))
    return Row(
        name,
        f"a grid with {'a frozen' if name == 'frozen' else 'an adapted'} image tower, "
        f"{len(case.pairs)} pairs × {len(case.shots)} shots, ViT-S",
        against,
        measured,
        at_least=aim,
        how=said,
        figures=seen,
    )


def _quick(bench: Bench) -> Row:
    """Embedded towers, three epochs, both sides in full."""
    clips = tiny_clips(bench.folder / "quick")
    case = Case(clips, embedded_towers(), ("frozen+adapter", "dora+adapter"), (2, 4), 3, classes=12, width=128)
    measured, seen = _compared(
        partial(_straight_whole, bench, case), partial(_ours_whole, bench, case, "quick"), rounds=1
    )
    return Row(
        "frozen",
        "a small grid with embedded towers, 2 pairs × 2 shots, 3 epochs",
        "straight.py, a process a cell",
        measured,
        how="both in full; starting processes is most of it",
        figures=seen,
    )


def _compared(straight: Side, ours: Side, *, rounds: int) -> tuple[Figure, dict[str, list[dict[str, Any]]]]:
    """How many times as long `straight.py` takes, turn by turn; and all that was seen."""
    seen = in_turns({"straight.py": straight, "mmfuse-bench": ours}, range(rounds))
    theirs, own = ([one["seconds"] for one in turns] for turns in seen.values())
    return ratios(theirs, own), seen


# --- straight.py -----------------------------------------------------------------------------------------------------


def _straight(bench: Bench, case: Case, pair: str, shots: int, *more: str) -> tuple[Ended, dict[str, Any]]:
    """One process of it, in full unless told to stop early."""
    clips, (image, text) = case.clips, case.towers
    command = [sys.executable, str(STRAIGHT), "--image-tower", str(image), "--text-tower", str(text)]
    command += ["--root", str(clips.root), "--train", str(few_shot_list(clips, shots, bench.folder))]
    command += ["--test", str(clips.test), "--pair", pair, "--epochs", str(case.epochs), "--width", str(case.width)]
    command += ["--size", str(clips.size), "--device", bench.device, *(["--flip"] if clips.flip else []), *more]
    ended = run_process(command)
    return ended, json.loads(ended.output.strip().splitlines()[-1])


def _straight_whole(bench: Bench, case: Case, _turn: int) -> dict[str, Any]:
    """Every cell in full."""
    cells = {}
    for pair in case.pairs:
        for shots in case.shots:
            bench.say(f"straight.py {pair}, {shots} shots, in full")
            cells[f"{pair} k{shots}"] = _straight(bench, case, pair, shots)[0].processor
    return {"seconds": sum(cells.values()), "cells": cells}


def _straight_parts(bench: Bench, case: Case, _turn: int, *, steps: int) -> dict[str, Any]:
    """One process a pair, at the most shots; the rest by arithmetic."""
    total, pairs = 0.0, {}
    for pair in case.pairs:
        bench.say(f"straight.py {pair}: start, {steps} steps of {BATCH} clips, a batch of the test")
        ended, said = _straight(bench, case, pair, max(case.shots), "--steps", str(steps), "--test-batches", "1")
        # What is neither a step nor a batch of the test: start, import, loading, the end of the process.
        rest = ended.processor - sum(said["step_seconds"]) - sum(said["test_batch_seconds"])
        step, test_batch = statistics.median(said["step_seconds"][1:]), statistics.median(said["test_batch_seconds"])
        total += _in_all(case, rest, step, test_batch)
        pairs[pair] = {"rest": rest, "step": said["step_seconds"][1:], "test_batch": said["test_batch_seconds"]}
    return {"seconds": total, "parts": pairs}


def _in_all(case: Case, rest: float, step: float, test_batch: float) -> float:
    """Seconds of one pair at every number of shots, a process each."""
    steps = sum(case.epochs * case.full_steps(shots) for shots in case.shots)
    return len(case.shots) * (rest + case.test_batches() * test_batch) + steps * step


# --- the runner ------------------------------------------------------------------------------------------------------


def _ours_whole(bench: Bench, case: Case, name: str, turn: int) -> dict[str, Any]:
    """The grid in full, with an empty cache."""
    ended = run_grid(bench, case, name=f"{name}-{turn}", pairs=case.pairs, shots=case.shots, epochs=case.epochs)
    return {"seconds": ended.processor, "wall": ended.wall}


def _ours_in_parts(bench: Bench, case: Case, turn: int) -> dict[str, Any]:
    """Two short grids of all pairs at the number of shots that makes one full batch: 1 epoch, and 3.

    Their difference is two steps of each pair. The shorter one, which holds a start of the runner with an empty cache
    and a test of each pair, is counted once for each number of shots: more than the whole grid would take.
    """
    shots = next(k for k in case.shots if case.full_steps(k) == 1)
    short, long = (
        run_grid(
            bench, case, name=f"adapted-{epochs}-{turn}", pairs=case.pairs, shots=(shots,), epochs=epochs
        ).processor
        for epochs in (1, 3)
    )
    step = (long - short) / 2
    steps = sum(case.epochs * case.full_steps(k) for k in case.shots)
    total = len(case.shots) * short + (steps - len(case.shots)) * step
    return {"seconds": total, "one epoch": short, "three epochs": long, "a step of each pair": step}


def run_grid(
    bench: Bench,
    case: Case,
    *,
    name: str,
    pairs: Sequence[Any],
    shots: Sequence[int],
    epochs: int,
    draws: int = 1,
    speed: Sequence[str] = (),
) -> Ended:
    """Run a grid by the command, with one worker and an empty cache; `speed` are switches."""
    bench.say(f"mmfuse-bench, {len(pairs)} pairs × {len(shots)} shots, {epochs} epochs")
    folder = bench.folder / f"grid-{name}"
    file = grid_file(
        folder,
        name,
        clips=case.clips,
        towers=case.towers,
        pairs=list(pairs),
        shots=list(shots),
        epochs=epochs,
        draws=draws,
        width=case.width,
        batch_size=BATCH,
    )
    command = [*command_line("mmfuse-bench"), "--grid", str(file), "--results", str(folder / "results")]
    command += ["--workers", "1", *(word for switch in speed for word in ("--speed", switch))]
    return run_process(command, environment={"MMFUSE_CACHE": str(folder / "cache")})

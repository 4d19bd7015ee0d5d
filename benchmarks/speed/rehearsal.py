"""A benchmark of full size without its training: how long all the rest takes, with how much memory and how many files.

    python -m benchmarks.speed.rehearsal --annotations DIR [--folder DIR] [--cells N] [--clips N] [--tower] [--out FILE]

Clips are stand-ins, tiny videos under UCF101's official names; with `--clips` above the official 13,320 they are a data
set of one's own of that many. Cells are planned, claimed, recorded and reported by the real code; in place of training
and test, each makes predictions of random numbers, which look like those of a model that is right so often.
`--tower` also computes one block of features with a ViT-B of random weights, into a file of full size.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.speed.measuring import Ended, command_line, run_process
from mmfuse.bench.engines.base import Engine, Limits
from mmfuse.bench.engines.local import LocalEngine, device_slots
from mmfuse.bench.job import Job, Outcome, Progress, Report
from mmfuse.bench.session import Request, Session, SilentView

OFFICIAL = 13_320
"""Clips of UCF101."""
LINKS = 1_000
"""Names that one file of the stand-ins has: file systems allow a limited number."""
DRAWS, SHOTS, SPLITS = 10, (2, 4, 8, 16, "all"), (1, 2, 3)
IMAGE = ("dora", "lora", "vpt-deep", "adapter", "bitfit", "ssf", "ia3", "ln", "vera", "adaptformer")
TEXT = ("frozen", "adapter", "coop", "lora")


# -- what is rehearsed with ----------------------------------------------------------------------------------------


def make_clips(folder: Path, *, clips: int, annotations: Path) -> dict[str, Any]:
    """Stand-in videos, each a name of one of a few files; the data set as a grid names it."""
    sources = [_encoded(folder / "sources" / f"{number}.avi", number) for number in range(1 + clips // LINKS)]
    if clips == OFFICIAL:
        names = _official_names(annotations)
        places = [folder / "data" / "ucf101" / "UCF-101" / name for name in names]
        dataset: dict[str, Any] = {"name": "ucf101"}
    else:
        root = folder / "data" / "own"
        names = [f"class{at % 101:03d}/g{at // 1010:04d}_c{at // 101 % 10:02d}.avi" for at in range(clips)]
        places = [root / name for name in names]
        _write_lists(root, names)
        dataset = {"name": "own", "root": str(root), "train": "train.csv", "test": "test.csv"}
    for at, place in enumerate(places):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(sources[at // LINKS], place)
    return dataset


def _official_names(annotations: Path) -> list[str]:
    lists = annotations / "ucfTrainTestlist"
    lines = [
        line.split()[0]
        for name in ("trainlist01.txt", "testlist01.txt")
        for line in (lists / name).read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    if len(lines) != OFFICIAL:
        raise SystemExit(f"{lists} names {len(lines):,} clips, not {OFFICIAL:,}")
    return lines


def _encoded(path: Path, number: int) -> Path:
    """A video of 16 frames, unlike the others."""
    import av
    import numpy as np

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(number)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for _ in range(16):
                picture = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return path


def _write_lists(root: Path, names: list[str]) -> None:
    """Every fourth source is tested on."""
    root.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for at, name in enumerate(names):
        label, group = name.split("/")[0], name.split("_")[0]
        parts["test" if at // 1010 % 4 == 3 else "train"].append(f"{name},{label},{group}")
    for part, lines in parts.items():
        (root / f"{part}.csv").write_text("\n".join(["path,label,group", *lines]) + "\n", encoding="utf-8")


def grid_of(dataset: dict[str, Any], *, cells: int) -> dict[str, Any]:
    """A grid of about so many cells: pairs first, then draws, then seeds."""
    own = "root" in dataset
    splits = (1,) if own else SPLITS
    wanted = ["frozen+frozen", *("+".join(pair) for pair in itertools.product(IMAGE, TEXT))]
    pairs = wanted[: max(2, min(20, cells // (len(SHOTS) * len(splits) * 2)))]
    row = len(SHOTS) * len(splits) * len(pairs)
    draws = min(DRAWS, max(1, cells // row))
    return {
        "name": "rehearsal",
        "datasets": [dataset if own else dataset["name"]],
        "splits": list(splits),
        "shots": list(SHOTS),
        "draws": list(range(draws)),
        "seeds": list(range(max(1, round(cells / (row * draws))))),
        "pairs": pairs,
        "clip": {"frames": 8, "size": 224, "flip": True},
        "fusion": {"kind": "joint", "width": 512, "layers": 2},
    }


# -- in the place of training and test -----------------------------------------------------------------------------


@lru_cache
def _lists(dataset: str, split: int, data_root: str, annotations: str | None) -> Any:
    from mmfuse.bench.preflight import lists_of
    from mmfuse.records.cell import Cell

    cell = Cell.model_validate({"dataset": json.loads(dataset), "split": split, "pair": _FROZEN, "shots": 2})
    return lists_of(cell, data_root, annotations=None if annotations is None else Path(annotations))


_FROZEN = {"name": "frozen+frozen", "image": "frozen", "text": "frozen"}
VARIANTS = 64
"""Different predictions; more cells than that share them, which saves making them and changes nothing that is read."""


@lru_cache(maxsize=4 * VARIANTS)
def _predicted(dataset: str, split: int, data_root: str, annotations: str | None, right: int, number: int) -> Any:
    """Predictions of the test list, `right` of a hundred clips right, as columns and as a file."""
    import numpy as np

    from mmfuse.records.predictions import encode, tabulate

    catalogue = _lists(dataset, split, data_root, annotations)
    test = catalogue.part("test")
    generator = np.random.default_rng([right, number, split])
    labels = test["label"].to_numpy()
    scores = generator.normal(size=(len(test), len(catalogue.class_names)))
    scores[np.arange(len(test)), labels] += np.where(generator.random(len(test)) < right / 100, 6.0, 0.0)
    likely = np.exp(scores)
    likely /= likely.sum(1, keepdims=True)
    found = {
        "index": np.arange(len(test)),
        "label": labels,
        "predicted": likely.argmax(1),
        "probabilities": likely,
    }
    told = tabulate(test, found)
    return told, encode(told), list(catalogue.class_names)


def stand_in(job: Job, *, progress: Report) -> Outcome:
    """What a worker calls with each job: a record as `run_cell` leaves it, of numbers that nothing was trained for."""
    from mmfuse.bench import environment
    from mmfuse.records.cell import identity
    from mmfuse.records.predictions import metrics_of
    from mmfuse.records.record import Cost, Metrics, Parameters, Predictions, Provenance, Record, Seeds, Views, now

    cell, begun, started = job.cell, time.monotonic(), now()
    progress(Progress("training", 1, cell.train.epochs))
    place = (cell.dataset.model_dump_json(), cell.split, job.data_root or "", job.annotations)
    better = int.from_bytes(hashlib.sha256(cell.pair.name.encode()).digest()[:1], "big") % 8
    right = 60 + better + 3 * SHOTS.index(cell.shots)
    told, table, names = _predicted(*place, right, (7 * cell.seed + cell.draw) % (VARIANTS // 8))
    digest, clips = environment.digest(table), len(told["label"])
    record = Record(
        cell=cell,
        name=cell.name,
        config_hash=cell.config_hash,
        identity=identity(cell.config_hash, job.known),
        inputs=job.known,
        state="done",
        class_names=tuple(names),
        metrics=Metrics(**metrics_of(told), test_clips=clips, train_clips=101 * 2),
        test_views=Views(frames=8, size=224),
        parameters=Parameters(image_method=294_912, text_method=786_432, fusion=7_000_000),
        cost=Cost(seconds=60 + time.monotonic() - begun, train_seconds=50.0, test_seconds=9.0, peak_memory_bytes=2**32),
        seeds=Seeds(draw=cell.draw, seed=cell.seed, training=cell.training_seed),
        provenance=Provenance(device="none: rehearsed", precision="32-true", started=started, finished=now()),
        notes=("rehearsed: nothing was trained",),
        command=job.command,
    )
    predictions = Predictions(file=f"{record.stem}.csv.gz", sha256=digest, clips=clips)
    return Outcome(record.model_copy(update={"predictions": predictions}), {"predictions": table})


class Rehearsal(Session):
    """A session whose workers call `stand_in`."""

    def _engine(self, tasks: int) -> Engine:
        slots = device_slots(workers=self.request.workers)
        return LocalEngine(slots=slots[: max(1, tasks)], limits=Limits(), runner=f"{MODULE}:stand_in")


MODULE = "benchmarks.speed.rehearsal"


def run_cells(grid: str, results: str, data_root: str, annotations: str) -> None:
    """Run what is left of the grid, and print how many cells this runner ran and found done."""
    session = Rehearsal(
        Request(
            grid=grid,
            results=Path(results),
            data_root=Path(data_root),
            annotations=Path(annotations),
            workers=1,
        )
    )
    session.prepare()
    tally = session.run(lambda plan: nullcontext(SilentView()))
    print(json.dumps({"done": tally.done, "failed": len(tally.failed), "elsewhere": tally.elsewhere}))


def plan_store(grid: str, data_root: str, annotations: str) -> None:
    """What decoded clips a run would keep."""
    from mmfuse.bench.clip_cache import plan_cache
    from mmfuse.bench.grid import load_grid

    planned = plan_cache(load_grid(grid).cells(), data_root=Path(data_root), wish="auto", annotations=Path(annotations))
    print(planned.message)


def compute_features(folder: str, data_root: str, annotations: str) -> None:
    """One block of features by a ViT-B of random weights, written into a file for the whole data set, and read."""
    from benchmarks.speed.materials import image_tower
    from mmfuse.bench.run_cell import quiet
    from mmfuse.data.cache.feature_store import BLOCK
    from mmfuse.data.datamodule import FewShotVideoDataModule
    from mmfuse.model.recognizer import ActionRecognizer

    tower = image_tower(Path(folder) / "towers", "vit-b")
    data = FewShotVideoDataModule(
        "ucf101", shots=1, draw=0, root=Path(data_root) / "ucf101", annotations=Path(annotations), batch_size=BLOCK
    )
    model = ActionRecognizer(data.class_names, image_encoder=str(tower)).eval()
    width = model.frame_encoder.prefix_width(data.size)

    def compute(video: Any) -> Any:
        import torch

        with torch.no_grad():
            return model.frame_encoder.frozen_prefix(video)

    with quiet():
        data.use_cached_features(compute, width=width, key="rehearsal")
        seconds = []
        for _ in range(2):
            begun = time.monotonic()
            next(iter(data.train_dataloader()))
            seconds.append(time.monotonic() - begun)
    print(json.dumps({"first": seconds[0], "again": seconds[1], "clips": BLOCK}))


# -- the rehearsal -------------------------------------------------------------------------------------------------


class Rehearsed:
    """Runs the steps one after the other, each in a process of its own, and keeps what each took."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.steps: dict[str, dict[str, Any]] = {}
        self._console = console

    def step(self, name: str, command: list[str]) -> Ended:
        """Run a command of this package, or a function of this module."""
        return self._noted(name, lambda: self._run(command))

    def both(self, name: str, command: list[str]) -> list[Ended]:
        """Two runners at the same time."""
        begun = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            ended = list(pool.map(lambda _: self._run(command), range(2)))
        wall = time.monotonic() - begun
        self._note(name, wall, sum(one.processor for one in ended), max(one.peak_bytes for one in ended))
        return ended

    def _run(self, command: list[str]) -> Ended:
        return run_process(command, environment={"MMFUSE_CACHE": str(self.folder / "cache"), "COLUMNS": "160"})

    def _noted(self, name: str, run: Callable[[], Ended]) -> Ended:
        ended = run()
        self._note(name, ended.wall, ended.processor, ended.peak_bytes)
        return ended

    def _note(self, name: str, wall: float, processor: float, peak: float) -> None:
        self.steps[name] = {"wall": round(wall, 2), "processor": round(processor, 2), "peak_mb": round(peak / 1e6)}
        self._console.print(f"{name}: {wall:.1f} s, {processor:.1f} s of the processor, {peak / 1e6:.0f} MB")


def function(name: str, *arguments: object) -> list[str]:
    """A command that calls a function of this module with texts."""
    said = ", ".join(repr(str(argument)) for argument in arguments)
    return [sys.executable, "-W", "ignore", "-c", f"from {MODULE} import {name}; {name}({said})"]


def rehearse(wishes: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """All steps; what each took, and what lies on the disk afterwards."""
    annotations = wishes.annotations.absolute()
    begun = time.monotonic()
    dataset = make_clips(folder, clips=wishes.clips, annotations=annotations)
    grid = grid_of(dataset, cells=wishes.cells)
    file = folder / "rehearsal.yaml"
    file.write_text(yaml.safe_dump(grid, sort_keys=False), encoding="utf-8")
    console.print(f"{wishes.clips:,} clips and a grid were made in {time.monotonic() - begun:.0f} s")
    time.sleep(3)  # files that changed this very moment are not remembered by their digests
    data, results, told = folder / "data", folder / "results", Rehearsed(folder, console)
    bench = command_line("mmfuse-bench")
    mmfuse = [*command_line("mmfuse"), "data", "check"]
    official = [] if "root" in dataset else ["--annotations", str(annotations)]
    where = dataset.get("root", dataset["name"])
    own = [] if "root" in dataset else ["--root", str(data / "ucf101")]
    plan = [*bench, "--grid", str(file), "--results", str(results), "--data-root", str(data), *official, "--dry-run"]
    told.step("data check", [*mmfuse, str(where), *own, *official])
    told.step("plan (--dry-run)", plan)
    told.step("store plan", function("plan_store", file, data, annotations))
    if wishes.tower:
        features = told.step("features of one block", function("compute_features", folder, data, annotations))
        told.steps["features of one block"] |= json.loads(features.output.splitlines()[-1])
    ran = told.both("run, two runners", function("run_cells", file, results, data, annotations))
    tallies = [json.loads(one.output.splitlines()[-1]) for one in ran]
    told.step("run, nothing left", function("run_cells", file, results, data, annotations))
    told.step("plan, all done", plan)
    for verb, more in VERBS.items():
        words = [word.format(folder) for word in more]
        told.step(verb, [*bench, verb.split(",")[0], "--results", str(results), *words])
    told.step("load_results", [sys.executable, "-c", LOAD.format(str(results))])
    cells = sum(tally["done"] + tally["failed"] for tally in tallies)
    return {
        "clips": wishes.clips,
        "cells": cells,
        "tallies": tallies,
        "steps": told.steps,
        "disk": {name: _disk(folder / name) for name in ("results", "cache")},
    }


VERBS = {
    "status": [],
    "status, again": [],
    "status, --json": ["--json"],
    "tables": [],
    "tables, --all": ["--all"],
    "report": ["--out", "{}/report.html"],
    "figures": ["--out", "{}/figures"],
}
LOAD = "from mmfuse import load_results; found = load_results({!r}); found.table(); found.predictions(shots=2, draw=0)"


def _disk(folder: Path) -> dict[str, int]:
    """Number of files below a folder, and the bytes that they take on the disk."""
    files = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    return {"files": len(files), "bytes": sum(one.st_blocks * 512 for one in files)}


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{found['clips']:,} clips, {found['cells']:,} cells")
    for column in ("step", "seconds", "processor seconds", "peak memory"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for name, took in found["steps"].items():
        table.add_row(name, f"{took['wall']:,.1f}", f"{took['processor']:,.1f}", f"{took['peak_mb']:,} MB")
    console.print(table)
    for name, disk in found["disk"].items():
        console.print(f"{name}: {disk['files']:,} files, {disk['bytes'] / 1e6:,.0f} MB")


def main(given: list[str]) -> int:
    """Rehearse, print, keep the figures."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True, help="folder with the official lists of UCF101")
    parser.add_argument("--folder", type=Path, help="where clips and results lie; by default thrown away at the end")
    parser.add_argument("--cells", type=int, default=3_000)
    parser.add_argument("--clips", type=int, default=OFFICIAL)
    parser.add_argument("--tower", action="store_true", help="compute features with a ViT-B of random weights too")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    wishes = parser.parse_args(given)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    with tempfile.TemporaryDirectory(prefix="mmfuse-rehearsal-") as thrown_away:
        folder = (wishes.folder or Path(thrown_away)).absolute()
        found = rehearse(wishes, folder, console)
    show(found, console)
    if wishes.out is not None:
        wishes.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(any(tally["failed"] for tally in found["tallies"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

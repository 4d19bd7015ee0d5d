"""What is measured is measured right: clocks, ratios, fits, counts of operations, and the script to be beaten."""

from __future__ import annotations

import ast
import csv
import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from transformers import Dinov2Config, Dinov2Model

from benchmarks.speed import device, grids, growth, materials, rows, table
from benchmarks.speed.measuring import Bench, Clock, Figure, Row, interleaved, ratios, run_process
from mmfuse.bench.arithmetic import TRAFFIC, Gpu, forward_flops, gpu_hours
from mmfuse.data.tiny import dataset
from mmfuse.utils.resources import assets_folder

FOLDER = Path(__file__).parents[2] / "benchmarks" / "speed"
READY = Figure(2.0, 1.9, 2.1, 3)


def _bench(folder: Path) -> Bench:
    return Bench(folder=folder, rounds=1, quick=True, whole=False, device="cpu", say=lambda text: None)


def test_ways_take_turns_in_an_order_that_is_turned_around() -> None:
    turns: list[str] = []
    ways = {name: (lambda name=name: turns.append(name)) for name in "ab"}
    seen = interleaved(ways, rounds=2, clock=Clock("cpu"), warm=1)
    assert "".join(turns) == "baabba"
    assert [len(seconds) for seconds in seen.values()] == [2, 2]


def test_a_ratio_is_taken_round_by_round() -> None:
    figure = ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert (figure.median, figure.low, figure.high, figure.count) == (2.0, 1.0, 3.0, 3)


@pytest.mark.parametrize(
    ("aim", "met"),
    [
        ({}, None),
        ({"at_least": 2.0}, True),
        ({"at_least": 2.5}, False),
        ({"at_most": 1.5}, False),
        ({"at_most": 2}, True),
    ],
)
def test_an_aim_is_met_by_the_median(aim: dict[str, float], met: bool | None) -> None:
    assert Row("step", "a", "b", READY, **aim).met is met
    assert Row("step", "a", "b", None, **aim).met is None


def test_a_process_is_measured_with_its_children_and_without_what_is_loaded_here() -> None:
    # A child's own child burns processor time; the child itself waits for it.
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('burnt')"
    command = [
        sys.executable,
        "-S",
        "-c",
        f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {burn!r}])",
    ]
    ended = run_process(command)
    assert ended.output.strip() == "burnt"
    assert ended.processor >= 0.3
    assert ended.peak_bytes < 100e6  # this process, which has torch loaded, holds several times as much


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\s+told"):
        run_process([sys.executable, "-S", "-c", "import sys; print('told', file=sys.stderr); sys.exit(3)"])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_growth_does_not_see_the_fixed_part(power: float) -> None:
    sizes = [4, 8, 16, 32]
    assert growth.exponent(sizes, [100 + 0.3 * size**power for size in sizes]) == pytest.approx(power)


def test_costs_that_do_not_rise_have_no_exponent() -> None:
    assert growth.exponent([1, 2, 4, 8], [3.0, 3.1, 3.0, 3.2]) is None


def test_operations_are_those_that_torch_counts() -> None:
    config = Dinov2Config(
        hidden_size=48, num_attention_heads=3, num_hidden_layers=2, patch_size=14, image_size=56,
        attn_implementation="eager",
    )  # fmt: skip
    model = Dinov2Model(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 56, 56))
    assert forward_flops(width=48, depth=2, tokens=17) == counter.get_total_flops()


def test_the_full_grid_costs_more_where_the_tower_is_trained_and_less_on_a_faster_device() -> None:
    from mmfuse.bench.grid import load_grid

    cells = load_grid("full").cells()
    ucf = [cell for cell in cells if cell.dataset.name == "ucf101" and cell.shots == 16 and cell.draw == 0]
    frozen = [cell for cell in ucf if cell.pair.image["method"] == "frozen"]
    trained = [cell for cell in ucf if cell.pair.name == "dora+frozen"]
    gpu = Gpu(lowered=100, full=10, bandwidth=1000)
    assert gpu_hours(frozen, gpu=gpu) == pytest.approx(gpu_hours(frozen[:1], gpu=gpu))  # features are computed once
    steps, looks = 101 * 16 * trained[0].train.epochs, 3783
    products = (2 * steps + looks) * device.clip_flops("vit-b") / 100e12
    between = (steps * TRAFFIC["dora"] + looks * TRAFFIC["frozen"]) * 8 * 12 * 257 * 768 / 1000e9
    assert gpu_hours(trained, gpu=gpu) == pytest.approx((products + between) / 3600)


def test_peaks_are_found_by_the_devices_name() -> None:
    assert device.gpu_of("NVIDIA H100 80GB HBM3") == device.H100
    assert device.gpu_of("NVIDIA H100 PCIe") == device.GPUS["H100 PCIe"] != device.H100
    assert device.gpu_of("cpu") is None


def test_a_kernel_takes_its_operations_or_its_bytes_and_none_comes_before_it_is_launched() -> None:
    gpu = Gpu(lowered=100, full=10, bandwidth=1000)
    product = {"flops": 2e12, "bytes": 1e9, "lowered": True}
    assert device.floor([product], gpu) == pytest.approx(0.02)
    assert device.floor([{**product, "lowered": False}], gpu) == pytest.approx(0.2)
    assert device.floor([product, {"flops": 0.0, "bytes": 1e10, "lowered": True}], gpu) == pytest.approx(0.03)
    assert device.floor([{"flops": 0.0, "bytes": 0.0, "lowered": True}] * 100, gpu) == 100 * device.LAUNCH


def test_a_grid_in_parts_counts_every_step_and_every_clip_of_the_test() -> None:
    clips = materials.ClipSet("c", Path(), Path("train"), Path("test"), 224, False, 64, 80)
    case = grids.Case(clips, (Path(), Path()), ("frozen+frozen",), (2, 4, 8, 16), 30, classes=4)
    # Four processes; 30 epochs of 120 clips, in batches of 16; a test of 80 clips each.
    assert grids._in_all(case, 10.0, 7.0, 6.0) == pytest.approx(4 * (10 + 5 * 6) + 30 * 120 / 16 * 7)


def test_the_figures_name_no_machine_and_rows_of_other_runs_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for row in ("step", "warm", "step"):
        new = table.document([Row(row, "ours", "theirs", READY)], command="python benchmarks/speed", device="cpu")
        table.store(path, new)
    kept = json.loads(path.read_text())
    assert [row["row"] for row in kept["rows"]] == ["step", "warm"]
    assert kept["rows"][1]["run"]["command"] == "python benchmarks/speed"
    assert os.uname().nodename not in path.read_text()
    assert str(Path.home()) not in json.dumps(kept["machine"])


def test_the_table_shows_median_spread_aim_and_whether_it_is_met() -> None:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    table.show([Row("frozen", "a grid", "a script", Figure(41.23, 39.9, 44.0, 3), at_least=40)], console)
    line = next(line for line in console.export_text().splitlines() if "a grid" in line)
    assert line.split() == ["a", "grid", "a", "script", "41.2×", "(39.9–44.0)", "≥", "40", "yes"]


def test_every_row_has_its_function() -> None:
    for place in rows.ROWS.values():
        module, function = place.split(":")
        assert callable(getattr(importlib.import_module(f"benchmarks.speed.{module}"), function))
    assert set(rows.QUICK) <= set(rows.ROWS)


def test_the_script_uses_nothing_of_the_package() -> None:
    tree = ast.parse((FOLDER / "straight.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported.isdisjoint({"mmfuse", "benchmarks", "measuring"})
    assert {"transformers", "peft", "av", "torch"} <= imported


@pytest.mark.parametrize("pair", ["vpt-deep+coop"])
def test_the_script_trains_and_tests(pair: str, tmp_path: Path) -> None:
    table_of_clips = dataset.listing()
    few = table_of_clips[table_of_clips["class"].isin(["Grow", "MoveUp"])].groupby(["part", "class"]).head(2)
    clips = materials.listed(
        "few",
        dataset.generate(),
        list(few[few["part"] == "train"][["path", "class"]].itertuples(index=False, name=None)),
        list(few[few["part"] == "test"][["path", "class"]].itertuples(index=False, name=None)),
        lists=tmp_path,
        size=64,
        flip=False,
    )
    towers = (assets_folder() / "tiny-dinov2", assets_folder() / "tiny-clip-text")
    case = grids.Case(clips, towers, (pair,), (2,), 2, classes=2, width=32)
    _, said = grids._straight(_bench(tmp_path), case, pair, 2)
    assert len(said["step_seconds"]) == len(said["epoch_seconds"]) == 2
    assert len(said["test_batch_seconds"]) == 1
    assert said["accuracy"] in {0, 0.25, 0.5, 0.75, 1}


def test_a_list_of_a_few_shots_holds_that_many_of_each_class(tmp_path: Path) -> None:
    rows = [(f"{label}{number}.avi", label) for number in range(3) for label in "ab"]
    clips = materials.listed("c", tmp_path, rows, rows, lists=tmp_path, size=64, flip=False)
    with materials.few_shot_list(clips, 2, tmp_path).open(newline="") as file:
        found = [row["path"] for row in csv.DictReader(file)]
    assert found == ["a0.avi", "b0.avi", "a1.avi", "b1.avi"]

"""Expected costs: from records, from a calibration, and the order that follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmfuse.bench import estimate
from mmfuse.bench.calibrate import calibrate
from mmfuse.bench.estimate import Estimator, Rate, keep_calibration, read_calibration, work_of
from mmfuse.cells import Cell, Inputs
from mmfuse.records import Planned, Record
from mmfuse.survey import Entry
from tests.bench.fakes import done
from tests.bench.real import make_cell, make_towers
from tests.report.made import build


def finished(cell: Cell, *, seconds: float) -> Record:
    record = done(cell, inputs=Inputs()).record
    assert record.cost is not None
    return record.model_copy(update={"cost": record.cost.model_copy(update={"seconds": seconds})})


def test_work_counts_what_is_done_with_each_frame() -> None:
    frozen, trained = build("frozen+frozen", shots=4), build("lora+frozen", shots=4)
    test = 8 * 240
    assert work_of(frozen) == pytest.approx(8 * 48 * (8 + 0.1 * 20) + test)
    assert work_of(trained) == 8 * 48 * 3 * 20 + test
    assert work_of(build("lora+frozen", shots="all")) == 8 * 384 * 3 * 20 + test


def test_times_scale_from_like_cells() -> None:
    small, large = build("lora+frozen", shots=2), build("lora+frozen", shots=16)
    estimator = Estimator([finished(small, seconds=work_of(small) / 1000)])
    expected = estimator.expected(large)
    assert expected.seconds == pytest.approx(work_of(large) / 1000)
    assert expected.memory_bytes == 10**6
    assert expected.disk_bytes == 100 + 4000 + 40 * 240
    assert estimator.expected(build("lora+frozen", encoders={"image": "facebook/dinov2-base"})).seconds is None


def test_records_go_before_the_calibration() -> None:
    cell = build("lora+frozen")
    rate = Rate("tiny-dinov2", 64, True, 1.0, 5, 6, "cpu")
    assert Estimator(rates=[rate]).expected(cell).seconds == work_of(cell)
    assert Estimator([finished(cell, seconds=3.0)], rates=[rate]).expected(cell).seconds == pytest.approx(3.0)


def test_the_longest_goes_first() -> None:
    cells = [build(pair, shots=shots) for pair in ("frozen+frozen", "lora+frozen") for shots in (2, "all", 8)]
    ordered = [entry.cell for entry in Estimator().longest_first([Entry(Planned(cell), "missing") for cell in cells])]
    assert [work_of(cell) for cell in ordered] == sorted(map(work_of, cells), reverse=True)


def test_a_calibration_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))
    towers = make_towers(tmp_path)
    clips = {"name": "own", "root": str(tmp_path), "train": "a.csv", "test": "b.csv"}
    cells = [make_cell(clips, towers, pair) for pair in ("frozen+frozen", "lora+frozen", "lora+adapter")]
    rates = calibrate(cells)
    assert [rate.trained for rate in rates] == [False, True]
    assert all(rate.seconds_per_frame > 0 for rate in rates)
    assert read_calibration() == []
    keep_calibration(rates)
    keep_calibration([rates[0]])
    assert sorted(read_calibration(), key=lambda rate: rate.trained) == rates
    assert Estimator(rates=read_calibration()).expected(cells[2]).seconds is not None
    estimate.calibration_file().write_text(json.dumps([{"broken": 1}]))
    assert read_calibration() == []

"""Expected costs: from records, from a calibration, and the order that follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmfuse.bench import estimate
from mmfuse.bench.calibrate import calibrate
from mmfuse.bench.estimate import (
    Calibration,
    DecodingRate,
    Estimator,
    Rate,
    keep_calibration,
    read_calibration,
    work_of,
)
from mmfuse.data.cache import feature_batches
from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import PlannedCell
from mmfuse.records.record import Record
from mmfuse.records.status import Entry
from tests.bench.fakes import done
from tests.bench.real import make_cell, make_clips, make_towers
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
    assert expected.disk_bytes == 4000 + 20 * 240
    keeping = Estimator([finished(small, seconds=1.0)], keep_checkpoints=True)
    assert keeping.expected(large).disk_bytes == 100 + 4000 + 20 * 240
    assert estimator.expected(build("lora+frozen", encoders={"image": "facebook/dinov2-base"})).seconds is None


def test_records_go_before_the_calibration() -> None:
    cell = build("lora+frozen")
    rate = Rate("tiny-dinov2", 64, True, 1.0, 5000, 4, 10, 6, "cpu")
    measured = Estimator(calibration=Calibration((rate,))).expected(cell)
    assert measured.seconds == work_of(cell)
    assert measured.memory_bytes == 5000 + (16 - 4) * 10
    assert measured.decoding is None
    recorded = Estimator([finished(cell, seconds=3.0)], calibration=Calibration((rate,))).expected(cell)
    assert recorded.seconds == pytest.approx(3.0)
    assert recorded.decoding == 0


def test_decoding_is_counted_where_it_was_measured() -> None:
    cell = build("lora+frozen", shots=4)
    rate = Rate("tiny-dinov2", 64, True, 1.0, 5, 4, 0, 6, "cpu")
    known = Calibration((rate,), (DecodingRate("tiny", 8, 64, 0.5),))
    expected = Estimator(calibration=known).expected(cell)
    assert expected.decoding == 0.5 * (48 + 240)
    assert expected.seconds == work_of(cell) + 0.5 * (48 + 240)
    other = Calibration((rate,), (DecodingRate("tiny", 16, 64, 0.5),))
    assert Estimator(calibration=other).expected(cell).decoding is None


def test_the_longest_goes_first() -> None:
    cells = [build(pair, shots=shots) for pair in ("frozen+frozen", "lora+frozen") for shots in (2, "all", 8)]
    ordered = [
        entry.cell for entry in Estimator().longest_first([Entry(PlannedCell(cell), "missing") for cell in cells])
    ]
    assert [work_of(cell) for cell in ordered] == sorted(map(work_of, cells), reverse=True)
    # Seconds go before work where all are known, and are not compared with it where some are not.
    quick = Estimator([finished(cells[1], seconds=1e-3), finished(cells[4], seconds=1e6)])
    entries = [Entry(PlannedCell(cell), "missing") for cell in cells]
    assert quick.longest_first(entries)[0].cell == cells[4]
    half = Estimator([finished(cells[1], seconds=1e9)])
    assert [work_of(entry.cell) for entry in half.longest_first(entries)] == sorted(map(work_of, cells), reverse=True)


def test_a_calibration_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))
    towers = make_towers(tmp_path)
    clips = make_clips(tmp_path / "clips")
    cells = [make_cell(clips, towers, pair) for pair in ("frozen+frozen", "lora+frozen", "lora+adapter")]
    absent = make_cell({"name": "gone", "root": "/nowhere", "train": "a.csv", "test": "b.csv"}, towers)
    measured = calibrate([*cells, absent], data_root=tmp_path)
    assert [rate.trained for rate in measured.rates] == [False, True]
    assert all(rate.seconds_per_frame > 0 for rate in measured.rates)
    assert [rate.dataset for rate in measured.decoding] == ["drifts"]
    assert measured.decoding[0].seconds_per_clip > 0
    assert read_calibration() == Calibration()
    keep_calibration(measured)
    keep_calibration(Calibration(measured.rates[:1]))
    kept = read_calibration()
    assert sorted(kept.rates, key=lambda rate: rate.trained) == list(measured.rates)
    assert kept.decoding == measured.decoding
    assert Estimator(calibration=kept).expected(cells[2]).seconds is not None
    for broken in ([{"broken": 1}], {"rates": [{"broken": 1}], "decoding": []}):
        estimate.calibration_file().write_text(json.dumps(broken))
        assert read_calibration() == Calibration()


def test_a_block_is_what_a_frozen_tower_looks_at_together() -> None:
    assert estimate.BLOCK == feature_batches.BLOCK

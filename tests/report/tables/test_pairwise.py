"""Two pairs against each other, over draws and over clips."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.predictions import COLUMNS
from mmfuse.records.record import Metrics, Predictions
from mmfuse.records.status import read_entries
from mmfuse.report.tables.accuracy import groups
from mmfuse.report.tables.pairwise import versus_sheet
from tests.bench.fakes import done
from tests.report.made import build

CLIPS = 200


def right(pair: str, draw: int) -> np.ndarray:
    generator = np.random.default_rng([draw, len(pair)])
    return generator.random(CLIPS) < (0.8 if pair == "dora+adapter" else 0.6)


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    """Results whose predictions are known clip by clip."""
    made = ResultsFolder(tmp_path)
    made.prepare()
    cells = [build(pair, draw=draw) for pair in ("frozen+frozen", "dora+adapter") for draw in range(3)]
    made.write_manifest(Manifest("test", [PlannedCell(cell) for cell in cells]))
    for cell in cells:
        hits = right(cell.pair.name, cell.draw)
        lines = [",".join(COLUMNS)] + [
            f"c{at},0,{0 if hit else 1},0.5,0.5,1,c{at},{1 if hit else 2}" for at, hit in enumerate(hits)
        ]
        table = gzip.compress("\n".join(lines).encode())
        record = done(cell, inputs=Inputs(), top1=float(hits.mean())).record
        named = Predictions(file=f"{record.stem}.csv.gz", sha256=hashlib.sha256(table).hexdigest(), clips=CLIPS)
        share = float(hits.mean())
        metrics = Metrics(top1=share, top5=1.0, mean_class=share, test_clips=CLIPS, train_clips=2)
        made.write(record.model_copy(update={"predictions": named, "metrics": metrics}), {"predictions": table})
    return made


def test_over_draws_and_over_clips_are_told_apart(folder: ResultsFolder) -> None:
    [group] = groups(read_entries(folder))
    sheet = versus_sheet(group, folder, ours="dora+adapter", theirs="frozen+frozen")
    [row] = sheet.rows
    gains = [100 * (right("dora+adapter", draw).mean() - right("frozen+frozen", draw).mean()) for draw in range(3)]
    assert row.values[0].mean is not None
    assert row.values[0].mean.mean == pytest.approx(np.mean(gains))
    assert row.values[0].mean.half == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(gains))
    assert row.values[1].text == f"{stats.ttest_1samp(gains, 0).pvalue:.3g}"
    assert row.values[2].text == "0.25"  # the least that three draws can give
    for draw, value in enumerate(row.values[3:]):
        assert value.text is not None
        assert value.text.startswith(f"{gains[draw]:+.1f} [")
    assert sheet.columns[3:] == ("over clips, draw 0", "over clips, draw 1", "over clips, draw 2")


def test_unknown_pairs_and_damaged_predictions(folder: ResultsFolder) -> None:
    [group] = groups(read_entries(folder))
    with pytest.raises(MmfuseError, match=r"did you mean 'dora\+adapter'\?"):
        versus_sheet(group, folder, ours="dorra+adapter", theirs="frozen+frozen")
    path = next(folder.records.glob("*dora+adapter*.csv.gz"))
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(MmfuseError, match="missing or damaged"):
        versus_sheet(group, folder, ours="dora+adapter", theirs="frozen+frozen")

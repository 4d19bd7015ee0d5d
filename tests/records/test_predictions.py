"""The file of per-clip predictions: what is written is read, and nothing else is."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfuse.data.few_shot import fingerprint
from mmfuse.errors import MmfuseError
from mmfuse.model.metrics import TestMetrics
from mmfuse.records.predictions import COLUMNS, decode, encode, metrics_of, tabulate
from mmfuse.records.predictions import test_list_digest as list_digest

CLIPS = pd.DataFrame({"clip": ["a,1", "b", "走"], "group": ["a", "a", 'say "w"']})


def predictions() -> dict[str, Any]:
    return {
        "index": np.array([2, 0, 1]),
        "label": np.array([1, 0, 0]),
        "predicted": np.array([1, 0, 2]),
        "probabilities": np.array([[0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.1, 0.7]]),
    }


def test_what_is_written_is_read_in_the_order_of_the_test_list(tmp_path: Path) -> None:
    path = tmp_path / "p.csv.gz"
    path.write_bytes(encode(tabulate(CLIPS, predictions())))
    table = decode(path)
    assert tuple(table) == COLUMNS
    assert table["clip"].tolist() == ["a,1", "b", "走"]
    assert table["group"].tolist() == ["a", "a", 'say "w"']
    assert table["predicted"].tolist() == [0, 2, 1]
    assert table["next_best"].tolist() == [1, 0, 2]
    np.testing.assert_allclose(table["probability_of_label"], [0.5, 0.2, 0.6])
    assert table["rank"].tolist() == [1, 2, 1]


def test_metrics_follow_from_predictions_as_torchmetrics_computes_them() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(60, 8, generator=generator).softmax(-1)
    labels = torch.randint(0, 7, (60,), generator=generator)  # one class has no clip
    metrics = TestMetrics(classes=8)
    order = torch.randperm(60, generator=generator)
    for part in order.split(16):
        metrics.update(probabilities[part], labels[part], part)
    clips = pd.DataFrame({"clip": [f"c{number}" for number in range(60)], "group": "g"})
    table = tabulate(clips, metrics.predictions())
    expected = {name: float(value) for name, value in metrics.compute().items()}
    assert metrics_of(table) == pytest.approx(expected, abs=1e-6)
    assert 0 < expected["top1"] < expected["top5"] < 1


def test_classes_that_are_equally_likely_have_different_ranks() -> None:
    flat = {
        "index": np.arange(3),
        "label": np.array([0, 1, 2]),
        "predicted": np.array([1, 1, 1]),
        "probabilities": np.full((3, 3), 1 / 3),
    }
    assert tabulate(CLIPS, flat)["rank"].tolist() == [2, 1, 3]


def test_the_test_list_has_the_digest_that_the_data_give_it() -> None:
    table = tabulate(CLIPS, predictions())
    assert list_digest(table) == fingerprint(CLIPS.assign(label=table["label"]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clip,label\n",
        f"{','.join(COLUMNS)}\na,1,2\n",
        f"{','.join(COLUMNS)}\na,1.5,2,0.1,0.1,0,a,2\n",
        f"{','.join(COLUMNS)}\na,1,2,0.1,0.1,0,a,2,7\n",
        f'{",".join(COLUMNS)}\n"a,1,2,0.1,0.1,0,a,2\n',
        f'{",".join(COLUMNS)}\n"a,b",1,2,0.1,0.1,0,a,2,7\n',
        f"{','.join(COLUMNS)}\na,1,2,much,0.1,0,a,2\n",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    for columns in (COLUMNS, ("clip", "label", "probability_of_label")):
        with pytest.raises(MmfuseError, match="are damaged"):
            decode(path, columns=columns)


def test_a_file_without_clips_has_every_column(tmp_path: Path) -> None:
    path = tmp_path / "p.csv.gz"
    path.write_bytes(gzip.compress(",".join(COLUMNS).encode() + b"\n"))
    assert {name: len(column) for name, column in decode(path).items()} == dict.fromkeys(COLUMNS, 0)

"""The file of per-clip predictions: what is written is read, and nothing else is."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfuse.errors import MmfuseError
from mmfuse.records.predictions import COLUMNS, decode, encode

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
    path.write_bytes(encode(CLIPS, predictions()))
    table = decode(path)
    assert tuple(table) == COLUMNS
    assert table["clip"].tolist() == ["a,1", "b", "走"]
    assert table["group"].tolist() == ["a", "a", 'say "w"']
    assert table["predicted"].tolist() == [0, 2, 1]
    assert table["next_best"].tolist() == [1, 0, 2]
    np.testing.assert_allclose(table["probability_of_label"], [0.5, 0.2, 0.6])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clip,label\n",
        f"{','.join(COLUMNS)}\na,1,2\n",
        f"{','.join(COLUMNS)}\na,1.5,2,0.1,0.1,0,a\n",
        f"{','.join(COLUMNS)}\na,1,2,much,0.1,0,a\n",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(MmfuseError, match="are damaged"):
        decode(path)


def test_a_file_without_clips_has_every_column(tmp_path: Path) -> None:
    path = tmp_path / "p.csv.gz"
    path.write_bytes(gzip.compress(",".join(COLUMNS).encode() + b"\n"))
    assert {name: len(column) for name, column in decode(path).items()} == dict.fromkeys(COLUMNS, 0)

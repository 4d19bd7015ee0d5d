"""`mmfuse data get NAME --protocol`: where published lists are, and whether a folder holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfuse.cli import datasets
from mmfuse.data.protocols import load_protocol
from mmfuse.errors import MmfuseError


def test_what_is_to_be_fetched_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert datasets.get_protocol("hmdb51", "vifi", annotations=None)
    told = capsys.readouterr().out
    assert "github.com/muzairkhattak/ViFi-CLIP" in told
    assert load_protocol("vifi").commit in told
    assert "swaps kick and kick ball" in " ".join(told.split())
    for file in load_protocol("vifi").files("hmdb51"):
        assert file.file in told


def test_a_folder_with_other_lists_is_found_wanting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = load_protocol("vifi").training_list("hmdb51", shots=2, draw=0)
    place = tmp_path / wanted.file
    place.parent.mkdir(parents=True)
    place.write_text("a.avi 0\n", encoding="utf-8")
    assert not datasets.get_protocol("hmdb51", "vifi", annotations=tmp_path)
    captured = capsys.readouterr()
    assert captured.out.count("not there") == len(load_protocol("vifi").files("hmdb51"))
    assert f"{place} is not the list that ViFi-CLIP published" in captured.err


def test_a_data_set_without_lists_is_refused() -> None:
    with pytest.raises(MmfuseError, match="no lists of 'diving48'; it has lists of hmdb51, ucf101"):
        datasets.get_protocol("diving48", "ju", annotations=None)

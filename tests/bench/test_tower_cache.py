"""A worker's towers: read once, read anew when their files change, and never changed by the cells that use them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mmfuse.bench import digests, tower_cache
from mmfuse.encoders import hub
from mmfuse.methods import attach
from tests import towers
from tests.changes import WAYS, Way


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_tower_is_read_anew_when_its_weights_are_replaced(
    kind: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, read = getattr(towers, f"{kind}_tower"), getattr(tower_cache, f"{kind}_tower")
    folder = towers.save_in_hub_layout(make(seed=0), tmp_path / "tower")
    monkeypatch.chdir(tmp_path)
    name = "tower" if relative else str(folder)
    first = read(name)
    assert read(name) is first
    weights = folder / "model.safetensors"
    before = weights.stat()
    towers.save_in_hub_layout(make(seed=1), folder)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that keeps times
    assert weights.stat().st_size == before.st_size
    second = read(name)
    assert second.fingerprint != first.fingerprint
    assert second.fingerprint == make(seed=1).weights_fingerprint() == second.fresh().weights_fingerprint()


def test_a_text_tower_is_read_anew_when_its_tokenizer_is_replaced(tmp_path: Path) -> None:
    folder = towers.save_in_hub_layout(towers.text_tower(), tmp_path / "tower")
    first = tower_cache.text_tower(str(folder))
    (folder / "special_tokens_map.json").write_text("{}")
    assert tower_cache.text_tower(str(folder)) is not first


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_a_cell_does_to_its_tower_reaches_no_other_cell(way: Way, tmp_path: Path) -> None:
    folder = towers.save_in_hub_layout(towers.image_tower(), tmp_path / "tower")
    kept = tower_cache.image_tower(str(folder))
    with torch.no_grad():
        expected = kept.fresh()(towers.clips())
    mine = kept.fresh()
    attach(mine, "lora", generator=torch.Generator().manual_seed(0))
    way(mine)
    other = tower_cache.image_tower(str(folder)).fresh()
    with torch.no_grad():
        assert torch.equal(other(towers.clips()), expected)
    assert other.weights_fingerprint() == kept.fingerprint
    assert other.adapted_by is None


def test_every_file_that_is_fetched_for_a_tower_counts() -> None:
    fetched = {*hub.CONFIGURATIONS, *hub.VOCABULARIES, *hub.VOCABULARY_SETTINGS}
    assert {*digests.SETTINGS["image"], *digests.SETTINGS["text"]} == fetched

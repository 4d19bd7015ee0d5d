"""Literature, cost and ablation tables."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from mmfuse.errors import MmfuseError
from mmfuse.records.folder import ResultsFolder
from mmfuse.report.groups import groups
from mmfuse.report.tables.build import tables
from mmfuse.report.tables.literature import published
from mmfuse.report.tables.table import Table
from tests.report.made import build, results


def table(path: Path, key: str, *, dataset: str = "tiny") -> Table:
    places = itertools.product(("frozen+frozen", "dora+adapter"), (2, 16, "all"), (0, 1))
    cells = [build(pair, shots=shots, draw=draw, dataset=dataset) for pair, shots, draw in places]
    [found] = [one for one in tables(results(path, cells, lambda cell: 0.5), ResultsFolder(path)) if one.key == key]
    return found


def test_published_rows_stand_beside_ours_with_their_sources(tmp_path: Path) -> None:
    found = table(tmp_path, "literature", dataset="hmdb51")
    names = [row.name for row in found.rows]
    assert names[:2] == ["frozen+frozen (ours)", "dora+adapter (ours)"]
    tc_clip = next(row for row in found.rows if row.name.startswith("TC-CLIP (ViT-B/16, 16 frames) ["))
    assert [value.text for value in tc_clip.values] == ["57.3", "68.6", ""]
    kinetics = names.index("published, Kinetics-400 before")
    assert found.rows[kinetics].rule_above
    assert any(name.startswith("ViFi-CLIP (VL prompts)") for name in names[kinetics:])
    assert not any(name.startswith("ViFi-CLIP (VL prompts)") for name in names[:kinetics])
    assert "naver-ai/tc-clip, README.md" in found.notes[1]
    assert "not rerun" in found.notes[0]


def test_every_published_number_has_a_source() -> None:
    assert len(published()) > 30
    for row in published():
        assert row.source
        assert all(0 < value < 100 for value in row.top1.values())


def test_a_row_without_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.yaml"
    path.write_text("rows:\n- {dataset: tiny, method: X, backbone: Y, pretraining: none, top1: {2: 50}}\n")
    with pytest.raises(MmfuseError, match="source"):
        published(path)


def test_cost_tells_methods_and_head_apart(tmp_path: Path) -> None:
    found = table(tmp_path, "cost")
    assert found.columns[:4] == ("image method", "text method", "fusion", "checkpoint MB")
    assert [value.text for value in found.rows[0].values[:3]] == ["1", "2", "3"]
    assert "K=all" in found.title


def test_variants_of_the_same_methods_make_an_ablation(tmp_path: Path) -> None:
    late = build("late", shots=16, fusion={"kind": "late"})
    frames = build("more frames", shots=16, clip={"frames": 16, "test_views": "4x3"})
    cells = [build("frozen+frozen", shots=16), build("dora+adapter", shots=16), late, frames]
    entries = results(tmp_path, cells, lambda cell: 0.5)
    [found] = [one for one in tables(entries, ResultsFolder(tmp_path)) if one.key == "ablation"]
    told = {row.name: [value.text for value in row.values[:4]] for row in found.rows}
    assert told == {
        "frozen+frozen": ["joint", "card's", "1 × 1", "both"],
        "late": ["late", "card's", "1 × 1", "both"],
        "more frames": ["joint", "16", "4 × 3", "both"],
    }
    [group] = groups(entries, ResultsFolder(tmp_path))
    assert group.baseline == "frozen+frozen"

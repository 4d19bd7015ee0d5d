"""Literature, cost and ablation tables."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mmfuse.data.protocols import load_protocol, protocol_names
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.record import Views
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
    tc_clip = next(row for row in found.rows if row.name.startswith("TC-CLIP (ViT-B/16, best epoch on test) ["))
    assert [value.text for value in tc_clip.values] == ["16×2×1", "other (vifi lists)", "57.3", "68.6", ""]
    x_clip = next(row for row in found.rows if row.name.startswith("X-CLIP ("))
    assert [value.text for value in x_clip.values[:2]] == ["32×?×?", "not stated"]
    kinetics = names.index("published, Kinetics-400 before")
    assert found.rows[kinetics].rule_above
    assert any(name.startswith("ViFi-CLIP (VL prompts)") for name in names[kinetics:])
    assert not any(name.startswith("ViFi-CLIP (VL prompts)") for name in names[:kinetics])
    assert "not rerun" in found.notes[0]
    assert "No few-shot row of hmdb51 here was trained on the clips" in found.notes[1]
    assert "naver-ai/tc-clip, README.md" in found.notes[2]


def test_only_rows_on_the_same_lists_are_told_to_be_on_the_same_clips(tmp_path: Path) -> None:
    cells = [build("dora+adapter", shots=shots, dataset={"name": "hmdb51", "protocol": "vifi"}) for shots in (2, 16)]
    entries = [
        replace(
            entry, record=entry.record.model_copy(update={"test_views": Views(frames=8, clips=4, crops=3, size=224)})
        )
        for entry in results(tmp_path, cells, lambda cell: 0.5)
        if entry.record is not None
    ]
    [found] = [one for one in tables(entries, ResultsFolder(tmp_path)) if one.key == "literature"]
    told = {row.name.split(" [")[0]: row.values[1].text for row in found.rows}
    assert told["dora+adapter (ours)"] == "vifi lists"
    assert told["ViFi-CLIP (ViT-B/16)"] == "same as ours"
    assert told["X-CLIP (ViT-B/16)"] == "not stated"
    [table_] = [one for one in tables(entries, ResultsFolder(tmp_path)) if one.key == "accuracy"]
    first = tables(entries, ResultsFolder(tmp_path))[0]
    for notes in (table_.notes, first.notes):
        assert any("the published lists vifi" in note for note in notes)
        assert "Each test video is seen in 8×4×3 frames×clips×crops." in notes
    assert found.rows[0].values[0].text == "8×4×3"


def test_base_to_novel_and_zero_shot_stand_beside_published_numbers_too(tmp_path: Path) -> None:
    def beside(name: str, cells: list[Cell]) -> list[Table]:
        found = tables(results(tmp_path / name, cells, lambda cell: 0.5), ResultsFolder(tmp_path / name))
        return [one for one in found if one.key == "literature"]

    lists = {"name": "ucf101", "protocol": "vifi"}
    halves = [build("dora+adapter", shots=16, draw=draw, dataset=lists, setting="base-to-novel") for draw in (0, 1)]
    [base] = beside("halves", halves)
    told = {row.name.split(" [")[0]: [value.text for value in row.values] for row in base.rows}
    assert base.columns == ("frames×clips×crops", "training clips", "base", "novel", "harmonic mean")
    assert told["ViFi-CLIP (ViT-B/16)"] == ["32×1×1", "same as ours", "92.9", "67.7", "78.3"]
    assert told["GA2-CLIP (ViT-B/16, best epoch on test)"][:2] == ["32×?×?", "not stated"]
    assert base.rows[0].name == "dora+adapter (ours)"
    assert len(base.rows[0].values) == 5
    assert not beside("few", [build("dora+adapter", shots=8, dataset="ucf101", setting="base-to-novel")])

    target = {"name": "hmdb51", "splits": [1, 2, 3]}
    [zero, _] = beside("zero", [build("dora+adapter", shots=16, dataset="ucf101", test_on=[target])])
    told = {row.name.split(" [")[0]: [value.text for value in row.values] for row in zero.rows}
    assert zero.columns == ("frames×clips×crops", "K=16", "published")
    assert told["TC-CLIP (ViT-B/16)"] == ["16×2×1", "", "54.2 ± 0.7"]
    assert "ours on ucf101" in zero.notes[1]


def test_rows_on_other_clips_are_told(tmp_path: Path) -> None:
    def notes(name: str, of_pair: dict[str, str]) -> str:
        cells = [build(pair, draw=draw) for pair in of_pair for draw in (0, 1, 2)]
        entries = [
            replace(
                entry,
                record=entry.record.model_copy(update={"inputs": Inputs(train_clips=of_pair[entry.cell.pair.name])}),
            )
            for entry in results(tmp_path / name, cells, lambda cell: 0.5)
            if entry.record is not None
        ]
        return "\n".join(note for one in tables(entries, ResultsFolder(tmp_path / name)) for note in one.notes)

    told = "At K=2 rows were trained on different clips under one draw number"
    assert told in notes("mixed", {"frozen+frozen": "ours", "dora+adapter": "a list"})
    assert told not in notes("same", {"frozen+frozen": "ours", "dora+adapter": "ours"})


def test_published_numbers_are_whole_and_their_harmonic_means_right() -> None:
    rows = published()
    assert (
        len({(row.dataset, row.method, row.backbone, row.pretraining, row.frames, str(row.top1)) for row in rows}) > 80
    )
    known = load_protocol("vifi")
    for row in rows:
        if row.base_to_novel is not None:
            base, novel, mean = row.base_to_novel.model_dump().values()
            assert mean == pytest.approx(2 * base * novel / (base + novel), abs=0.1)
        if row.protocol is not None:
            assert row.protocol in protocol_names()
            lists = known.few_shot if row.top1 is not None else known.base_to_novel
            assert row.dataset in lists
            assert row.top1 is None or set(row.top1) == set(known.few_shot[row.dataset])
    marked = {row.method.split(" (")[0] for row in rows if row.best_on_test}
    assert marked == {"TC-CLIP", "GA2-CLIP"}
    zero_shot = [row for row in rows if row.zero_shot is not None]
    assert {str(row.zero_shot) for row in zero_shot} >= {"54.2 ± 0.7", "51.3"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source": None}, "row 1.source"),
        ({"source": ""}, "row 1.source"),
        ({"top1": {2: 500}}, "row 1.top1.2"),
        ({"top1": {}}, "row 1.top1"),
        ({"top1": None}, "row 1: .*one of top1, zero_shot and base_to_novel"),
        ({"zero_shot": {"mean": 50}}, "row 1: .*one of"),
        ({"frame": 8}, "unknown key 'frame'; did you mean 'frames'"),
        ({"clips": 0}, "row 1.clips"),
    ],
)
def test_a_row_that_is_not_one_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    row = {"dataset": "tiny", "method": "X", "backbone": "Y", "pretraining": "none", "top1": {2: 50}, "source": "S"}
    path = tmp_path / "l.yaml"
    path.write_text(
        yaml.safe_dump({"rows": [{key: value for key, value in (row | change).items() if value is not None}]})
    )
    with pytest.raises(MmfuseError, match=told):
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

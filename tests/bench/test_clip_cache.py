"""What a run keeps decoded: which stores, how much of the disk, and that it changes no number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mmfuse.bench import clip_cache
from mmfuse.bench.clip_cache import CachePlan, fill_ahead, has_store, plan_cache, selection_of, store_folder
from mmfuse.bench.job import Job
from mmfuse.bench.run_cell import run_cell
from mmfuse.data.frames import sources
from mmfuse.errors import MmfuseError, MmfuseWarning
from mmfuse.records.cell import Cell
from tests.bench.real import make_cell

pytestmark = pytest.mark.usefixtures("cache")


def chosen(*cells: Cell, wish: str = "auto") -> CachePlan:
    return plan_cache(cells, data_root=Path(), wish=wish)


def test_clips_are_kept_for_towers_that_look_at_them_again(clips: dict[str, str], towers: dict[str, str]) -> None:
    frozen, trained = (make_cell(clips, towers, pair) for pair in ("frozen+adapter", "lora+frozen"))
    assert chosen(frozen) == CachePlan()
    both = chosen(frozen, trained)
    assert both.store_for(frozen) == both.store_for(trained) == "auto"
    assert "decoded clips are kept in" in both.message
    assert str(store_folder("auto")) in both.message
    other = make_cell(clips, towers, "lora+frozen", clip={"frames": 2, "size": 16})
    assert chosen(trained).store_for(other) is None
    assert chosen(frozen, trained, wish="off") == CachePlan()


def test_only_a_quarter_of_the_free_disk_is_taken_unless_a_folder_is_named(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = make_cell(clips, towers, "lora+frozen", shots=1)
    large = make_cell(clips, towers, "lora+frozen", clip={"frames": 8, "size": 32})
    # A clip of 8 frames of 32 x 32 pixels, for training all of them; six of those, and three to test on.
    need = 9 * 8 * 32 * 32 * 3
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4 * need))
    partly = chosen(small, large)
    assert partly.store_for(small) == "auto"
    assert partly.store_for(large) is None
    assert "those of drifts (" in partly.message
    assert "--store DIR" in partly.message
    named = chosen(small, large, wish=str(tmp_path / "kept"))
    assert named.store_for(large) == str(tmp_path / "kept")


def test_a_folder_that_cannot_be_written_is_named(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MmfuseError, match=r"--store .*file/below: cannot be written"):
        chosen(make_cell(clips, towers, "lora+frozen"), wish=str(tmp_path / "file" / "below"))


def test_cells_decode_each_clip_once_between_them_and_give_the_same_numbers(
    clips: dict[str, str], towers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    original = sources.read_counted

    def reading(path: Any, *args: Any, **how: Any) -> Any:
        decoded.append(Path(path).name)
        return original(path, *args, **how)

    monkeypatch.setattr(sources, "read_counted", reading)
    cells = [make_cell(clips, towers, pair, seed=seed) for pair in ("lora+frozen", "frozen+frozen") for seed in (0, 1)]
    keeping = chosen(*cells)
    assert not has_store(cells[0], data_root=Path())
    kept = [run_cell(Job(cell=cell, store=keeping.store_for(cell)), progress=lambda news: None) for cell in cells]
    assert sorted(decoded) == sorted(set(decoded))
    assert len(decoded) == 9
    assert has_store(cells[0], data_root=Path())
    assert chosen(*cells).message == "", "nothing is left to decode"
    for cell, outcome in zip(cells, kept, strict=True):
        monkeypatch.setenv("MMFUSE_CACHE", str(Path(store_folder("auto")) / "other"))
        anew = run_cell(Job(cell=cell), progress=lambda news: None)
        assert anew.record.metrics == outcome.record.metrics
        assert anew.record.identity == outcome.record.identity
        assert anew.files["predictions"] == outcome.files["predictions"]
    assert len(decoded) > 9


def test_clips_are_decoded_before_the_first_cell_and_what_is_lacking_is_gone_on_with(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = {**clips, "root": str(shutil.copytree(clips["root"], tmp_path / "clips"))}
    torn = tmp_path / "clips" / "test_running_0.mp4"
    whole = torn.read_bytes()
    torn.write_bytes(b"no video")
    cell = make_cell(copy, towers, "lora+frozen")
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(clip_cache, "usable_cores", lambda: 1)  # so that nothing is decoded out of sight below
    fill_ahead(chosen(cell), report=lambda *news: told.append(news))
    assert told == [("drifts", done, 8) for done in range(1, 9)], "the ninth is left for the cell, which names it"
    torn.write_bytes(whole)
    told.clear()
    fill_ahead(chosen(cell), report=lambda *news: told.append(news))
    assert told == [("drifts", 1, 1)]
    monkeypatch.setattr(sources, "read_counted", None)
    outcome = run_cell(Job(cell=cell, store=chosen(cell).store_for(cell) or "auto"), progress=lambda news: None)
    assert outcome.record.state == "done"


def test_a_disk_without_room_is_told_of_and_left_to_the_cells(
    clips: dict[str, str], towers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = chosen(make_cell(clips, towers, "lora+frozen"), wish=str(tmp_path / "kept"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.warns(MmfuseWarning, match="are free; make room"):
        fill_ahead(plan, report=lambda *news: None)


def test_a_grid_that_only_has_frozen_towers_uses_a_store_that_is_there(
    clips: dict[str, str], towers: dict[str, str]
) -> None:
    frozen, trained = (make_cell(clips, towers, pair) for pair in ("frozen+adapter", "lora+frozen"))
    run_cell(Job(cell=trained, store="auto"), progress=lambda news: None)
    assert chosen(frozen).store_for(frozen) == "auto"
    assert selection_of(frozen) == selection_of(trained)

"""The page's content: whatever state the results are in, and without a browser."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from mmfuse.errors import MmfuseError
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.record import Failure, failed
from mmfuse.records.status import read_entries
from mmfuse.report.page.build import build_page
from tests.cli.test_bench import call
from tests.report.scenes import plain


def page_of(folder: ResultsFolder) -> str:
    return build_page(folder, read_entries(folder))


def words(page: str) -> str:
    """What a reader sees, without markup."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page[page.index("<body") :], flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", body)).split())


def test_the_page_shows_the_numbers_of_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = words(page_of(plain(tmp_path)))
    code, table, _ = call(capsys, monkeypatch, "tables", "--all", "--results", str(tmp_path))
    assert code == 0
    numbers = re.findall(r"[+-]?\d+\.\d ± \d+\.\d", table)
    assert len(numbers) > 6
    assert not [number for number in numbers if number not in page]


def test_the_same_results_give_the_same_page(tmp_path: Path) -> None:
    folder = plain(tmp_path)
    assert page_of(folder) == page_of(folder)


def test_one_draw_has_no_interval_and_says_so(tmp_path: Path) -> None:
    text = words(page_of(plain(tmp_path, draws=[0])))
    assert "no number here has an interval" in text
    assert "Nothing is tested with 1 draw: the order may be chance." in text
    assert "untested" in text
    assert "holds" not in text.split("The answer")[1].split("Accuracy against shots")[0]


def test_without_frozen_towers_no_gain_is_told(tmp_path: Path) -> None:
    text = words(page_of(plain(tmp_path, pairs=["dora+adapter", "lora+frozen"])))
    assert "There is no pair of two frozen towers here" in text
    assert "gain over frozen+frozen" not in text


def test_a_grid_that_has_only_begun(tmp_path: Path) -> None:
    pairs, shots, draws = ("frozen+frozen", "dora+adapter"), (2, "all"), (0, 1, 2)
    every = [(pair, one, draw) for pair in pairs for one in shots for draw in draws]
    text = words(page_of(plain(tmp_path / "none", skip=every)))
    assert "No cell is done yet, so there is nothing to compare." in text
    assert "12 missing" in text
    assert "so nothing is known of single classes yet" in text
    text = words(page_of(plain(tmp_path / "some", skip=every[2:])))
    assert "2 of 12 cells are done" in text
    assert "At K = 2, frozen+frozen is highest" in text
    assert "no other pair has a number on the same draws" in text
    assert "No gain over frozen+frozen can be told yet at K = all." in text


def test_an_incomplete_row_says_so(tmp_path: Path) -> None:
    text = words(page_of(plain(tmp_path, skip=[("dora+adapter", 2, 1)])))
    assert "(2/3, 1 missing)" in text
    assert "11 of 12 cells are done. The rest is not in any number: 1 missing." in text


def test_damaged_predictions_are_told_and_the_rest_is_used(tmp_path: Path) -> None:
    folder = plain(tmp_path)
    entries = read_entries(folder)
    damaged = sorted(folder.records.glob("*.csv.gz"))[0]
    damaged.write_bytes(b"no gzip")  # since the records were read, which leaves out those without sound predictions
    text = words(build_page(folder, entries))
    assert "1 cells have predictions that cannot be used" in text
    assert "by the 11 trained models" in text


def test_records_without_class_names_are_told_by_number(tmp_path: Path) -> None:
    text = words(page_of(plain(tmp_path, names=None)))
    assert "The hardest test clips" in text
    assert re.search(r"taken for [012] \(\d+\)", text)


def test_no_folder_of_this_machine_is_told(tmp_path: Path) -> None:
    def lost(_: object, __: str) -> list[Any]:
        raise MmfuseError(f"{tmp_path}/videos/tiny holds no videos")

    folder = plain(tmp_path / "r", skip=[("dora+adapter", 2, 0)])
    [item] = [one for one in folder.manifests()[0].cells if one.cell.pair.name == "dora+adapter"][:1]
    failure = Failure(kind="OSError", message=f"no room in {tmp_path}/r", traceback=f'File "{tmp_path}/run.py", line 1')
    folder.write(failed(item.cell, failure, inputs=item.inputs))
    page = build_page(folder, read_entries(folder), read_frames=lost)
    assert str(tmp_path) not in page
    text = words(page)
    assert "…/tiny holds no videos" in text
    assert "OSError: no room in …/r" in text
    assert "…/run.py" in text


def test_where_the_videos_are_not_the_page_says_so(tmp_path: Path) -> None:
    folder = plain(tmp_path)
    page = build_page(folder, read_entries(folder), read_frames=_nowhere)
    assert "The videos are not available, so no frames are shown: no lists below here" in words(page)
    assert "data:image/jpeg" not in page


def _nowhere(_: object, __: str) -> list[Any]:
    raise MmfuseError("no lists below here")


def test_the_hostile_page_holds_frames_and_the_reason_for_those_it_lacks(hostile_page: Path) -> None:
    page = hostile_page.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 5
    assert "this clip is not in the available lists" in page
    assert "The videos are not available" in words(page)
    assert len(page) < 1_000_000


def test_no_results_are_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing, empty = tmp_path / "nothing", tmp_path / "empty"
    ResultsFolder(empty).prepare()
    for folder, text in ((nothing, f"there is no folder {nothing}; run a grid first: "), (empty, "holds no cells")):
        out = tmp_path / "report.html"
        code, _, told = call(capsys, monkeypatch, "report", "--results", str(folder), "--out", str(out))
        assert code == 2
        assert text in told
        assert len(told.splitlines()) == 1
        assert not out.exists()


def test_the_command_writes_a_file_and_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(tmp_path / "r", names=("walk", "run", "jump"))
    out = tmp_path / "new" / "report.html"
    words_ = ("report", "--results", str(tmp_path / "r"), "--out", str(out), "--no-frames")
    code, told, _ = call(capsys, monkeypatch, *words_)
    assert code == 0
    assert told.startswith(f"wrote {out}")
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    code, _, told = call(capsys, monkeypatch, *words_[:4], str(tmp_path))
    assert code == 2
    assert "is a folder; name the file to write" in told


def test_published_rows_keep_their_blocks(hostile_page: Path) -> None:
    page = hostile_page.read_text(encoding="utf-8")
    figures = re.findall(r"<figure class=.result.>.*?</figure>", page, flags=re.DOTALL)
    published = [figure for figure in figures if "published, no video before" in figure]
    assert len(published) == 1
    assert "aria-sort" not in published[0]
    assert sum("aria-sort" in figure for figure in figures) == len(figures) - 1

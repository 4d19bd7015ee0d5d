"""Tables of a grid whose draws are added until all is decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfuse.records import predictions as written_predictions
from mmfuse.records.cell import Cell, Inputs
from mmfuse.records.folder import Manifest, PlannedCell, ResultsFolder
from mmfuse.records.record import Evaluation
from mmfuse.records.status import read_entries
from mmfuse.report.gains import UNTESTED, gains_of
from mmfuse.report.groups import groups
from mmfuse.report.page.build import build_page
from mmfuse.report.tables.accuracy import Comparison
from mmfuse.report.tables.build import tables
from mmfuse.report.tables.table import Table
from tests.bench import added, fakes


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    path: Path = tmp_path_factory.mktemp("results")
    added.run(path, workers=2)
    folder = ResultsFolder(path)
    return {table.key: table for table in tables(read_entries(folder), folder)}


def test_verdicts_stand_in_a_table_of_their_own(shown: dict[str, Table]) -> None:
    rows = {row.name: [value.text or "" for value in row.values] for row in shown["verdicts"].rows}
    assert list(rows) == list(added.PAIRS)
    baseline, plain, hard, _ = (rows[pair] for pair in added.PAIRS)
    assert baseline == ["–", "–"]
    assert all(text.startswith("better +") and text.endswith("(3)") for text in plain)
    assert hard[0].startswith("open +")
    assert hard[0].endswith(" more)")


def test_the_first_table_sums_them_up(shown: dict[str, Table]) -> None:
    told = {row.name: row.values[-1].text for row in shown["overall"].rows}
    baseline, plain, hard, hopeless = (told[pair] for pair in added.PAIRS)
    assert (baseline, plain, hopeless) == ("baseline", "better", "open")
    assert hard is not None
    assert "open" in hard
    assert not any(value.bounds for row in shown["overall"].rows for value in row.values)


def test_tests_for_a_fixed_number_of_draws_mark_nothing(shown: dict[str, Table]) -> None:
    values = [value for key in ("accuracy", "gain") for row in shown[key].rows for value in row.values]
    assert not any(value.significant or value.tie or value.p is not None for value in values)
    assert any("verdicts" in note for note in shown["gain"].notes)


def test_a_test_beside_the_one_that_was_looked_at_is_not_tested_as_if_its_draws_were_fixed(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    folder.prepare()
    cells = [one for one in added.cells(*added.PAIRS[:2]) if one.draw < 3]
    cells = [Cell.model_validate({**one.model_dump(), "setting": "base-to-novel"}) for one in cells]
    for cell in cells:
        right = 92 - cell.draw if cell.pair.name == "at-90-1" else 40
        outcome = fakes.done(cell, inputs=Inputs(), top1=right / 101)
        record, predictions = outcome.record, outcome.record.predictions
        assert record.metrics is not None
        assert predictions is not None
        beside = predictions.model_copy(update={"file": f"{record.stem}--novel.csv.gz"})
        file = tmp_path / "written.csv.gz"
        file.write_bytes(outcome.files["predictions"])
        novel = Evaluation(
            dataset="tiny",
            split=1,
            class_names=("a", "b"),
            test_clips=written_predictions.test_list_digest(written_predictions.decode(file)),
            metrics=record.metrics,
            predictions=beside,
        )
        record = record.model_copy(update={"evaluations": {"novel": novel}})
        folder.write(record, {**outcome.files, f"predictions/{beside.file}": outcome.files["predictions"]})
    for rule, added_draws in ((None, False), (added.RULE, True)):
        folder.write_manifest(Manifest("test", [PlannedCell(cell) for cell in cells], until_decided=rule))
        [base, beside_it] = groups(read_entries(folder), folder)
        assert (base.main, beside_it.main) == (True, False)
        for group in (base, beside_it):
            gains = gains_of(Comparison(group))
            tested = [gain.verdict != UNTESTED for gain in gains] == [True]
            assert tested == (not added_draws or group.main)
            assert group.rule == rule
        [row] = Comparison(beside_it).gain_table.rows  # type: ignore[union-attr]
        assert [value.p is None for value in row.values] == [added_draws] * len(row.values)
    entries = read_entries(folder)
    assert "harmonic mean" in build_page(folder, entries)
    [table] = [table for table in tables(entries, folder) if table.key == "base-to-novel"]
    assert table.context["dataset"] == "tiny"

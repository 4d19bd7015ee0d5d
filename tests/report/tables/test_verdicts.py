"""Tables of a grid whose draws are added until all is decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import read_entries
from mmfuse.report.tables.build import tables
from mmfuse.report.tables.table import Table
from tests.bench import added


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

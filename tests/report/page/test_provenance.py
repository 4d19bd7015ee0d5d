"""Where numbers come from, why some are lacking, and which commands may be copied."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfuse.records.status import read_entries
from mmfuse.report.groups import groups
from mmfuse.report.page.build import embedded
from mmfuse.report.page.payload import CELL_COLUMNS, ClassPayload, cells
from mmfuse.report.page.provenance import command_of, facts, fingerprints, troubles
from mmfuse.report.per_class import gather
from mmfuse.report.plots.points import Plots
from mmfuse.report.tables.accuracy import Comparison
from tests.report.made import build, results
from tests.report.scenes import END, plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rm -rf /",
        "mmfuse-bench 'unclosed",
        "mmfuse-bench\nrm x",
        "x=1 mmfuse-bench",
        "mmfuse-bench \u202e x",
        "./mmfuse",
    ],
)
def test_what_is_no_command_of_ours_is_not_offered(text: str) -> None:
    assert command_of(text) == ""


@given(st.text(st.characters(exclude_categories=["C"])))
def test_a_command_that_is_offered_is_one_call_whatever_it_holds(text: str) -> None:
    command = command_of(f"mmfuse-bench --grid {text}")
    if command:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.commenters = ""
        lexer.whitespace_split = True
        assert shlex.join(shlex.split(command)) == command
        assert list(lexer) == shlex.split(command)  # no word of it is an operator of the shell


def test_a_real_command_stays_as_it_is() -> None:
    words = [
        "mmfuse-bench",
        "--grid",
        "demo",
        "--only",
        "pair=dora+adapter",
        "--results",
        "a folder/x",
        "--rerun",
        "all",
    ]
    assert command_of(shlex.join(words)) == shlex.join(words)


def test_facts_count_the_cells_of_each_value(tmp_path: Path) -> None:
    entries = read_entries(plain(tmp_path))
    told = {fact.name: fact.values for fact in facts(entries)}
    assert told["torch"] == (("2.0", 12),)
    assert told["precision"] == (("32-true", 12),)
    assert "code commit" not in told  # no record knows it
    assert dict(fingerprints(entries)[0].values) == {"c": 12}


def test_equal_failures_are_told_once(tmp_path: Path) -> None:
    cells_ = [build("frozen+frozen", draw=draw) for draw in range(3)] + [build("dora+adapter")]
    found = troubles(results(tmp_path, cells_, lambda cell: 0.5 if cell.pair.name == "dora+adapter" else "failed"))
    assert [(trouble.state, len(trouble.cells)) for trouble in found] == [("failed", 3)]
    assert found[0].reason == "NonFiniteLoss: the loss became nan"


def test_cells_without_a_record_name_the_command_of_their_grid(tmp_path: Path) -> None:
    folder = plain(tmp_path, skip=[("dora+adapter", 2, 0)])
    entries = read_entries(folder)
    lines = cells(entries, {entry.cell.name: "mmfuse-bench --grid plain" for entry in entries})
    by_state = {line[CELL_COLUMNS.index("state")]: line for line in lines}
    assert by_state["missing"][CELL_COLUMNS.index("command")] == "mmfuse-bench --grid plain"
    assert by_state["missing"][CELL_COLUMNS.index("top1")] is None
    assert by_state["done"][CELL_COLUMNS.index("command")].startswith("mmfuse-bench --grid demo")
    assert (tmp_path / by_state["done"][CELL_COLUMNS.index("record")]).is_file()
    assert all(len(line) == len(CELL_COLUMNS) for line in lines)


def test_a_page_holds_only_so_much_of_classes_and_the_largest_k_first(tmp_path: Path) -> None:
    folder = plain(tmp_path)
    [group] = groups(read_entries(folder), folder)
    plots, evidence = Plots(Comparison(group)), gather(group)
    every = ClassPayload().of(plots, evidence)["places"]
    assert sorted(every) == ["0,0", "0,1", "1,0", "1,1"]
    size = {key: len(place["mistakes"]) + 7 * len(place["gains"]) for key, place in every.items()}
    payload = ClassPayload(size["0,1"] + size["1,1"])
    assert sorted(payload.of(plots, evidence)["places"]) == ["0,1", "1,1"]
    assert payload.left_out == 2


@given(st.text())
def test_what_is_embedded_cannot_end_its_element(name: str) -> None:
    text = str(embedded({name: [name]}))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {name: [name]}


def test_a_script_in_a_name_stays_a_name() -> None:
    assert "</script" not in str(embedded({"name": END}))

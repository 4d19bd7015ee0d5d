"""Tables by order: which, of what, in which order, against which pair, and into which file."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmfuse.cli import bench
from mmfuse.records.cell import Cell
from mmfuse.records.folder import ResultsFolder
from mmfuse.records.status import read_entries
from mmfuse.report.tables.orders import Orders, ordered
from mmfuse.report.tables.tidy import tidy
from mmfuse.utils.files import sha256_of_json
from tests.report.made import build, results

LEVEL = {"frozen+frozen": 0.5, "dora+adapter": 0.6, "lora+frozen": 0.53}
Call = Callable[..., tuple[int, str, str]]
Values = Callable[..., list[dict[str, Any]]]


def top1(cell: Cell) -> float:
    return LEVEL[cell.pair.name] + 0.001 * ((7 * cell.draw + len(cell.pair.name)) % 5) + 0.01 * (cell.shots == 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("results")
    places = itertools.product(("tiny", "hmdb51"), LEVEL, (2, 8), range(3))
    results(path, [build(pair, dataset=name, shots=k, draw=draw) for name, pair, k, draw in places], top1)
    return path


@pytest.fixture
def call(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmfuse-bench", "tables", "--results", str(folder), *map(str, words)])
        with pytest.raises(SystemExit) as end:
            bench.main()
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return run


@pytest.fixture(scope="module")
def values(folder: Path) -> Values:
    entries = read_entries(ResultsFolder(folder))

    def run(**orders: Any) -> list[dict[str, Any]]:
        return tidy(ordered(entries, ResultsFolder(folder), Orders(**orders)))

    return run


def test_one_table_comes_unless_others_are_asked_for(values: Values) -> None:
    assert {value["table"] for value in values()} == {"overall"}
    assert {value["table"] for value in values(names=["gain", "cost"])} == {"gain", "cost"}
    assert {value["table"] for value in values(every=True)} == {"overall", "accuracy", "gain", "literature", "cost"}


def test_every_format_holds_the_same_numbers(call: Call, values: Values, tmp_path: Path) -> None:
    found = values(every=True)
    means = [value["mean"] for value in found if value["mean"] is not None]
    assert len(means) > 50
    _, out, _ = call("--all", "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [float(line["mean"]) for line in lines if line["mean"]] == means
    assert {"dataset", "split", "metric", "pair", "shots", "quantity"} <= set(lines[0])
    shown = {f"{v['mean']:.1f}" for v in found if v["quantity"] == "accuracy" and v["mean"] is not None}
    for name in ("t.md", "t.tex", "t.html", "t.csv", "t.json"):
        code, told, err = call("--all", "--out", tmp_path / name)
        assert (code, err) == (0, "")
        assert told.startswith(f"wrote {tmp_path / name}")
        text = (tmp_path / name).read_text()
        assert name in ("t.csv", "t.json") or all(number in text for number in shown)
    assert (tmp_path / "t.csv").read_text() == out
    assert json.loads((tmp_path / "t.json").read_text())["values"] == found


def test_each_axis_is_a_column_with_one_value(values: Values) -> None:
    [value] = [
        v
        for v in values(names=["accuracy"])
        if (v["dataset"], v["pair"], v["shots"], v["quantity"]) == ("hmdb51", "dora+adapter", "8", "accuracy")
    ]
    assert (value["split"], value["metric"], value["n"], value["planned"]) == ("1", "top1", 3, 3)
    expected = [100 * top1(build("dora+adapter", shots=8, draw=draw)) for draw in range(3)]
    assert value["mean"] == pytest.approx(sum(expected) / 3, abs=0.05)
    assert value["low"] < value["mean"] < value["high"]


def test_pairs_that_are_left_out_still_count(values: Values) -> None:
    """No choice of rows makes a gain hold."""
    whole = [value for value in values(names=["gain"]) if value["pair"] == "dora+adapter"]
    assert values(names=["gain"], only=["pair=dora+adapter"]) == whole
    [rank] = [v for v in values(only=["pair=lora+frozen"]) if v["quantity"] == "rank"]
    assert rank["mean"] == 2
    few = values(names=["accuracy"], only=["shots=2", "dataset=tiny"])
    assert {(value["dataset"], value["shots"]) for value in few} == {("tiny", "2")}


def test_gains_are_measured_against_any_pair(values: Values) -> None:
    own = {v["pair"]: v["mean"] for v in values() if v["quantity"] == "gain"}
    other = {v["pair"]: v["mean"] for v in values(baseline="lora+frozen") if v["quantity"] == "gain"}
    assert other["lora+frozen"] is None
    assert other["dora+adapter"] == pytest.approx(own["dora+adapter"] - own["lora+frozen"])
    assert other["frozen+frozen"] == pytest.approx(-own["lora+frozen"])


def test_rows_are_sorted_by_a_column_the_better_end_first(values: Values) -> None:
    def order(sort: str | None = None) -> list[str]:
        return list(dict.fromkeys(value["pair"] for value in values(sort=sort)))

    assert order() == ["dora+adapter", "lora+frozen", "frozen+frozen"]
    assert order("mean rank") == order("gain") == order("tiny") == order()
    assert order("gain:up") == order()[::-1]
    assert order("pair") == sorted(LEVEL)


def test_another_metric_is_that_of_all_accuracies(values: Values) -> None:
    found = values(metric="top5", every=True)
    assert {value["metric"] for value in found if value["quantity"] == "accuracy"} == {"top5"}
    assert {v["mean"] for v in found if v["quantity"] == "accuracy" and v["shots"] == "2"} == {100.0}
    assert "literature" not in {value["table"] for value in found}  # what is published is top-1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--table gian", "unknown table 'gian'; did you mean 'gain'?"),
        ("--table ablation", "these results have no table 'ablation'"),
        ("--all --table gain", "leave out one of them"),
        ("--metric top3", "unknown metric 'top3'; did you mean 'top5'?"),
        ("--baseline dorra+adapter", "did you mean 'dora+adapter'?"),
        ("--only pair=nobody", "the results folder has no such cells"),
        ("--only pear=x", "unknown key of --only 'pear'; did you mean 'pair'?"),
        ("--only dataset=tiny --only pair=lora+frozen --sort hmdb51", "unknown column to sort by 'hmdb51'"),
        ("--format xml", "unknown format 'xml'; did you mean 'html'?"),
        ("--json --format csv", "two formats"),
        ("--out t.txt", "unknown kind of file in --out '.txt'; did you mean '.tex'?"),
        ("--out tables", "unknown kind of file in --out 'tables'"),
        ("--out t.md --json", "--out t.md is written as markdown"),
        ("--out here.md", "here.md is a folder; name the file to write"),
        ("--out here.md/t.md/x.md", "cannot be written"),
    ],
)
def test_a_wrong_order_is_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.md").mkdir()
    (tmp_path / "here.md" / "t.md").write_text("")
    code, out, err = call(*words.split())
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["here.md"]


def test_a_metric_that_no_record_has_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for entry in results(tmp_path, [build("frozen+frozen")], lambda cell: 0.5):
        assert entry.record is not None
        path = next((tmp_path / "records").glob("*.json"))
        content = json.loads(path.read_text())
        content["metrics"]["top5"] = None
        content.pop("checksum")
        path.write_text(json.dumps({**content, "checksum": sha256_of_json(content)}))
    monkeypatch.setattr(sys, "argv", ["mmfuse-bench", "tables", "--results", str(tmp_path), "--metric", "top5"])
    with pytest.raises(SystemExit) as end:
        bench.main()
    assert end.value.code == 2
    assert "no record here has the metric 'top5'; they have: mean_class, top1" in capsys.readouterr().err


def test_names_stay_names_in_every_format(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hostile = "=_%&$#^~\\|<b>"
    cells = [build(name, draw=draw) for name in ("frozen+frozen", hostile) for draw in (0, 1)]
    results(tmp_path, cells, lambda cell: 0.5)
    expected = {
        "markdown": r"=\_%&amp;\$\#\^\~\\\|&lt;b&gt;",
        "latex": r"=\_\%\&\$\#\textasciicircum{}\textasciitilde{}\textbackslash{}\textbar{}\textless{}b\textgreater{}",
        "html": html.escape(hostile),
        "csv": f"'{hostile}",
        "json": json.dumps(hostile),
        "rich": hostile,
    }
    for style, name in expected.items():
        monkeypatch.setattr(sys, "argv", ["mmfuse-bench", "tables", "--results", str(tmp_path), "--format", style])
        with pytest.raises(SystemExit):
            bench.main()
        assert name in capsys.readouterr().out

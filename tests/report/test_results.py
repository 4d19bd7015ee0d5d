"""Results in Python: what `load_results` gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mmfuse
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import AXES
from mmfuse.records.folder import Manifest
from tests.report.scenes import END, hostile, plain


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))


def test_the_table_has_a_row_for_each_cell_also_for_those_without_numbers(tmp_path: Path) -> None:
    folder = plain(tmp_path / "r", skip=[("dora+adapter", 2, 1)])
    found = mmfuse.load_results(folder.path)
    table = found.table()
    assert tuple(table.columns[:6]) == AXES
    assert len(table) == 12
    assert table["state"].value_counts().to_dict() == {"done": 11, "missing": 1}
    assert table.loc[table["state"] == "missing", ["top1", "seconds", "fusion_parameters"]].isna().all(axis=None)
    right = found.predictions(pair="dora+adapter", shots="all")
    shares = (right["label"] == right["predicted"]).groupby(right["draw"]).mean()
    told = table[(table["pair"] == "dora+adapter") & (table["shots"] == "all")].set_index("draw")["top1"]
    assert shares.to_dict() == pytest.approx(told.to_dict())
    assert repr(found) == f"Results({str(folder.path)!r}: 11 done, 1 missing)"


def test_predictions_are_chosen_by_axes(tmp_path: Path) -> None:
    found = mmfuse.load_results(plain(tmp_path / "r").path)
    assert len(found.predictions(draw=1, shots=2)) == 2 * 30
    assert len(found.predictions(draw=99)) == 0
    with pytest.raises(MmfuseError, match="unknown axis 'drw'; did you mean 'draw'"):
        found.predictions(drw=1)


def test_two_pairs_are_compared_as_the_command_does(tmp_path: Path) -> None:
    found = mmfuse.load_results(plain(tmp_path / "r").path)
    compared = found.compare("dora+adapter", "frozen+frozen")
    by_draw = found.table().pivot_table(index=["shots", "draw"], columns="pair", values="top1", sort=False)
    gains = 100 * (by_draw["dora+adapter"] - by_draw["frozen+frozen"]).groupby(level="shots").mean()
    over_draws = compared[compared["column"] == "over draws"].set_index("row")["mean"]
    assert over_draws.to_dict() == pytest.approx({f"K={shots}": gain for shots, gain in gains.items()})
    with pytest.raises(MmfuseError, match=r"did you mean 'dora\+adapter'"):
        found.compare("dorra+adapter", "frozen+frozen")


def test_the_first_table_as_numbers(tmp_path: Path) -> None:
    found = mmfuse.load_results(plain(tmp_path / "r", shots=(2, 4)).path)
    overall = found.overall()
    assert overall.index.name == "pair"
    assert overall["verdict"].to_dict() == {"frozen+frozen": "baseline", "dora+adapter": "better"}
    means = 100 * found.table().groupby("pair")["top1"].mean()
    assert overall["tiny"].to_dict() == pytest.approx(means.to_dict())
    ours = overall.loc["dora+adapter"]
    assert ours["gain"] == pytest.approx(means["dora+adapter"] - means["frozen+frozen"])
    assert ours["gain low"] <= ours["gain"] <= ours["gain high"]
    turned = found.overall(baseline="dora+adapter").loc["frozen+frozen"]
    assert turned["gain"] == pytest.approx(-ours["gain"])
    with pytest.raises(MmfuseError, match="unknown metric 'top2'"):
        found.overall(metric="top2")


def test_what_a_notebook_shows_is_escaped(tmp_path: Path) -> None:
    shown = mmfuse.load_results(hostile(tmp_path / "r", datasets=["tiny"]).path)._repr_html_()
    assert "K=2" in shown
    assert "dora+adapter" in shown
    assert END not in shown
    assert "<script" not in shown
    assert "<img" not in shown


def test_a_damaged_manifest_is_told_with_what_mends_it(tmp_path: Path) -> None:
    folder = plain(tmp_path / "r")
    manifest = folder.path / "manifests" / "plain.json"
    sound = manifest.read_bytes()
    manifest.write_text("{")
    with pytest.raises(MmfuseError, match=r"remove it, and run its grid once more") as told:
        mmfuse.load_results(folder.path)
    assert str(manifest) in str(told.value)
    manifest.unlink()
    folder.write_manifest(Manifest("other"))
    assert mmfuse.load_results(folder.path).entries == []
    manifest.write_bytes(sound)  # which its grid writes again
    assert len(mmfuse.load_results(folder.path).table().query("state == 'done'")) == 12


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MmfuseError, match="holds no results; run a grid first"):
        mmfuse.load_results(tmp_path)


def test_results_are_read_without_torch(tmp_path: Path) -> None:
    folder = plain(tmp_path / "r")
    code = (
        "import sys, mmfuse\n"
        f"found = mmfuse.load_results({str(folder.path)!r})\n"
        "found.table(), found.predictions(), found.compare('dora+adapter', 'frozen+frozen'), found._repr_html_()\n"
        "assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr

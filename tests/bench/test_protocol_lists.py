"""`protocol:` in a grid: its published lists are trained on, or nothing runs and one line says why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmfuse.bench.grid import load_grid
from mmfuse.bench.job import Job
from mmfuse.bench.resolve import resolve
from mmfuse.bench.run_cell import make_data
from mmfuse.bench.session import Request, Session
from mmfuse.data import protocols
from mmfuse.data.catalogue.load import load_catalogue
from mmfuse.data.few_shot import draw_clips
from mmfuse.errors import MmfuseError, MmfuseWarning

FILES = {draw: f"splits/k1_{draw}.list" for draw in (0, 1)}


def content(draw: int) -> str:
    """A list of one clip a class, none of them that of the certified draw 0."""
    rows = draw_clips(load_catalogue("tiny"), shots=1, draw=draw + 5)
    return "".join(f"{name}/{clip}\n" for name, clip in zip(rows["class"], rows["clip"], strict=True))


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A protocol `mine` with two lists of the generated data set; the folder that its files belong into."""
    known = [
        {"file": file, "sha256": hashlib.sha256(content(draw).encode()).hexdigest(), "clips": 12}
        for draw, file in FILES.items()
    ]
    about = {
        "name": "mine",
        "title": "Mine",
        "source": "",
        "repository": "me/mine",
        "commit": "c0ffee",
        "licence": "MIT",
    }
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "mine.yaml").write_text(
        yaml.safe_dump({**about, "corrected": {"tiny": "names were swapped"}, "few_shot": {"tiny": {1: known}}})
    )
    monkeypatch.setattr(protocols, "_folder", lambda: tmp_path / "known")
    protocols.load_protocol.cache_clear()
    yield tmp_path / "repositories" / "mine"
    protocols.load_protocol.cache_clear()


def grid(**changed: Any) -> dict[str, Any]:
    wanted = {"name": "listed", "datasets": ["tiny"], "shots": [1], "draws": [0, 1], "pairs": ["frozen+frozen"]}
    return {**wanted, "protocol": "mine", **changed}


def test_lists_are_read_from_what_the_user_brings(lists: Path, tmp_path: Path) -> None:
    session = Session(Request(grid=grid(), results=tmp_path / "results", annotations=lists.parent))
    assert [entry.state for entry in session.entries()] == ["missing"] * 2
    with pytest.raises(
        MmfuseError, match=r"^the list k1_0.list of Mine was not found .* fetch splits/k1_0.list of github"
    ):
        session.prepare()
    (lists / "splits").mkdir(parents=True)
    for draw, file in FILES.items():
        (lists / file).write_text(content(draw))
    with pytest.warns(MmfuseWarning, match="Mine: names were swapped"):
        session.prepare()
    for entry in session.entries():
        cell, inputs = entry.cell, entry.planned.inputs
        job = Job(cell=cell, annotations=str(lists.parent))
        data = make_data(job, resolve(cell, annotations=job.annotations), batch_size=1, native_size=32)
        assert data.draw_fingerprint == inputs.train_clips
        assert data.certified  # by the list's digest and the test list's fingerprint
        assert "".join(
            f"{name}/{clip}\n" for name, clip in zip(data.train_clips["class"], data.train_clips["clip"], strict=True)
        ) == content(cell.draw)
    (lists / FILES[1]).write_text(content(0))
    with pytest.raises(MmfuseError, match=r"k1_1.list is not the list that Mine published .*SHA-256.*at commit c0ffee"):
        session.prepare()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"shots": [1, 2]}, r"Mine has no list of tiny at K = 2; it has K = 1"),
        ({"shots": ["all"]}, r"at K = all"),
        ({"draws": [0, 2]}, r"draws 0 to 1 of tiny at K = 1; not draw 2"),
        ({"splits": [1, 2]}, r"lists of split 1 of tiny only; not split 2"),
        ({"datasets": ["hmdb51"]}, r"no few-shot lists of 'hmdb51'; it has tiny"),
        ({"datasets": [{"name": "own", "root": "clips"}]}, r"not of clips of your own"),
        ({"datasets": [{"name": "tiny", "train_lists": {1: "k1.txt"}}]}, r"'train_lists' or from .* not both"),
        ({"protocol": "mnie"}, r"unknown protocol 'mnie'; did you mean 'mine'\?"),
        ({"protocol": None, "datasets": [{"name": "tiny", "protocol": "mnie"}]}, r"datasets\[0\]\.protocol: unknown"),
    ],
)
def test_what_a_protocol_has_no_list_for_is_refused_with_the_grid(
    lists: Path, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(grid(**changed)))
    with pytest.raises(MmfuseError, match=rf"^\S*grid\.yaml:\d+: .*{told}[^\n]*$"):
        load_grid(str(path))


def test_a_data_set_has_a_protocol_of_its_own(lists: Path, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    datasets = [{"name": "tiny", "protocol": "mine"}, "hmdb51"]
    path.write_text(yaml.safe_dump(grid(protocol=None, datasets=datasets)))
    assert [cell.dataset.protocol for cell in load_grid(str(path)).cells()] == ["mine"] * 2 + [None] * 2

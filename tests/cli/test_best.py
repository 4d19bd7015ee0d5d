"""`mmfuse best`: from class folders to a model, once from end to end, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mmfuse.bench.tuning.fold_training import FoldTraining
from mmfuse.bench.tuning.sampler import need_optuna
from mmfuse.cli import best as command
from mmfuse.cli import main
from tests.bench.real import SIZE, make_class_folders, make_towers

SMALL = ("clip.frames=2", f"clip.size={SIZE}", "clip.views=1", "fusion.kind=mean", "fusion.width=8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("best")
    make_class_folders(folder / "moves")
    make_towers(folder / "towers")
    return folder


class Called:
    """Calls `mmfuse best` as a shell does."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._place, self._capsys, self._monkeypatch = place, capsys, monkeypatch
        self.code, self.out, self.err = 0, "", ""

    def __call__(self, *words: str, clips: str = "moves", out: str = "out") -> Called:
        """Run it; what it says is kept."""
        towers = [f"--{kind}-encoder={self._place / 'towers' / kind}" for kind in ("image", "text")]
        small = [f"--set={setting}" for setting in SMALL]
        whole = ["best", str(self._place / clips), f"--out={self._place / out}", "--threads=1", "--epochs=2"]
        self._monkeypatch.setattr(sys, "argv", ["mmfuse", *whole, *towers, *small, *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        self.code = int(end.value.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return self


@pytest.fixture
def best(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Called:
    return Called(place, capsys, monkeypatch)


def test_class_folders_become_a_model_and_a_page_also_after_an_interruption(
    best: Called, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--methods=frozen,lora", "--trials=2", "--test=0.34")
    evaluate, calls = FoldTraining.__call__, []

    def interrupted(self: FoldTraining, point: Any, **how: Any) -> str:
        calls.append(point)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(self, point, **how)

    monkeypatch.setattr(FoldTraining, "__call__", interrupted)
    best(*words)
    assert best.code == 130
    assert "stopped; 2 trials are kept" in best.err
    assert not (place / "out" / "model").exists()

    best(*words, "--json")
    told = json.loads(best.out)
    assert best.code == 0, best.err
    assert "going on from 2 trials" in best.err
    assert len(calls) == 5, "two before, the one that was interrupted again, and one more"
    assert {one["pair"]: len(one["trials"]) for one in told["candidates"]} == {"frozen+frozen": 2, "lora+lora": 2}
    assert told["test"]["test_clips"] == 6
    assert 0 <= told["test"]["interval"][0] <= told["test"]["top1"] <= told["test"]["interval"][1] <= 1
    assert told["validation"]["clips"] == told["test"]["train_clips"] == 12
    page = (place / "out" / "best.html").read_text(encoding="utf-8")
    assert "lora+lora" in page
    assert "http" not in page.replace("http-equiv", "")

    best(*words)  # all is done: nothing is trained or tested again
    assert best.code == 0
    assert len(calls) == 5
    predict = best.out
    (place / "out" / "best.json").unlink()
    before = (place / "out" / "trials.jsonl").read_bytes()
    best(*words, "--seed=1")
    assert best.code == 2
    assert "holds a search with other" in best.err.splitlines()[-1]
    assert (place / "out" / "trials.jsonl").read_bytes() == before
    prediction = predict.rpartition("mmfuse predict ")[2].split()
    monkeypatch.setattr(sys, "argv", ["mmfuse", "predict", *prediction])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert not end.value.code


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "a budget is a number of trials (--trials 16) or a time (--budget 3h)"),
        (("--budget=soon",), "a budget is a time such as 90m"),
        (("--budget=1h", "--trials=3"), "say one of them"),
        (("--trials=2", "--methods=lorra"), "lora"),
        (("--trials=2", "--methods=lora,lora+lora"), "twice"),
        (("--trials=2", "--test=1.5"), "above 0 and below 1"),
        (("--trials=2", "--set=train.epoch=3"), "epochs"),
        (("--budget=0.001s",), "a budget of 0.001s is too small for one trial"),
        (("--trials=2", "--image-encoder=./nowhere"), "nowhere"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(best: Called, place: Path, words: Any, told: str) -> None:
    best(*words, out="refused")
    assert best.code == 2
    assert told in best.err.splitlines()[-1]
    assert "Traceback" not in best.err
    assert not (place / "refused").exists()


def test_clips_of_one_source_a_class_are_refused(best: Called, place: Path) -> None:
    make_class_folders(place / "alone", sources=2, classes=("walking", "running"))
    best("--trials=2", "--test=0.5", clips="alone", out="refused")
    assert best.code == 2
    assert "no validation part can be cut" in best.err.splitlines()[-1]
    assert not (place / "refused").exists()


def test_without_optuna_the_package_is_named(best: Called, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmfuse.bench.tuning.sampler.find_spec", lambda _: None)
    assert command.need_optuna is need_optuna
    best("--trials=2", out="refused")
    assert (best.code, best.err) == (2, "mmfuse: searching needs Optuna: pip install 'mmfuse[tune]'\n")

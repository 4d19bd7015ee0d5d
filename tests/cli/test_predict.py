"""`mmfuse predict` as users call it: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmfuse import predict
from mmfuse.cli import main
from mmfuse.model.recognizer import ActionRecognizer
from tests.bench.real import CLASSES, SIZE, make_clips, make_towers
from tests.data.videos import encode
from tests.methods.sweep import disturb


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips and two checkpoints: `model`, and `probe`, which reads no text."""
    folder = tmp_path_factory.mktemp("world")
    make_clips(folder / "clips")
    towers = make_towers(folder)
    for name, fusion in (("model", {"kind": "joint", "width": 16}), ("probe", {"kind": "linear"})):
        model = ActionRecognizer(
            CLASSES, image_encoder=towers["image"], text_encoder=towers["text"], frames=4, fusion=fusion
        )
        disturb(model, torch.nn.Identity())
        model.save_trained(folder / name, sampling={"frames": 4, "size": SIZE, "short_side": SIZE})
    (folder / "no.mp4").write_text("not a video")
    (folder / "names.txt").write_text(
        "\ufeffplaying the cello\n\n  standing still \nsinging, loudly\n", encoding="utf-8"
    )
    return folder


@pytest.fixture
def call(world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(world)

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmfuse", "predict", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def document(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_folder_as_text(call, world: Path) -> None:
    code, out, err = call("model", "clips", "--top", "2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[::3] == sorted(str(path.relative_to(world)) for path in (world / "clips").glob("*.mp4"))
    assert all(line.startswith("  ") and "%  " in line for line in lines[1::3] + lines[2::3])


def test_the_document_agrees_with_python(call, world: Path) -> None:
    code, out, err = call("model", "clips", "--json", "--batch-size", "2")
    assert (code, err) == (0, "")
    told = document(out)
    assert (told["zero_shot"], told["new_classes"]) == (False, [])
    expected = predict("model", "clips")
    assert [entry["video"] for entry in told["predictions"]] == [str(entry.path) for entry in expected]
    for entry, other in zip(told["predictions"], expected, strict=True):
        found = {likely["class"]: likely["probability"] for likely in entry["classes"]}
        assert found == pytest.approx(dict(other.top()), abs=2e-6)


def test_a_bad_video_is_named_and_the_others_are_answered(call) -> None:
    code, out, err = call("model", "no.mp4", "clips/test_running_0.mp4", "gone.mp4", "--top", "1")
    assert code == 1
    assert out.splitlines()[0] == "clips/test_running_0.mp4"
    assert [line.split(":")[1].strip() for line in err.splitlines()] == ["no.mp4", "gone.mp4"]
    code, out, err = call("model", "no.mp4", "clips/test_running_0.mp4", "--json")
    assert code == 1
    [bad, good] = document(out)["predictions"]
    assert bad["video"] == "no.mp4"
    assert "cannot be decoded" in bad["error"]
    assert set(good) == {"video", "classes"}


def test_what_is_left_of_a_damaged_video_is_answered_on_demand(call, world: Path, tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.avi", count=40, width=320, height=240).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) * 4 // 5])
    code, out, err = call("model", cut)
    assert (code, out) == (1, "")
    assert "--damaged keep" in err
    code, out, err = call("model", cut, "--damaged", "keep")
    assert (code, err) == (0, "")
    assert out.startswith(str(cut))
    code, _, _ = call("model", cut, "--damaged", "keep", "--explain", tmp_path / "why.svg")
    assert (code, (tmp_path / "why.svg").is_file()) == (0, True)
    code, _, err = call("model", cut, "--damaged", "kep")
    assert code == 2


def test_what_a_folder_holds_beside_videos_is_told(call, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    encode(folder / "clip.ts", codec="mpeg2video", count=8)
    (folder / "noise.ts").write_bytes(b"\0noise")
    code, out, err = call("model", folder)
    assert code == 0
    assert "clip.ts" in out
    assert err == f"mmfuse: warning: {folder}: 1 was passed over (no video that can be opened), such as noise.ts\n"


@pytest.mark.parametrize("names", ["playing the cello,standing still, singing", "names.txt"])
def test_other_names_are_said_to_be_zero_shot(call, names: str) -> None:
    code, out, err = call("model", "clips/test_running_0.mp4", "--classes", names)
    assert code == 0
    assert err.startswith("zero-shot: not trained on 3 of these 3 classes (playing the cello, standing still, singing")
    assert sum("%  " in line for line in out.splitlines()) == 3
    code, out, _ = call("model", "clips/test_running_0.mp4", "--classes", names, "--json")
    assert code == 0
    assert document(out)["zero_shot"] is True
    assert len(document(out)["new_classes"]) == 3


def test_names_that_are_known_are_not(call) -> None:
    code, out, err = call("model", "clips/test_running_0.mp4", "--classes", "walking,running", "--json")
    assert (code, err) == (0, "")
    assert document(out)["zero_shot"] is False


def test_a_decision_is_drawn(call, world: Path, tmp_path: Path) -> None:
    picture = tmp_path / "why.png"
    code, out, err = call("model", "clips/test_running_0.mp4", "--explain", picture, "--json")
    assert code == 0
    assert err == f"the frames and their shares in the decision are in {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    [entry] = document(out)["predictions"]
    [plain] = document(call("model", "clips/test_running_0.mp4", "--json")[1])["predictions"]
    assert entry["classes"] == plain["classes"]
    code, out, err = call("probe", "no.mp4", "--explain", tmp_path / "other.png")
    assert code == 1
    assert "no.mp4: cannot be decoded" in err
    assert not (tmp_path / "other.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere", "clips"], "nowhere holds no checkpoint: it has no recognizer.json; name a folder that"),
        (["model"], "Missing argument 'VIDEO'"),
        (["model", "gone.mp4"], "gone.mp4: there is no such video"),
        (["model", "image"], "image: the folder holds no video"),
        (["model", "clips", "--top", "0"], "--top counts from 1; got 0"),
        (["model", "clips", "--batch-size", "0"], "--batch-size counts from 1; got 0"),
        (["model", "clips", "--classes", "one"], "takes at least two names"),
        (["model", "clips", "--classes", "a,a"], "'a' is given twice"),
        (["model", "clips", "--classes", "clips/test_running_0.mp4"], "write a text file, one name a line"),
        (["model", "clips", "--classes", ""], "takes at least two names"),
        (["probe", "clips", "--classes", "one,two"], "fusion 'linear' reads no text"),
        (["model", "clips", "--explain", "a.png"], "--explain draws one video; 9 are named"),
        (["model", "no.mp4", "--explain", "a.gif"], "known: pdf, png, svg"),
        (["model", "no.mp4", "--explain", "no/such/a.png"], "there is no folder no/such"),
    ],
)
def test_a_wrong_request(call, words: list[str], told: str) -> None:
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_odd_names_of_videos_do_no_harm(call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (world / "clips" / "test_running_0.mp4").read_bytes()
    names = [b"-rf.mp4", b"a b'\"$(id)`.mp4", b"100%s{}.mp4", b"d[/bold]x.mp4", b"\xff\x1b[2J.mp4", b"http:x.mp4"]
    (tmp_path / "d[").mkdir()
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(content)
    (tmp_path / "d[" / "b]\x1b[31m.mp4").write_text("no video")
    monkeypatch.setenv("COLUMNS", "50")
    code, out, err = call("model", tmp_path, "--top", "1")
    assert code == 1
    for line in ("/-rf.mp4", "/a b'\"$(id)`.mp4", "/100%s{}.mp4", "/d[/bold]x.mp4", "/http:x.mp4", "␛[2J.mp4"):
        assert f"{line}\n" in out
    assert "d[/b]␛[31m.mp4: cannot be decoded" in err
    assert "\x1b" not in out + err
    code, out, err = call("model", tmp_path, "--top", "1", "--json")
    told = {os.fsencode(entry["video"]) for entry in document(out)["predictions"]}
    assert told == {os.fsencode(tmp_path) + b"/" + name for name in (*names, b"d[/b]\x1b[31m.mp4")}
    assert "\x1b" not in out + err
    assert len(list(tmp_path.rglob("*"))) == len(names) + 2
    monkeypatch.chdir(tmp_path)
    code, out, err = call(world / "model", "-rf.mp4")
    assert code == 2
    assert "given as ./-name" in err
    assert call(world / "model", "./-rf.mp4")[0] == call(world / "model", "--", "-rf.mp4")[0] == 0


def test_classes_may_be_told_by_sentences(call, world: Path) -> None:
    (world / "told.json").write_text(json.dumps({"growing": ["it grows", "large"], "walking": ["a walk"]}))
    code, out, _ = call("model", "clips/test_walking_0.mp4", "--prompts", "told.json", "--json")
    found = document(out)
    assert code == 0
    assert found["new_classes"] == ["growing"]
    assert {entry["class"] for entry in found["predictions"][0]["classes"]} == {"growing", "walking"}
    (world / "one.json").write_text('{"growing": ["it grows"], "growing": ["again"]}')
    for words, message in (
        (["--prompts", "one.json"], "'growing' stands there twice"),
        (["--prompts", "told.json", "--classes", "a,b"], "leave --classes out"),
    ):
        code, out, err = call("model", "clips/test_walking_0.mp4", *words)
        assert (code, out) == (2, "")
        assert message in " ".join(err.split())

"""`mmfuse data` as users call it: what it prints, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from mmfuse.cli import main
from mmfuse.data import few_shot
from mmfuse.data.catalogue.load import load_catalogue
from tests.data.official import ANNOTATIONS, needs_official_lists
from tests.data.videos import encode

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmfuse", "data", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of one's own videos."""
    for part, count in (("train", 3), ("test", 1)):
        for label in ("jump", "wave"):
            for number in range(count):
                encode(tmp_path / "mine" / part / label / f"{number}.mp4", codec="libx264", count=20)
    return tmp_path / "mine"


@pytest.mark.parametrize("words", ["--help", "check --help", "split --help", "cache --help", "get --help"])
def test_help_imports_nothing_heavy(words: str) -> None:
    code = (
        f"import sys; sys.argv = ['mmfuse', 'data', *{words.split()!r}]\n"
        "from mmfuse.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'pandas', 'numpy', 'av', 'lightning'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "Usage: mmfuse data" in done.stdout


def test_data_commands_need_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['mmfuse', 'data', 'split', 'tiny', '--shots', '2']\n"
        "from mmfuse.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def test_a_draw_is_printed_as_csv(call) -> None:
    code, out, err = call("split", "tiny", "--shots", "2", "--draw", "3")
    rows = list(csv.reader(io.StringIO(out)))
    assert (code, err, rows[0]) == (0, "", ["clip", "label", "class", "group"])
    drawn = few_shot.draw_clips(load_catalogue("tiny"), shots=2, draw=3)
    assert [row[0] for row in rows[1:]] == drawn["clip"].tolist()
    assert len(call("split", "tiny", "--shots", "all")[1].splitlines()) == 385


@needs_official_lists
def test_a_draw_of_a_public_data_set_needs_the_lists_alone(call) -> None:
    code, out, _ = call(
        "split", "diving48", "--annotations", ANNOTATIONS, "--split", "1", "--shots", "4", "--draw", "0"
    )
    assert code == 0
    assert len(out.splitlines()) == 1 + 4 * 47


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["split", "tiny"], "Missing option '--shots'"),
        (["split", "tiny", "--shots", "four"], "shots is a whole number from 1, or 'all'; not 'four'"),
        (["split", "tiny", "--shots", "0"], "shots is a whole number from 1, or 'all'; not '0'"),
        (["split", "tiny", "--shots", "33"], "shots can be at most 32"),
        (["split", "tyni", "--shots", "1"], "did you mean 'tiny'"),
        (["split", "tiny", "--shots", "1", "--split", "2"], "Tiny Actions has no split 2; it has 1"),
        (["check", "ucf11"], "did you mean 'ucf101'"),
        (["check", "no/where"], "no/where is not there; give the folder of your clips, or a data set by name"),
        (["check", "ucf101"], "say where the videos are: --root DIR"),
        (["check", "ucf101", "--root", "/nowhere"], "/nowhere: there is no such folder"),
        (["cache"], "name a data set or a --grid, and not both"),
        (["cache", "tiny", "--grid", "demo"], "name a data set or a --grid, and not both"),
        (["cache", "tiny", "--draws", "a"], "draws are numbers with commas between them"),
        (["get", "tiny", "--unpack", "a.zip"], "say where to unpack to: --root DIR"),
        (["get", "kinetics"], "unknown data set 'kinetics'"),
    ],
)
def test_wrong_requests_get_one_line_and_exit_code_2(call, words: list[str], message: str) -> None:
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert err.startswith("mmfuse: ")
    assert message in err
    assert err.count("\n") == 1


def test_what_is_said_of_ones_own_videos_can_be_followed(call, mine: Path) -> None:
    for verb in ("get", "certify"):
        code, out, err = call(verb, mine)
        assert (code, out) == (2, "")
        assert f"{mine} is a folder of your own, which is published nowhere; " in err
        told = shlex.split(err.partition(": mmfuse data ")[2])
        assert call(*told)[0] == 0


def test_parts_of_an_archive_are_told_as_such(call, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"videos-0{number}").write_bytes(b"a part of an archive")
    code, _, err = call("get", "ssv2", "--root", tmp_path, "--unpack", tmp_path / "videos-00")
    assert code == 2
    assert "one of 2 parts: put them together first (cat " in err
    assert "cat 20bn-something-something-v2-?? | tar -xz -C DIR" in call("get", "ssv2")[1]


def test_check_of_ones_own_videos(call, mine: Path) -> None:
    code, out, _ = call("check", mine)
    assert code == 0
    assert out.splitlines()[-1] == "good"
    assert "8" in out.split("present")[1].splitlines()[0]
    (mine / "test" / "wave" / "0.mp4").write_bytes(b"")
    (mine / "train" / "wave" / "[1] #.mp4").write_text("no video")
    code, out, _ = call("check", mine, "--json")
    findings = json.loads(out)
    assert (code, findings["good"], findings["decoded"]) == (1, False, False)
    assert findings["empty"] == [str(mine / "test" / "wave" / "0.mp4")]
    assert list(findings["unreadable"]) == [str(mine / "train" / "wave" / "[1] #.mp4")]
    code, out, _ = call("check", mine)
    assert code == 1
    assert "[1] #.mp4: cannot be decoded" in out


@pytest.mark.parametrize("split", ["0", "3"])
def test_ones_own_videos_have_one_split(call, mine: Path, split: str) -> None:
    code, out, told = call("check", mine, "--split", split)
    assert (code, out) == (2, "")
    assert told == f"mmfuse: mine has no split {split}; it has 1\n"


def test_a_deep_check_is_noted_for_the_next_time(
    call, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMFUSE_CACHE", str(tmp_path / "cache"))
    first = call("check", mine, "--decode", "--json")
    [journal] = (tmp_path / "cache" / "checks").iterdir()
    assert len(journal.read_text().split()) > 8
    monkeypatch.setattr("mmfuse.data.catalogue.check.examine", lambda *_, **__: pytest.fail("looked at again"))
    assert call("check", mine, "--decode", "--json") == first


HELD = """
import signal, sys, time
from pathlib import Path
from mmfuse.cli import main
from mmfuse.data.catalogue import check

examine, release = check.examine, Path(sys.argv.pop(1))

def held(path, *, decode):
    while Path(path).name == "held.mp4" and not release.exists():
        time.sleep(0.02)
    return examine(path, decode=decode)

check.examine = held
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background would ignore it
main.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the decoding processes do not inherit what is held")
def test_an_interrupted_check_ends_quietly_and_is_taken_up_again(mine: Path, tmp_path: Path) -> None:
    """One video is not done before the check is interrupted, so that no speed of the machine matters."""
    clips = len(list(mine.glob("*/*/*.mp4"))) + 1
    encode(mine / "train" / "jump" / "held.mp4", codec="libx264", count=13)
    environment = os.environ | {"MMFUSE_CACHE": str(tmp_path / "cache")}
    words = ["data", "check", str(mine), "--decode", "--workers", "2"]
    command = [sys.executable, "-c", HELD, str(tmp_path / "release"), *words]
    journals = tmp_path / "cache" / "checks"

    def noted() -> list[str]:
        return [line for path in journals.glob("*") for line in path.read_text().split("\n{")[1:]]

    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        while len(noted()) < clips - 1:
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        (tmp_path / "release").touch()
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert len(noted()) == clips - 1
    again = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(noted()) == clips


def test_cache_tells_the_need_and_decodes_once(call, mine: Path, tmp_path: Path) -> None:
    words = [
        "cache",
        mine,
        "--shots",
        "2",
        "--draws",
        "0,1",
        "--frames",
        "4",
        "--size",
        "32",
        "--store",
        tmp_path / "store",
    ]
    code, out, _ = call(*words, "--dry-run")
    assert code == 0
    assert "0 clips are there" in out
    assert not (tmp_path / "store").exists()
    code, out, _ = call(*words, "--json", "--workers", "1")
    [told] = json.loads(out)["stores"]
    assert (code, told["failed"], told["decoded"]) == (0, {}, told["clips"])
    assert sum(path.stat().st_size for path in Path(told["folder"]).rglob("*.safetensors")) <= told["bytes_needed"]
    code, out, _ = call(*words)
    assert f"{told['clips']} clips are there, 0 to decode, nothing to do" in out
    (mine / "train" / "jump" / "0.mp4").write_text("no video any more")
    code, out, err = call("cache", mine, "--store", tmp_path / "store2", "--workers", "1")
    assert code == 1
    assert "0.mp4: cannot be decoded" in err


def test_what_is_left_of_a_damaged_video_is_cached_on_demand(call, tmp_path: Path, mine: Path) -> None:
    whole = encode(tmp_path / "whole.avi", count=40, width=320, height=240).read_bytes()
    (mine / "train" / "jump" / "cut.avi").write_bytes(whole[: len(whole) * 4 // 5])
    words = ["cache", mine, "--store", tmp_path / "store", "--workers", "1", "--frames", "4", "--size", "32"]
    code, _, err = call(*words)
    assert code == 1
    assert "--damaged keep" in err
    code, _, err = call(*words, "--damaged", "keep", "--json")
    assert (code, err) == (0, "")


def test_warnings_are_told_with_the_findings_and_before_a_draw(call, mine: Path) -> None:
    for label, number in (("jump", "0"), ("wave", "1")):
        for part in ("train", "test"):
            (mine / part / label).rename(mine / part / number)
    code, out, _ = call("check", mine)
    assert code == 0
    assert "warnings    1\n    the 2 classes are numbers" in out
    code, out, _ = call("check", mine, "--json")
    assert len(json.loads(out)["warnings"]) == 1
    code, out, err = call("split", mine, "--shots", "1")
    assert (code, out.count("\n")) == (0, 3)
    assert err.startswith("mmfuse: warning: mine: the 2 classes are numbers")


def test_missing_videos_stop_caching(call, tmp_path: Path, mine: Path) -> None:
    for part in ("train", "test"):
        (mine / f"{part}.csv").write_text(
            "path,label\n" + "".join(f"{part}/{name}.mp4,{name}\n" for name in ("a", "b"))
        )
    code, _, err = call("cache", mine, "--store", tmp_path / "store")
    assert code == 2
    assert "mine: 4 videos are missing" in err


def test_get_tells_and_unpacks(call, tmp_path: Path) -> None:
    code, out, _ = call("get", "hmdb51")
    assert code == 0
    for word in ("hmdb51_org.rar", "https://", "2.1 GB", "<class>/<clip>.avi", "6,766 clips"):
        assert word in out
    archive = tmp_path / "lists.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup\n")
    code, out, _ = call("get", "ucf101", "--root", tmp_path / "root", "--unpack", archive)
    assert code == 0
    assert "1 files of lists.zip are in" in out
    assert (tmp_path / "root" / "ucfTrainTestlist" / "classInd.txt").exists()


def test_certificates_are_recomputed(call, tmp_path: Path) -> None:
    code, out, _ = call("certify", "tiny")
    assert (code, out) == (0, "tiny split 1: as on record\n")
    call("certify", "tiny", "--write", tmp_path / "tiny.json")
    assert json.loads((tmp_path / "tiny.json").read_text()) == json.loads(
        few_shot.fingerprints_file("tiny").read_text()
    )

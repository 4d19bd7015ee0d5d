"""A check finds every fault once, counts what is there, and goes on where it was stopped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mmfuse.data.catalogue import check as checking
from mmfuse.data.catalogue.check import check
from mmfuse.data.catalogue.load import load_catalogue, published
from mmfuse.data.tiny.dataset import listing
from tests.data.official import ANNOTATIONS, lay_out, needs_official_lists
from tests.data.videos import encode


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("video") / "a.avi", count=30)


@needs_official_lists
@pytest.mark.parametrize(("name", "split"), [("hmdb51", 1)])
def test_a_full_copy_is_good(tmp_path: Path, video: Path, name: str, split: int) -> None:
    catalogue = published(name, split=split, annotations=ANNOTATIONS)
    assert len(catalogue.table) == catalogue.card.clips
    root = lay_out(catalogue, tmp_path, video)
    findings = check(catalogue, root, workers=2)
    assert findings.good
    assert findings.present == catalogue.card.clips
    assert (findings.extra, findings.codecs, findings.sizes) == (
        [],
        {"mpeg4": findings.present},
        {"96x64": findings.present},
    )
    assert findings.frames == {"least": 30, "most": 30, "total": 30 * findings.present}
    assert findings.official.items() <= findings.listed.items()


@pytest.fixture
def faulty(tmp_path: Path, video: Path) -> tuple[Path, dict[str, str]]:
    """A copy of a small part of the tiny data set's layout with one fault of each kind."""
    table = listing()
    root = tmp_path / "tiny"
    for path in table["path"]:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(video)
    paths = dict(zip(("missing", "empty", "unreadable", "truncated"), table["path"][::100], strict=False))
    for kind, path in paths.items():
        (root / path).unlink()
        if kind == "empty":
            (root / path).touch()
        elif kind == "unreadable":
            (root / path).write_text("<html>404 not found</html>" * 10)
        elif kind == "truncated":
            content = video.read_bytes()
            (root / path).write_bytes(content[:-700])
    (root / "MoveRight" / "copy of something.mp4").symlink_to(video)
    return root, {kind: str(root / path) for kind, path in paths.items()}


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_fault_is_found(faulty: tuple[Path, dict[str, str]], decode: bool, workers: int) -> None:
    root, paths = faulty
    findings = check(load_catalogue("tiny", root=root), root, decode=decode, workers=workers)
    assert not findings.good
    assert findings.missing == [Path(paths["missing"]).stem]
    assert findings.empty == [paths["empty"]]
    assert list(findings.unreadable) == [paths["unreadable"]]
    assert list(findings.truncated) == [paths["truncated"]]
    assert "bytes are missing" in findings.truncated[paths["truncated"]]
    assert [Path(path).name for path in findings.extra] == ["copy of something.mp4"]
    assert findings.present == 623
    assert findings.as_json()["good"] is False


def test_extra_files_alone_do_no_harm(tmp_path: Path, video: Path) -> None:
    root = lay_out(load_catalogue("tiny", root=tmp_path / "tiny"), tmp_path / "tiny", video)
    (root / "more.mkv").symlink_to(video)
    findings = check(load_catalogue("tiny", root=root), root)
    assert findings.good
    assert len(findings.extra) == 1


def test_damage_that_only_decoding_shows(tmp_path: Path) -> None:
    """A scratch in the middle of the pictures leaves header and length as they were."""
    for part, count in (("train", 2), ("test", 1)):
        for label in ("a", "b"):
            for number in range(count):
                encode(tmp_path / part / label / f"{number}.mp4", codec="libx264", options={"g": "1"})
    path = tmp_path / "train" / "a" / "0.mp4"
    content = bytearray(path.read_bytes())
    middle = (content.index(b"mdat") + content.index(b"moov")) // 2
    content[middle : middle + 600] = b"\xff" * 600
    path.write_bytes(content)
    catalogue = load_catalogue({"name": "mine", "root": str(tmp_path)})
    assert check(catalogue, tmp_path).good
    deep = check(catalogue, tmp_path, decode=True)
    assert list(deep.truncated) == [str(path)]
    assert "a frame is corrupt" in deep.truncated[str(path)]


def test_a_stopped_check_goes_on_from_there(
    faulty: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, paths = faulty
    catalogue, journal = load_catalogue("tiny", root=root), tmp_path / "checks" / "journal.jsonl"
    looked: list[str] = []
    original = checking.examine

    def until_stopped(path: str, *, decode: bool):
        if len(looked) == 50:
            raise KeyboardInterrupt
        looked.append(path)
        return original(path, decode=decode)

    monkeypatch.setattr(checking, "examine", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        check(catalogue, root, decode=True, journal=journal)
    monkeypatch.undo()
    journal.write_text(journal.read_text() + '{"path": "half a li')
    again: list[tuple[int, int]] = []
    resumed = check(catalogue, root, decode=True, journal=journal, report=lambda *now: again.append(now))
    assert again[0][0] > 50
    assert again[-1] == (623, 623)
    assert resumed.as_json() == check(catalogue, root, decode=True).as_json()
    # What was mended since is looked at again; the rest is not.
    shutil.copy(next((root / "MoveLeft").glob("*.mp4")).resolve(), paths["empty"])
    os.unlink(paths["unreadable"])
    again.clear()
    mended = check(catalogue, root, decode=True, journal=journal, report=lambda *now: again.append(now))
    assert again == [(622, 622)]
    assert (mended.empty, mended.unreadable) == ([], {})
    # So is a file that was replaced by one of its size and time of change.
    good = next((root / "MoveRight").glob("*.mp4"))
    before = good.stat()
    good.unlink()
    good.write_bytes(b"\0" * before.st_size)
    os.utime(good, ns=(before.st_atime_ns, before.st_mtime_ns))
    replaced = check(catalogue, root, decode=True, journal=journal)
    assert str(good) in replaced.unreadable

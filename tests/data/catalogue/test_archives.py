"""Archives are unpacked whole, or not at all, and never outside their folder."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from mmfuse.cli import main
from mmfuse.data.catalogue import archives
from mmfuse.data.catalogue.archives import unpack
from mmfuse.errors import MmfuseError
from mmfuse.utils.terminal import UNSAFE

needs_rar_program = pytest.mark.skipif(
    not any(shutil.which(program.name) for program in archives._PROGRAMS), reason="no program for rar is installed"
)


def rar(files: dict[str, bytes], *, links: tuple[str, ...] = ()) -> bytes:
    """A rar archive (version 4) of stored files, by the format's published layout.

    Args:
        links: which of the files are symbolic links, to what their content says.
    """

    def block(kind: int, flags: int, rest: bytes, data: bytes = b"") -> bytes:
        body = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body + data

    content = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for name, data in files.items():
        encoded = name.encode()
        mode = 0o120777 if name in links else 0o100644
        head = struct.pack("<IIBIIBBHI", len(data), len(data), 3, zlib.crc32(data), 0, 20, 0x30, len(encoded), mode)
        content += block(0x74, 0x8000, head + encoded, data)
    return content + block(0x7B, 0x4000, b"")


def zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def tarred(files: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, to in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            archive.addfile(entry)
    return target.getvalue()


MAKERS = [
    pytest.param(zipped, id="zip"),
    pytest.param(tarred, id="tar.gz"),
    pytest.param(rar, id="rar", marks=needs_rar_program),
]


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", MAKERS)
def test_archives_are_unpacked(tmp_path: Path, make) -> None:
    files = {"rgb/a.mp4": b"one", "rgb/deep/-b [1] #.mp4": b"two", "list.txt": b""}
    archive = tmp_path / "archive"
    archive.write_bytes(make(files))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "kept.txt").write_text("mine")
    assert unpack(archive, tmp_path / "root") == 3
    assert files_below(tmp_path / "root") == files | {"kept.txt": b"mine"}
    assert unpack(archive, tmp_path / "root") == 3, "again"


@pytest.mark.parametrize("make", MAKERS)
def test_archives_in_an_archive_are_unpacked_too(tmp_path: Path, make) -> None:
    classes = {
        f"{name}.rar": {f"{name}/{number}.avi": b"%d" % number for number in range(3)} for name in ("kick", "kick_ball")
    }
    archive = tmp_path / "hmdb51_org.rar"
    archive.write_bytes(make({name: make(files) for name, files in classes.items()}))
    told: list[str] = []
    assert unpack(archive, tmp_path / "root", report=told.append) == 6
    assert told == ["hmdb51_org.rar", "kick.rar", "kick_ball.rar"]
    assert sorted(files_below(tmp_path / "root")) == sorted(name for files in classes.values() for name in files)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["../evil.txt", "rgb/../../evil.txt", "/tmp/mmfuse-evil.txt", "..\\evil.txt"])
def test_nothing_leads_outside_the_folder(tmp_path: Path, make, name: str) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(make({"good.txt": b"good", name: b"evil"}))
    root = tmp_path / "inside" / "root"
    with contextlib.suppress(MmfuseError):  # refused, or written with the way out taken away
        unpack(archive, root)
    assert not Path("/tmp/mmfuse-evil.txt").exists()
    assert [path for path in files_below(tmp_path) if "evil" in path and not path.startswith("inside/root")] == []


@pytest.mark.parametrize("to", ["/etc/passwd", "../../outside"])
def test_links_out_of_the_folder_are_refused(tmp_path: Path, to: str) -> None:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(tarred({"a.txt": b"a"}, links={"rgb": to}))
    with pytest.raises(MmfuseError, match="damaged or not to be trusted"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_links_inside_the_folder_are_refused_as_well(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(tarred({"a.txt": b"a"}, links={"b.txt": "a.txt"}))
    with pytest.raises(MmfuseError, match=r"holds a link or a device \(b.txt\); nothing was unpacked"):
        unpack(archive, tmp_path / "root")


def test_an_archive_that_holds_itself_ends(tmp_path: Path) -> None:
    content = b"nothing"
    for _ in range(9):
        content = zipped({"again.zip": content})
    archive = tmp_path / "archive.zip"
    archive.write_bytes(content)
    with pytest.raises(MmfuseError, match=r"again.zip: an archive in more than 2 others; nothing was unpacked"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("program", [program.name for program in archives._PROGRAMS])
@pytest.mark.parametrize("to", ["../../outside", "{outside}", "."])
def test_a_link_in_a_rar_leads_nothing_outside(
    tmp_path: Path, program: str, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    monkeypatch.setattr(shutil, "which", lambda name: found if name == program else None)
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tmp_path / "archive.rar"
    target = to.format(outside=outside).encode()
    archive.write_bytes(rar({"a.txt": b"a", "link": target, "link/evil.txt": b"evil"}, links=("link",)))
    with pytest.raises(MmfuseError):
        unpack(archive, tmp_path / "root")
    assert list(outside.iterdir()) == []
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("make", [make for make in MAKERS if make.id != "rar"])
def test_names_that_would_control_a_terminal_are_only_names(
    tmp_path: Path, make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(make({"a\x1b[2J[b].txt": b"a", "b\x1b]0;x\x07.zip": zipped({"c.txt": b"c"})}))
    monkeypatch.setattr(
        "sys.argv", ["mmfuse", "data", "get", "ucf101", "--root", str(tmp_path / "root"), "--unpack", str(archive)]
    )
    with pytest.raises(SystemExit) as end:
        main.main()
    assert not end.value.code
    captured = capsys.readouterr()
    assert "unpacking b␛]0;x.zip" in captured.err
    assert not UNSAFE.search(captured.out + captured.err)
    assert files_below(tmp_path / "root") == {"a\x1b[2J[b].txt": b"a", "c.txt": b"c"}


@pytest.mark.parametrize("make", MAKERS)
def test_half_downloaded_archives_leave_nothing(tmp_path: Path, make) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(
        make({f"{n}.avi": bytes(range(256)) * 300 for n in range(5)})[: 150_000 if make is not tarred else 700]
    )
    with pytest.raises(MmfuseError, match=r"archive: .*download it again"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_what_is_no_archive(tmp_path: Path) -> None:
    page = tmp_path / "UCF101.rar"
    page.write_text("<html>not found</html>")
    with pytest.raises(MmfuseError, match=r"UCF101.rar: not a zip, tar or rar archive; download it again"):
        unpack(page, tmp_path / "root")
    with pytest.raises(MmfuseError, match="there is no such file"):
        unpack(tmp_path / "none.zip", tmp_path / "root")


def test_without_a_program_for_rar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    archive = tmp_path / "a.rar"
    archive.write_bytes(rar({"a": b"a"}))
    with pytest.raises(MmfuseError, match="needs one of these programs, and none is installed: unrar, bsdtar, 7z, 7zz"):
        unpack(archive, tmp_path / "root")


def test_left_overs_of_a_killed_unpacking_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "root" / ".unpacking-dead"
    left.mkdir(parents=True)
    (left / "half.avi").write_bytes(b"half")
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({"a.avi": b"a"}))
    unpack(archive, tmp_path / "root")
    assert list(files_below(tmp_path / "root")) == ["a.avi"]


def test_too_small_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({"a.avi": bytes(5000)}))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4999))
    with pytest.raises(MmfuseError, match=r"needs 0\.0 GB, and 0\.0 GB are free"):
        unpack(archive, tmp_path / "root")

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


# --- archives that would fill the disk ---------------------------------------------------------------------------


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SMALL", 100_000)
    monkeypatch.setattr(archives, "MOST_FILES", 20)


def squeezed(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


@pytest.mark.parametrize("make", [squeezed, tarred])
@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"big.bin": bytes(5_000_000)}, id="one large file"),
        pytest.param({f"{n}.bin": bytes(60_000) for n in range(15)}, id="many that are large together"),
        pytest.param({f"{n}.txt": b"" for n in range(21)}, id="too many"),
    ],
)
@pytest.mark.usefixtures("small_limits")
def test_a_bomb_is_refused(tmp_path: Path, make, files: dict[str, bytes]) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(make(files))
    with pytest.raises(MmfuseError, match=r"archive: holds more than 20 files, or more than 100 times its own size"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("make", [squeezed, tarred])
@pytest.mark.usefixtures("small_limits")
def test_a_bomb_inside_counts_for_the_outermost_archive(tmp_path: Path, make) -> None:
    inner = make({f"{n}.bin": bytes(8_000) for n in range(5)})
    archive = tmp_path / "archive"
    archive.write_bytes(make({f"{n}.zip": inner for n in range(4)}))
    with pytest.raises(MmfuseError, match="more than 100 times its own size"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_header_that_promises_more_than_the_disk_holds(tmp_path: Path) -> None:
    """Nothing is written of a file whose size alone is too much."""
    entry = tarfile.TarInfo("huge.bin")
    entry.size = 2**50
    archive = tmp_path / "archive.tar"
    archive.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(MmfuseError, match="times its own size"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("make", [zipped, tarred])
def test_folders_in_folders_without_end(tmp_path: Path, make) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(make({"a/" * 1500 + "x": b"x"}))
    with pytest.raises(MmfuseError, match=r"in more than 64 folders; nothing was unpacked"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        entry = zipfile.ZipInfo("link.mp4")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, "/etc/passwd")
    with pytest.raises(MmfuseError, match=r"holds a link or a device \(link.mp4\)"):
        unpack(archive, tmp_path / "root")


def test_a_hard_link_in_a_tar_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as file:
        entry = tarfile.TarInfo("twin.mp4")
        entry.type, entry.linkname = tarfile.LNKTYPE, "a.mp4"
        file.addfile(entry)
    with pytest.raises(MmfuseError, match=r"holds a link or a device \(twin.mp4\)"):
        unpack(archive, tmp_path / "root")


def test_odd_tars_are_told_in_one_line(tmp_path: Path) -> None:
    """Such as one whose compression is damaged in the middle: zlib has errors of its own."""
    archive = tmp_path / "archive.tar.gz"
    whole = tarred({f"{n}.avi": bytes(range(256)) * 40 for n in range(9)})
    archive.write_bytes(whole[:300] + b"\xff" * 40 + whole[340:])
    with pytest.raises(MmfuseError, match=r"(damaged or not to be trusted|not a zip, tar or rar).*download it again"):
        unpack(archive, tmp_path / "root")


@pytest.mark.usefixtures("small_limits")
def test_a_program_that_writes_too_much_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rar says what it holds, but only what is written can be trusted."""
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "unrar"
    fake.write_text(
        '#!/bin/sh\ncase "$1" in lb) echo a.bin; exit;; esac\nfor last; do :; done\n'
        'exec head -c 50000000 /dev/zero > "$last/a.bin"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    archive = tmp_path / "archive.rar"
    archive.write_bytes(rar({"a.bin": b"a"}))
    with pytest.raises(MmfuseError, match="times its own size"):
        unpack(archive, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []

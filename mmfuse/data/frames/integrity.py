"""Is a video file whole? What its structure tells before anything is decoded.

Headers of each kind of container say how long the file or the clip should be. Where the rest is missing, or a part in
the middle cannot be read, decoders go on without a word: what is compared here is what tells.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from av.container import InputContainer

LEEWAY_SECONDS = 0.5
"""How much earlier than announced the last packet may end: writers round, and count the last picture or not."""
ZERO_RUN = bytes(512)
"""A hole: no packet of the codecs below holds as many zeros in a row."""
NEVER_ZERO = frozenset({"h264", "hevc", "mpeg4", "vp8", "vp9", "av1"})

_BOXES = frozenset(b"ftyp moov mdat moof free skip wide uuid meta sidx styp mfra pnot".split())
_MOST_BOXES = 100_000
_AVI_CHUNK_HEAD = 8
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_READ = 65_536
_TS_PACKET, _TS_SYNC = 188, 0x47
_MKV_SEGMENT, _MKV_INFO, _MKV_CLUSTER = 0x18538067, 0x1549A966, 0x1F43B675
_MKV_TIMESTAMP_SCALE, _MKV_DURATION = 0x2AD7B1, 0x4489


def structural_damage(path: Path, container: InputContainer, stream_index_end: int) -> str:
    """What the file's structure says is missing of it; empty where nothing is.

    Args:
        path, container: the file.
        stream_index_end: the byte after the last packet in the video stream's index; 0 without an index.
    """
    length = path.stat().st_size
    name = container.format.name
    with path.open("rb") as file:
        if name == "avi":
            end = _avi_end(file)
        elif name.startswith("mov"):
            end = max(stream_index_end, _last_box_end(file, length))
        elif name.startswith("matroska"):
            end = matroska_head(file).end or 0
        elif name == "asf":
            end = _asf_length(file)
        elif name == "mpegts":
            return _ts_damage(file, length)
        else:
            return ""
    # An AVI's last chunk may lack the byte that pads it to an even length.
    return f"cut off, {end - length:,} bytes are missing" if end > length + (name == "avi") else ""


def announced_seconds(path: Path, container: InputContainer) -> float | None:
    """How long the header itself says that the file is, in seconds.

    Only of containers that keep no table of all packets. What the library estimates from the size of a file is no
    announcement.
    """
    if container.format.name.startswith("matroska"):
        with path.open("rb") as file:
            return matroska_head(file).seconds
    if container.format.name == "flv" and container.duration:
        return container.duration / 1e6
    return None


def incomplete(*, positions: list[int], index: list[int], ends: float, seconds: float | None) -> str:
    """What is missing of a stream whose packets have all been read; empty where nothing is.

    How many frames a header announces is not asked: it counts samples that an edit list leaves out, and one too many in
    many sound AVIs.

    Args:
        positions: where each packet that was read lies in the file, in bytes.
        index: where the container's index says that packets lie, the empty ones left out.
        ends: where the last packet of any stream ends, in seconds.
        seconds: see `announced_seconds`.
    """
    # The last packet of a sound AVI may be listed and not be there. An AVI's index points at the head of each chunk.
    missing = len(index) - len(positions)
    if missing == 1 and index[0] + _AVI_CHUNK_HEAD == positions[0]:
        missing = int(index[-1] + _AVI_CHUNK_HEAD in positions)
    if missing > 0:
        return f"{missing} of {len(index)} packets cannot be found"
    if seconds is not None and ends < seconds - LEEWAY_SECONDS:
        return f"{seconds - ends:.1f} of {seconds:.1f} seconds are missing"
    return ""


def broken_chain(path: Path, container: InputContainer) -> str:
    """Whether the elements of a Matroska or WebM file follow each other up to its end.

    Where one does not, the library goes on with the next cluster, and what lies between is lost without a word.
    """
    if not container.format.name.startswith("matroska"):
        return ""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        for identifier, start, size in _elements(file, 0, None):
            if identifier == _MKV_SEGMENT:
                return _chain_end(file, start, length if size is None else min(start + size, length))
    return ""


def _chain_end(file: BinaryIO, at: int, end: int) -> str:
    cluster_end = end
    while at < end:
        found = next(_elements(file, at, end), None)
        if found is not None and found[0] == _MKV_CLUSTER:
            _, at, size = found
            cluster_end = end if size is None else at + size
            continue
        if found is None:
            return f"the structure breaks off at byte {at:,}"
        _, start, size = found
        if size is None:
            return ""
        if start + size > (cluster_end if at < cluster_end else end):
            return f"the structure breaks off at byte {at:,}"
        at = start + size
    return ""


# --- one container after the other ---------------------------------------------------------------------------------


def _avi_end(file: BinaryIO) -> int:
    """The end that the first chunk gives. Writers that were stopped leave 0 or all ones there."""
    head = file.read(8)
    end = int.from_bytes(head[4:8], "little") + 8
    return end if head[:4] == b"RIFF" and 8 < end < 2**32 + 7 else 0


def _last_box_end(file: BinaryIO, length: int) -> int:
    """The end of the last known box at the top of an MP4; what follows the boxes, such as padding, does not count."""
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8 or head[4:8] not in _BOXES:
            return at
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:16], "big")
        if size < 8:  # 0 stands for "to the end of the file"
            return at
        at += size
        if at >= length:
            return at
    return at


def _asf_length(file: BinaryIO) -> int:
    """The length of the file by its properties; 0 where it was written as a broadcast, which cannot know it."""
    head = file.read(_ASF_HEADER_READ)
    at = head.find(_ASF_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return 0
    # GUID 16, size 8, file id 16, file size 8, …, flags at 88, whose first bit says "broadcast".
    size = int.from_bytes(head[at + 40 : at + 48], "little")
    return 0 if head[at + 88] & 1 else size


def _ts_damage(file: BinaryIO, length: int) -> str:
    """A transport stream is made of packets of one length."""
    head = file.read(_TS_PACKET + 1)
    in_packets = len(head) > _TS_PACKET and head[0] == head[_TS_PACKET] == _TS_SYNC
    return "cut off within a packet" if in_packets and length % _TS_PACKET else ""


class MatroskaHead(NamedTuple):
    """What the head of a Matroska or WebM file says; `None` where it says nothing, as live recordings do."""

    end: int | None
    seconds: float | None


def matroska_head(file: BinaryIO) -> MatroskaHead:
    """The end of the segment in bytes, and its duration (RFC 9559, sections 5.1.1 and 5.1.2)."""
    for identifier, start, size in _elements(file, 0, None):
        if identifier == _MKV_SEGMENT:
            end = None if size is None else start + size
            return MatroskaHead(end, _matroska_seconds(file, start, end))
    return MatroskaHead(None, None)


def _matroska_seconds(file: BinaryIO, start: int, end: int | None) -> float | None:
    for identifier, inner, size in _elements(file, start, end):
        if identifier == _MKV_CLUSTER or size is None:
            return None
        if identifier == _MKV_INFO:
            values = {name: _content(file, at, length) for name, at, length in _elements(file, inner, inner + size)}
            duration = values.get(_MKV_DURATION, b"")
            if len(duration) not in (4, 8):
                return None
            scale = int.from_bytes(values.get(_MKV_TIMESTAMP_SCALE, b""), "big") or 1_000_000
            return float(struct.unpack(">f" if len(duration) == 4 else ">d", duration)[0]) * scale / 1e9
    return None


def _elements(file: BinaryIO, at: int, end: int | None) -> Iterator[tuple[int, int, int | None]]:
    """The EBML elements from a place on: identifier, place of the content, and its size (`None`: unknown)."""
    while end is None or at < end:
        file.seek(at)
        head = file.read(12)
        identifier_length = 9 - head[0].bit_length() if head and head[0] else 9
        if identifier_length > 4 or len(head) <= identifier_length or not (first := head[identifier_length]):
            return
        size_length = 9 - first.bit_length()
        if len(head) < identifier_length + size_length:
            return
        digits = head[identifier_length : identifier_length + size_length]
        mask = (1 << 7 * size_length) - 1
        size = int.from_bytes(digits, "big") & mask
        start = at + identifier_length + size_length
        known = None if size == mask else size
        yield int.from_bytes(head[:identifier_length], "big"), start, known
        if known is None:
            return
        at = start + known


def _content(file: BinaryIO, at: int, size: int | None) -> bytes:
    file.seek(at)
    return file.read(min(size or 0, 16))

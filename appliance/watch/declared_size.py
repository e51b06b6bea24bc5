"""Size of a file by its headers: MP4 boxes, Matroska segments, RIFF and other chunks, Ogg pages."""

import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

_SLACK: Final = 64
"""Tolerance in bytes: some writers miscount padding, or the header itself."""
_UNKNOWN_32: Final = (0, 0xFFFF_FFFF)
_MAX_BOXES: Final = 100_000
_W64: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_BEGIN_BYTES: Final = 1 << 16
_MAX_PAGE_BYTES: Final = 65_307


def missing_bytes(path: Path) -> int:
    """Return the bytes that a file's headers declare beyond its size; 0 where they declare none.

    Raises:
        OSError: The file cannot be read.
    """
    size = os.path.getsize(path)
    with path.open("rb") as file:
        head = file.read(16)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp"):
            end = _boxes_end(file, size)
        elif head[:4] == b"\x1aE\xdf\xa3":
            end = _segment_end(file, size)
        elif head[:4] in (b"RIFF", b"FORM"):
            end = _chunks_end(file, size, "<I" if head[:4] == b"RIFF" else ">I")
        elif head[:4] == b"OggS":
            return max(0, _page_end(file, size) - size)
        elif head[:4] == b"caff":
            end = _caf_end(file, size)
        elif head in (_W64, _ASF) or head[:4] in (b"RF64", b".snd"):
            end = _declared_at_start(file, head)
        else:
            end = 0
    missing = end - size
    return missing if missing > _SLACK else 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Walk the top-level boxes of an MP4 or MOV file."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            break
        (length,) = struct.unpack_from(">I", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        if length < 8:
            break  # 0: up to the end of the file; anything else is not a box
        position += length
        if position >= size:
            break
    return position


def _segment_end(file: BinaryIO, size: int) -> int:
    """Read the lengths of the EBML header and of the segment after it; a live recording declares none."""
    position = 0
    for _ in range(3):
        file.seek(position)
        head = file.read(12)
        if len(head) < 12:
            break
        id_length = _vint_length(head[0])
        length_length = _vint_length(head[id_length]) if id_length <= 4 else 9
        if length_length > 8 or id_length + length_length > 12:
            break
        value = int.from_bytes(head[id_length : id_length + length_length], "big") & ((1 << 7 * length_length) - 1)
        if value == (1 << 7 * length_length) - 1:
            break  # unknown
        position += id_length + length_length + value
        if position >= size:
            break
    return position


def _caf_end(file: BinaryIO, size: int) -> int:
    """Walk the chunks of a CAF file; a chunk of audio that is still recorded declares no length."""
    position = 8
    while position < size:
        file.seek(position)
        head = file.read(12)
        if len(head) < 12:
            break
        (length,) = struct.unpack_from(">q", head, 4)
        if length < 0:
            break
        position += 12 + length
    return position


def _declared_at_start(file: BinaryIO, head: bytes) -> int:
    """Read the length from the start of a Wave64, RF64, AU or ASF file; 0 where it declares none."""
    file.seek(0)
    begin = file.read(_BEGIN_BYTES)
    if len(begin) < 40:
        return 0
    if head == _W64:
        return int(struct.unpack_from("<Q", begin, 16)[0])
    if head[:4] == b"RF64":
        return 8 + int(struct.unpack_from("<Q", begin, 20)[0]) if begin[12:16] == b"ds64" else 0
    if head[:4] == b".snd":
        offset, length = struct.unpack_from(">II", begin, 4)
        return 0 if length in _UNKNOWN_32 else int(offset + length)
    at = begin.find(_ASF_PROPERTIES)
    if at < 0 or at + 92 > len(begin):
        return 0
    (length,), (flags,) = struct.unpack_from("<Q", begin, at + 40), struct.unpack_from("<I", begin, at + 88)
    return 0 if flags & 1 else int(length)  # a broadcast that has not ended


def _vint_length(first: int) -> int:
    return 9 - first.bit_length()


def _chunks_end(file: BinaryIO, size: int, order: str) -> int:
    """Walk the RIFF chunks of an AVI file, or read the only one of a WAV or AIFF file."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] not in (b"RIFF", b"FORM"):
            break
        (length,) = struct.unpack_from(order, head, 4)
        if length in _UNKNOWN_32:
            break
        position += 8 + length + length % 2
    return position


def _page_end(file: BinaryIO, size: int) -> int:
    """Find the last Ogg page, and return its end."""
    begin = max(0, size - _MAX_PAGE_BYTES)
    file.seek(begin)
    tail = file.read()
    position = tail.rfind(b"OggS\0")
    page = tail[position:]
    if position < 0:
        return 0
    if len(page) < 27 or len(page) < 27 + page[26]:
        return size + 1
    return begin + position + 27 + page[26] + sum(page[27 : 27 + page[26]])

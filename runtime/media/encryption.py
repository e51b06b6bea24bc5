"""Finds out whether a media file is encrypted: its streams are read then, but nothing in them can be decoded."""

import os
import struct
from collections.abc import Iterator
from typing import Final

from av.container import InputContainer

_ENCRYPTED: Final = (b"encv", b"enca", b"drmi", b"drms", b"aavd")
"""Sample entries of MP4 and MOV tracks that are encrypted: common encryption, iTunes, Audible."""
_TS_PACKETS: Final = 2000


def is_encrypted(handle: int, container: InputContainer) -> bool:
    """Return True if a file that is open at a descriptor holds encrypted pictures or sound."""
    names = container.format.name.split(",")
    if "mov" in names:
        return any(entry in _ENCRYPTED for entry in _sample_entries(handle))
    if "mpegts" in names:
        return _is_scrambled(handle)
    return any("enc_key_id" in stream.metadata for stream in container.streams)  # Matroska


def _sample_entries(handle: int) -> list[bytes]:
    """Return the four letters of what each track of an MP4 or MOV file holds."""
    found = []
    todo = [(0, os.fstat(handle).st_size)]
    while todo:
        begin, end = todo.pop()
        for kind, inner, after in walk_boxes(handle, begin, end):
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
                todo.append((inner, after))
            elif kind == b"stsd":
                found.append(os.pread(handle, 16, inner)[12:16])
    return found


def walk_boxes(handle: int, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Give the kind, the begin of the content and the end of each box of an MP4 or MOV file."""
    for _ in range(100_000):
        header = os.pread(handle, 16, begin)
        if begin + 8 > end or len(header) < 8:
            return
        (length,) = struct.unpack_from(">I", header)
        inner = begin + 8
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack_from(">Q", header, 8)
            inner = begin + 16
        after = end if length == 0 else begin + length
        if after < inner:
            return
        yield header[4:8], inner, min(after, end)
        begin = after


def _is_scrambled(handle: int) -> bool:
    """Return True if most packets at the begin of a transport stream are scrambled."""
    data = os.pread(handle, 192 * _TS_PACKETS, 0)
    for size, offset in ((188, 0), (192, 4)):
        packets = [data[at : at + 4] for at in range(offset, len(data) - 4, size)]
        if packets and all(packet[0] == 0x47 for packet in packets[:5]):
            filled = [packet for packet in packets if packet[0] == 0x47 and packet[3] & 0x10]
            return 2 * sum(packet[3] & 0x80 != 0 for packet in filled) > len(filled)
    return False

"""Finds out whether a media file is encrypted: its streams are read then, but nothing in them can be decoded."""

import os
import struct
from collections.abc import Iterator
from typing import Final

from av.container import InputContainer

_ENCRYPTED: Final = (b"encv", b"enca", b"drmi", b"drms", b"aavd")
"""Sample entries of MP4 and MOV tracks that are encrypted: common encryption, iTunes, Audible."""
_MOST_TRACKS: Final = 1000
_TS_PACKETS: Final = 500
"""So many packets are looked at, at each place of a transport stream."""


def is_encrypted(handle: int, container: InputContainer) -> bool:
    """Return True if a file that is open at a descriptor holds encrypted pictures or sound."""
    names = container.format.name.split(",")
    if "mov" in names:
        return any(entry in _ENCRYPTED for entry in _sample_entries(handle))
    if "mpegts" in names:
        return _is_scrambled(handle, {stream.id for stream in container.streams if stream.type in ("video", "audio")})
    return any("enc_key_id" in stream.metadata for stream in container.streams)  # Matroska


def _sample_entries(handle: int) -> list[bytes]:
    """Return the four letters of what each track of an MP4 or MOV file holds."""
    size = os.fstat(handle).st_size
    # The first one: a live recording has thousands of boxes behind it.
    moov = next((box for box in walk_boxes(handle, 0, size) if box[0] == b"moov"), None)
    found: list[bytes] = []
    todo = [] if moov is None else [moov[1:]]
    while todo and len(found) < _MOST_TRACKS:
        for kind, inner, after in walk_boxes(handle, *todo.pop()):
            if kind in (b"trak", b"mdia", b"minf", b"stbl"):
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


def _is_scrambled(handle: int, streams: set[int]) -> bool:
    """Return True if the pictures and the sound of a transport stream are scrambled at each of some places."""
    size = os.fstat(handle).st_size
    for length, offset in ((188, 0), (192, 4)):
        if [os.pread(handle, 1, offset + length * number) for number in range(3)] != [b"G"] * 3:
            continue
        # Recordings may begin scrambled, and be clear as soon as the receiver has the key.
        places = {size * part // 8 // length * length for part in range(8)}
        looks = [os.pread(handle, length * _TS_PACKETS, place)[offset:] for place in places]
        counts = [
            (scrambled, filled) for scrambled, filled in (_count(data, length, streams) for data in looks) if filled
        ]
        return bool(counts) and all(2 * scrambled > filled for scrambled, filled in counts)
    return False


def _count(data: bytes, length: int, streams: set[int]) -> tuple[int, int]:
    """Count the packets of some streams that are scrambled, and all that hold anything."""
    scrambled = filled = 0
    for at in range(0, len(data) - 4, length):
        sync, high, low, flags = data[at : at + 4]
        if sync == 0x47 and flags & 0x10 and ((high & 0x1F) << 8 | low) in streams:
            filled += 1
            scrambled += flags & 0x80 != 0
    return scrambled, filled

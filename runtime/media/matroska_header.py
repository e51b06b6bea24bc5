"""The header of Matroska and WebM: the video track properties that PyAV neither reads nor writes."""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final

from runtime.media.demux import open_bytes
from runtime.media.media_info import Crop, DolbyVision, Shape
from runtime.media.mp4_header import CUBE_MAP, describe_projection

_LARGEST_BYTES: Final = 1 << 24
FILLER: Final = "#" * 160
"""Appended to the name of a track to reserve space in the header; `amend_matroska` removes it again."""

_SEGMENT, _CLUSTER, _TRACKS, _ENTRY, _VIDEO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xE0
_NAME, _TYPE, _VOID, _CRC, _NUMBER = 0x536E, 0x83, 0xEC, 0xBF, 0xD7
_WIDTH, _HEIGHT, _STEREO_MODE = 0xB0, 0xBA, 0x53B8
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_CROPS: Final = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}
_PROJECTION, _PROJECTION_TYPE, _PROJECTION_PRIVATE = 0x7670, 0x7671, 0x7672
_POSE: Final = (0x7673, 0x7674, 0x7675)
_ADDITION, _ADDITION_TYPE, _ADDITION_RECORD = 0x41E4, 0x41E7, 0x41ED
_DOLBY_VISION: Final = (b"dvcC", b"dvvC", b"dvwC")
_VIDEO_TYPE: Final = 1
_BY_RATIO: Final = 3
_STEREO_MODES: Final = {
    (0, False): 0, (1, False): 1, (1, True): 11, (2, False): 3, (2, True): 2, (4, False): 5, (4, True): 4,
    (6, False): 7, (6, True): 6, (7, False): 9, (7, True): 8, (3, False): 13, (3, True): 14,
}  # fmt: skip
_Element = tuple[int, bytes]


def read_matroska_tracks(path: Path) -> list[tuple[Crop | None, DolbyVision | None]]:
    """Return the cropping and the Dolby Vision record of each video track in order."""
    with open_bytes(path) as file:
        place = _find_tracks(file)
        if place is None:
            return []
        file.seek(place[0])
        tracks = file.read(place[1])
    found = []
    for kind, content in _elements(tracks):
        entry = dict(_elements(content)) if kind == _ENTRY else {}
        if int.from_bytes(entry.get(_TYPE, b"")) == _VIDEO_TYPE:
            video = dict(_elements(entry.get(_VIDEO, b"")))
            crop = Crop(**{name: int.from_bytes(video.get(key, b"")) for key, name in _CROPS.items()})
            found.append((crop if crop != Crop() else None, _read_dolby_vision(content)))
    return found


def _read_dolby_vision(entry: bytes) -> DolbyVision | None:
    for kind, content in _elements(entry):
        mapping = dict(_elements(content)) if kind == _ADDITION else {}
        if mapping.get(_ADDITION_TYPE) in _DOLBY_VISION:
            return DolbyVision.from_record(mapping.get(_ADDITION_RECORD, b""))
    return None


def amend_matroska(path: Path, shapes: Sequence[Shape], *, is_webm: bool) -> None:
    """Add the shapes of the video tracks, in order, to a finished Matroska file, in the reserved space.

    A file of another structure is left unchanged.
    """
    with path.open("r+b") as file:
        place = _find_tracks(file)
        if place is None:
            return
        file.seek(place[0])
        content = file.read(place[1])
        elements = [*_elements(content)]
        video_tracks = [
            number
            for number, (kind, entry) in enumerate(elements)
            if kind == _ENTRY and int.from_bytes(dict(_elements(entry)).get(_TYPE, b"")) == _VIDEO_TYPE
        ]
        if len(video_tracks) != len(shapes):
            return
        for number, shape in zip(video_tracks, shapes, strict=True):
            elements[number] = _ENTRY, _amended_entry(elements[number][1], shape, is_webm=is_webm)
        begins_with_check = bool(elements) and elements[0][0] == _CRC
        body = b"".join(_element(kind, data) for kind, data in elements if kind not in (_CRC, _VOID))
        room = place[1] - len(body) - (6 if begins_with_check else 0)
        if room < 0 or room == 1:
            return
        body += _void(room)
        check = _element(_CRC, struct.pack("<I", zlib.crc32(body))) if begins_with_check else b""
        file.seek(place[0])
        file.write(check + body)


def _amended_entry(entry: bytes, shape: Shape, *, is_webm: bool) -> bytes:
    parts = []
    for kind, content in _elements(entry):
        if kind == _NAME:
            name = content.removesuffix(FILLER.encode())
            parts.append(_element(kind, name) if name else b"")
        elif kind == _VIDEO:
            parts.append(_element(kind, _amended_video(content, shape, is_webm=is_webm)))
        else:
            parts.append(_element(kind, content))
    return b"".join(parts)


def _amended_video(video: bytes, shape: Shape, *, is_webm: bool) -> bytes:
    there = dict(_elements(video))
    added: dict[int, bytes] = {}
    stereo = shape.stereo
    if stereo is not None and _STEREO_MODE not in there:
        mode = _STEREO_MODES.get((stereo.kind, stereo.inverted))
        added |= {} if mode is None else {_STEREO_MODE: bytes([mode])}
    if shape.sample_aspect != 1 or _STEREO_MODE in added:
        across, down = stereo.factors if stereo is not None else (1, 1)
        width, height = (int.from_bytes(there[key]) for key in (_WIDTH, _HEIGHT))
        shown = width * shape.sample_aspect
        if is_webm:
            size = round(shown) // across, height // down
        else:
            ratio = shown / across / Fraction(height, down)
            size = ratio.numerator, ratio.denominator
            added[_DISPLAY_UNIT] = bytes([_BY_RATIO])
        added |= {_DISPLAY_WIDTH: _number(size[0]), _DISPLAY_HEIGHT: _number(size[1])}
    if shape.spherical is not None and _PROJECTION not in there:
        content = describe_projection(shape.spherical)
        if content is not None:
            sphere = shape.spherical
            kind = 2 if sphere.projection == CUBE_MAP else 1
            poses = zip(_POSE, (sphere.yaw, sphere.pitch, sphere.roll), strict=True)
            projection = _element(_PROJECTION_TYPE, bytes([kind])) + _element(_PROJECTION_PRIVATE, content)
            projection += b"".join(_element(key, struct.pack(">f", angle / 65536)) for key, angle in poses)
            added[_PROJECTION] = projection
    dropped = {*added, *((_DISPLAY_UNIT,) if _DISPLAY_WIDTH in added else ())}
    kept = [(kind, content) for kind, content in _elements(video) if kind not in dropped]
    return b"".join(_element(kind, content) for kind, content in (*kept, *added.items()))


def _find_tracks(file: BinaryIO) -> tuple[int, int] | None:
    """Return where the content of the Tracks element begins, and its length."""
    end = file.seek(0, os.SEEK_END)
    place = 0
    while place < end:
        file.seek(place)
        head = file.read(12)
        kind, size, length = _read_head(head)
        if length == 0:
            return None
        if kind == _TRACKS:
            return (place + length, size) if size <= _LARGEST_BYTES else None
        if kind == _CLUSTER:
            return None
        place += length if kind == _SEGMENT else length + size
    return None


def _elements(data: bytes) -> Iterator[_Element]:
    """Yield the elements of a part."""
    place = 0
    while place < len(data):
        kind, size, length = _read_head(data[place : place + 12])
        if length == 0 or place + length + size > len(data):
            return
        yield kind, data[place + length : place + length + size]
        place += length + size


def _read_head(data: bytes) -> tuple[int, int, int]:
    """Return an element's identifier, the size of its content and the length of both; that is 0 if there is none."""
    if not data or not data[0]:
        return 0, 0, 0
    identifier_length = 9 - data[0].bit_length()
    if len(data) <= identifier_length or not data[identifier_length] or identifier_length > 4:
        return 0, 0, 0
    size_length = 9 - data[identifier_length].bit_length()
    length = identifier_length + size_length
    if len(data) < length:
        return 0, 0, 0
    size = int.from_bytes(data[identifier_length:length]) & ((1 << 7 * size_length) - 1)
    return int.from_bytes(data[:identifier_length]), size, length


def _element(kind: int, content: bytes) -> bytes:
    identifier = kind.to_bytes((kind.bit_length() + 7) // 8)
    length = next(n for n in range(1, 9) if len(content) < (1 << 7 * n) - 1)
    return identifier + (len(content) | 1 << 7 * length).to_bytes(length) + content


def _void(room: int) -> bytes:
    """Return an empty element of exactly this many bytes: 0, or 2 or more."""
    if room == 0:
        return b""
    length = 1 if room < 128 else 8
    content = room - 1 - length
    return bytes([_VOID]) + (content | 1 << 7 * length).to_bytes(length) + bytes(content)


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8))

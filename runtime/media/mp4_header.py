"""The index of MP4 and MOV: the video track properties that PyAV neither reads nor writes."""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final

from runtime.media.demux import open_bytes
from runtime.media.media_info import Crop, DolbyVision, Shape, Spherical, Stereo

CUBE_MAP: Final = 1
_EQUIRECTANGULAR: Final = (0, 2)
_SIDE_BY_SIDE: Final = 1
_TOP_BOTTOM: Final = 2
_LARGEST_BYTES: Final = 1 << 30
_LARGEST_LEAF_BYTES: Final = 1 << 20
_MOST_BOXES: Final = 100_000
_PARENTS: Final = (b"trak", b"mdia", b"minf", b"stbl")
_LOOKED_AT: Final = (b"tkhd", b"hdlr", b"stsd", b"uuid")
_SAMPLE_ENTRY_BYTES: Final = 86
_ST3D: Final = {(0, False): 0, (_TOP_BOTTOM, False): 1, (_SIDE_BY_SIDE, False): 2}
# For profiles up to 7, up to 10, and above.
_DOLBY_VISION: Final = (b"dvcC", b"dvvC", b"dvwC")
_SPHERICAL_NOTE: Final = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
_Box = tuple[bytes, int, int, int]


@dataclass(frozen=True, slots=True)
class Mp4VideoTrack:
    """The properties of a video track in the index: Dolby Vision, clean aperture, Google's first spherical metadata."""

    dolby_vision: DolbyVision | None
    crop: Crop | None
    stereo: Stereo | None
    spherical: Spherical | None


def read_mp4_tracks(path: Path) -> dict[int, Mp4VideoTrack]:
    """Return the properties of an MP4's video tracks, by track number."""
    moov = _read_moov(path)
    tracks: dict[int, Mp4VideoTrack] = {}
    for trak in _boxes(moov, 8, len(moov)):
        entry, head = _sample_entry(moov, trak), _child(moov, trak, b"tkhd")
        if trak[0] != b"trak" or entry is None or head is None or head[3] - head[2] < 24:
            continue
        crop = dolby_vision = None
        for name, _, begin, end in _boxes(moov, entry[1] + _SAMPLE_ENTRY_BYTES, entry[3]):
            if name == b"clap" and end - begin >= 32:
                width, height = struct.unpack_from(">HH", moov, entry[1] + 32)
                crop = _crop_of(struct.unpack_from(">IIIIiIiI", moov, begin), width, height)
            elif name in _DOLBY_VISION:
                dolby_vision = DolbyVision.from_record(moov[begin:end])
        number = struct.unpack_from(">I", moov, head[2] + (20 if moov[head[2]] else 12))[0]
        tracks[number] = Mp4VideoTrack(dolby_vision, crop, *_read_note(moov, trak))
    return tracks


def _read_note(moov: bytes, trak: _Box) -> tuple[Stereo | None, Spherical | None]:
    """Read the metadata of Google's first specification, which FFmpeg reads only if it names the stitching software."""
    for name, _, begin, end in _boxes(moov, trak[2], trak[3]):
        if name == b"uuid" and moov[begin : begin + 16] == _SPHERICAL_NOTE:
            note = moov[begin + 16 : end].lower()
            if b"<gspherical:spherical>true" in note and b"<gspherical:projectiontype>equirectangular" in note:
                kinds = {b"left-right": _SIDE_BY_SIDE, b"top-bottom": _TOP_BOTTOM}
                modes = [kind for word, kind in kinds.items() if b"<gspherical:stereomode>" + word in note]
                return (Stereo(modes[0]) if modes else None), Spherical(0)
    return None, None


def amend_mp4(path: Path, shapes: Sequence[Shape]) -> None:
    """Add the shapes of the video tracks, in order, to a finished MP4 or MOV whose index is after its media.

    A file of another structure is left unchanged.
    """
    with path.open("r+b") as file:
        place = _find_last_moov(file)
        if place is None:
            return
        file.seek(place)
        moov = bytearray(file.read())
        traks = [box for box in _boxes(moov, 8, len(moov)) if box[0] == b"trak" and _is_video(moov, box)]
        if len(traks) != len(shapes):
            return
        for trak, shape in reversed([*zip(traks, shapes, strict=True)]):
            _amend_trak(moov, trak, shape)
        file.seek(place)
        file.write(moov)
        file.truncate()


def _crop_of(clap: tuple[int, ...], width: int, height: int) -> Crop | None:
    """Return the edges that a clean aperture hides; None if it is not inside the frame."""
    if not all(clap[1::2]):
        return None
    shown_width, shown_height, right_by, down_by = (Fraction(clap[i], clap[i + 1]) for i in range(0, 8, 2))
    left, top = round((width - shown_width) / 2 + right_by), round((height - shown_height) / 2 + down_by)
    right, bottom = width - left - round(shown_width), height - top - round(shown_height)
    if min(left, top, right, bottom) < 0 or not any((left, top, right, bottom)) or min(shown_width, shown_height) < 1:
        return None
    return Crop(left, top, right, bottom)


def _read_moov(path: Path) -> bytes:
    """Return the index of an MP4 as a box, without its sample tables; empty if there is none."""
    with open_bytes(path) as file:
        end = file.seek(0, os.SEEK_END)
        for name, start, size in _top_boxes(file, 0, end):
            if name == b"moov":
                return _box(name, _condense(file, start + 8, start + size))
    return b""


def _condense(file: BinaryIO, begin: int, end: int) -> bytes:
    """Return the relevant boxes of a part, with their parents."""
    parts = []
    for name, start, size in _top_boxes(file, begin, end):
        if name in _PARENTS:
            parts.append(_box(name, _condense(file, start + 8, start + size)))
        elif name in _LOOKED_AT and size <= _LARGEST_LEAF_BYTES:
            file.seek(start)
            parts.append(file.read(size))
    return b"".join(parts)


def _find_last_moov(file: BinaryIO) -> int | None:
    end = file.seek(0, os.SEEK_END)
    found = [*_top_boxes(file, 0, end)]
    if not found or found[-1][0] != b"moov" or found[-1][2] > _LARGEST_BYTES:
        return None
    return found[-1][1]


def _top_boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and size of the boxes in a part of a file."""
    for _ in range(_MOST_BOXES):
        file.seek(begin)
        header = file.read(16)
        if begin + 8 > end or len(header) < 8:
            return
        size, name, large = struct.unpack(">I4sQ", header.ljust(16, b"\0"))
        size = large if size == 1 else size or end - begin
        if size < 8 or begin + size > end:
            return
        yield name, begin, size
        begin += size


def _boxes(data: bytes | bytearray, begin: int, end: int) -> Iterator[_Box]:
    """Yield the boxes of a part as name, start, start of the content, and end."""
    while begin + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, begin)
        if size < 8 or begin + size > end:
            return
        yield name, begin, begin + 8, begin + size
        begin += size


def _child(data: bytes | bytearray, parent: _Box, *names: bytes) -> _Box | None:
    box: _Box | None = parent
    for name in names:
        if box is None:
            return None
        box = next((one for one in _boxes(data, box[2], box[3]) if one[0] == name), None)
    return box


def _sample_entry(data: bytes | bytearray, trak: _Box) -> _Box | None:
    table = _child(data, trak, b"mdia", b"minf", b"stbl", b"stsd")
    if table is None or not _is_video(data, trak):
        return None
    entry = next(_boxes(data, table[2] + 8, table[3]), None)
    return entry if entry is not None and entry[3] - entry[1] >= _SAMPLE_ENTRY_BYTES else None


def _is_video(data: bytes | bytearray, trak: _Box) -> bool:
    handler = _child(data, trak, b"mdia", b"hdlr")
    return handler is not None and data[handler[2] + 8 : handler[2] + 12] == b"vide"


def _amend_trak(moov: bytearray, trak: _Box, shape: Shape) -> None:
    entry = _sample_entry(moov, trak)
    if entry is None:
        return
    path = [trak]
    for name in (b"mdia", b"minf", b"stbl", b"stsd"):
        parent = _child(moov, path[-1], name)
        assert parent is not None
        path.append(parent)
    begin = entry[1] + _SAMPLE_ENTRY_BYTES
    children = {name: (start, end) for name, start, _, end in _boxes(moov, begin, entry[3])}
    added = b""
    if shape.sample_aspect != 1 or b"pasp" in children:
        added += _box(b"pasp", struct.pack(">II", shape.sample_aspect.numerator, shape.sample_aspect.denominator))
    mode = None if shape.stereo is None else _ST3D.get((shape.stereo.kind, shape.stereo.inverted))
    if mode is not None:
        added += _box(b"st3d", struct.pack(">IB", 0, mode))
    vision = shape.dolby_vision
    if vision is not None and not any(name in children for name in _DOLBY_VISION):
        added += _box(_DOLBY_VISION[(vision.profile > 7) + (vision.profile > 10)], vision.record)
    sphere = b"" if shape.spherical is None else _sv3d(shape.spherical)
    added += sphere
    # Into MOV, FFmpeg writes Apple's box for two views, without the packing; `st3d` in addition is an error.
    dropped = {b"pasp", *((b"st3d", b"vexu") if mode is not None else ()), *((b"sv3d",) if sphere else ())}
    gone = sorted((place for name, place in children.items() if name in dropped), reverse=True)
    place = max((end for _, end in children.values()), default=begin)
    moov[place:place] = added
    for start, end in gone:
        del moov[start:end]
    change = len(added) - sum(end - start for start, end in gone)
    for start in (0, *(box[1] for box in path), entry[1]):
        struct.pack_into(">I", moov, start, struct.unpack_from(">I", moov, start)[0] + change)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _sv3d(spherical: Spherical) -> bytes:
    """Return Google's spherical video box; empty for a projection that it does not support."""
    projection = describe_projection(spherical)
    if projection is None:
        return b""
    head = _box(b"svhd", struct.pack(">I", 0) + b"Relume\0")
    pose = _box(b"prhd", struct.pack(">I3i", 0, spherical.yaw, spherical.pitch, spherical.roll))
    name = b"cbmp" if spherical.projection == CUBE_MAP else b"equi"
    return _box(b"sv3d", head + _box(b"proj", pose + _box(name, projection)))


def describe_projection(spherical: Spherical) -> bytes | None:
    """Return the content of the box that describes a projection, None for one that neither format supports."""
    if spherical.projection == CUBE_MAP:
        return struct.pack(">3I", 0, 0, spherical.padding)
    if spherical.projection in _EQUIRECTANGULAR:
        left, top, right, bottom = spherical.bounds
        return struct.pack(">5I", 0, top, bottom, left, right)
    return None

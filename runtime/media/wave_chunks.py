"""The chunks of a WAV file that FFmpeg ignores: cue marks and their labels, iXML, and other recorder metadata."""

import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from runtime.media.demux import open_bytes

_CUES: Final = b"cue "
_LABELS: Final = b"adtl"
MARKS: Final = (_CUES, _LABELS)
"""Chunks that FFmpeg reads as chapters and writes in other containers."""

_WHOLE_FILE: Final = (b"iXML", b"axml", b"chna", b"cart", b"smpl", b"inst")
_NAMES: Final = {_CUES: "cue marks", _LABELS: "labels of cue marks", b"smpl": "sampler loops", b"cart": "cart chunk"}
# FFmpeg reads or writes them itself, they describe the coded audio, or they are empty.
_PASSED_OVER: Final = (
    b"fmt ", b"data", b"fact", b"bext", b"ds64", b"JUNK", b"junk", b"PAD ", b"FLLR", b"id3 ", b"ID3 ", b"PEAK", b"levl",
    b"minf", b"elm1", b"regn", b"umid", b"afsp", b"DISP", b"XMA2", b"SMV0", b"wavl", b"slnt", b"INFO",
)  # fmt: skip
_RIFF: Final = (b"RIFF", b"RF64", b"BW64")
_LARGEST_BYTES: Final = 16 << 20
_MOST_CHUNKS: Final = 10_000
_LARGEST_RIFF: Final = 0xFFFFFFFF
_CUE: Final = struct.Struct("<II4sIII")
_RIFF_SIZE_AT: Final = 4
_DS64_SIZE_AT: Final = 20


@dataclass(frozen=True, slots=True)
class WaveChunk:
    """One chunk; that of a list has the name of the list's kind. `data` is empty if it was too large to read."""

    name: bytes
    data: bytes

    @property
    def label(self) -> str:
        """Its name as text."""
        return _NAMES.get(self.name, f"{self.name.decode('latin-1').strip()} chunk")


def read_wave_chunks(path: Path) -> tuple[WaveChunk, ...]:
    """Return the chunks of a WAV file that FFmpeg ignores; none for another kind of file."""
    found = []
    with open_bytes(path) as file:
        for name, start, size in _chunks(file):
            kind = name
            file.seek(start)
            data = file.read(size) if size <= _LARGEST_BYTES and name not in (b"data", b"fmt ") else b""
            if name == b"LIST":
                kind, data = data[:4], data[4:]
            if kind not in _PASSED_OVER:
                found.append(WaveChunk(kind, data))
    return tuple(found)


def cut_chunks(chunks: Collection[WaveChunk], first: int, end: int | None) -> tuple[WaveChunk, ...]:
    """Return the chunks adjusted to a span of samples; those that only apply to the whole file are dropped."""
    whole = first == 0 and end is None
    kept: list[WaveChunk] = []
    numbers: set[int] = set()
    for chunk in chunks:
        if chunk.name == _CUES:
            cues = [cue for cue in _read_cues(chunk.data) if first <= cue[5] and (end is None or cue[5] < end)]
            numbers |= {cue[0] for cue in cues}
            moved = [_CUE.pack(cue[0], max(0, cue[1] - first), *cue[2:5], cue[5] - first) for cue in cues]
            kept += [WaveChunk(_CUES, struct.pack("<I", len(moved)) + b"".join(moved))] if moved else []
    for chunk in chunks:
        if chunk.name == _LABELS:
            labels = b"".join(_part(name, data) for name, data in _parts(chunk.data) if _number(data) in numbers)
            kept += [WaveChunk(_LABELS, labels)] if labels else []
        elif chunk.name in _WHOLE_FILE and whole and chunk.data:
            kept.append(chunk)
    return tuple(kept)


def append_chunks(path: Path, chunks: Collection[WaveChunk]) -> None:
    """Add chunks after the audio of a finished WAV file; those too large for the format are dropped."""
    content = b"".join(
        _part(b"LIST", _LABELS + chunk.data) if chunk.name == _LABELS else _part(chunk.name, chunk.data)
        for chunk in chunks
    )
    with path.open("r+b") as file:
        form = file.read(12)
        length = file.seek(0, os.SEEK_END)
        padding = b"\0" * (length % 2)
        size = length + len(padding) + len(content) - 8
        if form[:4] not in _RIFF or form[8:] != b"WAVE" or (form[:4] == b"RIFF" and size > _LARGEST_RIFF):
            return
        file.write(padding + content)
        if form[:4] == b"RIFF":
            file.seek(_RIFF_SIZE_AT)
            file.write(struct.pack("<I", size))
        else:
            file.seek(_DS64_SIZE_AT)
            file.write(struct.pack("<Q", size))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start of the content and size of each chunk; the size of large audio is in `ds64`."""
    form = file.read(12)
    if form[:4] not in _RIFF or form[8:] != b"WAVE":
        return
    end = file.seek(0, os.SEEK_END)
    place, audio = 12, 0
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        name, size = struct.unpack("<4sI", head)
        if name == b"ds64":
            audio = int.from_bytes(file.read(16)[8:], "little")
        if name == b"data" and size == _LARGEST_RIFF:
            size = audio or end - place - 8
        yield name, place + 8, size
        place += 8 + size + size % 2


def _read_cues(data: bytes) -> list[tuple[int, int, bytes, int, int, int]]:
    count = min(_number(data), max(0, len(data) - 4) // _CUE.size)
    return [_CUE.unpack_from(data, 4 + number * _CUE.size) for number in range(count)]


def _parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        yield name, data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _part(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data + b"\0" * (len(data) % 2)


def _number(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")

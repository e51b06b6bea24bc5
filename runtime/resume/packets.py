"""Files of encoded packets, stored exactly as the encoder returned them.

No container stores everything in a packet for every codec that Relume writes, so the format is a small one of our own.
All numbers are little-endian. The file is `RLPK0001`, the length of the head (u32) and the head as JSON: `codec`,
`time_base` as text, `extradata` in hexadecimal. Then packet after packet:

    pts i64, dts i64, duration i64 (the minimum i64 for none), flags u8 (1: key frame), side data u8 (count), size u32,
    for each piece of side data: kind u8 (its number in FFmpeg), size u32, bytes; the packet's bytes.

The owner keeps a digest to verify the file.
"""

import hashlib
import json
import os
import struct
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BufferedReader
from pathlib import Path
from typing import Final, get_args

from av.packet import Packet, PacketSideData, PktSideDataT

from runtime.atomic_files import FileRecord
from runtime.closing import Closing
from runtime.errors import DecodeError, EncodeError
from runtime.media.demux import AnyPacket
from runtime.media.video_encoder import VideoEncoder, close_stream
from runtime.resume.workspace import SegmentRecord
from runtime.stages import StopSignal

_MAGIC: Final = b"RLPK0001"
_LENGTH: Final = struct.Struct("<I")
_PACKET: Final = struct.Struct("<qqqBBI")
_SIDE: Final = struct.Struct("<BI")
_NONE: Final = -(1 << 63)
_KEY_FRAME: Final = 1
_KINDS: Final = get_args(PktSideDataT)
# Quality statistics of the encoder, which no container stores.
_LEFT_OUT: Final = ("quality_stats",)


@dataclass(frozen=True, slots=True)
class PacketHead:
    """The properties that all packets of a file share."""

    codec: str
    time_base: Fraction
    extradata: bytes


class PacketWriter(Closing):
    """A file of packets being written; `finish` makes it durable; closing it without `finish` removes it."""

    def __init__(self, path: Path, head: PacketHead) -> None:
        """Create the file, replacing one of the same name."""
        self.path = path
        self.head = head
        self.packets = 0
        self._digest = hashlib.sha256()
        self._size = 0
        self._finished = False
        self._file = open(path, "wb")  # noqa: SIM115 -- closed by `close`
        fields = {"codec": head.codec, "time_base": str(head.time_base), "extradata": head.extradata.hex()}
        text = json.dumps(fields).encode()
        self._put(_MAGIC + _LENGTH.pack(len(text)) + text)

    def write(self, packet: AnyPacket) -> None:
        """Add a packet; its time base must be the file's."""
        if packet.time_base != self.head.time_base and packet.size:
            raise AssertionError(f"got a packet in time base {packet.time_base}, expected {self.head.time_base}")
        sides = [side for side in packet.iter_sidedata() if side.data_type not in _LEFT_OUT]
        flags = _KEY_FRAME if packet.is_keyframe else 0
        times = [_NONE if value is None else value for value in (packet.pts, packet.dts, packet.duration)]
        parts = [_PACKET.pack(*times, flags, len(sides), packet.size)]
        for side in sides:
            parts += [_SIDE.pack(_KINDS.index(side.data_type), side.data_size), bytes(side)]
        if packet.size:
            parts.append(bytes(packet))
        self._put(b"".join(parts))
        self.packets += 1

    def finish(self) -> FileRecord:
        """Flush the file to disk; its name is durable only when its folder is synced too."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._finished = True
        self._file.close()
        return FileRecord(self.path.name, self._size, self._digest.hexdigest())

    def close(self) -> None:
        """Remove a file that was not finished."""
        if self._finished:
            return
        self._finished = True
        with suppress(OSError):  # the rest of its buffer may not fit on the disk either
            self._file.close()
        with suppress(OSError):
            self.path.unlink()

    def _put(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self._size += len(content)


class PacketReader:
    """A file of packets whose digest was checked before; it can be read more than once."""

    def __init__(self, path: Path) -> None:
        """Read the head.

        Raises:
            DecodeError: The file is missing or not one of packets.
        """
        self.path = path
        with self._open() as file:
            self.head = self._read_head(file)
            self._begin = file.tell()

    def packets(self) -> Iterator[AnyPacket]:
        """Yield the packets in the order of writing."""
        with self._open() as file:
            file.seek(self._begin)
            while head := file.read(_PACKET.size):
                pts, dts, duration, flags, sides, size = _PACKET.unpack(head)
                kept = []
                for _ in range(sides):
                    kind, length = _SIDE.unpack(file.read(_SIDE.size))
                    kept.append((kind, file.read(length)))
                packet: AnyPacket = Packet(file.read(size)) if size else Packet()
                packet.time_base = self.head.time_base
                packet.pts, packet.dts, packet.duration = _or_none(pts), _or_none(dts), _or_none(duration)
                packet.is_keyframe = bool(flags & _KEY_FRAME)
                for kind, content in kept:
                    side: PacketSideData = PacketSideData(kind, len(content))  # type: ignore[call-arg]
                    side.update(content)
                    packet.set_sidedata(side)
                yield packet

    def pts(self) -> Iterator[int]:
        """Yield only the packets' PTS, without reading their bytes."""
        with self._open() as file:
            file.seek(self._begin)
            while head := file.read(_PACKET.size):
                pts, _, _, _, sides, size = _PACKET.unpack(head)
                for _ in range(sides):
                    _, length = _SIDE.unpack(file.read(_SIDE.size))
                    file.seek(length, os.SEEK_CUR)
                file.seek(size, os.SEEK_CUR)
                yield pts

    @contextmanager
    def _open(self) -> Generator[BufferedReader]:
        """Open the file, and convert the errors of reading it."""
        try:
            with open(self.path, "rb") as file:
                yield file
        except (OSError, struct.error, ValueError, KeyError) as error:
            raise DecodeError(f"{self.path} cannot be read ({error}); start the job again") from error

    def _read_head(self, file: BufferedReader) -> PacketHead:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("not a file of packets")
        fields = json.loads(file.read(*_LENGTH.unpack(file.read(_LENGTH.size))))
        return PacketHead(fields["codec"], Fraction(fields["time_base"]), bytes.fromhex(fields["extradata"]))


def _or_none(value: int) -> int | None:
    return None if value == _NONE else value


_MAX_REORDER: Final = 16
"""More frames than any supported encoder reorders by."""


def read_times(folder: Path, segments: Sequence[SegmentRecord]) -> "array[int]":
    """Return the PTS of every frame in presentation order; eight bytes a frame.

    Raises:
        DecodeError: A file cannot be read.
        EncodeError: Segments do not follow each other, which would be a bug.
    """
    times = array("q")
    for segment in segments:
        pts = sorted(PacketReader(folder / segment.file.name).pts())
        if len(pts) != segment.frames or (times and pts[0] <= times[-1]):
            raise EncodeError(f"segment {segment.file.name} does not follow the one before; this is a bug in Relume")
        times.extend(pts)
    return times


def join_segments(
    folder: Path,
    segments: Sequence[SegmentRecord],
    encoder: VideoEncoder,
    *,
    times: "array[int]",
    stop: StopSignal,
    remove: bool = False,
) -> Iterator[AnyPacket]:
    """Yield the packets of all segments as one stream of the result.

    The DTS of a packet is the PTS of the frame `reorder` places before it, as encoders set it themselves; so every
    segment keeps its own order, DTS rise strictly, and none is later than its PTS.

    Args:
        folder: The folder of the segments.
        segments: All of them, in order.
        encoder: The stream of the result: its headers must be those of the segments.
        times: The result of `read_times`.
        stop: Ends the stream.
        remove: Remove each segment's file once it was read, if no later attempt needs it.

    Raises:
        EncodeError: A segment has other headers than the stream.
    """
    reorder = max((segment.reorder for segment in segments), default=0)
    assert reorder <= _MAX_REORDER
    headers = bytes(encoder.stream.codec_context.extradata or b"")
    held: AnyPacket | None = None
    number = 0
    for segment in segments:
        reader = PacketReader(folder / segment.file.name)
        if reader.head.extradata != headers:
            raise EncodeError(f"segment {segment.file.name} has different headers than the result; start the job over")
        for packet in reader.packets():
            stop.check()
            packet.dts = _decoding_time(times, number, reorder)
            packet.stream = encoder.stream
            number += 1
            if held is not None:
                yield held
            held = packet
        if remove:
            reader.path.unlink()
    if held is not None and held.dts is not None:
        first_dts = _decoding_time(times, 0, reorder)
        close_stream(held, first_pts=times[0], first_dts=first_dts, end_pts=segments[-1].end_pts)
        yield held


def _decoding_time(times: "array[int]", number: int, reorder: int) -> int:
    if number >= reorder:
        return times[number - reorder]
    return times[number] - (times[reorder] - times[0])

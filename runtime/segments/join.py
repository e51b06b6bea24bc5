"""Joins segments to one stream: the same packets, their decoding times made to rise across the joins."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from runtime.errors import EncodeError
from runtime.media.encode import VideoEncoder, close_stream
from runtime.media.source import AnyPacket
from runtime.segments.packets import PacketReader
from runtime.segments.records import SegmentRecord
from runtime.stages import StopSignal

_LONGEST_WAIT: Final = 16
"""More places than any encoder here puts between the coding and the showing of a picture."""


def read_times(folder: Path, segments: Sequence[SegmentRecord]) -> "array[int]":
    """Give the PTS of every picture in the order of being shown; eight bytes a picture.

    Raises:
        DecodeError: A file cannot be read.
        EncodeError: Segments do not follow each other, which would be a fault of ours.
    """
    times = array("q")
    for segment in segments:
        pts = sorted(PacketReader(folder / segment.file.name).pts())
        if len(pts) != segment.frames or (times and pts[0] <= times[-1]):
            raise EncodeError(f"segment {segment.file.name} does not follow the one before; this is a fault of Relume")
        times.extend(pts)
    return times


def join_segments(
    folder: Path, segments: Sequence[SegmentRecord], encoder: VideoEncoder, *, times: "array[int]", stop: StopSignal
) -> Iterator[AnyPacket]:
    """Give the packets of all segments as one stream of the result.

    A packet is decoded when the picture `reorder` places before it is shown, as encoders do it themselves; every
    segment's own order then holds, DTS rise strictly, and none is later than its PTS.

    Args:
        folder: Where the segments are.
        segments: All of them, in order.
        encoder: The stream of the result: its headers must be those of the segments.
        times: What `read_times` gave.
        stop: Ends the stream.

    Raises:
        EncodeError: A segment has other headers than the stream.
    """
    reorder = max((segment.reorder for segment in segments), default=0)
    assert reorder <= _LONGEST_WAIT
    headers = bytes(encoder.stream.codec_context.extradata or b"")
    held: AnyPacket | None = None
    number = 0
    for segment in segments:
        reader = PacketReader(folder / segment.file.name)
        if reader.head.extradata != headers:
            raise EncodeError(f"segment {segment.file.name} has other headers than the result; start the job anew")
        for packet in reader.packets():
            stop.check()
            packet.dts = _decoding_time(times, number, reorder)
            packet.stream = encoder.stream
            number += 1
            if held is not None:
                yield held
            held = packet
    if held is not None and held.dts is not None:
        first_dts = _decoding_time(times, 0, reorder)
        close_stream(held, first_pts=times[0], first_dts=first_dts, end_pts=segments[-1].end_pts)
        yield held


def _decoding_time(times: "array[int]", number: int, reorder: int) -> int:
    if number >= reorder:
        return times[number - reorder]
    return times[number] - (times[reorder] - times[0])

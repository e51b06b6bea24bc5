"""Whether a media file is whole: it opens, its index fits into it, its end can be decoded and is where it should be."""

import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.stream import Stream

from appliance.watch.errors import UnreadableError
from appliance.watch.told_size import missing_bytes
from runtime.errors import DecodeError
from runtime.media.source import AnyPacket, open_source, read_packets
from runtime.media.streams import AudioStream, VideoStream
from runtime.options import EnhanceOptions
from runtime.work import plan_work

_TAIL_S: Final = 2
_SHORT_BY_S: Final = 1
# What is shorter than told by less than this is a matter of rounding or of other streams.
_WHOLE_SHARE: Final = Fraction(9, 10)
# Fewer packets than this need no seeking, which not every container does well.
_SHORT_S: Final = 20
_ADVICE: Final = "it is not complete, or damaged; copy it again from where it came from"


def check_media(path: Path, options: EnhanceOptions, *, is_declared: bool = False) -> str:
    """Check that a file can be enhanced with these options, and that it is whole.

    Args:
        path: The file.
        options: What is wished of it.
        is_declared: Someone says that it is complete, so its end is not looked at.

    Returns:
        The suffix that its result will have.

    Raises:
        RelumeError: It cannot be enhanced, or not yet; the message says why.
    """
    try:
        work = plan_work(path, None, options)
    except DecodeError as error:
        if not is_declared and os.path.isfile(path) and os.access(path, os.R_OK):
            _check_size(path, error)
        raise
    if not is_declared and not options.conceal:
        check_whole(path, [*([work.video] if work.video is not None else []), *work.sounds])
    return work.target.suffix


def check_whole(path: Path, streams: list[VideoStream | AudioStream]) -> None:
    """Check that the end of a file is there.

    Raises:
        UnreadableError: It is not.
        DecodeError: The file cannot be opened.
    """
    _check_size(path)
    size = os.path.getsize(path)
    with open_source(path) as container:
        if "mov" in container.format.name.split(","):
            for stream in streams:
                _check_index(container.streams[stream.index], size)
    for stream in streams:
        with open_source(path, only=(stream.index,)) as container:
            _check_tail(container, stream)


def _check_size(path: Path, cause: Exception | None = None) -> None:
    missing = missing_bytes(path)
    if missing:
        size = os.path.getsize(path)
        told = f"its header tells of {size + missing} bytes, but it has {size}"
        raise UnreadableError(f"{told}: {_ADVICE}") from cause


def _check_index(stream: Stream, size: int) -> None:
    """Compare an MP4's own index with the bytes that are there."""
    end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    if end > size:
        raise UnreadableError(f"its index tells of {end} bytes, but it has {size}: {_ADVICE}")


def _check_tail(container: InputContainer, facts: VideoStream | AudioStream) -> None:
    stream = container.streams[facts.index]
    told = _told_end(container, facts)
    begin = None if told is None else told - _TAIL_S
    if begin is not None and begin > _SHORT_S:
        with suppress(av.FFmpegError):
            container.seek(int(begin / facts.time_base), stream=stream)
    reached, pictures = None, 0
    for packet in read_packets(container, stream):
        reached = max((end for end in (reached, _end(packet, facts)) if end is not None), default=None)
        pictures += _decode(packet)
    if not pictures:
        raise UnreadableError(f"nothing at its end can be decoded: {_ADVICE}")
    if told is None or reached is None:
        return
    start = (facts.start_pts or 0) * facts.time_base
    if told - reached > _SHORT_BY_S and reached - start < (told - start) * _WHOLE_SHARE:
        raise UnreadableError(f"it tells of {float(told):.1f} s, but ends after {float(reached):.1f} s: {_ADVICE}")


def _decode(packet: AnyPacket) -> int:
    """Count what a packet gives, and refuse one that is broken."""
    if packet.size and packet.is_corrupt:
        raise UnreadableError(f"its end is broken off: {_ADVICE}")
    try:
        return sum(1 for _ in _frames(packet))
    except av.FFmpegError as error:
        raise UnreadableError(f"its end cannot be decoded ({error.strerror}): {_ADVICE}") from error


def _frames(packet: AnyPacket) -> Iterator[object]:
    yield from packet.decode()


def _end(packet: AnyPacket, facts: VideoStream | AudioStream) -> Fraction | None:
    if packet.pts is None:
        return None
    return (packet.pts + (packet.duration or 0)) * facts.time_base


def _told_end(container: InputContainer, facts: VideoStream | AudioStream) -> Fraction | None:
    if facts.duration_pts is not None:
        return ((facts.start_pts or 0) + facts.duration_pts) * facts.time_base
    if container.duration is None:
        return None
    return facts.origin + Fraction(container.duration, av.time_base)

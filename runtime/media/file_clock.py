"""The clock of a file: its origin, its duration, and where its streams end, as declared and as measured."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from runtime.media.demux import open_source, read_packets
from runtime.media.media_info import AudioStream, MediaInfo, VideoStream

# Containers whose clock has no zero: their start becomes time zero of the result.
_FREE_CLOCKS: Final = ("mpegts", "mpeg", "mp3", "aac", "wtv", "dvd")
# In others, a file that starts this late was cut out of a longer recording.
_LATE_S: Final = 5
# A stream that starts this much later than the others has its own clock.
_OWN_CLOCK_S: Final = 24 * 3600
# Containers that can be read from any position, so that their clock is sampled before a seek is trusted.
SAMPLED: Final = ("mpegts", "mpeg")
_SAMPLES_APART_S: Final = 8
_MOST_SAMPLES: Final = 20_000
_COARSE: Final = 16
_FIRST_STEP_BYTES: Final = 1 << 15
_LEAST_STEP_BYTES: Final = 1 << 12
# Containers that count their duration from zero, however late the file begins.
_DURATION_FROM_ZERO: Final = ("matroska", "webm", "asf", "nut")
# A shortfall below this is due to rounding.
_WHOLE_SHARE: Final = Fraction(9, 10)
_SHORT_BY_S: Final = 1
# Containers in which each stream declares its own duration; in others it is that of the longest one.
_STREAMS_TELL: Final = ("mov", "avi", "ogg", "wav", "mxf")


def find_origins(container: InputContainer) -> tuple[Fraction, dict[int, Fraction]]:
    """Return time zero of a file's clock in seconds, and that of each video or audio stream by its index.

    Small offsets between the streams are kept, and so is a late start of some seconds where the container's clock has a
    zero.
    """
    starts = {
        stream.index: stream.start_time * stream.time_base
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None
        and stream.time_base is not None
        and not stream.disposition & Disposition.attached_pic
    }
    origin = min(starts.values(), default=Fraction(0))
    if not is_format(container, _FREE_CLOCKS) and origin <= _LATE_S:
        origin = Fraction(0)
    return origin, {index: start if start - origin > _OWN_CLOCK_S else origin for index, start in starts.items()}


def describe_own_clocks(info: MediaInfo) -> list[str]:
    """Return warnings about streams with a clock of their own."""
    later = {video.index: video.origin - info.origin for video in info.videos}
    later |= {audio.index: audio.origin - info.origin for audio in info.audios}
    return [
        f"stream {index} counts {float(shift):.0f} s later than the others, on its own clock; it was aligned with them"
        for index, shift in later.items()
        if shift
    ]


def find_duration(container: InputContainer, path: Path, origin: Fraction) -> Fraction | None:
    """Return the seconds from a file's time zero to its end, None if the file does not declare it."""
    if container.duration is None:
        return None
    length = Fraction(container.duration, av.time_base)
    if is_format(container, SAMPLED):
        # FFmpeg derives it from the first and last times, whatever the clock does in between.
        return _measure(path, length)
    return length - origin if is_format(container, _DURATION_FROM_ZERO) and length > origin else length


def declared_end(container: InputContainer, stream: VideoStream | AudioStream) -> Fraction | None:
    """Return the declared end of one stream on the file's clock; None if only those of others are declared.

    If the start of a duration is uncertain, the earliest end is returned.
    """
    start = (stream.start_pts or 0) * stream.time_base
    if start > _LATE_S:
        return None
    if is_format(container, ("matroska", "webm")):
        return _tagged_duration(stream.tags)
    if is_format(container, _FREE_CLOCKS):
        return None  # measured by FFmpeg or guessed from the bit rate
    if stream.duration_pts is None or not (is_format(container, _STREAMS_TELL) or len(container.streams) == 1):
        return None
    length = stream.duration_pts * stream.time_base
    return length if length > start else start + length


def find_end(container: InputContainer, stream: VideoStream | AudioStream) -> Fraction | None:
    """Return the end of a stream in an MP4 or Matroska file of our own; None if it is not declared."""
    if is_format(container, ("matroska", "webm")):
        return _tagged_duration(stream.tags)
    if stream.duration_pts is None or not is_format(container, ("mov",)):
        return None
    return ((stream.start_pts or 0) + stream.duration_pts) * stream.time_base


def find_file_end(container: InputContainer) -> Fraction | None:
    """Return the end of an MP4 or Matroska file of our own; None if it is not declared."""
    if container.duration is None or not is_format(container, ("mov", "matroska", "webm")):
        return None
    begin = container.start_time or 0 if is_format(container, ("mov",)) else 0
    return Fraction(begin + container.duration, av.time_base)


def declared_end_pts(container: InputContainer, stream: VideoStream) -> int | None:
    """Return the exact end of a stream's frames in ticks; None if it is not declared or uncertain."""
    if is_format(container, ("matroska", "webm")) and 0 <= (stream.start_pts or 0) * stream.time_base < Fraction(1, 10):
        tagged = _tagged_duration(stream.tags)
        return None if tagged is None else round(tagged / stream.time_base)
    if not is_format(container, ("mov",)) or stream.start_pts is None or stream.duration_pts is None:
        return None
    # A fragmented file that starts late may count its duration from zero.
    is_sure = 0 <= stream.start_pts * stream.time_base < Fraction(1, 10)
    return stream.start_pts + stream.duration_pts if is_sure else None


def ends_early(
    container: InputContainer, path: Path, stream: VideoStream | AudioStream, end: Fraction
) -> Fraction | None:
    """Return where a stream should end if it ends much earlier, at `end`: both in seconds on the file's clock.

    Where the stream itself declares nothing, the file does: if none of its streams reaches its end, it is incomplete.
    """
    declared = declared_end(container, stream)
    if declared is not None:
        return declared if _is_short(declared, end, stream.origin) else None
    if container.duration is None or is_format(container, (*_FREE_CLOCKS, *_STREAMS_TELL)):
        return None
    declared = stream.origin + (find_duration(container, path, stream.origin) or 0)
    if not _is_short(declared, end, stream.origin) or not _is_short(declared, _last_end(path, declared), stream.origin):
        return None
    return declared


@lru_cache(maxsize=16)
def is_steady(path: Path, size: int, changed_ns: int, until: Fraction) -> bool:
    """Return whether a clock runs without a jump up to a time, by samples less than a gap apart.

    Only two recordings whose clocks overlap by less than the distance of two samples would be mistaken for one.
    """
    del changed_ns
    with open_source(path) as container:
        for before, after in _walk(container, size):
            if before >= until:
                return True
            if after is None or not 0 <= after - before <= _SAMPLES_APART_S:
                return False
    return False


def _measure(path: Path, declared: Fraction) -> Fraction:
    """Return the duration of a file by samples of its clock without the jumps; the declared one if there are none."""
    with open_source(path) as container:
        size, stream = container.size, _clock_of(container)
        coarse = [] if stream is None else [_sample(container, stream, size * n // _COARSE) for n in range(_COARSE)]
        times = [time for time in coarse if time is not None]
        steps = [after - before for before, after in pairwise(times)]
        most = 4 * max(declared, Fraction(1)) / _COARSE + _SAMPLES_APART_S
        is_even = all(0 <= step <= most for step in steps)
        if len(times) < _COARSE or (is_even and 2 * sum(steps) > declared):
            return declared
        pairs = ((before, after) for before, after in _walk(container, size) if after is not None)
        return sum(
            (after - before for before, after in pairs if 0 <= after - before <= _SAMPLES_APART_S), start=Fraction(0)
        )


def _walk(container: InputContainer, size: int) -> Iterator[tuple[Fraction, Fraction | None]]:
    """Return neighbouring samples of a file's clock, denser where they are far apart."""
    stream = _clock_of(container)
    least = max(_LEAST_STEP_BYTES, min(size // 256, 16 * _LEAST_STEP_BYTES))
    place, step = 0, _FIRST_STEP_BYTES
    time = None if stream is None else _sample(container, stream, place)
    for _ in range(_MOST_SAMPLES):
        if time is None or stream is None:
            return
        following = _sample(container, stream, place + step) if place + step < size else None
        if step > least and (following is None or not 0 <= following - time <= _SAMPLES_APART_S):
            step //= 2
            continue
        yield time, following
        if following is None:
            return
        is_near = 0 <= following - time < _SAMPLES_APART_S / 2
        place, time = place + step, following
        step = step * 2 if is_near else step


def _clock_of(container: InputContainer) -> Stream | None:
    """Return the stream by which a file's clock is sampled."""
    streams = (*container.streams.audio, *container.streams.video)
    return next((stream for stream in streams if is_clocked(stream)), None)


def _sample(container: InputContainer, stream: Stream, place: int) -> Fraction | None:
    """Return the first time of a stream after a position in the file, in seconds."""
    with suppress(av.FFmpegError):
        container.seek(place, unsupported_byte_offset=True)
        for packet in container.demux(stream):
            if packet.size and packet.dts is not None:
                return packet.dts * packet.time_base
    return None


def is_clocked(stream: Stream) -> bool:
    """Return whether a stream is moving video or audio, whose times follow the clock."""
    return stream.type in ("video", "audio") and not stream.disposition & Disposition.attached_pic


def is_format(container: InputContainer, names: tuple[str, ...]) -> bool:
    """Return whether a container is one of some formats, by FFmpeg's names."""
    return any(name in names for name in container.format.name.split(","))


def _is_short(declared: Fraction, end: Fraction, origin: Fraction) -> bool:
    return declared - end > _SHORT_BY_S and end - origin < (declared - origin) * _WHOLE_SHARE


def _tagged_duration(tags: dict[str, str]) -> Fraction | None:
    """Read Matroska's tag of a track's own duration, such as 00:00:02.021000000."""
    text = next((text for key, text in tags.items() if key.lower().split("-")[0] == "duration"), "")
    with suppress(ValueError, ZeroDivisionError):
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    return None


def _last_end(path: Path, declared: Fraction) -> Fraction:
    """Return the end of the last packet of any stream, searched for near the declared end first."""
    latest = Fraction(0)
    for seeks in (True, False):
        with open_source(path) as container:
            if seeks:
                with suppress(av.FFmpegError):
                    container.seek(max(0, int((declared - _SHORT_BY_S) * av.time_base)))
            streams = [stream for stream in container.streams if stream.type in ("video", "audio", "subtitle")]
            for packet in read_packets(container, *streams):
                if packet.size and packet.pts is not None:
                    latest = max(latest, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if latest:
            break
    return latest

"""One clock for all streams of a file: where it begins, where it ends, and the jumps that are taken out of it.

Recordings that were joined by hand, a recorder that reconnects, a live stream that was cut out: the clock of such a
file starts anywhere, is set back, or leaps ahead. What is done about it is decided here, from the packets of all
streams in the file's order, so that video, audio and copied packets follow the same clock whichever reader gives
them.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream

from runtime.media.demux import AnyPacket, open_source, read_packets
from runtime.media.media_info import AudioStream, MediaInfo, VideoStream

# Containers whose clock has no zero: their first moment becomes time zero of the result.
_FREE_CLOCKS: Final = ("mpegts", "mpeg", "mp3", "aac", "wtv", "dvd")
# In the others a file that begins so late was cut out of a longer recording.
_LATE_S: Final = 5
# A stream that begins so much later than the others has a clock of its own.
_OWN_CLOCK_S: Final = 24 * 3600

_LONGEST_GAP_S: Final = 3600
# Containers that are written in sequence, so that several recordings may stand in one file, one behind the other;
# the longest time for which nothing at all is recorded before the clock is taken to have leapt.
_GAPS_S: Final = {
    "mpegts": 10, "mpeg": 10, "wtv": 10, "flv": 60, "live_flv": 60, "dhav": 60, "matroska": _LONGEST_GAP_S,
    "webm": _LONGEST_GAP_S, "ogg": _LONGEST_GAP_S, "asf": _LONGEST_GAP_S, "nut": _LONGEST_GAP_S,
}  # fmt: skip
# Those whose index tells places of the first recording alone, and no place behind its end.
_INDEXED: Final = ("matroska", "webm", "asf", "nut")
# Those that can be read from any place on, so that their clock is tried by samples before a seek is trusted.
_SAMPLED: Final = ("mpegts", "mpeg")
_SAMPLES_APART_S: Final = 8
_SAMPLES_SHARED_S: Final = 10
_MOST_SAMPLES: Final = 20_000
_COARSE: Final = 16
_FIRST_STEP_BYTES: Final = 1 << 15
_LEAST_STEP_BYTES: Final = 1 << 12
# DTS never fall within a recording; where a container tells none, those that FFmpeg infers may.
_SET_BACK_US: Final = dict.fromkeys(("mpegts", "mpeg", "wtv", "mov", "flv", "nut"), 100_000)
_SET_BACK_OTHERWISE_US: Final = 1_000_000
# How far the clock is looked at before a jump is believed.
_MOST_PACKETS: Final = 500
_MOST_BYTES: Final = 64 << 20
_QUIET_US: Final = 3_000_000
_LONGEST_REORDER_US: Final = 10_000_000
# Packets of a group that begins with a key frame; where there are more, decoding begins before it.
_LONGEST_GROUP: Final = 1000

# Containers that count their duration from zero, however late the file begins.
_DURATION_FROM_ZERO: Final = ("matroska", "webm", "asf", "nut")
# What is shorter than told by less than this is a matter of rounding.
_WHOLE_SHARE: Final = Fraction(9, 10)
_SHORT_BY_S: Final = 1
# Containers in which each stream tells its own length; in others it is that of the longest one.
_STREAMS_TELL: Final = ("mov", "avi", "ogg", "wav", "mxf")


def find_origins(container: InputContainer) -> tuple[Fraction, dict[int, Fraction]]:
    """Return time zero of a file's clock in seconds, and that of each video or audio stream by its index.

    Small offsets between the streams are kept, and so is a late begin of some seconds where the container's clock has
    a zero.
    """
    starts = {
        stream.index: stream.start_time * stream.time_base
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None
        and stream.time_base is not None
        and not stream.disposition & Disposition.attached_pic
    }
    origin = min(starts.values(), default=Fraction(0))
    if not _is_any(container, _FREE_CLOCKS) and origin <= _LATE_S:
        origin = Fraction(0)
    return origin, {index: start if start - origin > _OWN_CLOCK_S else origin for index, start in starts.items()}


def describe_own_clocks(info: MediaInfo) -> list[str]:
    """Return what to tell of streams that count by a clock of their own."""
    later = {video.index: video.origin - info.origin for video in info.videos}
    later |= {audio.index: audio.origin - info.origin for audio in info.audios}
    return [
        f"stream {index} counts {float(shift):.0f} s later than the others, by a clock of its own; it begins with them"
        for index, shift in later.items()
        if shift
    ]


def find_duration(container: InputContainer, path: Path, origin: Fraction) -> Fraction | None:
    """Return the seconds from a file's time zero to its end, None where the file does not tell."""
    if container.duration is None:
        return None
    length = Fraction(container.duration, av.time_base)
    if _is_any(container, _SAMPLED):
        # FFmpeg takes it from the first and the last times, whatever the clock does between them.
        return _measure(path, length)
    return length - origin if _is_any(container, _DURATION_FROM_ZERO) and length > origin else length


def told_end(container: InputContainer, stream: VideoStream | AudioStream) -> Fraction | None:
    """Return the end of one stream on the file's clock as the file tells it, None where it tells only of others.

    Where it is not sure from where a length counts, the earliest end is returned.
    """
    start = (stream.start_pts or 0) * stream.time_base
    if start > _LATE_S:
        return None
    if _is_any(container, ("matroska", "webm")):
        return _tagged_duration(stream.tags)
    if _is_any(container, _FREE_CLOCKS):
        return None  # measured by FFmpeg or guessed from the bit rate
    if stream.duration_pts is None or not (_is_any(container, _STREAMS_TELL) or len(container.streams) == 1):
        return None
    length = stream.duration_pts * stream.time_base
    return length if length > start else start + length


def find_end(container: InputContainer, stream: VideoStream | AudioStream) -> Fraction | None:
    """Return the end of a stream in an MP4 or Matroska file of our own, None where it is not told."""
    if _is_any(container, ("matroska", "webm")):
        return _tagged_duration(stream.tags)
    if stream.duration_pts is None or not _is_any(container, ("mov",)):
        return None
    return ((stream.start_pts or 0) + stream.duration_pts) * stream.time_base


def find_file_end(container: InputContainer) -> Fraction | None:
    """Return the end of an MP4 or Matroska file of our own, None where it is not told."""
    if container.duration is None or not _is_any(container, ("mov", "matroska", "webm")):
        return None
    begin = container.start_time or 0 if _is_any(container, ("mov",)) else 0
    return Fraction(begin + container.duration, av.time_base)


def told_end_pts(container: InputContainer, stream: VideoStream) -> int | None:
    """Return the exact end of a stream's frames in ticks, None where it is not told or not sure."""
    if _is_any(container, ("matroska", "webm")) and 0 <= (stream.start_pts or 0) * stream.time_base < Fraction(1, 10):
        tagged = _tagged_duration(stream.tags)
        return None if tagged is None else round(tagged / stream.time_base)
    if not _is_any(container, ("mov",)) or stream.start_pts is None or stream.duration_pts is None:
        return None
    # A fragmented file that begins late may tell its length from zero.
    is_sure = 0 <= stream.start_pts * stream.time_base < Fraction(1, 10)
    return stream.start_pts + stream.duration_pts if is_sure else None


def ends_early(
    container: InputContainer, path: Path, stream: VideoStream | AudioStream, end: Fraction
) -> Fraction | None:
    """Return where a stream should end if it ends much earlier, at `end`: both in seconds on the file's clock.

    Where the stream itself declares nothing, the file does: if none of its streams reaches its end, it is not whole.
    """
    told = told_end(container, stream)
    if told is not None:
        return told if _is_short(told, end, stream.origin) else None
    if container.duration is None or _is_any(container, (*_FREE_CLOCKS, *_STREAMS_TELL)):
        return None
    told = stream.origin + (find_duration(container, path, stream.origin) or 0)
    if not _is_short(told, end, stream.origin) or not _is_short(told, _last_end(path, told), stream.origin):
        return None
    return told


def open_for(path: Path, streams: Collection[int]) -> InputContainer:
    """Open a file to read some of its streams; what the clock is judged by is read beside them."""
    container = open_source(path)
    discard_others(container, streams)
    return container


def discard_others(container: InputContainer, streams: Collection[int]) -> None:
    """Skip the bytes of streams that are neither read nor needed to judge the clock."""
    sequential = is_sequential(container)
    for stream in container.streams:
        if stream.index not in streams and not (sequential and _is_clocked(stream)):
            stream.discard = Discard.all


def is_sequential(container: InputContainer) -> bool:
    """Return whether several recordings may stand in the file, one behind the other."""
    return _is_any(container, tuple(_GAPS_S)) or _is_fragmented(container)


def can_seek(container: InputContainer, path: Path, time: Fraction) -> bool:
    """Return whether a seek leads to a time, in seconds on the file's clock, past no jump of the clock."""
    if not is_sequential(container):
        return True
    if _is_any(container, _SAMPLED):
        facts = path.stat()
        until = -(-time // _SAMPLES_SHARED_S) * _SAMPLES_SHARED_S
        return _is_steady(path, facts.st_size, facts.st_mtime_ns, Fraction(until))
    if not _is_any(container, _INDEXED) or container.duration is None:
        return False
    return time < Fraction(container.duration, av.time_base)


def skip_to(packets: Iterator[AnyPacket], time: Fraction, *, groups: bool) -> Iterator[AnyPacket]:
    """Leave out the packets of one stream before a time, in seconds; with `groups`, from the key frame before it on."""
    kept: deque[AnyPacket] = deque()
    for packet in packets:
        if groups and len(kept) > _LONGEST_GROUP:
            break
        if packet.size and (packet.is_keyframe or not groups):
            kept.clear()
        kept.append(packet)
        stamp = packet.dts if packet.dts is not None else packet.pts
        if not packet.size or (stamp is not None and stamp * packet.time_base >= time):
            break
    while kept:
        yield kept.popleft()
    yield from packets


@lru_cache(maxsize=16)
def _is_steady(path: Path, size: int, changed_ns: int, until: Fraction) -> bool:
    """Return whether a clock goes on without a jump up to a time, by samples that lie less than a gap apart.

    Only two recordings whose clocks overlap by less than the distance of two samples would pass for one.
    """
    del changed_ns
    with open_source(path) as container:
        for before, after in _walk(container, size):
            if before >= until:
                return True
            if after is None or not 0 <= after - before <= _SAMPLES_APART_S:
                return False
    return False


def _measure(path: Path, told: Fraction) -> Fraction:
    """Return the length of a file by samples of its clock, jumps left out, or what is told where there are none."""
    with open_source(path) as container:
        size, stream = container.size, _clock_of(container)
        coarse = [] if stream is None else [_sample(container, stream, size * n // _COARSE) for n in range(_COARSE)]
        times = [time for time in coarse if time is not None]
        steps = [after - before for before, after in pairwise(times)]
        most = 4 * max(told, Fraction(1)) / _COARSE + _SAMPLES_APART_S
        is_even = all(0 <= step <= most for step in steps)
        if len(times) < _COARSE or (is_even and 2 * sum(steps) > told):
            return told
        pairs = ((before, after) for before, after in _walk(container, size) if after is not None)
        return sum(
            (after - before for before, after in pairs if 0 <= after - before <= _SAMPLES_APART_S), start=Fraction(0)
        )


def _walk(container: InputContainer, size: int) -> Iterator[tuple[Fraction, Fraction | None]]:
    """Return neighbouring samples of a file's clock, nearer to each other where they lie far apart."""
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
    """Return the stream that a file's clock is sampled by."""
    streams = (*container.streams.audio, *container.streams.video)
    return next((stream for stream in streams if _is_clocked(stream)), None)


def _sample(container: InputContainer, stream: Stream, place: int) -> Fraction | None:
    """Return the first time that a stream tells behind a place in the file, in seconds."""
    with suppress(av.FFmpegError):
        container.seek(place, unsupported_byte_offset=True)
        for packet in container.demux(stream):
            if packet.size and packet.dts is not None:
                return packet.dts * packet.time_base
    return None


@dataclass(slots=True)
class _Track:
    """Where a stream stands: its last DTS and its end in ticks of the one clock, and the shift that leads there."""

    tick: Fraction
    is_clocked: bool
    gap: int
    epoch: int = 0
    shift: int = 0
    latest: int | None = None
    end: int = 0
    step: int = 1

    def to_us(self, ticks: int) -> int:
        return ticks * 1_000_000 * self.tick.numerator // self.tick.denominator


class ContinuousPackets:
    """Packets of some streams in the file's order, without jumps of the clock; iterate once.

    A jump is believed when what follows confirms it; then it is taken out of all streams alike, so that what follows
    begins where the last stream ended. A single stray time is taken away. `jumps` counts those found so far.
    """

    def __init__(self, container: InputContainer, *streams: Stream) -> None:
        """Read the packets of some streams of a container that `open_for` opened."""
        self.jumps = 0
        self._first_jump: Fraction | None = None
        self._container = container
        self._wanted = {stream.index for stream in streams}
        self._is_checked = is_sequential(container)
        clocked = [s for s in container.streams if self._is_checked and _is_clocked(s) and s.index not in self._wanted]
        self._streams = [*streams, *clocked]
        names = container.format.name.split(",")
        gaps = (_GAPS_S[name] for name in names if name in _GAPS_S)
        self._gap_us = 1_000_000 * min(gaps, default=_LONGEST_GAP_S)
        self._back_us = min(_SET_BACK_US.get(name, _SET_BACK_OTHERWISE_US) for name in names)
        self._offsets: list[Fraction] = [Fraction(0)]
        self._latest_us = 0
        self._tracks: dict[int, _Track] = {}

    def __iter__(self) -> Iterator[AnyPacket]:
        """Return the packets; the last ones are empty, one a stream."""
        packets = read_packets(self._container, *self._streams)
        if not self._is_checked:
            yield from packets
            return
        for packet in self._follow(packets):
            # An empty packet's own number is always 0.
            if packet.stream.index in self._wanted:
                yield _shown(packet) if packet.is_discard and self._tracks[packet.stream_index].epoch else packet

    def describe(self, origin: Fraction) -> list[str]:
        """Return what to tell of the jumps; times count from `origin`."""
        if self._first_jump is None:
            return []
        times = "once" if self.jumps == 1 else f"{self.jumps} times"
        place = float(self._first_jump - origin)
        return [f"the clock of the file jumps {times}, first after {place:.1f} s; all streams were joined there"]

    def _follow(self, packets: Iterator[AnyPacket]) -> Iterator[AnyPacket]:
        waiting: deque[AnyPacket] = deque()
        while True:
            packet = waiting.popleft() if waiting else next(packets, None)
            if packet is None:
                return
            if not packet.size:
                yield packet
                continue
            track = self._track(packet)
            self._drop_strange_pts(packet, track)
            stamp = _stamp(packet)
            if stamp is None:
                self._move(packet, track)
                yield packet
            elif self._is_in_step(track, stamp):
                self._accept(packet, track, stamp)
                yield packet
            else:
                group = [packet, *self._look_ahead(packet, waiting, packets)]
                if self._jump(group):
                    for one in group:
                        self._settle(one)
                        yield one
                else:
                    # A stray time in a damaged place: the decoder's neighbours tell it better.
                    packet.pts = packet.dts = None
                    yield packet
                    waiting.extendleft(reversed(group[1:]))

    def _track(self, packet: AnyPacket) -> _Track:
        track = self._tracks.get(packet.stream_index)
        if track is None:
            tick = packet.time_base
            gap = self._gap_us * tick.denominator // (tick.numerator * 1_000_000)
            track = self._tracks[packet.stream_index] = _Track(tick, _is_clocked(packet.stream), gap)
        return track

    def _drop_strange_pts(self, packet: AnyPacket, track: _Track) -> None:
        """Remove a PTS that does not go with its DTS, as FFmpeg's parsers infer at a joint; the DTS tell enough."""
        if packet.pts is not None and packet.dts is not None and track.is_clocked:
            ahead = track.to_us(packet.pts - packet.dts)
            if not -self._back_us <= ahead <= _LONGEST_REORDER_US:
                packet.pts = None

    def _is_in_step(self, track: _Track, stamp: int) -> bool:
        """Return whether a time follows those before it; a stream that has not jumped with the others may do so now."""
        self._catch_up(track, stamp)
        if track.latest is None or not track.is_clocked:
            return True
        delta = stamp + track.shift - track.latest
        if 0 <= delta <= track.gap:
            return True
        if delta < 0:
            return track.to_us(-delta) <= self._back_us
        return track.to_us(stamp + track.shift) - self._latest_us <= self._gap_us

    def _catch_up(self, track: _Track, stamp: int) -> None:
        newest = len(self._offsets) - 1
        if track.epoch == newest:
            return
        expected = self._latest_us if track.latest is None or not track.is_clocked else track.to_us(track.latest)

        def distance(epoch: int) -> int:
            return abs(track.to_us(stamp + round(self._offsets[epoch] / track.tick)) - expected)

        track.epoch = min(range(newest, track.epoch - 1, -1), key=distance)
        track.shift = round(self._offsets[track.epoch] / track.tick)

    def _accept(self, packet: AnyPacket, track: _Track, stamp: int) -> None:
        placed = stamp + track.shift
        if track.latest is not None and placed > track.latest:
            track.step = placed - track.latest
        track.latest = placed if track.latest is None else max(track.latest, placed)
        if track.is_clocked:
            self._latest_us = max(self._latest_us, track.to_us(placed))
            shown = packet.pts if packet.pts is not None else stamp
            track.end = max(track.end, shown + track.shift + (packet.duration or track.step))
        self._move(packet, track)

    def _move(self, packet: AnyPacket, track: _Track) -> None:
        if track.shift:
            packet.pts = None if packet.pts is None else packet.pts + track.shift
            packet.dts = None if packet.dts is None else packet.dts + track.shift

    def _look_ahead(
        self, first: AnyPacket, waiting: deque[AnyPacket], packets: Iterator[AnyPacket]
    ) -> Iterator[AnyPacket]:
        """Return the packets that follow, until every stream went over to another clock, or the first one went back."""
        open_streams = {
            index
            for index, track in self._tracks.items()
            if track.is_clocked and track.latest is not None
            and self._latest_us - track.to_us(track.latest) < _QUIET_US
        }  # fmt: skip
        crossed = Counter({first.stream_index: 1})
        count = size = 0
        while count < _MOST_PACKETS and size < _MOST_BYTES:
            packet = waiting.popleft() if waiting else next(packets, None)
            if packet is None:
                return
            count, size = count + 1, size + packet.size
            is_new = self._is_new(packet, first)
            crossed[packet.stream_index] += is_new
            yield packet
            if not packet.size:
                return
            if not is_new and packet.stream_index == first.stream_index and crossed.total() == 1:
                return
            if crossed[first.stream_index] > 1 and all(crossed[index] for index in open_streams):
                return

    def _is_new(self, packet: AnyPacket, first: AnyPacket) -> bool:
        """Return whether a packet counts as the first one of another clock does, rather than as its own stream did."""
        stamp, begin = _stamp(packet), _stamp(first)
        if not packet.size or stamp is None or begin is None or not _is_clocked(packet.stream):
            return False
        track = self._track(packet)
        apart = abs(track.to_us(stamp) - self._track(first).to_us(begin))
        own = self._latest_us if track.latest is None else track.to_us(track.latest)
        return apart < abs(track.to_us(stamp + track.shift) - own)

    def _jump(self, group: list[AnyPacket]) -> bool:
        """Begin another clock if at least two packets of a group count by it."""
        first = group[0]
        new = [first, *(packet for packet in group[1:] if self._is_new(packet, first))]
        if len(new) == 1:
            return False
        others = {id(packet) for packet in new}
        ends = [track.end * track.tick for track in self._tracks.values() if track.is_clocked]
        for packet in group:
            track, shown = self._track(packet), packet.pts if packet.pts is not None else packet.dts
            if id(packet) not in others and packet.size and shown is not None and track.is_clocked:
                ends.append((shown + track.shift + (packet.duration or track.step)) * track.tick)
        starts = [(packet.pts if packet.pts is not None else packet.dts or 0) * packet.time_base for packet in new]
        self._offsets.append(max(ends) - min(starts))
        self.jumps += 1
        self._first_jump = max(ends) if self._first_jump is None else self._first_jump
        return True

    def _settle(self, packet: AnyPacket) -> None:
        track, stamp = self._track(packet), _stamp(packet)
        if packet.size and stamp is not None:
            self._catch_up(track, stamp)
            self._accept(packet, track, stamp)


def _shown(packet: AnyPacket) -> AnyPacket:
    """Return a packet without the flag that it is not to be shown.

    FFmpeg flags what comes in a later fragment of an MP4 with times that it has met before.
    """
    copy: AnyPacket = Packet(bytes(packet))
    copy.stream, copy.time_base = packet.stream, packet.time_base
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.is_keyframe = packet.is_keyframe
    return copy


def _stamp(packet: AnyPacket) -> int | None:
    return packet.dts if packet.dts is not None else packet.pts


def _is_clocked(stream: Stream) -> bool:
    return stream.type in ("video", "audio") and not stream.disposition & Disposition.attached_pic


def _is_fragmented(container: InputContainer) -> bool:
    """Return whether the samples of an MP4 stand in fragments rather than in one index."""
    streams = [stream for stream in container.streams if "mov" in container.format.name and _is_clocked(stream)]
    return any(not stream.frames and len(stream.index_entries) > 0 for stream in streams)


def _is_any(container: InputContainer, names: tuple[str, ...]) -> bool:
    return any(name in names for name in container.format.name.split(","))


def _is_short(told: Fraction, end: Fraction, origin: Fraction) -> bool:
    return told - end > _SHORT_BY_S and end - origin < (told - origin) * _WHOLE_SHARE


def _tagged_duration(tags: dict[str, str]) -> Fraction | None:
    """Read Matroska's tag of a track's own duration, such as 00:00:02.021000000."""
    text = next((text for key, text in tags.items() if key.lower().split("-")[0] == "duration"), "")
    with suppress(ValueError, ZeroDivisionError):
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    return None


def _last_end(path: Path, told: Fraction) -> Fraction:
    """Return the end of the last packet of any stream, looked for near the told end first."""
    latest = Fraction(0)
    for seeks in (True, False):
        with open_source(path) as container:
            if seeks:
                with suppress(av.FFmpegError):
                    container.seek(max(0, int((told - _SHORT_BY_S) * av.time_base)))
            streams = [stream for stream in container.streams if stream.type in ("video", "audio", "subtitle")]
            for packet in read_packets(container, *streams):
                if packet.size and packet.pts is not None:
                    latest = max(latest, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if latest:
            break
    return latest

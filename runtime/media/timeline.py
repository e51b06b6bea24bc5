"""One clock for all streams of a file, with its jumps removed.

In concatenated recordings, after reconnects, or in cuts from a live stream, the clock starts anywhere, is set back, or
jumps ahead. This is resolved here from the packets of all streams in file order, so that video, audio and copied
packets follow the same clock whichever reader returns them.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from runtime.media.demux import AnyPacket, open_source, read_packets
from runtime.media.file_clock import SAMPLED, is_clocked, is_format, is_steady

_LONGEST_GAP_S: Final = 3600
# Containers that are written in sequence, so that one file may hold several recordings in a row; with the longest pause
# before a gap counts as a jump of the clock.
_GAPS_S: Final = {
    "mpegts": 10, "mpeg": 10, "wtv": 10, "flv": 60, "live_flv": 60, "dhav": 60, "matroska": _LONGEST_GAP_S,
    "webm": _LONGEST_GAP_S, "ogg": _LONGEST_GAP_S, "asf": _LONGEST_GAP_S, "nut": _LONGEST_GAP_S,
}  # fmt: skip
# Containers whose index covers only the first recording, with no position after its end.
_INDEXED: Final = ("matroska", "webm", "asf", "nut")
_SAMPLES_SHARED_S: Final = 10
# DTS never decrease within a recording; those that FFmpeg infers for a container without DTS may.
_SET_BACK_US: Final = dict.fromkeys(("mpegts", "mpeg", "wtv", "mov", "flv", "nut"), 100_000)
_SET_BACK_OTHERWISE_US: Final = 1_000_000
# How far ahead the clock is examined before a jump is accepted.
_MOST_PACKETS: Final = 500
_MOST_BYTES: Final = 64 << 20
_QUIET_US: Final = 3_000_000
_LONGEST_REORDER_US: Final = 10_000_000
# Packets of a group that starts with a key frame; if there are more, decoding starts before it.
_LONGEST_GROUP: Final = 1000


def open_for(path: Path, streams: Collection[int]) -> InputContainer:
    """Open a file to read some of its streams, with those needed to judge the clock."""
    container = open_source(path)
    discard_others(container, streams)
    return container


def discard_others(container: InputContainer, streams: Collection[int]) -> None:
    """Skip the bytes of streams that are neither read nor needed to judge the clock."""
    sequential = is_sequential(container)
    for stream in container.streams:
        if stream.index not in streams and not (sequential and is_clocked(stream)):
            stream.discard = Discard.all


def is_sequential(container: InputContainer) -> bool:
    """Return whether the file may hold several recordings in a row."""
    return is_format(container, tuple(_GAPS_S)) or _is_fragmented(container)


def can_seek(container: InputContainer, path: Path, time: Fraction) -> bool:
    """Return whether a seek reaches a time, in seconds on the file's clock, without passing a jump."""
    if not is_sequential(container):
        return True
    if is_format(container, SAMPLED):
        facts = path.stat()
        until = -(-time // _SAMPLES_SHARED_S) * _SAMPLES_SHARED_S
        return is_steady(path, facts.st_size, facts.st_mtime_ns, Fraction(until))
    if not is_format(container, _INDEXED) or container.duration is None:
        return False
    return time < Fraction(container.duration, av.time_base)


def skip_to(packets: Iterator[AnyPacket], time: Fraction, *, groups: bool) -> Iterator[AnyPacket]:
    """Skip the packets of one stream before a time in seconds; with `groups`, up to the key frame before it."""
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


@dataclass(slots=True)
class _Track:
    """The position of a stream: its last DTS and its end in ticks of the common clock, and its shift to it."""

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

    A jump is accepted once later packets confirm it; then it is removed from all streams alike, so that the next part
    begins where the last stream ended. A single stray time is removed. `jumps` counts the jumps so far.
    """

    def __init__(self, container: InputContainer, *streams: Stream) -> None:
        """Read the packets of some streams of a container that `open_for` opened."""
        self.jumps = 0
        self._first_jump: Fraction | None = None
        self._container = container
        self._wanted = {stream.index for stream in streams}
        self._is_checked = is_sequential(container)
        clocked = [s for s in container.streams if self._is_checked and is_clocked(s) and s.index not in self._wanted]
        self._streams = [*streams, *clocked]
        names = container.format.name.split(",")
        gaps = (_GAPS_S[name] for name in names if name in _GAPS_S)
        self._gap_us = 1_000_000 * min(gaps, default=_LONGEST_GAP_S)
        self._back_us = min(_SET_BACK_US.get(name, _SET_BACK_OTHERWISE_US) for name in names)
        self._offsets: list[Fraction] = [Fraction(0)]
        self._latest_us = 0
        self._tracks: dict[int, _Track] = {}

    def __iter__(self) -> Iterator[AnyPacket]:
        """Return the packets; the last ones are empty, one per stream."""
        packets = read_packets(self._container, *self._streams)
        if not self._is_checked:
            yield from packets
            return
        for packet in self._follow(packets):
            # An empty packet's own number is always 0.
            if packet.stream.index in self._wanted:
                yield _shown(packet) if packet.is_discard and self._tracks[packet.stream_index].epoch else packet

    def describe(self, origin: Fraction) -> list[str]:
        """Return warnings about the jumps; times count from `origin`."""
        if self._first_jump is None:
            return []
        times = "once" if self.jumps == 1 else f"{self.jumps} times"
        place = float(self._first_jump - origin)
        return [f"the timestamps jump {times}, first after {place:.1f} s; all streams were joined there"]

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
                    # A stray time in a damaged place is better inferred from its neighbours.
                    packet.pts = packet.dts = None
                    yield packet
                    waiting.extendleft(reversed(group[1:]))

    def _track(self, packet: AnyPacket) -> _Track:
        track = self._tracks.get(packet.stream_index)
        if track is None:
            tick = packet.time_base
            gap = self._gap_us * tick.denominator // (tick.numerator * 1_000_000)
            track = self._tracks[packet.stream_index] = _Track(tick, is_clocked(packet.stream), gap)
        return track

    def _drop_strange_pts(self, packet: AnyPacket, track: _Track) -> None:
        """Remove a PTS that does not match its DTS, as FFmpeg's parsers infer at a joint; the DTS are sufficient."""
        if packet.pts is not None and packet.dts is not None and track.is_clocked:
            ahead = track.to_us(packet.pts - packet.dts)
            if not -self._back_us <= ahead <= _LONGEST_REORDER_US:
                packet.pts = None

    def _is_in_step(self, track: _Track, stamp: int) -> bool:
        """Return whether a time follows the previous ones; a stream that did not jump with the others may jump now."""
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
        """Return the next packets, until every stream has moved to another clock, or the first one has returned."""
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
        """Return whether a packet fits the clock of the first jumped packet better than that of its own stream."""
        stamp, begin = _stamp(packet), _stamp(first)
        if not packet.size or stamp is None or begin is None or not is_clocked(packet.stream):
            return False
        track = self._track(packet)
        apart = abs(track.to_us(stamp) - self._track(first).to_us(begin))
        own = self._latest_us if track.latest is None else track.to_us(track.latest)
        return apart < abs(track.to_us(stamp + track.shift) - own)

    def _jump(self, group: list[AnyPacket]) -> bool:
        """Start another clock if at least two packets of a group follow it."""
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
    """Return a packet without the discard flag.

    FFmpeg sets it for packets in a later fragment of an MP4 with times that occurred before.
    """
    copy: AnyPacket = Packet(bytes(packet))
    copy.stream, copy.time_base = packet.stream, packet.time_base
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.is_keyframe = packet.is_keyframe
    return copy


def _stamp(packet: AnyPacket) -> int | None:
    return packet.dts if packet.dts is not None else packet.pts


def _is_fragmented(container: InputContainer) -> bool:
    """Return whether an MP4 is fragmented."""
    streams = [stream for stream in container.streams if "mov" in container.format.name and is_clocked(stream)]
    return any(not stream.frames and len(stream.index_entries) > 0 for stream in streams)

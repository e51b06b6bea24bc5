"""Selects the packets of copied video that show a span, and detects spans that need re-encoding."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer

from runtime.media.codecs import CODECS, CodecName
from runtime.media.demux import AnyPacket
from runtime.media.media_info import VideoStream
from runtime.media.timeline import ContinuousPackets, can_seek, open_for, skip_to

# An edit list hides frames that are decoded before the span but not shown in it; other containers show everything.
HIDING: Final = (".mp4", ".m4v", ".mov")
_TIMELESS: Final = ("avi",)
# Packets examined for the presentation order before the first one is returned.
_ORDER_PACKETS: Final = 64
# Hidden frames this close to the first and last shown ones only lie between them in decoding order.
_LONGEST_REORDER: Final = 16


def find_copy_obstacle(path: Path, stream: VideoStream, suffix: str, start: Fraction | None) -> str:
    """Return why the frames of a stream cannot be copied with correct timing; "" if they can.

    Args:
        path: The file.
        stream: The video stream.
        suffix: The container of the result.
        start: Seconds from the stream's origin at which the result begins.
    """
    hides = suffix in HIDING
    with open_for(path, (stream.index,)) as container:
        source = container.streams[stream.index]
        assert isinstance(source, av.VideoStream)
        if needs_order(container, source) and (stream.codec == "mpeg4" or (start and not hides)):
            # One packet may hold two frames, the second of which no other container can hold.
            return "AVI does not store when reordered frames are shown"
        flags = [bool(entry.is_discard) for entry in source.index_entries] if "mov" in container.format.name else []
        shown = [number for number, is_hidden in enumerate(flags) if not is_hidden]
        if shown and any(flags[shown[0] + _LONGEST_REORDER : shown[-1] - _LONGEST_REORDER]):
            return "its edit list has several parts"
        if shown and shown[0] and not hides and not start:
            return f"{suffix} would show frames that the source's edit list hides"
        if (
            not start
            or hides
            or _begins_with_key_frame(_read_from(container, path, stream, start), stream.origin + start)
        ):
            return ""
    return f"the cut does not start at a key frame, and {suffix} cannot hide the frames before it"


def has_frames(path: Path, stream: VideoStream, start: Fraction | None, end: Fraction | None) -> bool:
    """Return whether any frame of a stream starts in a span, in seconds from the stream's origin."""
    if not start and end is None:
        return True
    with open_for(path, (stream.index,)) as container:
        for packet in _read_from(container, path, stream, start or Fraction(0)):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if not packet.size or packet.is_discard:
                continue
            time = None if stamp is None else stamp * packet.time_base - stream.origin
            if time is None or (time >= (start or 0) and (end is None or time < end)):
                return True
            if end is not None and packet.dts is not None and packet.dts * packet.time_base - stream.origin >= end:
                return False
    return False


def needs_order(container: InputContainer, stream: av.VideoStream) -> bool:
    """Return whether frames are reordered in a container that does not store presentation times."""
    return container.format.name in _TIMELESS and bool(stream.codec_context.has_b_frames)


def codec_for(stream: VideoStream, suffix: str) -> CodecName | None:
    """Return the codec for re-encoding frames that cannot be copied; None if the container supports none."""
    fitting = [codec.name for codec in CODECS.values() if suffix in codec.containers]
    return next((name for name in fitting if name == stream.codec), next(iter(fitting), None))


class ShownOrder:
    """Assigns presentation times to the packets of an AVI's video by decoding them alongside.

    An AVI has one time slot per packet: the first frame shown takes the first slot, and so on. DTS precede the slots by
    as many places as a packet precedes its presentation order.
    """

    def __init__(self) -> None:
        self._packets: list[tuple[AnyPacket, int]] = []
        self._slots: list[int] = []
        self._shown: dict[int, int] = {}
        self._count = self._frames = 0
        self._places: int | None = None

    def push(self, packet: AnyPacket) -> list[AnyPacket]:
        """Return the packets whose times are known by now, in decoding order; an empty packet ends the stream."""
        if packet.size:
            self._slots.append(packet.dts if packet.dts is not None else self._count)
            self._packets.append((packet, self._count))
            packet.pts, self._count = self._count, self._count + 1
        with suppress(av.FFmpegError):
            for frame in packet.decode():
                assert isinstance(frame, av.VideoFrame)
                if frame.pts is not None:
                    self._shown[frame.pts] = self._frames
                self._frames += 1
        if self._places is None:
            if packet.size and self._count < _ORDER_PACKETS:
                return []
            self._places = max((number - shown for number, shown in self._shown.items()), default=0)
        ready = []
        while self._packets and (not packet.size or self._packets[0][1] in self._shown):
            ready.append(self._time(*self._packets.pop(0)))
        return ready

    def _time(self, packet: AnyPacket, number: int) -> AnyPacket:
        assert self._places is not None
        shown = min(self._shown.pop(number, number), len(self._slots) - 1)
        packet.dts = self._slots[number - self._places] if number >= self._places else self._before(number)
        packet.pts = max(packet.dts, self._slots[shown])
        return packet

    def _before(self, number: int) -> int:
        assert self._places is not None
        step = self._slots[1] - self._slots[0] if len(self._slots) > 1 else 1
        return self._slots[0] - (self._places - number) * step


class FirstDts:
    """Assigns the first packets of a video stream the DTS that FFmpeg finds only later.

    Matroska stores none; FFmpeg infers them from the PTS of some packets, so the first ones have none.
    """

    def __init__(self) -> None:
        self._waiting: list[AnyPacket] = []
        self._is_known = False

    def push(self, packet: AnyPacket) -> list[AnyPacket]:
        """Return the packets whose DTS are known by now; an empty packet ends the stream."""
        is_untold = bool(packet.size) and packet.dts is None and packet.pts is not None
        if not self._is_known and is_untold and len(self._waiting) < _ORDER_PACKETS:
            self._waiting.append(packet)
            return []
        waiting, self._waiting, self._is_known = self._waiting, [], True
        if waiting:
            self._infer(waiting, packet.dts if packet.size else None)
        return [*waiting, packet] if packet.size else waiting

    def _infer(self, packets: list[AnyPacket], following: int | None) -> None:
        """Count back from the first known DTS: over the PTS before it, then in even steps."""
        shown = sorted(packet.pts or 0 for packet in packets)
        steps = [later - earlier for earlier, later in pairwise(shown)] + [packet.duration or 0 for packet in packets]
        step = min((step for step in steps if step > 0), default=1)
        if following is None:
            late = max(time - (packet.pts or 0) for time, packet in zip(shown, packets, strict=True))
            before = [time - late for time in shown]
        else:
            before = [time for time in shown if time < following]
        following = shown[0] if following is None else following
        for packet in reversed(packets):
            following = before.pop() if before else following - step
            packet.dts = following


class VideoCut:
    """Chooses the packets of one video stream that are needed to show a span.

    Decoding begins at a key frame: the one before the span where the container can hide it, else the first one inside.
    Packets that are shown after the span are kept where later packets inside it may need them.
    """

    def __init__(self, start: Fraction | None, end: Fraction | None, *, hides: bool) -> None:
        """Cut from `start` to `end`, both in seconds on the clock of the packets, None for no cut."""
        self._start, self._end, self._hides = start, end, hides
        self._waiting: list[AnyPacket] = []
        self._has_begun = start is None
        self._has_shown = False

    def push(self, packet: AnyPacket) -> list[AnyPacket]:
        """Push a packet and return the packets to copy."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return [packet] if self._has_begun else []
        time = stamp * packet.time_base
        if not self._has_begun:
            return self._begin(packet, time)
        if self._start is not None and not self._hides and time < self._start:
            return []
        is_behind = self._end is not None and time >= self._end
        if is_behind or (packet.is_discard and self._has_shown):
            if not is_behind or packet.dts is None or self._end is None or packet.dts * packet.time_base < self._end:
                self._waiting.append(packet)
            return []
        self._has_shown = self._has_shown or not packet.is_discard
        ready, self._waiting = [*self._waiting, packet], []
        return ready

    def _begin(self, packet: AnyPacket, time: Fraction) -> list[AnyPacket]:
        assert self._start is not None
        is_inside = time >= self._start
        if self._hides and (packet.is_keyframe and not is_inside):
            self._waiting = []
        if packet.is_keyframe or self._waiting:
            self._waiting.append(packet)
        if not is_inside or not self._waiting or (not self._hides and not packet.is_keyframe):
            if not self._hides:
                self._waiting = []
            return []
        self._has_begun, waiting = True, self._waiting
        self._waiting = []
        return [one for held in waiting for one in self.push(held)]


def _read_from(container: InputContainer, path: Path, stream: VideoStream, start: Fraction) -> Iterator[AnyPacket]:
    """Return the packets of a stream from the key frame before a time on, in seconds from its origin."""
    begin = stream.origin + start
    source = container.streams[stream.index]
    packets = ContinuousPackets(container, source)
    if not can_seek(container, path, begin):
        return skip_to(iter(packets), begin, groups=True)
    with suppress(av.FFmpegError):
        container.seek(int(begin / stream.time_base), stream=source)
    return iter(packets)


def _begins_with_key_frame(packets: Iterator[AnyPacket], start: Fraction) -> bool:
    """Return whether the first frame at or after a time on the clock of the packets is a key frame."""
    first: AnyPacket | None = None
    for packet in packets:
        if not packet.size or packet.pts is None:
            continue
        if packet.pts * packet.time_base >= start and (first is None or packet.pts < (first.pts or 0)):
            first = packet
        if first is not None and packet.dts is not None and packet.dts >= (first.pts or 0):
            break
    return first is None or first.is_keyframe

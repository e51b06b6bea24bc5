"""Damage detection: the places of a stream where decoding is affected, as opposed to joints and surrounding junk.

A place is damaged where a packet between decodable ones is refused, where a decoded frame is corrupt, and where frames
are missing next to a packet that the container flags as incomplete, or in a container whose clock counts samples. The
container's flag alone is only a suspicion: MPEG-TS flags a packet as corrupt when its continuity counter jumps, as at
every joint of two recordings.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Final

from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.frame import Frame

from runtime.media.demux import AnyPacket
from runtime.report import DamagedPlace

# Containers of one elementary stream: packets are found by scanning for headers, even in padding and trailing tags.
_SCANNED: Final = frozenset(
    {"mp3", "aac", "ac3", "eac3", "ac4", "amr", "amrnb", "amrwb", "dts", "dtshd", "truehd", "mlp", "flac", "loas",
     "mpc", "mpc8", "tta", "ape", "wv", "gsm", "g722", "h264", "hevc", "m4v", "mpegvideo", "obu", "dirac", "vc1"}
)  # fmt: skip
# Containers whose clock counts the samples of a track: a jump is a lost frame or page.
_COUNTING: Final = frozenset({"flac", "ogg", "wav", "w64", "aiff", "tta", "wv"})
_LONGEST_TAIL_S: Final = 1
# A longer jump is the transition from one recording to the next.
_LONGEST_LOSS_S: Final = 10
_REORDER: Final = 32
_MOST_TOLD: Final = 3


@dataclass(frozen=True, slots=True)
class Hole:
    """A place of a stream that could not be decoded as it was encoded.

    index: The stream's.
    pts, duration: In `time_base`, from time zero of the source; a duration of 0 means unknown length.
    """

    index: int
    pts: int
    duration: int
    time_base: Fraction

    @property
    def start_s(self) -> float:
        """Its start in seconds, for display."""
        return float(self.pts * self.time_base)

    @property
    def duration_s(self) -> float:
        """Its duration in seconds, for display."""
        return float(self.duration * self.time_base)


def describe_holes(holes: Iterable[Hole]) -> str:
    """Name the first places and count the others: "at 12.480 s (0.040 s long) and at 2 more places"."""
    found = list(holes)
    places = [f"at {hole.start_s:.3f} s ({hole.duration_s:.3f} s long)" for hole in found[:_MOST_TOLD]]
    more = len(found) - len(places)
    return ", ".join(places) + (f" and at {more} more place{'s' if more > 1 else ''}" if more else "")


class _Suspicion(Enum):
    REFUSED = 1
    """The decoder refused the packet."""
    INCOMPLETE = 2
    """The container flags it as incomplete, and the next packet continues the same frames or samples."""
    JOINT = 3
    """The container flags it as incomplete, and the next packet starts afresh: harmless unless something is missing."""


@dataclass(frozen=True, slots=True)
class _Suspect:
    suspicion: _Suspicion
    number: int
    pts: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The damage of a decoded frame: the frame itself, or the `missing` ticks before it."""

    bad: bool = False
    missing: int = 0


_INTACT: Final = Verdict()


@dataclass(slots=True)
class DamageFinder:
    """Detects damaged frames of one stream while it is decoded.

    Call it with each packet before decoding, together with the next one; with refused packets; and with each frame in
    presentation order, on the file's own clock.

    step: Ticks between frames where a frame has no duration.
    reorders: Frames may be returned later than their packets.
    is_scanned: A scan for headers makes the packets.
    counts_samples: The clock of the audio counts its samples, so that a jump is a loss.
    slack: A jump that such a clock may make although nothing is lost, in ticks.
    flags_early: The container's flag is one packet before the incomplete one. In MPEG-TS, FFmpeg's parser ends a frame
    when the next one begins, and gives it the flag that arrived with that.
    """

    time_base: Fraction
    step: int
    reorders: bool
    is_scanned: bool
    counts_samples: bool
    flags_early: bool
    slack: int = 0
    junk_before: int = 0
    junk_behind: int = 0
    incomplete: int = 0
    joints: int = 0
    is_cut_at_end: bool = False
    _number: int = 0
    _begun: bool = False
    _flagged: bool = False
    _last: int | None = None
    _end: int | None = None
    _reach: int | None = None
    _near: int | None = None
    _suspects: list[_Suspect] = field(default_factory=list)

    def take(self, packet: AnyPacket, following: AnyPacket | None) -> None:
        """Check a packet before it is decoded."""
        self._number += 1
        if not packet.size:
            return
        if self.reorders and packet.pts is not None and not packet.is_discard:
            self._reach = max(self._reach or packet.pts, packet.pts)
        flagged = self._flagged if self.flags_early else packet.is_corrupt
        self._flagged = packet.is_corrupt
        if following is None or not following.size:
            self._last = packet.pts
        elif flagged:
            self._suspect(_Suspicion.JOINT if _starts_afresh(packet, following) else _Suspicion.INCOMPLETE, packet)

    def refuse(self, packet: AnyPacket) -> None:
        """Record that the decoder raised an error over a packet."""
        self._suspect(_Suspicion.REFUSED, packet)

    def judge(self, frame: Frame) -> Verdict:
        """Return the damage of the next frame."""
        pts = frame.pts if frame.pts is not None else frame.dts
        length = frame.duration or self._length(frame)
        due = self._take_due(pts, length)
        begins, end = not self._begun, self._end
        self._begun, self._end = True, _follow(end if pts is None else pts, length)
        refused = sum(one.suspicion is _Suspicion.REFUSED for one in due)
        if begins:
            self.junk_before += refused
            refused = 0
        missing = self._missing(pts, end, length, due)
        if any(not self.reorders or one.suspicion is not _Suspicion.JOINT for one in due):
            self._near = self._number
        bad = any(one.suspicion is _Suspicion.INCOMPLETE for one in due) or (refused > 0 and not missing)
        if frame.is_corrupt and not bad and self._is_last(pts, length):
            self.is_cut_at_end = True
        else:
            bad = bad or frame.is_corrupt
        if not (bad or missing):
            self.joints += sum(one.suspicion is _Suspicion.JOINT for one in due)
        return Verdict(bad, missing) if bad or missing else _INTACT

    def finish(self) -> tuple[int, int] | None:
        """Check the packets after the last frame.

        Returns:
            PTS and duration of a damaged end; None if it is intact, or followed only by junk.
        """
        refused = [one for one in self._suspects if one.suspicion is _Suspicion.REFUSED]
        self._suspects = []
        ends = [one.end for one in refused if one.end is not None]
        if not self._begun and refused:
            begin = next((one.pts for one in refused if one.pts is not None), 0)
            return begin, max(ends, default=begin) - begin
        if self._end is not None and self._reach is not None and self._reach >= self._end:
            ends.append(self._reach + self.step)
        if self._end is not None and ends and not self.is_scanned:
            length = max(ends) - self._end
            if length * self.time_base > _LONGEST_TAIL_S:
                return self._end, length
        self.junk_behind += len(refused) or bool(ends)
        return None

    def warnings(self) -> list[str]:
        """Return warnings that are not damage."""
        found = []
        if self.junk_before:
            found.append(f"{_packets(self.junk_before)} before the first decodable one dropped")
        if self.junk_behind:
            found.append(f"{_packets(self.junk_behind)} after the last decodable one dropped")
        if self.is_cut_at_end:
            found.append("the last frame is incomplete")
        if self.joints:
            times = "once" if self.joints == 1 else f"{self.joints} times"
            found.append(f"its packet counter jumps {times}, but nothing is missing there")
        return found

    def _length(self, frame: Frame) -> int:
        if isinstance(frame, AudioFrame) and frame.sample_rate:
            return max(1, round(Fraction(frame.samples, frame.sample_rate) / self.time_base))
        return self.step

    def _suspect(self, suspicion: _Suspicion, packet: AnyPacket) -> None:
        pts = packet.pts if packet.pts is not None else packet.dts
        end = None if pts is None else pts + (packet.duration or self.step)
        self.incomplete += suspicion is _Suspicion.INCOMPLETE
        self._suspects.append(_Suspect(suspicion, self._number, pts, end))

    def _take_due(self, pts: int | None, length: int) -> list[_Suspect]:
        """Remove and return the suspects before the end of a frame."""
        if not self._suspects:
            return []
        due = [one for one in self._suspects if self._is_due(one, None if pts is None else pts + length)]
        self._suspects = [one for one in self._suspects if one not in due]
        return due

    def _is_due(self, suspect: _Suspect, end: int | None) -> bool:
        if not self.reorders or suspect.pts is None or end is None:
            return True
        return suspect.pts < end or self._number - suspect.number > _REORDER

    def _missing(self, pts: int | None, end: int | None, length: int, due: list[_Suspect]) -> int:
        is_near = self._near is not None and self._number - self._near <= _REORDER
        if pts is None or end is None or not (due or is_near or self.counts_samples):
            return 0
        missing = pts - end
        if not (due or is_near) and missing <= self.slack:
            return 0
        is_loss = any(one.suspicion is _Suspicion.REFUSED for one in due)
        if 2 * missing <= length or (not is_loss and missing * self.time_base > _LONGEST_LOSS_S):
            return 0
        return missing

    def _is_last(self, pts: int | None, length: int) -> bool:
        return pts is not None and self._last is not None and pts <= self._last < pts + length


def damage_finder(
    container: InputContainer, time_base: Fraction, *, step: int, reorders: bool, slack: int = 0
) -> DamageFinder:
    """Create the damage detector of one stream of a file."""
    names = container.format.name.split(",")
    return DamageFinder(
        time_base,
        step,
        reorders,
        is_scanned=not _SCANNED.isdisjoint(names),
        counts_samples=not reorders and not _COUNTING.isdisjoint(names),
        flags_early=reorders and "mpegts" in names,
        slack=slack,
    )


def with_following(packets: Iterable[AnyPacket]) -> Iterator[tuple[AnyPacket, AnyPacket | None]]:
    """Yield each packet together with the one after it."""
    held: AnyPacket | None = None
    for packet in packets:
        if held is not None:
            yield held, packet
        held = packet
    if held is not None:
        yield held, None


def join_holes(holes: Iterable[Hole]) -> tuple[Hole, ...]:
    """Join holes that touch."""
    joined: list[Hole] = []
    for hole in sorted(holes, key=lambda hole: (hole.index, hole.pts)):
        before = joined[-1] if joined else None
        if before is not None and before.index == hole.index and hole.pts <= before.pts + before.duration:
            end = max(before.pts + before.duration, hole.pts + hole.duration)
            joined[-1] = Hole(hole.index, before.pts, end - before.pts, hole.time_base)
        else:
            joined.append(hole)
    return tuple(joined)


def _follow(pts: int | None, length: int) -> int | None:
    return None if pts is None else pts + length


def _starts_afresh(packet: AnyPacket, following: AnyPacket | None) -> bool:
    if following is None or following.is_keyframe:
        return True
    return packet.dts is not None and following.dts is not None and following.dts < packet.dts


def _packets(count: int) -> str:
    return f"{count} packet{'s' if count > 1 else ''}"


def damaged_places(holes: Iterable[Hole]) -> tuple[DamagedPlace, ...]:
    """Return the damaged places that a reader found, in the form of the report."""
    return tuple(DamagedPlace(hole.index, hole.pts, hole.duration, str(hole.time_base)) for hole in holes)

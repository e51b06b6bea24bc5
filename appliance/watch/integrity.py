"""Whether a media file is complete: its declared size, its index, and its end, which must decode and be in time."""

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.stream import Stream

from appliance.console import format_bytes
from appliance.watch.declared_size import missing_bytes
from appliance.watch.errors import UnreadableError
from runtime.errors import RelumeError
from runtime.media.audio_reader import find_audio
from runtime.media.damage import DamageFinder, damage_finder, with_following
from runtime.media.demux import AnyPacket, open_source, read_packets
from runtime.media.file_clock import declared_end, ends_early
from runtime.media.media_info import AudioStream, MediaInfo, VideoStream
from runtime.options import EnhanceOptions
from runtime.plan import MAX_SPEECH_TRACKS, plan_job

_TAILS_S: Final = (2, 60, None)
"""Seconds before the end at which decoding starts: earlier where no key frame is that near, and at the beginning (None)
where the stream ends before the others."""
# Shorter files are read without seeking, which not every container supports well.
_SHORT_S: Final = 20
_MIN_GROUP: Final = 10
# Longer groups, as of a camera with one key frame an hour, are not decoded: they take too much memory.
_MAX_GROUP: Final = 1000
_ADVICE: Final = "copy it again"


def check_media(path: Path, options: EnhanceOptions, *, is_declared: bool = False) -> str:
    """Check that a file can be enhanced with these options, and that it is complete.

    Args:
        path: The file.
        options: Options of the job.
        is_declared: It was declared complete, so its end is not checked.

    Returns:
        The suffix of its result.

    Raises:
        RelumeError: It cannot be enhanced, or not yet.
    """
    try:
        plan = plan_job(path, None, options)
    except RelumeError as error:
        # A truncated file may look like one of another format, or like an empty one.
        reason = None if is_declared else find_missing_end(path)
        if reason is not None:
            raise UnreadableError(reason) from error
        raise
    if not is_declared and not options.allow_damaged:
        video = () if plan.video is None else (plan.video.stream,)
        check_whole(path, [*video, *plan.tracks])
    return plan.target.suffix


def find_damage(info: MediaInfo) -> str | None:
    """Return the fault of a file that can be opened, None for a complete one.

    The video and audio tracks that a job with the standard options would enhance are checked.

    Raises:
        DecodeError: The file cannot be opened any more.
    """
    video = info.video if info.video is not None and info.video.codec != "unknown" else None
    audios = [audio for audio in info.audios if find_audio(info.path, audio, start=None, end=None) == "sound"]
    try:
        check_whole(info.path, [*([video] if video is not None else []), *audios[:MAX_SPEECH_TRACKS]])
    except UnreadableError as error:
        return str(error)
    return None


def find_missing_end(path: Path) -> str | None:
    """Return a message if a file is shorter than its headers declare, None otherwise or if it cannot be read."""
    try:
        if not os.path.isfile(path):
            return None
        _check_size(path)
    except UnreadableError as error:
        return str(error)
    except OSError:
        return None
    return None


def check_whole(path: Path, streams: list[VideoStream | AudioStream]) -> None:
    """Check that a file is complete.

    Raises:
        UnreadableError: It is not.
        DecodeError: The file cannot be opened.
    """
    _check_size(path)
    with open_source(path) as container:
        if "mov" in container.format.name.split(","):
            for stream in streams:
                _check_index(container.streams[stream.index], container.size)
    for stream in streams:
        for tail_s in _TAILS_S:
            with open_source(path, only=(stream.index,)) as container:
                if _check_tail(path, container, stream, tail_s):
                    break


def _check_size(path: Path) -> None:
    missing = missing_bytes(path)
    if missing:
        size = os.path.getsize(path)
        raise UnreadableError(_describe_incomplete(size, size + missing))


def _check_index(stream: Stream, size: int) -> None:
    """Compare the index of an MP4 file with its size."""
    end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    if end > size:
        raise UnreadableError(_describe_incomplete(size, end))


def _describe_incomplete(size: int, whole: int) -> str:
    there, expected = format_bytes(size), format_bytes(whole)
    if there == expected:
        there, expected = f"{size} bytes", f"{whole} bytes"
    return f"file is incomplete ({there} of {expected}); {_ADVICE}"


def _check_tail(path: Path, container: InputContainer, facts: VideoStream | AudioStream, tail_s: int | None) -> bool:
    """Read from shortly before the end, or from the beginning if it is unknown, and decode the last packets.

    Returns:
        True if that was possible: there was a packet and, near the end, a key frame.
    """
    stream = container.streams[facts.index]
    expected = declared_end(container, facts) or _last_time(container, facts)
    begin = None if expected is None or tail_s is None else expected - tail_s
    if begin is not None and begin > _SHORT_S:
        with suppress(av.FFmpegError):
            container.seek(int(begin / facts.time_base), stream=stream)
    reached, last = None, _LastPackets()
    finder = _finder(container, facts)
    for packet, following in with_following(read_packets(container, stream)):
        finder.take(packet, following)
        is_last = bool(packet.size) and (following is None or not following.size)
        if is_last and packet.is_corrupt and not (finder.is_scanned or finder.flags_early):
            raise UnreadableError(f"file is incomplete: its last packet is cut off; {_ADVICE}")
        reached = max((end for end in (reached, _end(packet, facts)) if end is not None), default=None)
        last.add(packet)
    if finder.incomplete:
        raise UnreadableError(
            f"file is damaged: packets of stream {facts.index} are missing "
            f"in {finder.incomplete} of its frames; {_ADVICE}"
        )
    last.decode(_finder(container, facts))
    if reached is None:
        return False
    declared = ends_early(container, path, facts, reached)
    if declared is not None:
        raise UnreadableError(
            f"file is incomplete: it declares {float(declared):.1f} s, but ends after {float(reached):.1f} s; {_ADVICE}"
        )
    return last.can_be_decoded or tail_s == _TAILS_S[-2]


class _LastPackets:
    """The packets of the last two groups that start with a key frame, which decode independently."""

    def __init__(self) -> None:
        self._before: list[AnyPacket] = []
        self._now: list[AnyPacket] = []
        self.can_be_decoded = False

    def add(self, packet: AnyPacket) -> None:
        """Add the next packet; the last one is empty and flushes the decoder."""
        is_key = bool(packet.size) and packet.is_keyframe
        if is_key and len(self._now) >= _MIN_GROUP:
            self._before, self._now = self._now, []
        if len(self._now) == _MAX_GROUP:
            self._before, self._now, self.can_be_decoded = [], [], False
        self.can_be_decoded = self.can_be_decoded or is_key
        if self.can_be_decoded:
            self._now.append(packet)

    def decode(self, finder: DamageFinder) -> None:
        """Decode the packets; damage is judged as in a job, except in frames that refer to earlier ones.

        Raises:
            UnreadableError: They are damaged, or no frame is decoded.
        """
        count, cause = 0, None
        if not self.can_be_decoded:
            return
        is_damaged = False
        for packet, following in with_following([*self._before, *self._now]):
            finder.take(packet, following)
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                finder.refuse(packet)
                cause = error
                continue
            for frame in frames:
                count += 1
                verdict = finder.judge(frame)
                is_damaged = is_damaged or bool(verdict.missing) or (verdict.bad and not frame.is_corrupt)
        if finder.is_scanned:
            is_damaged = is_damaged and bool(count)
        elif not count:
            raise UnreadableError(
                f"file is incomplete or damaged: nothing at its end can be decoded; {_ADVICE}"
            ) from cause
        else:
            is_damaged = is_damaged or bool(finder.junk_before)
        if is_damaged or (finder.finish() is not None and not finder.is_scanned):
            raise UnreadableError(f"file is incomplete or damaged: its end cannot be decoded; {_ADVICE}") from cause


def _finder(container: InputContainer, facts: VideoStream | AudioStream) -> DamageFinder:
    is_video = isinstance(facts, VideoStream)
    rate = (facts.average_rate if isinstance(facts, VideoStream) else None) or Fraction(25)
    return damage_finder(
        container, facts.time_base, step=max(1, round(1 / (rate * facts.time_base))), reorders=is_video
    )


def _end(packet: AnyPacket, facts: VideoStream | AudioStream) -> Fraction | None:
    if packet.pts is None:
        return None
    return (packet.pts + (packet.duration or 0)) * facts.time_base


def _last_time(container: InputContainer, facts: VideoStream | AudioStream) -> Fraction | None:
    """Return the approximate end of the file, near which reading starts."""
    if facts.duration_pts is not None:
        return ((facts.start_pts or 0) + facts.duration_pts) * facts.time_base
    if container.duration is None:
        return None
    return facts.origin + Fraction(container.duration, av.time_base)

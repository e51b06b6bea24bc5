"""Reads a result back and compares its times exactly with those of the job."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Final, Self

from runtime.errors import DecodeError
from runtime.media.audio_encoder import AudioEncoder
from runtime.media.audio_filters import Loudness, LoudnessMeter
from runtime.media.audio_reader import AudioReader
from runtime.media.demux import open_source, read_packets
from runtime.media.file_clock import find_end, find_file_end
from runtime.media.media_info import AudioStream, MediaInfo, VideoStream
from runtime.media.probe import probe

# Tolerance of an end: containers round the duration of each track separately.
_END_SLACK_S: Final = Fraction(1, 50)


class VideoTimes:
    """The PTS of a job's frames, eight bytes per frame; `end_pts` is the end of the last one."""

    def __init__(self, time_base: Fraction, pts: "array[int] | None" = None, *, end_pts: int | None = None) -> None:
        self.time_base = time_base
        self.pts = array("q") if pts is None else pts
        self.end_pts = end_pts

    def add(self, pts: int) -> None:
        """Add the PTS of a frame."""
        self.pts.append(pts)


@dataclass(frozen=True, slots=True)
class AudioTimes:
    """What a job wrote to one audio track, in samples of the result.

    `leading_silence` samples before `first_sample` are not the source's; times of a track that was `resampled` are
    rounded to a sample.
    """

    index: int
    out_index: int
    sample_rate: int
    first_sample: int
    samples: int
    leading_silence: int = 0
    resampled: bool = False
    measures_loudness: bool = False

    @classmethod
    def between(cls, reader: AudioReader, encoder: AudioEncoder) -> Self:
        """Return the times of a track whose reader and encoder have finished."""
        return cls(
            index=reader.stream.index,
            out_index=encoder.stream.index,
            sample_rate=encoder.settings.sample_rate,
            first_sample=encoder.written_first if encoder.is_resampled else reader.first_sample,
            samples=encoder.written if encoder.is_resampled else reader.samples,
            leading_silence=encoder.written_silence,
            resampled=encoder.is_resampled,
        )


@dataclass(frozen=True, slots=True)
class CarriedData:
    """Side data of one kind: the number of frames with it, and identifying bytes in hexadecimal."""

    name: str
    marker: str
    pictures: int


def join_carried(parts: Iterable[CarriedData]) -> tuple[CarriedData, ...]:
    """Return the side data of several parts as one."""
    counts: dict[tuple[str, str], int] = {}
    for part in parts:
        counts[part.name, part.marker] = counts.get((part.name, part.marker), 0) + part.pictures
    return tuple(CarriedData(*key, count) for key, count in counts.items())


@dataclass(frozen=True, slots=True)
class SideDataCheck:
    """The number of frames in which side data of one kind was written, and in which it was found."""

    name: str
    written: int
    found: int


@dataclass(frozen=True, slots=True)
class VideoCheck:
    """Whether the frames of a result are the job's.

    `rounded_to`: the container's tick if it cannot store the times exactly (PTS are then equal after rounding).
    `shift_s`: what the container added to every time of every stream.
    `first_difference`: the first frame whose time differs.
    `track_late_s`, `file_late_s`: how much later than its last frame the track is declared to end, and the file later
    than its last track; 0 if not declared or within the rounding.
    """

    frames_in: int
    frames_out: int
    pts_equal: bool
    rounded_to: Fraction | None
    shift_s: Fraction
    first_difference: int | None
    track_late_s: Fraction = Fraction(0)
    file_late_s: Fraction = Fraction(0)

    @property
    def failures(self) -> tuple[str, ...]:
        """The failures as text."""
        if self.frames_in != self.frames_out:
            return (f"{self.frames_in} frames were written, {self.frames_out} are in the file",)
        if not self.pts_equal:
            return (f"frame {self.first_difference} and others do not have the PTS that they were written with",)
        if self.track_late_s:
            return (f"the video track ends {float(self.track_late_s):+.3f} s from the end of its last frame",)
        if self.file_late_s:
            return (f"the file ends {float(self.file_late_s):+.3f} s from the end of its last track",)
        return ()


@dataclass(frozen=True, slots=True)
class AudioCheck:
    """Whether a track of a result is the job's; offsets are the samples by which audio starts after the video.

    `tolerance` is one tick of the container in samples if it cannot store the times exactly, else 0. `loudness` is None
    unless it was measured.
    """

    index: int
    sample_rate: int
    samples_in: int
    samples_out: int
    offset_before: int | None
    offset_after: int | None
    tolerance: int = 0
    loudness: Loudness | None = None

    @property
    def passed(self) -> bool:
        """Whether every sample is present, with correct timing."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """The failures as text."""
        found = []
        if self.samples_in != self.samples_out:
            found.append(
                f"audio {self.index}: {self.samples_in} samples were written, {self.samples_out} are in the file"
            )
        before, after = self.offset_before, self.offset_after
        if before is not None and after is not None and abs(after - before) > self.tolerance:
            found.append(f"audio {self.index} starts {after - before:+} samples off relative to the video")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of reading a result back.

    `info` is what the result holds; `packets` counts the packets of its subtitles and data by stream.
    """

    info: MediaInfo
    video: VideoCheck | None
    audios: tuple[AudioCheck, ...]
    side_data: tuple[SideDataCheck, ...] = ()
    packets: dict[int, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every frame and sample is present, with correct timing."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """The failures as text."""
        found = [] if self.video is None else list(self.video.failures)
        return (*found, *(failure for audio in self.audios for failure in audio.failures))


def verify(
    result: Path,
    *,
    video: VideoTimes | None,
    audios: Sequence[AudioTimes] = (),
    side_data: Sequence[CarriedData] = (),
) -> Verification:
    """Compare a result with the times that its job recorded.

    Frames are compared by packet, audio is decoded and counted.

    Raises:
        DecodeError: The result cannot be read, or lacks a stream.
    """
    info = probe(result)
    if video is not None and info.video is None:
        raise DecodeError(f"{result} has no video stream, although one was written")
    others = {stream.index: 0 for stream in info.others if stream.kind in ("subtitle", "data")}
    markers = [bytes.fromhex(one.marker) for one in side_data]
    found = _Packets(marked=[0] * len(markers))
    if video is not None or others:
        found = _read_packets(info, None if video is None else info.video, markers, others)
    first_before = first_after = None
    video_check: VideoCheck | None = None
    if video is not None and info.video is not None:
        tick = info.video.time_base
        video_check = _compare_end(info, video, _compare(video, found.times, tick), found)
        first_before = video.pts[0] * video.time_base if video.pts else None
        first_after = found.times[0] * tick if found.times else None
    checks = tuple(_check_audio(info, audio, first_before, first_after) for audio in audios)
    found_data = tuple(
        SideDataCheck(one.name, one.pictures, number) for one, number in zip(side_data, found.marked, strict=True)
    )
    return Verification(info, video_check, checks, found_data, others)


@dataclass(slots=True)
class _Packets:
    """The packets of a result: sorted times of the video, how many hold each marker, and where streams end."""

    times: "array[int]" = field(default_factory=lambda: array("q"))
    marked: list[int] = field(default_factory=list)
    ends: dict[int, Fraction | None] = field(default_factory=dict)
    file_end: Fraction | None = None


def _read_packets(
    info: MediaInfo, stream: VideoStream | None, markers: list[bytes], others: dict[int, int]
) -> _Packets:
    """Read the packets of a video stream and of the streams in `others`, whose numbers are counted there."""
    times, marked = array("q"), [0] * len(markers)
    read = (*(() if stream is None else (stream.index,)), *others)
    with open_source(info.path, only=read) as container:
        streams: list[VideoStream | AudioStream] = [*info.videos, *info.audios]
        ends = {stream.index: find_end(container, stream) for stream in streams}
        file_end = find_file_end(container)
        for packet in read_packets(container, *(container.streams[index] for index in read)):
            if packet.stream_index in others:
                others[packet.stream_index] += packet.size > 0  # an empty packet marks the end of a stream
            elif packet.size and packet.pts is not None and not packet.is_discard:
                times.append(packet.pts)
                content = bytes(packet) if markers else b""
                for number, marker in enumerate(markers):
                    marked[number] += marker in content
    return _Packets(array("q", sorted(times)), marked, ends, file_end)


def _compare(video: VideoTimes, found: "array[int]", tick: Fraction) -> VideoCheck:
    ratio = video.time_base / tick
    exact = ratio.denominator == 1 or all(pts * ratio.numerator % ratio.denominator == 0 for pts in video.pts)
    expected = [round(pts * ratio) for pts in video.pts]
    shift = found[0] - expected[0] if found and expected else 0
    differences = (
        number
        for number, (pts, other) in enumerate(zip(expected, found, strict=False))
        if other - pts != shift and (exact or abs(other - pts - shift) > 1)
    )
    first = next(differences, None)
    return VideoCheck(
        frames_in=len(expected),
        frames_out=len(found),
        pts_equal=first is None and len(expected) == len(found),
        rounded_to=None if exact else tick,
        shift_s=shift * tick,
        first_difference=first,
    )


def _compare_end(info: MediaInfo, video: VideoTimes, check: VideoCheck, found: _Packets) -> VideoCheck:
    """Compare the ends declared by the container with the end of the last frame."""
    if video.end_pts is None or info.video is None:
        return check
    expected = video.end_pts * video.time_base + check.shift_s
    track_end = found.ends[info.video.index]
    known = [end for end in found.ends.values() if end is not None]
    slack = _END_SLACK_S + 2 * info.video.time_base
    track_late = file_late = Fraction(0)
    if track_end is not None:
        track_late = track_end - expected
    if found.file_end is not None and len(known) == len(info.streams):
        file_late = found.file_end - max(known)
    return replace(
        check,
        track_late_s=track_late if abs(track_late) > slack else Fraction(0),
        file_late_s=file_late if abs(file_late) > slack else Fraction(0),
    )


def _check_audio(info: MediaInfo, track: AudioTimes, before: Fraction | None, after: Fraction | None) -> AudioCheck:
    stream = next((audio for audio in info.audios if audio.index == track.out_index), None)
    rate = track.sample_rate
    if stream is None or not stream.sample_rate:
        if not track.samples:
            return AudioCheck(track.index, rate, 0, 0, None, None)
        raise DecodeError(f"{info.path} has no audio in stream {track.out_index}, although it was written")
    meter = None
    if track.measures_loudness:
        meter = LoudnessMeter(layout=stream.layout, sample_rate=stream.sample_rate)
    first, samples = _count(info.path, stream, meter)
    step = rate * stream.time_base
    return AudioCheck(
        index=track.index,
        sample_rate=rate,
        samples_in=track.samples,
        samples_out=samples - track.leading_silence,
        offset_before=None if before is None else round(track.first_sample - before * rate),
        offset_after=None if after is None else round(first + track.leading_silence - after * rate),
        tolerance=(0 if step <= 1 else ceil(step)) + track.resampled,
        loudness=None if meter is None else meter.result(),
    )


def _count(path: Path, stream: AudioStream, meter: LoudnessMeter | None) -> tuple[int, int]:
    with AudioReader(path, stream) as reader:
        for block in reader:
            if meter is not None:
                meter.push(block.samples)
        if meter is not None:
            meter.flush()
        return reader.first_sample, reader.samples

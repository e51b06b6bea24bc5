"""Reads an audio track as continuous blocks of samples that count from time zero."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from math import ceil, floor
from pathlib import Path
from typing import Final, Literal

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from runtime.closing import Closing
from runtime.errors import UnsupportedMediaError
from runtime.media.audio_samples import JITTER_S, AudioBlock, TrackConformer, make_silence, read_samples
from runtime.media.damage import Hole, damage_finder, describe_holes, join_holes, with_following
from runtime.media.demux import AnyPacket, open_source, read_packets
from runtime.media.file_clock import ends_early
from runtime.media.media_info import AudioStream
from runtime.media.timeline import ContinuousPackets, can_seek, open_for, skip_to

Found = Literal["sound", "packets", "nothing"]

# Codecs with a fixed frame length, so that the encoder pads the last frame.
_FIXED_FRAMES: Final = ("aac", "ac3", "eac3", "opus", "mp3", "mp2")
# Those codecs whose packets FFmpeg's parser reports as full, whatever the MP4 declares for the last one.
_PARSED_FRAMES: Final = ("ac3", "eac3")
_SEEK_EARLIER: Final = Fraction(1)
_USUAL_FRAME: Final = 1024
# FFmpeg's Ogg reader timestamps some first frames of pages late by up to a quarter of the longest Vorbis block.
_VORBIS_SLACK: Final = 2048


class AudioReader(Closing):
    """The audio of one stream; iterate once, and use it as a context manager.

    Blocks follow each other without gaps: a gap of the source is filled with silence. `first_sample` is the position of
    the first sample, which may be later than 0 and is known before iterating; the counts are complete when the
    iteration has ended.
    """

    def __init__(
        self,
        path: Path,
        stream: AudioStream,
        *,
        start: Fraction | None = None,
        end: Fraction | None = None,
    ) -> None:
        """Open a track and decode its first samples.

        Args:
            path: The file.
            stream: The track, as returned by `probe`.
            start: Seconds from the track's origin; earlier samples are skipped.
            end: Seconds from the track's origin; samples at or after it are skipped.

        Raises:
            UnsupportedMediaError: No decoder knows the codec.
            DecodeError: The file cannot be opened.
        """
        if stream.codec == "unknown" or not stream.sample_rate:
            raise UnsupportedMediaError(
                f"{path} has audio in an unknown codec in stream {stream.index}; convert it first"
            )
        self.stream = stream
        self.sample_rate, self.channels = stream.sample_rate, stream.channels
        self.samples = self.silence_inserted = self.overlap_dropped = 0
        self._holes: list[Hole] = []
        self._path, self._is_whole = path, start is None and end is None
        self.early_end = ""
        self.pauses = 0
        self.warnings: list[str] = []
        rate = stream.sample_rate
        self._zero = round((stream.origin + (start or 0)) * rate)
        self._end = None if end is None else round((stream.origin + end) * rate) - self._zero
        self._begin = 0 if start else None
        self._open(path)
        try:
            self._pieces = self._from(path, start)
            self._first = next(self._pieces, None)
        except BaseException:
            self.close()
            raise
        self.first_sample = 0 if self._first is None else self._first.pts

    def __iter__(self) -> Iterator[AudioBlock]:
        """Yield the blocks in order."""
        if self._first is None:
            return
        yield self._counted(self._first)
        for block in self._pieces:
            yield self._counted(block)
        self._tell()

    @property
    def holes(self) -> tuple[Hole, ...]:
        """The damaged places so far; adjacent ones are joined."""
        return join_holes(self._holes)

    def close(self) -> None:
        """Close the file and its decoder."""
        self._container.close()

    def _from(self, path: Path, start: Fraction | None) -> Iterator[AudioBlock]:
        """Return the blocks from a time on; if the file's index leads past it, read from the beginning."""
        if start:
            seconds = max(Fraction(0), self.stream.origin + start - _SEEK_EARLIER)
            if can_seek(self._container, path, seconds):
                with suppress(av.FFmpegError):
                    source = self._container.streams[self.stream.index]
                    self._container.seek(floor(seconds / self.stream.time_base), stream=source)
                pieces = self._decode(self._packets)
            else:
                pieces = self._decode(skip_to(iter(self._packets), seconds, groups=False))
            first = next(pieces, None)
            if first is not None and first[0] is not None and first[0] <= self._zero:
                return self._cut(self._place(chain([first], pieces)))
            self.close()
            self._open(path)
        return self._cut(self._place(self._decode(self._packets)))

    def _open(self, path: Path) -> None:
        self._conformer = TrackConformer(self.stream)
        self._container = open_for(path, (self.stream.index,))
        self._packets = ContinuousPackets(self._container, self._container.streams[self.stream.index])
        step = max(1, round(_USUAL_FRAME / (self.sample_rate * self.stream.time_base)))
        slack = _VORBIS_SLACK if self.stream.codec == "vorbis" else 0
        self._damage = damage_finder(self._container, self.stream.time_base, step=step, reorders=False, slack=slack)
        self._holes, self.pauses = [], 0

    def _decode(self, packets: Iterable[AnyPacket]) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
        """Yield decoded samples with their position in samples on the file's own clock.

        In an MP4, only the duration tells where the audio ends inside the last frame of such codecs, so one frame is
        held back.
        """
        exact = self.stream.codec in _FIXED_FRAMES and self.stream.time_base == Fraction(1, self.sample_rate)
        held: tuple[int | None, NDArray[np.float32], int] | None = None
        for frame in self._frames(packets):
            if held is not None:
                yield held[:2]
                held = None
            place = None if frame.pts is None else round(frame.pts * self.stream.time_base * self.sample_rate)
            if self._conformer.takes_as_it_is(frame):
                yield from self._conformer.finish()
                held = place, self._in_order(read_samples(frame)), frame.duration if exact else 0
            else:
                yield from self._conformer.convert(frame, place)
        yield from self._conformer.finish()
        if held is not None:
            place, samples, length = held
            if exact and self.stream.codec in _PARSED_FRAMES and place is not None:
                length = min(length, self._declared_end() - place)
            yield place, samples[:, :length] if 0 < length < samples.shape[1] else samples

    def _in_order(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return samples[list(self.stream.order)] if self.stream.order else samples

    def _declared_end(self) -> int:
        """Return the position at which the track ends according to the MP4."""
        if "mp4" not in self._container.format.name or not self.stream.duration_pts:
            return sys.maxsize
        return (self.stream.start_pts or 0) + self.stream.duration_pts

    def _frames(self, packets: Iterable[AnyPacket]) -> Iterator[AudioFrame]:
        for packet, following in with_following(packets):
            self._damage.take(packet, following)
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if _is_pause(self.stream.codec, packet):
                    self.pauses += 1
                else:
                    self._damage.refuse(packet)
                continue
            for frame in frames:
                assert isinstance(frame, AudioFrame)
                verdict = self._damage.judge(frame)
                if verdict.missing and frame.pts is not None:
                    self._add_hole(frame.pts - verdict.missing, verdict.missing)
                if verdict.bad:
                    self._add_hole(frame.pts or 0, frame.duration)
                yield frame
        tail = self._damage.finish()
        if tail is not None:
            self._add_hole(*tail)

    def _add_hole(self, pts: int, duration: int) -> None:
        zero = floor(self.stream.origin / self.stream.time_base)
        self._holes.append(Hole(self.stream.index, pts - zero, duration, self.stream.time_base))

    def _place(
        self, pieces: Iterator[tuple[int | None, NDArray[np.float32]]]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the pieces without gaps or overlaps: gaps become silence, duplicates are dropped."""
        jitter = ceil(JITTER_S * self.sample_rate)
        untold = round(self.stream.origin * self.sample_rate)
        follows: int | None = None
        for place, samples in pieces:
            here = place if place is not None else follows if follows is not None else untold
            if follows is None:
                follows = here
            elif here - follows > jitter:
                self.silence_inserted += here - follows
                for silence in make_silence(self.channels, follows, here):
                    yield silence.pts, silence.samples
                follows = here
            elif follows - here > jitter:
                self.overlap_dropped += min(follows - here, samples.shape[1])
                samples = samples[:, follows - here :]  # noqa: PLW2901
            if samples.shape[1]:
                yield follows, samples
                follows += samples.shape[1]

    def _cut(self, pieces: Iterator[tuple[int, NDArray[np.float32]]]) -> Iterator[AudioBlock]:
        """Count from time zero, and drop what is before the start or after the end."""
        for place, samples in pieces:
            first, last = place - self._zero, place - self._zero + samples.shape[1]
            begin = first if self._begin is None else max(first, self._begin)
            end = last if self._end is None else min(last, self._end)
            if begin < end:
                yield AudioBlock(samples[:, begin - first : end - first], begin)
            if self._end is not None and last >= self._end:
                return

    def _counted(self, block: AudioBlock) -> AudioBlock:
        self.samples += block.samples.shape[1]
        return block

    def _look_at_end(self) -> None:
        """Compare the end with the declared one."""
        if not self._is_whole or self._packets.jumps:
            return
        end = Fraction(self._zero + self.first_sample + self.samples, self.sample_rate)
        declared = ends_early(self._container, self._path, self.stream, end)
        if declared is not None:
            self.early_end = (
                f"audio track {self.stream.index} ends after {float(end):.1f} s, but the file declares "
                f"{float(declared):.1f} s"
            )
            self.warnings.append(f"{self.early_end}; it may be truncated or damaged")

    def _tell(self) -> None:
        self.warnings += self._packets.describe(self.stream.origin)
        self._look_at_end()
        name = f"audio track {self.stream.index}"
        self.warnings += [f"{name}: {warning}" for warning in self._damage.warnings()]
        if self._holes:
            self.warnings.append(f"{name}: damaged {describe_holes(self.holes)}; gaps were filled with silence")
        if self.pauses:
            self.warnings.append(f"{name}: comfort noise in {self.pauses} packets was replaced by silence")
        self.warnings += [f"{name}: {change}" for change in self._conformer.describe_changes()]
        if self.silence_inserted:
            self.warnings.append(f"{name}: {self.silence_inserted} missing samples were filled with silence")
        if self.overlap_dropped:
            self.warnings.append(f"{name}: {self.overlap_dropped} duplicate samples were dropped")


def find_audio(path: Path, stream: AudioStream, *, start: Fraction | None, end: Fraction | None) -> Found:
    """Return what a track has in a span: audio, packets that cannot be decoded, or nothing.

    Raises:
        DecodeError: The file cannot be opened.
    """
    if stream.codec != "unknown" and stream.sample_rate and stream.channels:
        with AudioReader(path, stream, start=start, end=end) as reader:
            if next(iter(reader), None) is not None or reader.holes:
                return "sound"
    first = stream.origin + (start or 0)
    with open_source(path, only=(stream.index,)) as container:
        for packet in read_packets(container, container.streams[stream.index]):
            time = first if packet.pts is None else packet.pts * stream.time_base
            if packet.size and first <= time and (end is None or time < stream.origin + end):
                return "packets"
    return "nothing"


def _is_pause(codec: str, packet: AnyPacket) -> bool:
    """Return whether an AMR packet holds no speech but comfort noise or nothing, which FFmpeg's decoders refuse."""
    speech = {"amr_nb": 8, "amr_wb": 9}.get(codec)
    return speech is not None and packet.size > 0 and bytes(packet)[0] >> 3 & 15 >= speech

"""Reads an audio track as continuous blocks of samples that count from time zero."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import ceil, floor
from pathlib import Path
from typing import Any, Final, Literal

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.plane import AudioPlane
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from runtime.closing import Closing
from runtime.errors import UnsupportedMediaError
from runtime.media.damage import Hole, damage_finder, describe_holes, join_holes, with_following
from runtime.media.demux import AnyPacket, open_source, read_packets
from runtime.media.file_clock import ends_early
from runtime.media.media_info import AudioStream, usual_layout
from runtime.media.resample import RateConverter
from runtime.media.timeline import ContinuousPackets, can_seek, open_for, skip_to

Found = Literal["sound", "packets", "nothing"]

_BLOCK_SAMPLES: Final = 16_384
# Times of phone recordings jitter by some milliseconds although no sample is missing; what is less than this off is
# taken for jitter, as players do.
_JITTER_S: Final = Fraction(1, 25)
# Codecs whose frames are of one length, so that the encoder fills up the last one.
_FIXED_FRAMES: Final = ("aac", "ac3", "eac3", "opus", "mp3", "mp2")
# Codecs of those whose packets FFmpeg's parser says are whole, whatever the MP4 tells of the last one.
_PARSED_FRAMES: Final = ("ac3", "eac3")
_SEEK_EARLIER: Final = Fraction(1)
_USUAL_FRAME: Final = 1024
# Where the audio of a speaker goes that FFmpeg's mix leaves out.
_NEAREST: Final = {
    "SL": "BL", "SR": "BR", "WL": "FL", "WR": "FR", "TC": "FC", "TFL": "FL", "TFC": "FC", "TFR": "FR", "TSL": "SL",
    "TSR": "SR", "TBL": "BL", "TBC": "BC", "TBR": "BR", "BFL": "FL", "BFC": "FC", "BFR": "FR", "LFE2": "LFE",
}  # fmt: skip
_ANY_RATE: Final = 48_000
# FFmpeg's Ogg reader dates some first frames of pages by up to a quarter of the longest block of Vorbis too late.
_VORBIS_SLACK: Final = 2048
_SAMPLE_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "u8": np.dtype(np.uint8),
    "s16": np.dtype(np.int16),
    "s32": np.dtype(np.int32),
    "s64": np.dtype(np.int64),
    "flt": np.dtype(np.float32),
    "dbl": np.dtype(np.float64),
}


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """Consecutive samples of all channels.

    samples: (channels, n) float32, full scale is [-1, 1].
    pts: place of the first sample, in samples from time zero.
    """

    samples: NDArray[np.float32]
    pts: int


class AudioReader(Closing):
    """The audio of one stream; iterate once, and use it as a context manager.

    Blocks follow each other without a gap: where the source has one, silence stands for it. `first_sample` is the
    place of the first sample, which may be later than 0 and is known before iterating; the counts are complete
    when the iteration has ended.
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
            stream: The track, as `probe` told it.
            start: Seconds from the track's origin; samples before it are left out.
            end: Seconds from the track's origin; samples at or after it are left out.

        Raises:
            UnsupportedMediaError: No decoder knows the codec.
            DecodeError: The file cannot be opened.
        """
        if stream.codec == "unknown" or not stream.sample_rate:
            raise UnsupportedMediaError(
                f"{path} holds audio of an unknown codec in stream {stream.index}; convert it first"
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
        """The damaged places so far, those that touch joined."""
        return join_holes(self._holes)

    def close(self) -> None:
        """Close the file and its decoder."""
        self._container.close()

    def _from(self, path: Path, start: Fraction | None) -> Iterator[AudioBlock]:
        """Return the blocks from a time on; where the file's index leads past it, read from the file's beginning."""
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
        self._conformer = _Conformer(self.stream)
        self._container = open_for(path, (self.stream.index,))
        self._packets = ContinuousPackets(self._container, self._container.streams[self.stream.index])
        step = max(1, round(_USUAL_FRAME / (self.sample_rate * self.stream.time_base)))
        slack = _VORBIS_SLACK if self.stream.codec == "vorbis" else 0
        self._damage = damage_finder(self._container, self.stream.time_base, step=step, reorders=False, slack=slack)
        self._holes, self.pauses = [], 0

    def _decode(self, packets: Iterable[AnyPacket]) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
        """Yield decoded samples with their place in samples on the file's own clock.

        An MP4 tells where the audio ends inside the last frame of such codecs by its duration alone, so one frame is
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
                length = min(length, self._told_end() - place)
            yield place, samples[:, :length] if 0 < length < samples.shape[1] else samples

    def _in_order(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return samples[list(self.stream.order)] if self.stream.order else samples

    def _told_end(self) -> int:
        """Return the place at which an MP4 says that the track ends."""
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
        """Yield the pieces without gaps or overlaps: silence for what is missing, nothing twice."""
        jitter = ceil(_JITTER_S * self.sample_rate)
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
        """Count from time zero and leave out what is before the start or after the end."""
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
        """Compare the end with the one that the file tells of."""
        if not self._is_whole or self._packets.jumps:
            return
        end = Fraction(self._zero + self.first_sample + self.samples, self.sample_rate)
        told = ends_early(self._container, self._path, self.stream, end)
        if told is not None:
            self.early_end = (
                f"audio track {self.stream.index} ends after {float(end):.1f} s, but the file tells of "
                f"{float(told):.1f} s"
            )
            self.warnings.append(f"{self.early_end}; it may be cut short or damaged")

    def _tell(self) -> None:
        self.warnings += self._packets.describe(self.stream.origin)
        self._look_at_end()
        name = f"audio track {self.stream.index}"
        self.warnings += [f"{name}: {warning}" for warning in self._damage.warnings()]
        if self._holes:
            self.warnings.append(f"{name}: damaged {describe_holes(self.holes)}; silence stands for what is missing")
        if self.pauses:
            self.warnings.append(f"{name}: silence stands for the comfort noise of {self.pauses} packets")
        self.warnings += [f"{name}: {change}" for change in self._conformer.describe_changes()]
        if self.silence_inserted:
            self.warnings.append(f"{name}: {self.silence_inserted} missing samples became silence")
        if self.overlap_dropped:
            self.warnings.append(f"{name}: {self.overlap_dropped} samples that came twice were dropped")


def find_sound(path: Path, stream: AudioStream, *, start: Fraction | None, end: Fraction | None) -> Found:
    """Return what a track has in a span: audio, or packets that cannot be decoded, or nothing.

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


class _Conformer:
    """Converts audio that changes its layout or rate inside a track to the track's own, sample under sample."""

    def __init__(self, stream: AudioStream) -> None:
        self._rate, self._channels = stream.sample_rate, stream.channels
        self._layout = stream.layout
        self._first_layout: str | None = None
        self._mixers: dict[str, Remixer] = {}
        self._converter: RateConverter | None = None
        self._from = 0
        self._begin: int | None = None
        self._taken = self._given = 0
        self._counts: dict[str, int] = {}

    def takes_as_it_is(self, frame: AudioFrame) -> bool:
        """Return whether a frame has the track's rate and layout; the first frame decides what their names mean."""
        if frame.sample_rate != self._rate or frame.layout.nb_channels != self._channels:
            return False
        self._first_layout = self._first_layout or frame.layout.name
        return frame.layout.name == self._first_layout

    def convert(self, frame: AudioFrame, place: int | None) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
        """Yield a frame's samples at the track's rate and layout, as far as they are ready, with their place."""
        rate, layout = frame.sample_rate, frame.layout.name
        name = f"{rate} Hz {layout}"
        self._counts[name] = self._counts.get(name, 0) + frame.samples
        samples = read_samples(frame)
        target = self._first_layout or self._layout
        if layout != target:
            mixer = self._mixers.setdefault(layout, Remixer(layout, target))
            samples = mixer.mix(samples)
        if rate == self._rate:
            yield from self.finish()
            yield place, samples
            return
        if self._converter is None or self._from != rate or self._is_elsewhere(place):
            yield from self.finish()
            self._converter = RateConverter(rate, self._rate, self._channels)
            self._from, self._begin, self._taken, self._given = rate, place, 0, 0
        self._taken += samples.shape[1]
        yield self._placed(self._converter.push(samples))

    def finish(self) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
        """Yield what is left of audio of another rate."""
        if self._converter is not None:
            yield self._placed(self._converter.flush(self._scaled()))
            self._converter = None

    def describe_changes(self) -> list[str]:
        """Describe the conversions."""
        target = f"{self._rate} Hz {self._first_layout or self._layout}"
        return [f"{count} samples of {name} were converted to {target}" for name, count in self._counts.items()]

    def _placed(self, samples: NDArray[np.float32]) -> tuple[int | None, NDArray[np.float32]]:
        place = None if self._begin is None else self._begin + self._given
        self._given += samples.shape[1]
        return place, samples

    def _scaled(self) -> int:
        return round(Fraction(self._taken * self._rate, self._from))

    def _is_elsewhere(self, place: int | None) -> bool:
        if place is None or self._begin is None:
            return False
        return abs(place - self._begin - self._scaled()) > _JITTER_S * self._rate


class Remixer:
    """Mix samples of one layout to another; never louder than full scale.

    Channels that both have pass as they are, and those beside and behind the listener stand for each other. What
    FFmpeg's own mix would leave out goes to the nearest speaker, but for the LFE, which a mix to stereo does without.
    """

    def __init__(self, source: str, target: str) -> None:
        """Work out the gains.

        Args:
            source: FFmpeg's name of the layout; channels that it only counts are taken for the usual layout of their
                number, and without one go round the speakers.
            target: FFmpeg's name of a usual layout.
        """
        channels, speakers = (av.AudioLayout(layout).nb_channels for layout in (source, target))
        source = usual_layout(source, channels)
        if source.endswith("channels"):
            self._gains = np.zeros((speakers, channels), np.float32)
            self._gains[np.arange(channels) % speakers, np.arange(channels)] = 1 / ceil(channels / speakers)
        else:
            self._gains = _find_gains(source, target)

    def mix(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return as many samples of the target's channels."""
        mixed: NDArray[np.float32] = self._gains @ samples
        return mixed


def _find_gains(source: str, target: str) -> NDArray[np.float32]:
    """Ask FFmpeg for the gain from each channel to each speaker, by an impulse in one channel after the other."""
    names = [channel.name for channel in av.AudioLayout(source).channels]
    resampler = AudioResampler("fltp", target, _ANY_RATE, options={"rematrix_maxval": "1.0"})
    impulses = make_frame(np.eye(len(names), dtype=np.float32), layout=source, sample_rate=_ANY_RATE, pts=0)
    gains = np.concatenate([read_samples(frame) for frame in resampler.resample(impulses)], axis=1)
    for column, name in enumerate(names):
        nearest = _NEAREST.get(name, "")
        if not gains[:, column].any() and nearest in names:
            gains[:, column] = gains[:, names.index(nearest)]
    loudest = np.abs(gains).sum(axis=1).max()
    return gains if loudest <= 1 else (gains / loudest).astype(np.float32)


def _is_pause(codec: str, packet: AnyPacket) -> bool:
    """Return whether an AMR packet holds no speech but comfort noise or nothing, which FFmpeg's decoders refuse."""
    speech = {"amr_nb": 8, "amr_wb": 9}.get(codec)
    return speech is not None and packet.size > 0 and bytes(packet)[0] >> 3 & 15 >= speech


def make_silence(channels: int, start: int, end: int) -> Iterator[AudioBlock]:
    """Yield blocks of silence from one place to another."""
    for place in range(start, end, _BLOCK_SAMPLES):
        yield AudioBlock(np.zeros((channels, min(_BLOCK_SAMPLES, end - place)), np.float32), place)


def read_samples(frame: AudioFrame) -> NDArray[np.float32]:
    """Return a frame's samples as (channels, n) float32, full scale [-1, 1]."""
    channels, dtype = frame.layout.nb_channels, _SAMPLE_TYPES[frame.format.name.removesuffix("p")]
    if frame.format.is_planar:
        array = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in _planes(frame, channels)])
    else:
        (plane,) = _planes(frame, 1)
        array = np.frombuffer(plane, dtype, frame.samples * channels).reshape(-1, channels).T
    if dtype == np.uint8:
        return np.ascontiguousarray((array.astype(np.float32) - 128.0) / 128.0)
    if np.issubdtype(dtype, np.integer):
        return np.ascontiguousarray(array * 2.0 ** (1 - 8 * dtype.itemsize), dtype=np.float32)
    return np.ascontiguousarray(array, dtype=np.float32)


def make_frame(samples: NDArray[np.float32], *, layout: str, sample_rate: int, pts: int) -> AudioFrame:
    """Return a frame of samples, (channels, n) float32, whose PTS counts samples."""
    frame = AudioFrame(format="fltp", layout=layout, samples=samples.shape[1])
    for plane, channel in zip(_planes(frame, len(samples)), samples, strict=True):
        plane.update(np.ascontiguousarray(channel, dtype=np.float32))
    frame.sample_rate, frame.pts, frame.time_base = sample_rate, pts, Fraction(1, sample_rate)
    return frame


def _planes(frame: AudioFrame, count: int) -> list[Any]:
    """Return a frame's planes.

    `AudioFrame.planes`, and with it `to_ndarray` and `from_ndarray`, looks for a null pointer behind the last plane,
    which is there with fewer than 8 channels only: with more PyAV 18.1 reads whatever lies behind.
    """
    return [AudioPlane(frame, number) for number in range(count)]

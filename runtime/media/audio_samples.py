"""Blocks of audio samples: to and from FFmpeg's frames, mixed to another layout, converted to a track's own rate."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.plane import AudioPlane
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from runtime.media.media_info import AudioStream, usual_layout
from runtime.media.resample import RateConverter

# Times of phone recordings jitter by some milliseconds although no sample is missing; smaller deviations are treated as
# jitter, as players do.
JITTER_S: Final = Fraction(1, 25)
_BLOCK_SAMPLES: Final = 16_384
# Targets for the channels that FFmpeg's mix drops.
_NEAREST: Final = {
    "SL": "BL", "SR": "BR", "WL": "FL", "WR": "FR", "TC": "FC", "TFL": "FL", "TFC": "FC", "TFR": "FR", "TSL": "SL",
    "TSR": "SR", "TBL": "BL", "TBC": "BC", "TBR": "BR", "BFL": "FL", "BFC": "FC", "BFR": "FR", "LFE2": "LFE",
}  # fmt: skip
_ANY_RATE: Final = 48_000
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
    pts: position of the first sample, in samples from time zero.
    """

    samples: NDArray[np.float32]
    pts: int


class TrackConformer:
    """Converts audio whose layout or rate changes inside a track to the track's own, keeping sample positions."""

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
        """Return whether a frame has the track's rate and layout; the first frame defines them."""
        if frame.sample_rate != self._rate or frame.layout.nb_channels != self._channels:
            return False
        self._first_layout = self._first_layout or frame.layout.name
        return frame.layout.name == self._first_layout

    def convert(self, frame: AudioFrame, place: int | None) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
        """Yield a frame's samples at the track's rate and layout, as far as they are ready, with their position."""
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
        """Yield the rest of audio of another rate."""
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
        return abs(place - self._begin - self._scaled()) > JITTER_S * self._rate


class Remixer:
    """Mix samples of one layout to another; never louder than full scale.

    Channels that both have pass unchanged, and side and back channels replace each other. Channels that FFmpeg's own
    mix would drop go to the nearest speaker, except the LFE in a mix to stereo.
    """

    def __init__(self, source: str, target: str) -> None:
        """Compute the gains.

        Args:
            source: FFmpeg's name of the layout; unnamed channels are treated as the usual layout of their number, or
            else distributed over the speakers.
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
        """Return the same number of samples in the target's channels."""
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


def make_silence(channels: int, start: int, end: int) -> Iterator[AudioBlock]:
    """Yield blocks of silence from one position to another."""
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

    `AudioFrame.planes`, and with it `to_ndarray` and `from_ndarray`, looks for a null pointer after the last plane,
    which exists only with fewer than 8 channels: with more, PyAV 18.1 reads out of bounds.
    """
    return [AudioPlane(frame, number) for number in range(count)]

"""Writer of a preview proxy: H.264 and AAC in MP4 with the index at the front, which browsers play."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from runtime.errors import CancelledError, EncodeError
from runtime.media.audio_reader import AudioReader
from runtime.media.pixel_formats import YuvFrame, write_planes
from runtime.media.video_reader import VideoReader

_TIME_BASE: Final = Fraction(1, 90_000)
_SAMPLE_RATE: Final = 48_000
_CRF: Final = "21"
# Two players in sync seek often, and seeks start at key frames.
_KEY_FRAME_INTERVAL: Final = 25
_AUDIO_BIT_RATE: Final = 128_000


@dataclass(frozen=True, slots=True)
class ProxySize:
    """Size in square pixels; `rotation` in degrees counter-clockwise, applied by the player."""

    width: int
    height: int
    rotation: int = 0


class ProxyFile:
    """A proxy as a context manager: without `publish` its file is deleted at the end."""

    def __init__(self, path: Path, *, threads: int) -> None:
        """Create a temporary file beside the path.

        Raises:
            EncodeError: It cannot be created.
        """
        self._path, self._partial, self._threads = path, path.with_name(f".{path.name}.part"), threads
        self._published = False
        self._video: Any = None
        self._size = ProxySize(0, 0)
        self._audio: Any = None
        self._blocks: Iterator[tuple[int, NDArray[np.float32]]] = iter(())
        self._next_block: tuple[int, NDArray[np.float32]] | None = None
        self._audio_rate = _SAMPLE_RATE
        self._resampler: AudioResampler | None = None
        with self._explained():
            self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "faststart"})

    def add_video(self, size: ProxySize, reader: VideoReader) -> None:
        """Add a video track with the colour description of a reader."""
        options = {"crf": _CRF, "preset": "veryfast", "bf": "0", "profile": "high"}
        rate = (reader.stream.average_rate or Fraction(25)).limit_denominator(1001)
        with self._explained():
            stream = self._container.add_stream("libx264", rate=rate, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = size.width, size.height, "yuv420p"
        context.time_base = stream.time_base = _TIME_BASE
        context.gop_size = _KEY_FRAME_INTERVAL
        context.thread_count = self._threads
        colour = reader.colour
        context.colorspace, context.color_range = colour.matrix_code, colour.range_code
        context.color_primaries, context.color_trc = colour.primaries_code, colour.transfer_code
        if size.rotation:
            stream.set_display_rotation(size.rotation)
        self._video, self._size, self._colour = stream, size, colour

    def add_audio(self, reader: AudioReader, *, zero: Fraction, longest_s: int) -> None:
        """Add an audio track that starts at `zero` (seconds), with silence in gaps."""
        with self._explained():
            stream = self._container.add_stream("aac", rate=_SAMPLE_RATE)
            layout = "stereo" if reader.channels == 2 else "mono"
            stream.codec_context.layout = layout
            stream.codec_context.bit_rate = _AUDIO_BIT_RATE
            self._resampler = AudioResampler(format="fltp", layout=layout, rate=_SAMPLE_RATE, frame_size=1024)
        self._audio, self._audio_rate = stream, reader.sample_rate
        self._blocks = _from_zero(reader, round(zero * reader.sample_rate), longest_s * reader.sample_rate)
        self._next_block = next(self._blocks, None)

    def write_frame(self, image: YuvFrame, time: Fraction, duration: Fraction) -> None:
        """Write a frame at a time in seconds."""
        colour = self._colour
        frame = write_planes(image, width=image.width, height=image.height)
        frame.colorspace, frame.color_range = colour.matrix_code, colour.range_code
        frame = frame.reformat(
            width=self._size.width,
            height=self._size.height,
            format="yuv420p",
            src_color_range=colour.range_code,
            dst_color_range=colour.range_code,
            threads=1,
        )
        frame.colorspace, frame.color_range = colour.matrix_code, colour.range_code
        frame.color_primaries, frame.color_trc = colour.primaries_code, colour.transfer_code
        frame.pts, frame.time_base = round(time / _TIME_BASE), _TIME_BASE
        frame.duration = round(duration / _TIME_BASE)
        with self._explained():
            self._container.mux(self._video.encode(frame))

    def write_audio_until(self, time: Fraction | None, stop: threading.Event) -> None:
        """Write the audio up to a time in seconds, or all remaining.

        Raises:
            CancelledError: `stop` was set.
        """
        while self._next_block is not None:
            place, samples = self._next_block
            if time is not None and place > time * self._audio_rate:
                return
            if stop.is_set():
                raise CancelledError("writing the preview proxies was cancelled")
            self._encode_audio(place, samples)
            self._next_block = next(self._blocks, None)

    def finish(self) -> None:
        """Flush the encoders and close the file."""
        with self._explained():
            if self._audio is not None and self._resampler is not None:
                for frame in self._resampler.resample(None):
                    self._container.mux(self._audio.encode(frame))
                self._container.mux(self._audio.encode(None))
            if self._video is not None:
                self._container.mux(self._video.encode(None))
            self._container.close()

    def publish(self) -> None:
        """Rename the finished file."""
        with self._explained():
            self._partial.replace(self._path)
        self._published = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(av.FFmpegError, OSError):
            self._container.close()
        if not self._published:
            with suppress(OSError):
                self._partial.unlink()

    def _encode_audio(self, place: int, samples: NDArray[np.float32]) -> None:
        assert self._resampler is not None
        mixed = samples if samples.shape[0] <= 2 else samples.mean(axis=0, keepdims=True)
        layout = "stereo" if mixed.shape[0] == 2 else "mono"
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(mixed), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = self._audio_rate, place, Fraction(1, self._audio_rate)
        with self._explained():
            for part in self._resampler.resample(frame):
                self._container.mux(self._audio.encode(part))

    def _explained(self) -> "_Explained":
        return _Explained(self._path)


class _Explained:
    """Turns errors of PyAV and the system into ours."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (av.FFmpegError, OSError)):
            raise EncodeError(f"{self._path} cannot be written: {error.strerror or error}") from error


def _from_zero(reader: AudioReader, zero: int, longest: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield blocks that start at 0 and end after `longest` samples at the latest."""
    follows = 0
    for block in reader:
        first = block.pts - zero
        if first > follows:
            gap = min(first, longest) - follows
            yield follows, np.zeros((block.samples.shape[0], gap), np.float32)
            follows += gap
        samples = block.samples[:, max(0, follows - first) : longest - first]
        if samples.shape[1]:
            yield follows, samples
            follows += samples.shape[1]
        if follows >= longest:
            return

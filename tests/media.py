"""Clips and recordings for tests: frames and samples from simple formulas, written with any codec."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

RATE = 25
SAMPLE_RATE = 48_000
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class AudioTrack:
    """An audio track.

    samples: (channels, n) float32, or (1, channels n) int16 with the channels of a sample side by side.
    is_resampled: Whether FFmpeg converts it to what the codec accepts; otherwise it is sent in blocks of 1024 samples.
    """

    samples: NDArray[Any]
    codec: str = "aac"
    sample_rate: int = SAMPLE_RATE
    layout: str = "mono"
    is_resampled: bool = False


def write_clip(
    path: Path,
    frames: Iterable[Pixels],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    times_ms: Sequence[int] | None = None,
    colour: tuple[int, int] | None = None,
    is_converted: bool = False,
    gop: int | None = None,
    audio: AudioTrack | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Write a clip of frames, with audio if requested.

    Args:
        path: The file; its suffix chooses the container.
        frames: (height, width, 3) RGB, all of one size.
        codec: FFmpeg's name of an encoder.
        pixel_format: FFmpeg's name.
        options: Of the encoder.
        times_ms: Of each frame; 25 frames per second without it.
        colour: FFmpeg's numbers of a matrix and a range, to label the frames with.
        is_converted: Whether frames are converted with these too.
        gop: Most frames from one key frame to the next.
        audio: An audio track.
        container_options: Of the muxer.
    """
    images = list(frames)
    with av.open(str(path), "w", container_options=dict(container_options or {})) as container:
        video = container.add_stream(codec, rate=Fraction(RATE), options=dict(options or {}))
        video.height, video.width, video.pix_fmt = *images[0].shape[:2], pixel_format
        if times_ms is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        if gop is not None:
            video.codec_context.gop_size = gop
        if colour is not None:
            video.codec_context.colorspace, video.codec_context.color_range = colour
        track = None if audio is None else _add_track(container, audio)
        for number, pixels in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if colour is not None and is_converted:
                frame = frame.reformat(format=pixel_format, dst_colorspace=colour[0], dst_color_range=colour[1])
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _encode(container, track, audio)
    return path


def write_audio(path: Path, audio: AudioTrack) -> Path:
    """Write an audio file."""
    with av.open(str(path), "w") as container:
        _encode(container, _add_track(container, audio), audio)
    return path


def stripes(count: int, width: int, height: int) -> Iterator[Pixels]:
    """Yield grey stripes that move by two columns per frame."""
    for number in range(count):
        stripe = (128 + 100 * np.sin((np.arange(width) + 2 * number) / 5)).astype(np.uint8)
        yield np.broadcast_to(stripe[None, :, None], (height, width, 3))


def blocks(noise: np.random.Generator, rows: int, columns: int, *, low: int = 0, high: int = 256) -> NDArray[Any]:
    """Return blocks of 8x8 pixels in random colours: (8 rows, 8 columns, 3)."""
    return np.kron(noise.integers(low, high, (rows, columns, 3)), np.ones((8, 8, 1)))


def pan(scene: NDArray[Any], count: int, width: int) -> Iterator[Pixels]:
    """Yield the view of a camera that moves over a scene by one column per frame."""
    for step in range(count):
        yield scene[:, step : step + width].astype(np.uint8)


def tone(samples: int, *, level: float = 0.2) -> NDArray[np.float32]:
    """Return a sine of 440 Hz at 48 kHz: (1, samples)."""
    wave: NDArray[np.float32] = (level * np.sin(np.arange(samples) * 2 * np.pi * 440 / SAMPLE_RATE)).astype(np.float32)
    return wave[None]


def _add_track(container: OutputContainer, audio: AudioTrack) -> av.AudioStream:
    return container.add_stream(audio.codec, rate=audio.sample_rate, layout=audio.layout)


def _encode(container: OutputContainer, track: Any, audio: AudioTrack) -> None:
    for frame in _convert(track, audio) if audio.is_resampled else _cut(audio):
        container.mux(track.encode(frame))
    container.mux(track.encode(None))


def _cut(audio: AudioTrack) -> Iterator[av.AudioFrame]:
    """Yield blocks of 1024 samples."""
    is_packed = audio.samples.dtype == np.int16
    width = av.AudioLayout(audio.layout).nb_channels if is_packed else 1
    for start in range(0, audio.samples.shape[1] // width, 1024):
        yield _frame(audio, audio.samples[:, width * start : width * (start + 1024)], start)


def _convert(track: Any, audio: AudioTrack) -> list[av.AudioFrame]:
    """Return blocks in the encoder's sample format and of its size."""
    context = track.codec_context
    resampler = av.AudioResampler(track.format.name, audio.layout, audio.sample_rate, context.frame_size or None)
    return [*resampler.resample(_frame(audio, audio.samples, 0)), *resampler.resample(None)]


def _frame(audio: AudioTrack, samples: NDArray[Any], start: int) -> av.AudioFrame:
    form = "s16" if samples.dtype == np.int16 else "fltp"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=form, layout=audio.layout)
    frame.sample_rate, frame.pts = audio.sample_rate, start
    return frame

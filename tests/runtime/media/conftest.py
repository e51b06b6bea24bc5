"""Small clips and a whole pass-through job, for the tests of reading and writing media."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.video.frame import VideoFrame

from runtime.media.audio_reader import AudioReader
from runtime.media.audio_samples import make_frame
from runtime.media.muxer import Muxer
from runtime.media.output_tracks import add_tracks
from runtime.media.probe import MediaInfo, probe
from runtime.media.stream_mapping import StreamPlan, plan_streams
from runtime.media.timecode import find_time_code, time_code_rate
from runtime.media.verify import AudioTimes, Verification, VideoTimes, verify
from runtime.media.video_encoder import settings_for
from runtime.media.video_reader import VideoReader

RATE = 48_000


@dataclass
class Clip:
    """The content of a generated clip; `pts` counts in `time_base`."""

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    width: int = 64
    height: int = 48
    pts: list[int] = field(default_factory=lambda: [512 * n for n in range(25)])
    time_base: Fraction = Fraction(1, 12800)
    options: dict[str, str] = field(default_factory=lambda: {"preset": "veryfast"})
    context: dict[str, Any] = field(default_factory=dict)
    audio: str | None = None
    audio_rate: int = RATE
    audio_layout: str = "stereo"
    audio_samples: int = RATE
    audio_start: int = 0
    last: int = 77
    rate: Fraction = Fraction(25)
    rotation: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)


def picture(number: int, width: int, height: int, pixel_format: str) -> VideoFrame:
    """Draw a gradient that moves with the frame's number, in any format."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    red = (x * 3 + number * 5) % 256
    rgb = np.stack([red, (y * 4) % 256, (x + y + number) % 256], axis=2).astype(np.uint8)
    frame = VideoFrame.from_ndarray(rgb, format="rgb24")
    return frame if pixel_format == "rgb24" else frame.reformat(format=pixel_format)


def tone(samples: int, channels: int, rate: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a sweep that any shift by one sample changes, quieter from channel to channel."""
    time = np.arange(samples) / rate
    wave = 0.4 * np.sin(2 * np.pi * (300 + 200 * time) * time)
    return (wave / (1 + np.arange(channels)[:, None] / 8)).astype(np.float32)


def write_clip(path: Path, clip: Clip) -> Path:
    """Write a clip with video and, if requested, audio."""
    with av.open(str(path), "w", container_options=clip.container_options) as output:
        video = output.add_stream(clip.codec, rate=clip.rate, options=dict(clip.options))
        context = video.codec_context
        context.width, context.height, context.pix_fmt = clip.width, clip.height, clip.pixel_format
        context.time_base = video.time_base = clip.time_base
        context.flags |= Flags.frame_duration
        for name, value in clip.context.items():
            setattr(context, name, value)
        if clip.rotation:
            video.set_display_rotation(clip.rotation)
        video.metadata.update(clip.tags)
        audio = _add_audio(output, clip) if clip.audio else None
        output.start_encoding()
        for number, pts in enumerate(clip.pts):
            frame = picture(number, clip.width, clip.height, clip.pixel_format)
            frame.pts, frame.time_base = pts, clip.time_base
            frame.duration = clip.pts[number + 1] - pts if number + 1 < len(clip.pts) else clip.last
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None:
            _write_audio(output, audio, clip)
    return path


def write_audio(path: Path, clip: Clip) -> Path:
    """Write an audio file."""
    with av.open(str(path), "w") as output:
        _write_audio(output, _add_audio(output, clip), clip)
    return path


def _add_audio(output: Any, clip: Clip) -> Any:
    stream = output.add_stream(clip.audio, rate=clip.audio_rate)
    stream.codec_context.layout = clip.audio_layout
    stream.codec_context.time_base = stream.time_base = Fraction(1, clip.audio_rate)
    return stream


def _write_audio(output: Any, stream: Any, clip: Clip) -> None:
    wave = tone(clip.audio_samples, stream.codec_context.channels, clip.audio_rate)
    for start in range(0, clip.audio_samples, 1000):
        block = wave[:, start : start + 1000]
        pts = clip.audio_start + start
        output.mux(stream.encode(make_frame(block, layout=clip.audio_layout, sample_rate=clip.audio_rate, pts=pts)))
    output.mux(stream.encode(None))


@dataclass(frozen=True)
class Job:
    """The outcome of a pass-through job."""

    info: MediaInfo
    plans: tuple[StreamPlan, ...]
    verification: Verification
    warnings: list[str]


def pass_through(
    source: Path,
    target: Path,
    *,
    codec: Any = "h264",
    process_audio: bool = True,
    copy_video: bool = False,
    start: Fraction | None = None,
    end: Fraction | None = None,
    **options: Any,
) -> Job:
    """Decode, encode and carry over everything, as an enhance job does, and read the result back."""
    info = probe(source)
    video = None if copy_video else info.video
    indexes = [audio.index for audio in info.audios if process_audio]
    plans = plan_streams(
        info,
        target.suffix,
        video=video,
        video_codec=codec if video else None,
        processed_audio=indexes,
        start=start,
        end=end,
    )
    times = VideoTimes(video.time_base if video else Fraction(1))
    readers: dict[int, AudioReader] = {}
    warnings: list[str] = []
    with Muxer(target) as muxer:
        reader = VideoReader(source, video, start=start, end=end) if video else None
        settings = None
        if reader is not None:
            muxer.close_with(reader)
            size = {"width": reader.width, "height": reader.height}
            settings = settings_for(reader, codec, **{**size, **options})
            code = find_time_code(info)
            rate = None if code is None else time_code_rate(code, info)
            settings = replace(settings, average_rate=rate or settings.average_rate)
        tracks = add_tracks(muxer, info, plans, video=settings, start=start, end=end)

        def frames() -> Iterator[Any]:
            assert reader is not None
            assert tracks.video is not None
            for one in reader:
                times.add(one.pts)
                yield from tracks.video.encode(one)
            yield from tracks.video.flush()

        def blocks(index: int) -> Iterator[Any]:
            stream = next(audio for audio in info.audios if audio.index == index)
            readers[index] = AudioReader(source, stream, start=start, end=end)
            muxer.close_with(readers[index])
            for block in readers[index]:
                yield from tracks.audios[index].encode(block)
            yield from tracks.audios[index].flush()

        moving = [frames()] if reader is not None else []
        muxer.run([*moving, *(blocks(index) for index in tracks.audios), iter(tracks.copies)])
        muxer.publish()
        warnings += muxer.warnings + tracks.copies.warnings
        warnings += [w for one in readers.values() for w in one.warnings]
        if reader is not None and tracks.video is not None:
            times.end_pts = tracks.video.end_pts
            warnings += reader.warnings + tracks.video.warnings
    audios = [AudioTimes.between(one, tracks.audios[index]) for index, one in readers.items()]
    check = verify(target, video=times if video else None, audios=audios)
    return Job(info, plans, check, warnings)


def read_times(path: Path) -> list[Fraction]:
    """Return the exact times of a file's frames, decoded without Relume's code."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base for frame in container.decode(stream)]


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a clip of a name with the given `Clip` fields."""
    return lambda name, **fields: write_clip(tmp_path / name, Clip(**fields))


@pytest.fixture
def audio(tmp_path: Path) -> Callable[..., Path]:
    """Write an audio file of a name with the given `Clip` fields."""
    return lambda name, **fields: write_audio(tmp_path / name, Clip(**fields))


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Run a pass-through job from a source to a file in the same folder."""
    return lambda source, name, **options: pass_through(source, tmp_path / name, **options)


@pytest.fixture
def times() -> Callable[[Path], list[Fraction]]:
    """Read the times of a file's frames."""
    return read_times

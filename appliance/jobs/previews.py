"""Thumbnail of a source, and preview proxies: source and result as browsers play them, with the same times and size."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.jobs.job_files import PROXY_S, JobFiles
from appliance.jobs.preview_writer import ProxyFile, ProxySize
from runtime.errors import CancelledError, DecodeError, MediaError
from runtime.media.audio_reader import AudioReader
from runtime.media.deinterlace import Interlacing
from runtime.media.pixel_formats import YuvFrame, write_planes
from runtime.media.probe import AudioStream, VideoStream, probe
from runtime.media.video_reader import VideoReader
from runtime.report import Report

if TYPE_CHECKING:
    from PIL.Image import Image


_MAX_THUMBNAIL: Final = (320, 240)
# No camera or disc has a pixel aspect beyond this.
_MAX_ASPECT: Final = Fraction(8)
_TENTH: Final = Fraction(1, 10)


def write_thumbnail(source: Path, target: Path) -> bool:
    """Write a JPEG of a frame near the beginning, atomically.

    Returns:
        False for a source without video.

    Raises:
        MediaError: The source cannot be read.
        OSError: The thumbnail cannot be written.
    """
    info = probe(source)
    if info.video is None:
        return False
    # Not the first frame, which is often black.
    start = None if info.duration is None else info.duration * _TENTH
    try:
        image = _read_image(source, info.video, start)
    except MediaError:
        image = _read_image(source, info.video, None)
    _save(image, target, quality=80)
    return True


def _save(image: "Image", target: Path, *, quality: int) -> None:
    """Write a JPEG, atomically."""
    partial = target.with_name(f".{target.name}.part")
    try:
        image.save(partial, format="JPEG", quality=quality)
        partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink()


def _thumbnail_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return the size of a thumbnail before rotation."""
    shown = width * min(max(aspect, 1 / _MAX_ASPECT), _MAX_ASPECT)
    factor = min(Fraction(1), max(_MAX_THUMBNAIL) / max(shown, Fraction(height)))
    return max(1, round(shown * factor)), max(1, round(height * factor))


def _read_image(source: Path, video: VideoStream, start: Fraction | None) -> "Image":
    """Read one frame with square pixels, rotated upright."""
    with VideoReader(source, video, start=start, threads=1, interlacing=Interlacing(False)) as reader:
        first = next(iter(reader), None)
        if first is None:
            raise DecodeError(f"{source} has no frame that can be decoded")
        # Scaled down first: the pixel aspect may be anything.
        width, height = _thumbnail_size(reader.width, reader.height, video.sample_aspect)
        image = _convert(first, reader, ProxySize(width, height, video.rotation))
    image.thumbnail(_MAX_THUMBNAIL)
    return image


def _convert(picture: YuvFrame, reader: VideoReader, size: ProxySize) -> "Image":
    """Convert a frame of a reader to RGB at a size in square pixels, rotated upright."""
    from PIL import Image

    frame = write_planes(picture, width=picture.width, height=picture.height)
    frame.colorspace, frame.color_range = reader.colour.matrix_code, reader.colour.range_code
    pixels = frame.reformat(width=size.width, height=size.height, format="rgb24", interpolation="AREA", threads=1)
    image = Image.fromarray(pixels.to_ndarray())
    return image.rotate(size.rotation, expand=True) if size.rotation else image


MAX_SIDE: Final = 1280


@dataclass(frozen=True, slots=True)
class Pair:
    """Source and result, and the part of the source that was enhanced."""

    source: Path
    result: Path
    start: Fraction | None = None
    end: Fraction | None = None


def write_video_proxies(pair: Pair, report: Report, files: JobFiles, *, threads: int, stop: threading.Event) -> None:
    """Write both proxies, and a still picture of the middle of each.

    Args:
        pair: Source and result.
        report: The job's report, which maps the tracks.
        files: The job's files.
        threads: CPU threads for each reader and encoder.
        stop: Ends the work when set.

    Raises:
        RelumeError: A file cannot be read or written, or `stop` was set; neither proxy is left.
        OSError: A still picture cannot be written.
    """
    source, result = probe(pair.source), probe(pair.result)
    if source.video is None or result.video is None:
        return
    audios = _tracks(report, source.audios, result.audios)
    with ExitStack() as stack:
        first = stack.enter_context(
            VideoReader(pair.source, source.video, start=pair.start, end=pair.end, threads=threads)
        )
        second = stack.enter_context(VideoReader(pair.result, result.video, threads=threads))
        size = _size(second, result.video)
        frames = zip(first, second, strict=False)
        head = next(frames, None)
        if head is None:
            return
        proxies = [stack.enter_context(ProxyFile(path, threads=threads)) for path in (files.before, files.after)]
        for proxy, reader in zip(proxies, (first, second), strict=True):
            proxy.add_video(size, reader)
        if audios is not None:
            readers = (
                AudioReader(pair.source, audios[0], start=pair.start, end=pair.end),
                AudioReader(pair.result, audios[1]),
            )
            streams = (first.stream, second.stream)
            for proxy, audio, stream, frame in zip(proxies, readers, streams, head, strict=True):
                proxy.add_audio(stack.enter_context(audio), zero=frame.pts * stream.time_base, longest_s=PROXY_S)
        middle = min(report.result.duration_s or 0.0, PROXY_S) / 2
        pairs = _with_stills(_chain(head, frames), (first, second), size, files, middle_s=middle)
        _write(proxies, pairs, second.stream.time_base, stop)
        for proxy in proxies:
            proxy.finish()
        for proxy in proxies:
            proxy.publish()


def _with_stills(
    pairs: Iterator[tuple[YuvFrame, YuvFrame]],
    readers: tuple[VideoReader, VideoReader],
    size: ProxySize,
    files: JobFiles,
    *,
    middle_s: float,
) -> Iterator[tuple[YuvFrame, YuvFrame]]:
    """Yield pairs of frames, writing the first one of the second half as still pictures."""
    zero: int | None = None
    written = False
    for pair in pairs:
        zero = pair[1].pts if zero is None else zero
        last_s = (pair[1].pts + pair[1].duration - zero) * readers[1].stream.time_base
        if not written and last_s > middle_s:
            for frame, reader, path in zip(pair, readers, (files.still_before, files.still_after), strict=True):
                _save(_convert(frame, reader, size), path, quality=90)
            written = True
        yield pair


def write_audio_proxies(pair: Pair, report: Report, before: Path, after: Path, *, stop: threading.Event) -> None:
    """Write proxies of the audio only.

    Raises:
        RelumeError: A file cannot be read or written, or `stop` was set; neither is left.
    """
    audios = _tracks(report, probe(pair.source).audios, probe(pair.result).audios)
    if audios is None:
        return
    with ExitStack() as stack:
        readers = (
            AudioReader(pair.source, audios[0], start=pair.start, end=pair.end),
            AudioReader(pair.result, audios[1]),
        )
        proxies = [stack.enter_context(ProxyFile(path, threads=1)) for path in (before, after)]
        for proxy, reader in zip(proxies, readers, strict=True):
            proxy.add_audio(stack.enter_context(reader), zero=Fraction(0), longest_s=PROXY_S)
            proxy.write_audio_until(None, stop)
            proxy.finish()
        for proxy in proxies:
            proxy.publish()


def _write(
    proxies: list[ProxyFile], pairs: Iterator[tuple[YuvFrame, YuvFrame]], time_base: Fraction, stop: threading.Event
) -> None:
    zero: int | None = None
    for before, after in pairs:
        if stop.is_set():
            raise CancelledError("writing the preview proxies was cancelled")
        zero = after.pts if zero is None else zero
        # The result's timestamps for both: its container may have rounded those of the source.
        time, duration = (after.pts - zero) * time_base, after.duration * time_base
        if time >= PROXY_S:
            break
        for proxy, frame in zip(proxies, (before, after), strict=True):
            proxy.write_audio_until(time, stop)
            proxy.write_frame(frame, time, duration)
    for proxy in proxies:
        proxy.write_audio_until(None, stop)


def _chain(
    head: tuple[YuvFrame, YuvFrame], tail: Iterator[tuple[YuvFrame, YuvFrame]]
) -> Iterator[tuple[YuvFrame, YuvFrame]]:
    yield head
    yield from tail


def _size(reader: VideoReader, video: VideoStream) -> ProxySize:
    """Return the size of the result with square pixels, limited and even."""
    width, height = reader.width * video.sample_aspect, Fraction(reader.height)
    factor = min(Fraction(1), Fraction(MAX_SIDE) / max(width, height))
    even = [max(2, round(side * factor / 2) * 2) for side in (width, height)]
    return ProxySize(even[0], even[1], video.rotation)


def _tracks(
    report: Report, sources: tuple[AudioStream, ...], results: tuple[AudioStream, ...]
) -> tuple[AudioStream, AudioStream] | None:
    """Return the enhanced audio track, or else the first copied one, of source and result."""
    cleaned = {track.index for track in report.sound}
    outcomes = [outcome for outcome in report.streams if outcome.kind == "audio" and outcome.out_index is not None]
    for outcome in sorted(outcomes, key=lambda outcome: outcome.index not in cleaned):
        source = next((audio for audio in sources if audio.index == outcome.index), None)
        result = next((audio for audio in results if audio.index == outcome.out_index), None)
        if source and result and source.sample_rate and result.sample_rate:
            return source, result
    return None

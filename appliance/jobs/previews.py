"""A small picture of a source, for lists."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.jobs.job_files import COMPARED_S
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


_LARGEST: Final = (320, 240)
# No camera or disc has pixels of a shape beyond this.
_STRANGEST_ASPECT: Final = Fraction(8)
_TENTH: Final = Fraction(1, 10)


def write_thumbnail(source: Path, target: Path) -> bool:
    """Write a JPEG of a picture near the beginning of a film; it appears only when complete.

    Returns:
        False where the source holds no moving picture.

    Raises:
        MediaError: The source cannot be read.
        OSError: The picture cannot be written.
    """
    info = probe(source)
    if info.video is None:
        return False
    # Not the very first picture, which is often black.
    start = None if info.duration is None else info.duration * _TENTH
    try:
        image = _read_image(source, info.video, start)
    except MediaError:
        image = _read_image(source, info.video, None)
    partial = target.with_name(f".{target.name}.part")
    try:
        image.save(partial, format="JPEG", quality=80)
        partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink()
    return True


def _thumbnail_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return the size of a thumbnail before it is turned."""
    shown = width * min(max(aspect, 1 / _STRANGEST_ASPECT), _STRANGEST_ASPECT)
    factor = min(Fraction(1), max(_LARGEST) / max(shown, Fraction(height)))
    return max(1, round(shown * factor)), max(1, round(height * factor))


def _read_image(source: Path, video: VideoStream, start: Fraction | None) -> "Image":
    """Read one picture, its pixels square and the right way up."""
    from PIL import Image

    with VideoReader(source, video, start=start, threads=1, interlacing=Interlacing(False)) as reader:
        picture = next(iter(reader), None)
        if picture is None:
            raise DecodeError(f"{source} has no picture that can be decoded")
        frame = write_planes(picture, width=reader.width, height=reader.height)
        frame.colorspace, frame.color_range = reader.colour.matrix_code, reader.colour.range_code
        # Made small before it is stretched: a pixel's shape may be anything.
        width, height = _thumbnail_size(reader.width, reader.height, video.sample_aspect)
        pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA", threads=1)
        image = Image.fromarray(pixels.to_ndarray())
    if video.rotation:
        image = image.rotate(video.rotation, expand=True)
    image.thumbnail(_LARGEST)
    return image


LARGEST_SIDE: Final = 1280


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files to compare, and the part of the source that was enhanced."""

    source: Path
    result: Path
    start: Fraction | None = None
    end: Fraction | None = None


def write_picture_proxies(
    pair: Pair, report: Report, before: Path, after: Path, *, threads: int, stop: threading.Event
) -> None:
    """Write both films.

    Args:
        pair: What is compared.
        report: The job's report, which tells what track became what.
        before: Where the source's film goes.
        after: Where the result's goes.
        threads: CPU threads for each reader and encoder.
        stop: Ends the work when set.

    Raises:
        RelumeError: A file cannot be read or written, or `stop` was set; neither film is left.
    """
    source, result = probe(pair.source), probe(pair.result)
    if source.video is None or result.video is None:
        return
    sounds = _tracks(report, source.audios, result.audios)
    with ExitStack() as stack:
        first = stack.enter_context(
            VideoReader(pair.source, source.video, start=pair.start, end=pair.end, threads=threads)
        )
        second = stack.enter_context(VideoReader(pair.result, result.video, threads=threads))
        size = _size(second, result.video)
        pictures = zip(first, second, strict=False)
        head = next(pictures, None)
        if head is None:
            return
        films = [stack.enter_context(ProxyFile(path, threads=threads)) for path in (before, after)]
        for film, reader in zip(films, (first, second), strict=True):
            film.add_picture(size, reader)
        if sounds is not None:
            readers = (
                AudioReader(pair.source, sounds[0], start=pair.start, end=pair.end),
                AudioReader(pair.result, sounds[1]),
            )
            streams = (first.stream, second.stream)
            for film, sound, stream, picture in zip(films, readers, streams, head, strict=True):
                film.add_sound(stack.enter_context(sound), zero=picture.pts * stream.time_base, longest_s=COMPARED_S)
        _write(films, _chain(head, pictures), second.stream.time_base, stop)
        for film in films:
            film.finish()
        for film in films:
            film.publish()


def write_sound_proxies(pair: Pair, report: Report, before: Path, after: Path, *, stop: threading.Event) -> None:
    """Write the sound of both alone.

    Raises:
        RelumeError: A file cannot be read or written, or `stop` was set; neither is left.
    """
    sounds = _tracks(report, probe(pair.source).audios, probe(pair.result).audios)
    if sounds is None:
        return
    with ExitStack() as stack:
        readers = (
            AudioReader(pair.source, sounds[0], start=pair.start, end=pair.end),
            AudioReader(pair.result, sounds[1]),
        )
        films = [stack.enter_context(ProxyFile(path, threads=1)) for path in (before, after)]
        for film, reader in zip(films, readers, strict=True):
            film.add_sound(stack.enter_context(reader), zero=Fraction(0), longest_s=COMPARED_S)
            film.write_sound_until(None, stop)
            film.finish()
        for film in films:
            film.publish()


def _write(
    films: list[ProxyFile], pairs: Iterator[tuple[YuvFrame, YuvFrame]], time_base: Fraction, stop: threading.Event
) -> None:
    zero: int | None = None
    for before, after in pairs:
        if stop.is_set():
            raise CancelledError("the pictures to compare were stopped")
        zero = after.pts if zero is None else zero
        # The result's times for both: its container may have rounded those of the source.
        time, duration = (after.pts - zero) * time_base, after.duration * time_base
        if time >= COMPARED_S:
            break
        for film, picture in zip(films, (before, after), strict=True):
            film.write_sound_until(time, stop)
            film.write_picture(picture, time, duration)
    for film in films:
        film.write_sound_until(None, stop)


def _chain(
    head: tuple[YuvFrame, YuvFrame], tail: Iterator[tuple[YuvFrame, YuvFrame]]
) -> Iterator[tuple[YuvFrame, YuvFrame]]:
    yield head
    yield from tail


def _size(reader: VideoReader, video: VideoStream) -> ProxySize:
    """Return the size of the result with square pixels, made to fit and even."""
    width, height = reader.width * video.sample_aspect, Fraction(reader.height)
    factor = min(Fraction(1), Fraction(LARGEST_SIDE) / max(width, height))
    even = [max(2, round(side * factor / 2) * 2) for side in (width, height)]
    return ProxySize(even[0], even[1], video.rotation)


def _tracks(
    report: Report, sources: tuple[AudioStream, ...], results: tuple[AudioStream, ...]
) -> tuple[AudioStream, AudioStream] | None:
    """Find the track that was cleaned, or else the first that was carried, on both sides."""
    cleaned = {sound.index for sound in report.sound}
    fates = [fate for fate in report.streams if fate.kind == "audio" and fate.out_index is not None]
    for fate in sorted(fates, key=lambda fate: fate.index not in cleaned):
        source = next((audio for audio in sources if audio.index == fate.index), None)
        result = next((audio for audio in results if audio.index == fate.out_index), None)
        if source and result and source.sample_rate and result.sample_rate:
            return source, result
    return None
